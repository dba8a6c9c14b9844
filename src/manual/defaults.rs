//! Why every default is what it is.
//!
//! | key | default | why |
//! |---|---|---|
//! | `timeouts.connect` | 2 s | a model server in the same network answers in milliseconds; two seconds survive one lost SYN |
//! | `timeouts.first_byte` | 60 s | GitLab's own default patience (`ai_gateway_timeout_seconds`) |
//! | `timeouts.idle` | 60 s | GitLab counts silence, not duration: 60 s is its default |
//! | `timeouts.total` | 600 s | GitLab's maximum; code suggestions are cut to 50 s, before Workhorse's 55 s |
//! | `chat.heartbeat` | 15 s | GitLab, nginx and most load balancers give up after 60 s of silence: three beats may be lost |
//! | Test connection | 2.8 s, or 14.5 s | GitLab before 19.0 waits 3 s, later 15 s: our words come before its timeout |
//! | `limits.max_body` | 64 MiB | 50 messages of chat with context items can be tens of MB |
//! | `limits.max_headers` | 32 KiB | GitLab sends about 3 KB; at most 100 headers, hyper's own table |
//! | `limits.header_timeout` | 15 s | also how long an idle client connection is kept |
//! | streams of an HTTP/2 connection | 128 | RFC 9113 recommends 100 at least; a proxy that has more opens another connection |
//! | their windows, what waits to be written | 64 KiB (1 MiB together), 32 KiB | what one client can make us hold; a model's words are small |
//! | HTTP/2 pings | every 20 s, answered within 20 s | a client that is gone without a word costs its model server 40 s |
//! | `limits.in_flight`, `queue`, `queue_wait` | 4096, 1024, 1 s | at 5 KiB for an open stream and 25 KiB for a request that is being made 20 to 100 MiB; a second is the longest wait a person does not notice as an error |
//! | clocks of GitLab and Weir | 30 s apart | NTP keeps them within one; GitLab itself allows 5 s backwards |
//! | GitLab's keys | 24 h | what GitLab says of them; sooner if a token names another, at most every 10 s, and with every reload |
//! | kept upstream connections | 4 s | uvicorn (vLLM) closes at 5 s: we close first, so none dies under a request |
//! | `resilience.retry_budget` | 0.2 | Finagle's and Linkerd's: enough for a replica that dies, too little to turn an overload into a collapse |
//! | `resilience.breaker.failures`, `error_rate` | 5, half of ten | Envoy's five in a row; a rate for what fails now and then. Ten requests, so that a quiet night's two failures are not "all" |
//! | `resilience.breaker.open`, `open_max`, `slow_start` | 5 s, 60 s, 10 s | vLLM restarts in one to three minutes: some twenty requests lost to seeing, none of them in a row; a cold cache fills in seconds |
//! | a replica with nothing to do is asked again | 10 s | as long as a wait is remembered by more than a third: until then a slow answer tells more than nothing does |
//! | `resilience.health_check.every`, `timeout` | 10 s, 2 s | two failures are 15 s, less than a user waits; a list of models takes milliseconds where a server lives |
//! | `resilience.drain` | 25 s | Kubernetes kills 30 s after SIGTERM by default, and clients have 2 s to take their answer's last words |
//! | `resilience.drain_delay` | 0 s | only a load balancer that asks `/ready` needs it; everybody else would wait for nothing |
//! | an idle connection while draining | 1 s | closed at once, some clients would ask in the moment of the close |
//! | `/v1/chat/*` `max_tokens` | 2048 | the official 8192 does not fit small models' contexts |
