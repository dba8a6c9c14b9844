//! The body of a response on an HTTP/2 stream: sent in pieces, under timeouts that run although the
//! client reads nothing.
//!
//! hyper polls a body for more only while the stream's window has room. So the future that runs a
//! stream shares its body with hyper: hyper reads pieces of it, and while it does not, the body's
//! timeouts are polled all the same.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep};

use crate::relay::{Abort, RelayBody};
use crate::server::drain::{LINGER, LINGER_EXPIRED};

/// The most bytes that hyper gets at a time: it buffers all that it has read from a body, however
/// little room the stream's window has.
const MAX_DATA: usize = 16 * 1024;

/// The body of one response, shared by hyper and the stream's future. Empty until there is a
/// response.
#[derive(Clone, Default)]
pub(super) struct Http2Body {
    state: Arc<Mutex<BodyState>>,
}

#[derive(Default)]
struct BodyState {
    body: Option<RelayBody>,
    /// The bytes of the body's last frame that hyper has not read yet.
    rest: Bytes,
    /// Whether hyper holds a piece and has not polled for more since.
    in_hyper: bool,
    /// An error of the body, returned once what came before it has been written.
    abort: Option<Abort>,
    /// Runs while a client does not read a response that is over or has expired.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl Http2Body {
    /// Sets the body of the response.
    pub(super) fn set(&self, body: RelayBody) {
        self.lock().body = Some(body);
    }

    /// Ready when the client has not read the piece that hyper holds, and its time is up.
    pub(super) fn poll_stalled(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.lock().poll_stalled(cx)
    }

    fn lock(&self) -> MutexGuard<'_, BodyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BodyState {
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(body) = self.body.as_mut().filter(|_| self.in_hyper) else { return Poll::Pending };
        if self.lingering.is_none() {
            let limit = if body.is_whole() || body.is_end_stream() {
                LINGER
            } else {
                ready!(body.poll_overdue(cx));
                LINGER_EXPIRED
            };
            self.lingering = Some(Box::pin(sleep(limit)));
        }
        self.lingering.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        self.in_hyper = false;
        self.lingering = None;
        if let Some(abort) = self.abort.take() {
            return Poll::Ready(Some(Err(abort)));
        }
        while self.rest.is_empty() {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(abort)) => {
                    // A reset discards what is not written yet: the connection is polled first.
                    self.abort = Some(abort);
                    return pin!(yield_now()).poll(cx).map(|()| None);
                }
                None => return Poll::Ready(None),
            }
        }
        self.in_hyper = true;
        let length = self.rest.len().min(MAX_DATA);
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        self.lock().poll_data(cx).map(|next| next.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.lock();
        state.rest.is_empty() && state.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::time::Duration;

    use bytes::Bytes;
    use http_body::Body as _;
    use http_body_util::BodyExt as _;
    use tokio::time::{Instant, sleep};

    use super::{Http2Body, MAX_DATA};
    use crate::relay::{Content, RelayBody};
    use crate::telemetry::Record;

    fn body_of(length: usize) -> Http2Body {
        let body = Http2Body::default();
        body.set(RelayBody::new(
            Content::Whole(Bytes::from(vec![b'x'; length])),
            Record::for_nobody(),
            None,
        ));
        body
    }

    #[tokio::test]
    async fn a_large_body_is_sent_in_pieces_with_its_length_known() {
        let mut body = body_of(2 * MAX_DATA + 1);
        assert_eq!(body.size_hint().exact(), Some(2 * MAX_DATA as u64 + 1));
        for (length, is_last) in [(MAX_DATA, false), (MAX_DATA, false), (1, true)] {
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!((piece.len(), body.is_end_stream()), (length, is_last));
        }
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_for_a_minute_is_cut_and_each_piece_read_gives_another() {
        let (mut body, unread) = (body_of(10 * MAX_DATA), body_of(0));
        let begun = Instant::now();
        tokio::select! {
            () = poll_fn(|cx| unread.poll_stalled(cx)) => panic!("hyper holds nothing"),
            () = sleep(Duration::from_secs(600)) => {}
        }
        for _ in 0..3 {
            Pin::new(&mut body).frame().await.unwrap().unwrap();
            tokio::select! {
                () = poll_fn(|cx| body.poll_stalled(cx)) => panic!("too soon"),
                () = sleep(Duration::from_secs(59)) => {}
            }
        }
        poll_fn(|cx| body.poll_stalled(cx)).await;
        assert_eq!(begun.elapsed().as_secs(), 600 + 3 * 59 + 1);
    }
}
