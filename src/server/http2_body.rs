//! The body of an answer as an HTTP/2 stream takes it: in pieces, and under limits that run
//! although nobody takes any.
//!
//! hyper asks a body for more only while the stream's window has room. So what runs a stream shares
//! its body with hyper: hyper takes pieces, and when it does not, the body is looked after all the
//! same.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep};

use crate::relay::{Abort, RelayBody};
use crate::server::handover::{GRACE, LINGER};

/// hyper hands a connection all that it has taken, however little room there is: so it gets no more
/// at a time.
const PIECE: usize = 16 * 1024;

/// One answer's body, seen from both sides. Empty until there is an answer.
#[derive(Clone, Default)]
pub(super) struct Outlet(Arc<Mutex<Pieces>>);

#[derive(Default)]
struct Pieces {
    body: Option<RelayBody>,
    /// Of the body's last bytes what hyper has not taken yet.
    rest: Bytes,
    /// hyper has not asked for more since it got a piece.
    given: bool,
    /// Told once what came before it is out.
    broken: Option<Abort>,
    /// Runs while a client takes nothing that could have had all.
    grace: Option<Pin<Box<Sleep>>>,
}

impl Outlet {
    /// Now there is an answer.
    pub(super) fn fill(&self, body: RelayBody) {
        self.lock().body = Some(body);
    }

    /// Ready when the client does not get any more time for the piece that hyper holds.
    pub(super) fn poll_overdue(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.lock().poll_overdue(cx)
    }

    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pieces {
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(body) = self.body.as_mut().filter(|_| self.given) else { return Poll::Pending };
        if self.grace.is_none() {
            let limit = if body.is_whole() || body.is_end_stream() {
                LINGER
            } else {
                ready!(body.poll_overdue(cx));
                GRACE
            };
            self.grace = Some(Box::pin(sleep(limit)));
        }
        self.grace.as_mut().map_or(Poll::Pending, |grace| grace.as_mut().poll(cx))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        self.given = false;
        self.grace = None;
        if let Some(abort) = self.broken.take() {
            return Poll::Ready(Some(Err(abort)));
        }
        while self.rest.is_empty() {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(abort)) => {
                    // A reset takes back what is not written yet: first the connection gets its
                    // turn.
                    self.broken = Some(abort);
                    return pin!(yield_now()).poll(cx).map(|()| None);
                }
                None => return Poll::Ready(None),
            }
        }
        self.given = true;
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }
}

impl Body for Outlet {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        self.lock().poll_piece(cx).map(|next| next.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        let pieces = self.lock();
        pieces.rest.is_empty() && pieces.body.as_ref().is_none_or(Body::is_end_stream)
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

    use super::{Outlet, PIECE};
    use crate::relay::{Content, RelayBody};
    use crate::telemetry::Record;

    fn whole(length: usize) -> Outlet {
        let outlet = Outlet::default();
        outlet.fill(RelayBody::new(
            Content::Whole(Bytes::from(vec![b'x'; length])),
            Record::for_nobody(),
            None,
        ));
        outlet
    }

    #[tokio::test]
    async fn a_large_answer_goes_out_in_pieces_with_its_length_known() {
        let mut outlet = whole(2 * PIECE + 1);
        assert_eq!(outlet.size_hint().exact(), Some(2 * PIECE as u64 + 1));
        for (length, is_last) in [(PIECE, false), (PIECE, false), (1, true)] {
            let piece = outlet.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!((piece.len(), outlet.is_end_stream()), (length, is_last));
        }
        assert!(outlet.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_no_piece_for_a_minute_gets_no_more_and_who_takes_one_has_another() {
        let (mut outlet, watched) = (whole(10 * PIECE), whole(0));
        let begun = Instant::now();
        tokio::select! {
            () = poll_fn(|cx| watched.poll_overdue(cx)) => panic!("nobody was given anything"),
            () = sleep(Duration::from_secs(600)) => {}
        }
        for _ in 0..3 {
            Pin::new(&mut outlet).frame().await.unwrap().unwrap();
            tokio::select! {
                () = poll_fn(|cx| outlet.poll_overdue(cx)) => panic!("too soon"),
                () = sleep(Duration::from_secs(59)) => {}
            }
        }
        poll_fn(|cx| outlet.poll_overdue(cx)).await;
        assert_eq!(begun.elapsed().as_secs(), 600 + 3 * 59 + 1);
    }
}
