//! Responses that start before the model does, and keep-alive bytes in their silences.
//!
//! GitLab fails a request after 60 s of silence (A1000, contract::gitlab_client §12.2), and a model
//! may think for longer. A surface whose clients skip certain bytes (a blank line between JSON
//! lines) registers an [`EarlyResponse`]: from then on the head may be sent at any time, and those bytes
//! are sent in every silence, the one before the model's first token and the later ones.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

/// A response whose head is known before the answer: a 200 of this type, whatever happens.
#[derive(Clone, Copy, Debug)]
pub struct EarlyResponse {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Keep-alive bytes, which the client ignores.
    pub beat: &'static [u8],
    /// The longest silence before they are sent.
    pub interval: Duration,
}

/// The slot through which a handler passes its early response to the server.
#[derive(Clone, Debug, Default)]
pub struct EarlyResponseSlot(Arc<OnceLock<EarlyResponse>>);

impl EarlyResponseSlot {
    /// Sets the early response; only the first call has an effect.
    pub fn set(&self, promise: EarlyResponse) {
        let _ = self.0.set(promise);
    }

    /// Returns the early response, or `None` if the handler has set none.
    pub fn get(&self) -> Option<EarlyResponse> {
        self.0.get().copied()
    }
}

/// Measures silence. The timer is re-armed when it fires, not with every chunk.
pub(super) struct Heartbeat {
    promise: EarlyResponse,
    due: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Heartbeat {
    /// Starts to measure from now.
    pub(super) fn start(promise: EarlyResponse) -> Self {
        let due = Instant::now() + promise.interval;
        Self { promise, due, sleep: Box::pin(sleep_until(due)) }
    }

    /// Returns the keep-alive bytes.
    pub(super) const fn keep_alive(&self) -> Bytes {
        Bytes::from_static(self.promise.beat)
    }

    /// Restarts the measurement, since something was sent.
    pub(super) fn sent(&mut self) {
        self.due = Instant::now() + self.promise.interval;
    }

    /// Ready with the bytes to send when the silence has lasted too long.
    pub(super) fn poll_keep_alive(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let is_due = Instant::now() >= self.due;
            if is_due {
                self.sent();
            }
            self.sleep.as_mut().reset(self.due);
            if is_due {
                return Poll::Ready(self.keep_alive());
            }
        }
    }
}
