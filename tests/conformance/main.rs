//! Does GitLab notice that Weir is not the official gateway? Two answers: the exchanges that the
//! official gateway was seen to have, replayed here (`replay`, `fixtures/`, `differences.toml`),
//! and a client that follows the rules of GitLab's own (`gitlab`), used as GitLab's features use
//! it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod differences; // where Weir deliberately answers otherwise, and why
mod features; // GitLab's features from their user's chair
mod fixtures; // the recorded exchanges, rewritten
mod gitlab; // the client side of GitLab, from the contract
mod model; // what the scripted model server does in them
mod replay; // each exchange, once: passed N of M
mod shape; // what an answer must look like

#[path = "../gateway/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the gateway's tests use the rest")]
mod support;

#[path = "../identity/signing.rs"]
#[expect(dead_code, reason = "the gateway's tests of identity use the rest")]
mod signing;
