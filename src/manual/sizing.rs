//! How many gateways for how many users, and why.
//!
//! Weir keeps nothing: every replica is like the other, and any of them may answer any request. So
//! Kubernetes (or anything else that starts processes and spreads connections) scales it, and the
//! question is only how many. The answer is rarely more than availability asks for: models need
//! hundreds of times the hardware.
//!
//! # What one request costs
//!
//! Measured on one core of a shared AMD EPYC machine (README, *Measured*), rounded up:
//!
//! | | CPU | memory while it lasts |
//! |---|--:|--:|
//! | a request and its answer, 1 KB each | 55 µs | 25 KiB |
//! | a streamed chunk (a token or a few) | 40 µs | 5 KiB for each open stream |
//! | a chunk translated between dialects | 45 µs | |
//! | TLS on both sides | × 1.6 | + 7 KiB |
//! | an idle kept connection of a client | none | about 4 KiB |
//!
//! # What users ask for
//!
//! Assumed, at the busiest hour; put your own numbers in (`weir_requests_total` by feature,
//! `weir_inflight`):
//!
//! - one user of five is at work with it;
//! - each of those has a completion every 10 s (whole, answered in half a second) and a chat
//!   answer, a review or an explanation every 5 min (a stream of 400 chunks over 30 s).
//!
//! # The sum
//!
//! | users | at work | completions a second | streams begun a second | open at once | cores, plain | cores, TLS |
//! |--:|--:|--:|--:|--:|--:|--:|
//! | 10,000 | 2,000 | 200 | 7 | 100 + 200 | 0.01 + 0.11 | 0.2 |
//! | 100,000 | 20,000 | 2,000 | 67 | 1,000 + 2,000 | 0.1 + 1.1 | 1.9 |
//! | 1,000,000 | 200,000 | 20,000 | 667 | 10,000 + 20,000 | 1.1 + 10.7 | 19 |
//!
//! (20,000 × 55 µs = 1.1 cores; 667 × 400 × 40 µs = 10.7 cores; 667 × 30 s = 20,000 streams; 10,000
//! × 25 KiB and 20,000 × 5 KiB = 350 MiB.)
//!
//! # What to run
//!
//! A replica should be half busy at the worst, so that the others can carry its share when it goes;
//! and there should be two where one would do.
//!
//! | users | replicas × cores | memory of each | `limits.in_flight` of each |
//! |--:|---|--:|--:|
//! | 10,000 | 2 × 1 | 64 MiB | 4096, the default |
//! | 100,000 | 3 × 2 | 128 MiB | 4096, the default |
//! | 1,000,000 | 10 × 4 | 256 MiB | 8192 |
//!
//! `server.workers` is one per core by default. A stream holds two descriptors: `ulimit -n` of
//! three times `in_flight` is enough. Scale by CPU (70 %), not by requests: streams are what costs.
//!
//! # What is shared, and what is not
//!
//! - Routing: the same file for all; each reloads by itself within a second of its change.
//! - Places and queues (`in_flight`, `max_parallel`): per process. With three replicas give each a
//!   third of what the model server bears.
//! - Which replica of a model is down or slow: each finds out for itself, by its own requests.
//!   Nothing has to agree.
//! - Rates: per process, or together in one Redis or Valkey (`limits.shared`): one round trip for
//!   each request of a caller that has a rate, a few hundred bytes for each caller. One small
//!   instance is enough for a million users, since a GitLab is one caller.
//! - Health checks: every replica of Weir asks every endpoint, ten seconds apart: ten gateways are
//!   one small request a second at each.
//! - Users' tokens: `auth.user_tokens.signing_key` must be the same in all.
//! - Connections: GitLab's Rails and Workhorse keep theirs, and a balancer that spreads
//!   connections, not requests, leaves a new replica idle until they are made anew. A drain closes
//!   them one answer at a time.
//!
//! # The models
//!
//! 667 streams begun a second of 400 tokens are 267,000 tokens a second: at 3,000 tokens a second
//! from one GPU, 90 GPUs, beside 40 cores of Weir. That is where to look first;
//! `weir_time_to_first_token_seconds` and `weir_upstream_inflight` say which model is short.
