//! How many gateways for how many users, and why.
//!
//! Weir is stateless: all replicas are alike, and any of them can serve any request. Kubernetes (or
//! anything else that starts processes and spreads connections) can scale it, and the only question
//! is how many. The answer is rarely more than availability requires: models need hundreds of times
//! the hardware.
//!
//! # What one request costs
//!
//! Measured on one core of a shared AMD EPYC machine (README, *Measured*), rounded up:
//!
//! | | CPU | memory while it lasts |
//! |---|--:|--:|
//! | a request and its response, 1 KB each | 55 µs | 25 KiB |
//! | a streamed chunk (a token or a few) | 40 µs | 5 KiB for each open stream |
//! | a chunk translated between dialects | 45 µs | |
//! | TLS on both sides | × 1.6 | + 7 KiB |
//! | an idle kept connection of a client | none | about 4 KiB |
//!
//! # How much traffic users cause
//!
//! Assumptions for the busiest hour; substitute your own numbers (`weir_requests_total` by feature,
//! `weir_inflight`):
//!
//! - one user in five is working with it;
//! - each of those requests a completion every 10 s (whole, answered in half a second) and a chat
//!   answer, a review or an explanation every 5 min (a stream of 400 chunks over 30 s).
//!
//! # The arithmetic
//!
//! | users | active | completions a second | streams begun a second | open at once | cores, plain | cores, TLS |
//! |--:|--:|--:|--:|--:|--:|--:|
//! | 10,000 | 2,000 | 200 | 7 | 100 + 200 | 0.01 + 0.11 | 0.2 |
//! | 100,000 | 20,000 | 2,000 | 67 | 1,000 + 2,000 | 0.1 + 1.1 | 1.9 |
//! | 1,000,000 | 200,000 | 20,000 | 667 | 10,000 + 20,000 | 1.1 + 10.7 | 19 |
//!
//! For the last row:
//!
//! - 20,000 × 55 µs = 1.1 cores
//! - 667 × 400 × 40 µs = 10.7 cores
//! - 667 × 30 s = 20,000 streams
//! - 10,000 × 25 KiB and 20,000 × 5 KiB = 350 MiB
//!
//! # What to run
//!
//! A replica should be half busy at most, so that the others can carry its share when it fails; and
//! there should be two where one would do.
//!
//! | users | replicas × cores | memory of each | `limits.in_flight` of each |
//! |--:|---|--:|--:|
//! | 10,000 | 2 × 1 | 64 MiB | 4096, the default |
//! | 100,000 | 3 × 2 | 128 MiB | 4096, the default |
//! | 1,000,000 | 10 × 4 | 256 MiB | 8192 |
//!
//! `server.workers` is one per core by default. A stream holds two descriptors: an `ulimit -n` of
//! three times `in_flight` is enough. Scale by CPU (70 %), not by requests: the cost is in the
//! streams.
//!
//! # What is shared, and what is not
//!
//! | | shared? | |
//! |---|---|---|
//! | routing | the same file for all | each reloads by itself within a second of a change |
//! | concurrency limits and queues (`in_flight`, `max_parallel`) | per process | with three replicas give each a third of the model server's capacity |
//! | which replica of a model is down or slow | per process | each finds out from its own requests; nothing has to agree |
//! | rate limits | per process, or in one Redis or Valkey (`limits.shared`) | one round trip for each request of a caller with a rate, a few hundred bytes per caller. One small instance is enough for a million users, since a GitLab is one caller |
//! | health checks | per process | every replica of Weir checks every endpoint, ten seconds apart: ten gateways are one small request a second at each |
//! | user tokens | the same `auth.user_tokens.signing_key` in all | |
//! | connections | per process | GitLab's Rails and Workhorse keep theirs, and a balancer that spreads connections, not requests, leaves a new replica idle until they reconnect. A drain closes them one response at a time |
//!
//! # The models
//!
//! 667 streams of 400 tokens begun each second are 267,000 tokens a second. At 3,000 tokens a
//! second per GPU that is 90 GPUs, next to 40 cores of Weir. Look there first;
//! `weir_time_to_first_token_seconds` and `weir_upstream_inflight` show which model is short of
//! capacity.
