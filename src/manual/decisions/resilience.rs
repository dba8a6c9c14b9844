//! Decisions on failures of model servers: retries, fallback models, the circuit breaker, health
//! checks and hedging. Newest first.
//!
//! # 2026-11-26: An error with status 200
//!
//! **Decision.** A whole response that is passed through is held and parsed when its first key is
//! `error` (and not `null`), or is `type` with the value `error`. The check is the one used for
//! events of a stream. If it is an error, the attempt has failed like any other before the first
//! content. Other responses are forwarded after their first bytes have been inspected.
//!
//! **Because.** Whole responses are not parsed otherwise. An `error` further back in the body is
//! left to the client.
//!
//! # 2026-11-26: Hedging
//!
//! **Decision.** Off by default. When it is on, a model with several endpoints gets a second series
//! of attempts once the first has taken longer than `percentile` of the last few hundred responses
//! took to begin; with fewer than twenty of those on record, none starts.
//!
//! - The race is for the first content, not for the head. The loser is dropped, which closes its
//!   connection.
//! - Each series has a record of its own, and the record of the one that answers is kept.
//! - The hedging budget accumulates nothing.
//! - The second series takes a second permit under `max_parallel` if one is free, and does not
//!   queue for it.
//!
//! **Because.** Hedging costs model time, and pays off only where single requests are slow by
//! chance. Failures are the business of the retry budget. Queueing for a second permit could evict
//! another client's request.
//!
//! # 2026-11-26: Health checks
//!
//! **Decision.** On by default for a model on an OpenAI-compatible server with several endpoints.
//! The check requests the list of models; any response but a 5xx is healthy.
//!
//! - After two failures in a row the endpoint is skipped until a check succeeds. Failing requests
//!   are the breaker's concern, and a check never closes it.
//! - When no endpoint is healthy, checks do not influence the choice.
//! - Endpoints named in requests are never checked.
//! - Each check resolves the name and connects anew. A kept connection is used for five minutes at
//!   most, and connections are spread over the addresses of a name. Requests are balanced between
//!   endpoints, not between the addresses of one.
//!
//! **Because.** A server that hangs would cost a user the whole `first_byte`, and one that has
//! recovered would need a request to find out. Every such server has a list of models, and whether
//! a particular path exists is no sign of health. The servers behind a name may change.
//!
//! # 2026-11-26: The circuit breaker
//!
//! **Decision.** A failing endpoint is skipped, never refused: the only endpoint of a model is used
//! whatever it did.
//!
//! - The breaker opens after five failures in a row, or when half of ten or more requests within
//!   ten seconds have failed.
//! - Half-open, it admits one request at a time. After a success the endpoint starts with a tenth
//!   of its share of traffic and reaches the whole within ten seconds, during which a single
//!   failure opens the breaker again.
//! - Only failures that another replica might not have are counted (`error/kind.rs`), never a
//!   client's error. A 429 or 503 with `Retry-After` is honoured for up to a minute and is not a
//!   failure.
//! - When more than half of the reachable endpoints are failing, all of them are used again, at
//!   random and not by cost. Unreachable ones are neither counted nor used then.
//!
//! **Because.** An endpoint that fails fast has no requests in flight, so a choice by cost would
//! send it everything. Sending to an unreachable endpoint relieves nothing. There is no switch:
//! with one endpoint the breaker has no effect, and `error_rate = 1.0` with a high `failures` is as
//! good as off.
//!
//! # 2026-11-26: Retries on another replica until the first content
//!
//! **Decision.** A stream is held until its first content (not a role, a ping or a
//! `message_start`), up to 64 KiB and 5 s; a whole response until its end. A failure before that is
//! retried on a replica that has not been tried.
//!
//! - Retried: connect, 408, 409, 424, 425, 429, 5xx, an expired `first_byte` or `idle`, a broken
//!   connection, an error inside a 200. Each attempt builds its request anew.
//! - Not retried: errors of the request, 401 to 405, 407, 501 and 505.
//! - A silent replica gets at most half of `total` while another is left.
//! - The client receives the last failure, with the smallest `Retry-After` that any replica sent.
//! - **The only replica is not called twice**, except when a kept connection has died.
//!
//! **Because.** Half of a whole response is of no use. Our key and our name for the model are the
//! same on every replica. GitLab's circuit breaker counts failures, the clients of OpenAI and
//! Anthropic retry by themselves, and a server that returns 429 needs less traffic, not more.
//!
//! # 2026-11-26: Fallback models
//!
//! **Decision.** A request goes to the next model of `fallback` when every replica has failed
//! before the first content, or when a failure is true of all of them (401 to 405, 407, no
//! credentials, no permit left under `max_parallel`).
//!
//! - All of it happens within the first model's `total`; a silent model gets at most half of what
//!   is left.
//! - The handler starts over, with the dialect, the family and the prompt of the new model.
//! - Fallbacks do not draw on the retry budget.
//! - The client receives the last failure, unless that is a fallback's rejection of the request
//!   itself.
//! - There is no fallback for 400, 413, 422 and content filters, for embeddings
//!   (`embeddings_code.fallback` is a configuration error), for Test connection, for models named
//!   by a client, for GitLab's cloud, and none to a model that the caller's key does not permit.
//!
//! **Because.** A fallback is not a second request to servers that are in trouble, and when a model
//! is down all of its requests have to move. Whether a request is valid is for the first model to
//! judge. The vectors of another model do not match those in the store.
//!
//! # 2026-11-26: The retry budget
//!
//! **Decision.** A bucket per model, shared by all workers. A request deposits
//! `resilience.retry_budget`; a further attempt withdraws one. Ten are available at rest, and
//! savings decay within half a minute. A replica that could not be connected to costs nothing.
//!
//! **Because.** Such a replica received no request, each one is tried only once, and a dead replica
//! under load must not lose requests.
//!
//! **Rejected.** A bucket without a clock, on paper: with a small ceiling it loses the requests
//! that wait at a replica that dies, with a large one it doubles the load of a slow, overloaded
//! model for minutes.
