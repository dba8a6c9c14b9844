//! The integration tests: a real gateway, real sockets, a model server that follows a script. One binary,
//! so that it links once; one module per topic.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod chat_v1; // GitLab's troubleshooting curl
mod disconnect; // a client that leaves cancels the upstream
mod model_check; // GitLab's Test connection
mod monitoring; // probes, 404, 405, the admin listener
mod openai; // bytes pass, the model is replaced, usage is tapped
mod timeouts; // the four limits are A1000 on every surface

mod support; // gateway, scripted upstream, raw client, metrics, access log
