//! Decisions on what operators see and run: logs, metrics, token counts, the allocator. Newest
//! first.
//!
//! # 2026-11-26: Prompts in the log
//!
//! **Decision.** The bytes of request and response are recorded as they arrive and leave, at the
//! edge. The pieces of a stream are joined before they are searched for keys. Both the file
//! (`telemetry.log_prompts`) and GitLab must allow it.
//!
//! **Because.** At the edge, no surface can forget the check. A key may be split between two
//! pieces.
//!
//! **Rejected.** The official container's `AIGW_LOGGING__ENABLE_REQUEST_LOGGING` as it is: there
//! GitLab's request alone decides what is logged.
//!
//! # 2026-11-25: Token counts that were not reported are estimated
//!
//! **Decision.** Four bytes are a token, and a piece of a stream is at least one. The log marks
//! such counts with `usage_estimated`; the metric adds them to the others. Pass-through counts
//! bytes only; the first event shows how much of each is envelope. vLLM's running counts
//! (`continuous_usage_stats`) are read when the client requests them, and never requested by Weir.
//! A request whose response never began counts nothing.
//!
//! **Because.** A stream that breaks off lacks its last event, which carries the counts. Requesting
//! running counts would enlarge every chunk and require parsing it, the client would receive what
//! it did not request, and other servers reject the unknown option.
//!
//! # 2026-11-24: glibc's allocator
//!
//! **Decision.** glibc's allocator, and therefore Debian's distroless image and not musl.
//!
//! **Because.** It takes 6.7 MiB idle and less per stream than the other two.
//!
//! **Rejected.** mimalloc: 16 MiB idle and 20 KiB per stream. jemalloc: 18 KiB per stream.
//!
//! # 2026-11-24: Metrics are shared atomics
//!
//! **Decision.** Handles are looked up once per request, in a map per worker, and point to atomics
//! shared by all workers.
//!
//! **Because.** No profile has shown contention.
//!
//! **Rejected.** Shards that are summed at scrape time, until one does.
//!
//! # 2026-11-24: A thread writes the access log
//!
//! **Decision.** The worker formats lines into a buffer and passes them in batches through a
//! bounded queue to a writer thread. When the reader is stuck, lines are dropped and counted.
//!
//! **Because.** A worker must not wait for the reader of a log.
