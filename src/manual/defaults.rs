//! The reason for every default.
//!
//! # Timeouts
//!
//! | key | default | why |
//! |---|---|---|
//! | `timeouts.connect` | 2 s | a model server in the same network accepts in milliseconds; two seconds survive one lost SYN |
//! | `timeouts.first_byte` | 60 s | GitLab's own default (`ai_gateway_timeout_seconds`) |
//! | `timeouts.idle` | 60 s | GitLab limits silence, not duration: 60 s is its default |
//! | `timeouts.total` | 600 s | GitLab's maximum; code suggestions are limited to 50 s, below Workhorse's 55 s |
//! | `chat.heartbeat` | 15 s | GitLab, nginx and most load balancers give up after 60 s of silence: three heartbeats may be lost |
//! | Test connection | 2.8 s, or 14.5 s | GitLab before 19.0 waits 3 s, later versions 15 s: our error arrives before its timeout |
//!
//! # Limits on clients
//!
//! | key | default | why |
//! |---|---|---|
//! | `limits.max_body` | 64 MiB | 50 chat messages with context items can be tens of MB |
//! | `limits.max_headers` | 32 KiB | GitLab sends about 3 KB; at most 100 headers, the size of hyper's own table |
//! | `limits.header_timeout` | 15 s | also how long an idle client connection is kept |
//! | `limits.in_flight`, `queue`, `queue_wait` | 4096, 1024, 1 s | at 5 KiB for an open stream and 25 KiB for a request in progress: 20 to 100 MiB; a second is the longest wait that people do not take for an error |
//! | streams of an HTTP/2 connection | 128 | RFC 9113 recommends at least 100; a proxy that needs more opens another connection |
//! | their windows, what waits to be written | 64 KiB (1 MiB together), 32 KiB | the most that one client can make Weir buffer; tokens are small |
//! | HTTP/2 pings | every 20 s, acknowledged within 20 s | a client that has vanished costs its model server at most 40 s |
//!
//! # GitLab's tokens
//!
//! | key | default | why |
//! |---|---|---|
//! | clock skew between GitLab and Weir | 30 s | NTP keeps them within one second; GitLab itself allows 5 s backwards |
//! | refresh of GitLab's keys | 24 h | the lifetime that GitLab gives them; sooner if a token names an unknown key, at most every 10 s, and on every reload |
//!
//! # Model servers
//!
//! | key | default | why |
//! |---|---|---|
//! | kept upstream connections | 4 s | uvicorn (vLLM) closes idle connections at 5 s: Weir closes first, so none dies under a request |
//! | `resilience.retry_budget` | 0.2 | Finagle's and Linkerd's: enough for a replica that dies, too little to turn an overload into a collapse |
//! | `resilience.breaker.failures`, `error_rate` | 5, half of ten | Envoy's five in a row; a rate for intermittent failures. Ten requests at least, so that two failures in a quiet night are not "all" |
//! | `resilience.breaker.open`, `open_max`, `slow_start` | 5 s, 60 s, 10 s | vLLM restarts in one to three minutes: some twenty probe requests fail meanwhile, no two in a row; a cold cache fills in seconds |
//! | an idle replica is tried again | 10 s | the time in which more than a third of an observed wait's weight remains: until then, a slow response is better information than none |
//! | `resilience.health_check.every`, `timeout` | 10 s, 2 s | two failures take 15 s, less than a user waits; a healthy server lists its models in milliseconds |
//! | `/v1/chat/*` `max_tokens` | 2048 | the official 8192 exceeds the context of small models |
//!
//! # Stopping
//!
//! | key | default | why |
//! |---|---|---|
//! | `resilience.drain` | 25 s | Kubernetes kills 30 s after SIGTERM by default, and clients get 2 s to receive the end of their response |
//! | `resilience.drain_delay` | 0 s | only a load balancer that polls `/ready` needs it; everywhere else it would only delay the stop |
//! | an idle connection while draining | 1 s | closed at once, it would meet some clients in the middle of sending a request |
