//! The life of a streamed request: GitLab's `POST /v1/chat/agent` with `stream: true`, to a vLLM
//! server.
//!
//! ```text
//!  client                weir, one worker thread                          model server
//!    │  TCP, SO_REUSEPORT   │                                                  │
//!    ├─────────────────────▶│ server::worker   accept, hyper connection        │
//!    │  request head        │ server::observe  endpoint table, Record opens    │
//!    ├─────────────────────▶│ server::admit    a permit, or the queue          │
//!    │                      │ server::answer   a panic is contained here       │
//!    │                      │ api              snapshot loaded once; auth      │
//!    │  request body        │ api::body        size, timeout, parsed once      │
//!    ├─────────────────────▶│ route            feature → Route (model, budget) │
//!    │                      │ provider         Generation → Outbound           │
//!    │                      │ upstream         replica, kept connection        │
//!    │                      ├─────────────────────────────────────────────────▶│
//!    │                      │◀───────────────────────────────── head, at once ─┤
//!    │                      │ relay            holds the head: a failure       │
//!    │                      │                  is retried on the next replica  │
//!    │ head + first content │◀──────────────────────────── first content ──────┤
//!    │◀─────────────────────┤ relay::body      frame → Delta → bytes           │
//!    │         …            │         …                                        │
//!    │◀─────────────────────┤ end: connection kept, Record → metrics, log      │
//! ```
//!
//! # Backpressure
//!
//! Backpressure is the poll itself: the body is polled when the client's socket is writable, and
//! polls the upstream then. There is no channel and no task per request: the task of the client's
//! connection polls both sockets.
//!
//! # In and out of hyper
//!
//! hyper reads the request, and writes the head with the first chunk. Then the stream leaves hyper
//! (`server/http1/handoff.rs`), which gets the socket back for the next request. HTTP/2 streams
//! share a socket and stay in hyper (`server/http2/mod.rs`).
//!
//! # The end
//!
//! However a request ends, [`RelayBody`](crate::relay::RelayBody) is dropped. The upstream
//! connection closes with it, unless the response was read to its end, and the record is passed to
//! metrics and log exactly once.
//!
//! # Pass-through
//!
//! When client and model use the same dialect (`/v1/chat/completions` to an OpenAI-compatible
//! server), the steps through `Generation` and `Delta` are skipped. The body is forwarded as
//! received, with `model` spliced in and `include_usage` added if it is missing; the usage chunk
//! that this adds is removed again.
