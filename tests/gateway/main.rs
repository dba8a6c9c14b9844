//! The integration tests: a real gateway, real sockets, a model server that follows a script. One binary,
//! so that it links once; one module per topic.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod access_log; // one line per request, ids in and out, secrets nowhere
mod bad_input; // a 4xx that says what is wrong, and no harm
mod chat_v1; // GitLab's troubleshooting curl
mod cloud; // GitLab's cloud gateway: byte for byte, and nothing of ours
mod config_faults; // broken files, every fault at once
mod disconnect; // a client that leaves cancels the upstream
mod framing; // how model servers frame their answers
mod fuzz_smoke; // the fuzz targets, a little, on any toolchain
mod golden; // translations as files
mod model_check; // GitLab's Test connection
mod monitoring; // probes, 404, 405, the admin listener
mod openai; // bytes pass, the model is replaced, usage is tapped
mod reload; // another file in force without a lost request
mod routing; // the rules of precedence, and what must never be called
mod stale; // dead connections, rubbish, cut streams
mod timeouts; // the four limits are A1000 on every surface
mod tls; // TLS in and out: certificates, reloads, clients that leave
mod usage; // token counts of streams that end before they are counted

mod support; // gateway, scripted upstream, raw client, metrics, access log
