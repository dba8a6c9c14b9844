//! What every topic needs: a gateway in this process, a model server that follows a script, clients
//! that record bytes, and readers for the metrics and the access log.

mod client;
mod duo_chat;
mod gateway;
mod http2;
mod log;
mod metrics;
mod process;
mod proxy;
mod redis;
mod surfaces;
mod tls;
pub(crate) mod upstream;

use std::time::Duration;

pub(crate) use client::{Answer, Client, End};
pub(crate) use duo_chat::{DuoChat, Shown, events};
pub(crate) use gateway::{Gateway, chat_body, one_model, parse, resilient_file};
pub(crate) use http2::{Exchange, Http2};
pub(crate) use log::Log;
pub(crate) use metrics::Metrics;
pub(crate) use process::{Folder, Process};
pub(crate) use proxy::ConnectProxy;
pub(crate) use redis::{Eval, Redis};
pub(crate) use surfaces::{Surface, surfaces};
pub(crate) use tls::{Authority, Hello, Pair, front, front_for, older_kind, secure};
pub(crate) use upstream::{Deaf, Received, Reply, Upstream, says};

/// How long an event that must happen may take on a busy machine. Nothing is expected to come near
/// it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for what must happen; panics after [`PATIENCE`].
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

/// Polls a condition until it holds, for state that announces no change (metrics, `/status`).
pub(crate) async fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut asks: F) {
    soon(what, async {
        while !asks().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
