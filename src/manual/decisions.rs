//! Dated decisions, newest first. What was rejected is said, so that it need not be tried again unknowingly.
//!
//! **2026-11-24, GitLab's tokens.** A key verifies only tokens of the issuer that published it; the official gateway merges all
//! key sets. Keys are fetched by one task beside the workers, never by a request, which waits at most 2 s, and only 64 of
//! them at a time: strangers can name keys that nobody has. A gateway that never got a key answers 503, not 401, since the token may
//! be fine. `iss` is held against the name in the discovery document, which may differ from `gitlab.url` behind a proxy. No verified
//! token is cached: GitLab signs a fresh one for every request. OpenAI's calls are open to a token with any scope of Duo.
//!
//! **2026-11-24, the head waits for the body's first byte.** Model servers send their head before the first token.
//! Passing it on at once would make every later failure an in-band one; waiting costs nothing, since the client could do
//! nothing with it. So expiry of `first_byte` is a 504 with A1000 on every surface that has not spoken yet.
//!
//! **2026-11-24, tidy limits and rustfmt.** `max_width = 120`: the tables in code (errors, metrics, features) are read as
//! tables. The limits of `tests/tidy.rs` are the design's.
//!
//! **2026-11-24, layers.** `telemetry` and `error` use `generation` and `wire`, not the other way round: the record holds token
//! counts, and nothing pure needs to report errors of the gateway. The design had the two pairs swapped.
//!
//! **2026-11-24, features are a table in code.** Not `config/features.toml`: the set is closed, other code names its members,
//! and the compiler then finds a misspelling.
//!
//! **2026-11-24, the configuration is walked, not derived.** serde's derive stops at the first fault; operators want all of them with
//! line and column. One key table is the schema for reading, for suggestions and for `config/reference.toml`.
//!
//! **2026-11-24, `disabled` is 403.** It is the administrator's decision about entitlement, and GitLab's text for 403 sends the user to
//! the administrator.
//!
//! **2026-11-24, Test connection ignores `[features]`.** The button asks about the model in the form; answering for another one would
//! be a lie. `request_models` still applies.
//!
//! **2026-11-24, metrics are shared atomics.** Handles are looked up once per request in a per-worker map. Shards summed at scrape
//! were rejected until contention shows in a profile.
//!
//! **2026-11-24, the access log is written by a thread.** Lines are formatted in the worker into a buffer and handed over in batches
//! through a bounded queue; what a stuck reader cannot take is counted, not waited for.
