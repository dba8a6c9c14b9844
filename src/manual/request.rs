//! The life of a streamed request: GitLab's `POST /v1/chat/agent` with `stream: true`, to a vLLM
//! server.
//!
//! ```text
//!  client                weir, one worker thread                          model server
//!    │  TCP, SO_REUSEPORT   │                                                  │
//!    ├─────────────────────▶│ server::worker   accept, hyper connection        │
//!    │  request head        │ server::observe  endpoint table, Record opens    │
//!    ├─────────────────────▶│ server::admit    a place in flight, or the queue │
//!    │                      │ server::answer   a panic is contained here       │
//!    │                      │ api              snapshot loaded once; auth      │
//!    │  request body        │ api::body        limit, time, parsed once        │
//!    ├─────────────────────▶│ route            feature → Route (model, budget) │
//!    │                      │ provider         Generation → Outbound           │
//!    │                      │ upstream         replica, kept connection        │
//!    │                      ├─────────────────────────────────────────────────▶│
//!    │                      │◀───────────────────────────────── head, at once ─┤
//!    │                      │ relay            holds it back: a failure        │
//!    │                      │                  goes to the next replica         │
//!    │  head + first words  │◀──────────────────────────── first content ──────┤
//!    │◀─────────────────────┤ relay::body      frame → Delta → bytes           │
//!    │         …            │         …                                        │
//!    │◀─────────────────────┤ end: connection kept, Record → metrics, log      │
//! ```
//!
//! Backpressure is the poll itself: the body is polled when the client's socket can take more, and
//! polls the upstream then. There is no channel and no task per request: the client connection's
//! task polls both sockets.
//!
//! hyper reads the request and writes the head with the first chunk; then the stream leaves it
//! (`server/handover.rs`), and hyper gets the socket back for the next request. In HTTP/2 streams
//! share the socket and stay in hyper (`server/http2.rs`).
//!
//! However it ends, [`RelayBody`](crate::relay::RelayBody) is dropped: the upstream connection
//! closes with it unless the answer was read to its end, and its record is handed to metrics and
//! log exactly once.
//!
//! Where client and model speak the same dialect (`/v1/chat/completions` to an OpenAI-compatible
//! server) the steps through `Generation` and `Delta` are skipped: the body is forwarded as
//! received, with `model` spliced and `include_usage` added when it is missing, and the usage chunk
//! that this adds is taken out again.
