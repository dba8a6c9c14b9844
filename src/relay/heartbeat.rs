//! A stream that may start before there is anything to say, and keeps saying that it is alive.
//!
//! GitLab takes a silence of 60 s for the end (A1000, gitlab-client.md §12.2), and a model may
//! think for longer. A surface whose clients skip some bytes (a blank line between JSON lines)
//! gives its [`Promise`]: from then on the head may go out at any time, and those bytes break every
//! silence, the one before the model's first word and the later ones.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

/// What a handler promises of its answer: a 200 of this type, whatever happens.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Bytes that mean nothing to the client.
    pub beat: &'static [u8],
    /// The longest silence.
    pub every: Duration,
}

/// The place where a handler leaves its promise for the server, which waits with it.
#[derive(Clone, Debug, Default)]
pub struct HeadStart(Arc<OnceLock<Promise>>);

impl HeadStart {
    /// Gives the promise; the first one stands.
    pub fn promise(&self, promise: Promise) {
        let _ = self.0.set(promise);
    }

    /// What was promised, if anything was.
    pub fn promised(&self) -> Option<Promise> {
        self.0.get().copied()
    }
}

/// Measures silence. The timer is re-armed when it fires, not with every chunk.
pub(super) struct Pulse {
    promise: Promise,
    due: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Pulse {
    /// The first silence begins now.
    pub(super) fn start(promise: Promise) -> Self {
        let due = Instant::now() + promise.every;
        Self { promise, due, sleep: Box::pin(sleep_until(due)) }
    }

    /// What breaks a silence.
    pub(super) const fn beat(&self) -> Bytes {
        Bytes::from_static(self.promise.beat)
    }

    /// Something was sent: the next silence begins now.
    pub(super) fn sent(&mut self) {
        self.due = Instant::now() + self.promise.every;
    }

    /// Ready when the silence has lasted too long: with the bytes to send.
    pub(super) fn poll_beat(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let beats = Instant::now() >= self.due;
            if beats {
                self.sent();
            }
            self.sleep.as_mut().reset(self.due);
            if beats {
                return Poll::Ready(self.beat());
            }
        }
    }
}
