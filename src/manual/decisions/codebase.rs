//! Decisions on the source itself: its width and its layers. Newest first.
//!
//! # 2026-11-30: 100 columns
//!
//! **Decision.** `max_width` is 100 for code, comments and this manual; rows of tables are exempt.
//! The other limits of `tests/tidy/` are the design's.
//!
//! **Because.** The source and the manual are read side by side and have one width.
//!
//! **Rejected.** 120 columns, in force since 2026-11-24: it was meant for the tables in code
//! (errors, metrics, features), which are read as tables.
//!
//! # 2026-11-24: Layers
//!
//! **Decision.** `telemetry` and `error` use `generation` and `wire`, not the reverse.
//!
//! **Because.** A request's record contains token counts, and nothing pure needs to report errors
//! of the gateway.
//!
//! **Rejected.** The design's order, which had the two pairs swapped.
