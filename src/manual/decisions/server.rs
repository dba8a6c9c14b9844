//! Decisions on the client side: connections, HTTP/2, TLS on the public port, drains and upgrades.
//! Newest first.
//!
//! # 2026-11-26: HTTP/2 towards clients
//!
//! **Decision.** hyper serves HTTP/2, negotiated by ALPN or recognised by the connection preface on
//! a plain connection; no key turns it off.
//!
//! - All streams of a connection run in that connection's task (`FuturesUnordered`). While hyper
//!   does not poll a body, the task that drives its stream does, so that its timeouts run; a client
//!   that reads nothing for 2 s after a timeout has its stream reset.
//! - Bodies are handed to hyper in pieces of 16 KiB.
//! - The bounds are constants in `server/http2/mod.rs`; `limits.*` apply as they do to HTTP/1.1.
//! - GOAWAY is sent as soon as Weir stops, and to a connection that has had no stream for
//!   `limits.header_timeout`, just as an idle HTTP/1.1 connection is closed.
//!
//! **Because.** A client that wants HTTP/1.1 negotiates it. When a connection closes, its streams
//! are dropped with it at once, and no task outlives the last log line of its worker. hyper polls
//! no body while the stream's window is empty, and it buffers whatever a body has returned, however
//! small the window. No operator can choose better bounds than the constants.
//!
//! **Rejected.** A task and a channel for each body: one more hop for each token, and the stalled
//! stream would still be there. Taking streams out of hyper as for HTTP/1.1: a proxy that
//! multiplexes opens few connections, and what that saves is the buffers of many.
//!
//! # 2026-11-26: The end of a drain
//!
//! **Decision.** A request that is still running when `resilience.drain` has elapsed fails as it
//! would on an expired `total`. One signal per worker cancels every pending response and ends every
//! stream, and each client receives the error in the format of its surface. It is not a failure of
//! the model, and no fallback model is called. GitLab's chat receives it as an error that is worth
//! a retry. `drain` is 25 s by default.
//!
//! **Because.** There is no time left for another model, and a retry reaches the process that has
//! taken over. Kubernetes kills a pod after 30 s, and clients need a moment to receive their last
//! bytes.
//!
//! # 2026-11-26: Clients that do not read
//!
//! **Decision.** Responses of known length, and responses to HTTP/1.0 clients, leave hyper as
//! streams do, and are subject to `total`. A response that is complete in memory stays with hyper.
//!
//! **Because.** hyper polls a body only when the socket is writable, so none of our timeouts ran
//! for these responses, and a client could hold its model server for as long as it liked. A
//! complete response holds nothing but its own bytes.
//!
//! # 2026-11-26: TLS on the public port
//!
//! **Decision.** A certificate is part of the configuration: the same diagnostics, the same reload,
//! the same metric.
//!
//! - Its files are watched together with the configuration file. New files need no restart, and
//!   neither does turning TLS on. A reload that would turn it off is refused.
//! - ALPN offers HTTP/2 and HTTP/1.1.
//! - Handshakes are limited in time (`limits.header_timeout`), not in number.
//! - Sessions resume by tickets; with `client_ca` they never resume.
//! - While a response is pending, at most one record of what the client sends is decrypted, and
//!   kept for the next read.
//! - The two dates of a certificate are parsed by sixty lines of our own; a warning is logged about
//!   14 days before the end.
//!
//! **Because.** A connection keeps the settings it was accepted with. GitLab's Rails uses HTTP/1.1,
//! Workhorse whatever is offered. Handshake slots that strangers can hold would lock everyone else
//! out. Tickets cost the server no memory, and without resumption a client's certificate is
//! verified on every connection. `close_notify` is an encrypted record, so a client that leaves can
//! be detected only by decrypting. An open TLS stream takes 17.1 KiB, a plain one in the same build
//! 10.0 KiB (1,000 streams, 2026-11-25).
//!
//! **Rejected.** `x509-parser`: it brings fifteen crates, and nothing but a warning depends on a
//! date here.
//!
//! # 2026-11-26: Upgrades hand the listening sockets over
//!
//! **Decision.** The new process receives the listening sockets themselves from the old one, that
//! of the admin port included, so no socket ever closes. The two meet at an abstract Unix socket
//! whose name is derived from the admin address. Both sides check the user of their peer.
//!
//! **Because.** Weir writes no file, and an abstract name is visible exactly as far as the port is.
//! It has no owner, hence the check.
//!
//! **Rejected.** Two processes with `SO_REUSEPORT`: connections that wait in the queue of a socket
//! that closes are reset, and migrating them (`tcp_migrate_req`) takes a sysctl that only root can
//! set. A signal that makes the old process start the new one, as in nginx: a service manager or a
//! container knows only the processes that it started itself.
//!
//! # 2026-11-24: Streams leave hyper once their head is out
//!
//! **Decision.** hyper stays on the client side: it reads requests and writes heads and short
//! responses. Once the head and the first chunk of a stream are out, `server/http1/handoff.rs`
//! takes the socket, writes the chunks itself, and returns the socket to hyper for the next
//! request.
//!
//! **Because.** Requests are where hostile bytes come from, so reading them is left to hyper. But
//! it keeps two 8 KiB buffers per connection for as long as a response lasts. Without them a stream
//! takes 9.7 KiB.
//!
//! **Rejected.** An HTTP server of our own: the edge is the wrong place to save.
