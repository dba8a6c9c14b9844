//! The integration tests: a real gateway, real sockets, a model server that follows a script. One binary,
//! so that it links once; one module per topic.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod openai; // bytes pass, the model is replaced, usage is tapped

mod support; // gateway, scripted upstream, raw client, metrics, access log
