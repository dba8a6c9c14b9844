//! Decisions on the way to model servers: load balancing, concurrency limits, connections, TLS and
//! proxies. Newest first.
//!
//! # 2026-11-26: The priority sent to vLLM
//!
//! **Decision.** `priority = true` on a model adds 0, 1 or 2 to every body that is sent to it, by
//! the same classes that queue for `max_parallel`. It is added at one point for all surfaces
//! (`relay`), embeddings included, which accept it. It overrides the client's own value, every time
//! the field occurs. Off by default.
//!
//! **Because.** A client that could choose its number would overtake everyone else. vLLM's order is
//! strict, and when its cache is full it preempts the lowest class. Its documentation says that it
//! rejects such numbers unless it runs with `--scheduling-policy priority`; 0.32 was seen to accept
//! and ignore them, so an operator who forgot the flag gets no sign of it.
//!
//! # 2026-11-26: vLLM's reported load, and prompt affinity
//!
//! **Decision.** Both are off by default.
//!
//! - `load = "vllm"` reads the gauges of running and waiting requests and of cache usage twice a
//!   second. Requests from elsewhere are added to our own; a waiting one counts twice, and running
//!   ones count up to twice when the cache is nearly full. A reading older than 1.5 s is ignored.
//! - `affinity = true` hashes the beginning of the body at twelve lengths from 1 to 64 KiB into a
//!   table of 128 KiB per model, in which the newest entry wins. A match counts if at least half of
//!   the hashed length is known, and while that replica's load is at most 1.5 times that of the
//!   cheaper of two candidates, plus four. The hash is the standard library's (`SipHash`) with a
//!   secret seed.
//!
//! **Because.** The table needs no tree, no lock and no eviction. The threshold of half keeps a
//! system prompt that all requests share from attracting everything. Only the operator can tell
//! which prompts repeat. Hashing a body of 64 KiB takes some 40 µs, and no client can craft bodies
//! that collide.
//!
//! # 2026-11-26: The concurrency limit of a model
//!
//! **Decision.** `max_parallel` limits the requests in flight at a model across all workers; each
//! holds its permit until the body of its response ends, and keeps it from one attempt to the next.
//!
//! - Behind it is one locked queue per model, with strict classes: completions, chat, background
//!   jobs. Code generation queues as chat. `max_wait` ends the wait with 503 and `Retry-After`. A
//!   full queue evicts the newest request of the lowest class.
//! - A model without `max_parallel` is limited by `limits.in_flight` alone, but its requests are
//!   counted all the same. Models that requests name have no limit of their own.
//! - Queue time is reported separately (`queue_ms`, `weir_queue_seconds`) and is no part of Weir's
//!   overhead.
//!
//! **Because.** Strict classes are safe, since waits are short and a starved request gets its 503.
//! Generated code is long, and a late completion is worthless. The newest has waited least.
//! Counting without a limit lets a reload that sets one take effect at once. A permit given back
//! between attempts would let waiting requests in first.
//!
//! **Rejected.** A semaphore: it has no classes.
//!
//! # 2026-11-26: Load balancing
//!
//! **Decision.** Of two replicas drawn at random, the request goes to the one with the lower
//! product of the wait for a first token (peak EWMA, with a decay of 10 s) and the requests in
//! flight; while one of the waits is unknown, requests in flight alone decide. A replica that has
//! been idle for ten seconds receives the next request that draws it, whatever it cost before, and
//! that observation replaces the estimate.
//!
//! **Because.** A simulation of eight servers with eight slots each (`upstream::balance`), 99th
//! percentile of the time to the first token:
//!
//! | | Weir | requests in flight alone | round robin |
//! |---|--:|--:|--:|
//! | one replica ten times as slow | 1.32 s | 9.6 s | 485 s |
//! | one request in ten ten times as long | 3.24 s | 3.0 s | 10 s |
//!
//! The small cost of the peak where all replicas are alike pays for the first row. At one request a
//! second, a single first token of 20 s kept requests away from a replica for 41 s; with the rule
//! for idle replicas it is 10 s, and the table is unchanged. The price is that a replica that stays
//! slow receives a request every ten seconds.
//!
//! **Rejected.** Decay alone, as in Finagle and linkerd: a faster decay worsens the second row,
//! since slow replicas under load are then chosen more often.
//!
//! # 2026-11-26: Outbound proxies always get a CONNECT
//!
//! **Decision.** Every connection through a proxy is a tunnel, for plain HTTP too. A proxy that is
//! itself reached by TLS or SOCKS is a configuration error. A server named by a request is resolved
//! and checked here, and requested from the proxy by address; names in the operator's file are
//! resolved by the proxy. This machine and link-local addresses are never proxied.
//!
//! **Because.** The bytes in a tunnel are the bytes without one, so there is no second form of a
//! request, nothing is buffered on the way, and the proxy's credentials are in one place. The price
//! is that the proxy must allow CONNECT to the model server's port; the log line of its refusal
//! names this. A name that only the proxy can resolve cannot be checked. Cloud credentials are
//! served at link-local addresses.
//!
//! # 2026-11-26: TLS towards servers is part of the configuration
//!
//! **Decision.** Certificate authorities and client certificates are read when the file is checked,
//! watched with it, and put in force by a reload. Together they are one value, and a kept
//! connection belongs to the value that it was made under. The client certificate of `[tls]` is
//! presented to every model server that requests one, including those that requests name, as in the
//! official gateway; issuers, token services and GitLab's cloud never see it.
//! `AIGW_MTLS__VERIFY=false` and a key with a passphrase are refused. The system's own authorities
//! are loaded once for each such value.
//!
//! **Because.** A new certificate costs every model one handshake, and no code has to work out
//! which models it affects. A client certificate proves who Weir is and discloses no key. Turning
//! verification off removes what the rest protects, and a passphrase would be stored beside its
//! key.
//!
//! # 2026-11-24: An HTTP/1.1 client of our own
//!
//! **Decision.** Model servers are reached with a codec of our own: `wire/http1.rs` is pure and
//! fuzzed, and the request that waits for a response polls the socket itself. It is used only with
//! servers that the operator chose or that were checked.
//!
//! **Because.** hyper's client costs a task, two channel hops per event and 26 KiB per connection
//! (a queue of 32 requests, two 8 KiB buffers): an open stream took 35 KiB. CPU per request fell by
//! a sixth, and an open stream to 16 KiB.
//!
//! **Rejected.** hyper on both sides, which was the design.
