//! A response that is still arriving is detached from hyper once its head is written.
//!
//! hyper keeps two 8 KiB buffers per connection for as long as a response lasts, which would be
//! most of the memory of an open stream; and while a client does not read, hyper polls no body, so
//! that no timeout could end one. So hyper parses the request, writes the head and the first bytes,
//! and then returns the socket; the rest is framed here (RFC 9112 §7.1, §6.2), and when it has
//! ended hyper gets the socket again for the next request.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use http_body::{Body, Frame, SizeHint};

use crate::relay::{Abort, RelayBody};

/// The slot in which one connection's service leaves a streamed body for the connection's task.
#[derive(Default)]
pub(super) struct StreamHandoff {
    /// Boxed: otherwise every connection would hold the space of a body.
    detached: Mutex<Option<Box<DetachedBody>>>,
    /// Whether hyper has read its part of the body.
    read: AtomicBool,
    /// Whether hyper has written that to the socket.
    written: AtomicBool,
}

/// The rest of a streamed response.
pub(super) struct DetachedBody {
    pub(super) body: RelayBody,
    /// Whether the client may send another request on this connection.
    pub(super) keep_alive: bool,
    /// Whether the body is sent in chunks: its head has no length, and its client reads chunks.
    pub(super) chunked: bool,
}

/// How a client reads a response (RFC 9112 §9.3). For HTTP/1.0 neither is used.
#[derive(Clone, Copy)]
pub(super) struct ClientFraming {
    /// Whether it reads chunks.
    pub(super) chunked: bool,
    /// Whether it keeps the connection open.
    pub(super) keep_alive: bool,
}

impl ClientFraming {
    /// Reads it from a request.
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let has_close = |value: &HeaderValue| {
            value.to_str().is_ok_and(|text| {
                text.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"))
            })
        };
        let close = request.headers().get_all(header::CONNECTION).iter().any(has_close);
        let chunked = request.version() == Version::HTTP_11;
        Self { chunked, keep_alive: chunked && !close }
    }
}

impl StreamHandoff {
    /// Detaches the body of a response that goes on after its first bytes; others go through hyper
    /// as they are.
    pub(super) fn detach(
        self: &Arc<Self>,
        response: Response<RelayBody>,
        framing: ClientFraming,
    ) -> Response<HyperBody> {
        let (mut parts, mut body) = response.into_parts();
        let length = body.size_hint().exact();
        match body.take_buffered() {
            Some(first) if !body.is_end_stream() => {
                if let Some(length) = length {
                    parts.headers.insert(header::CONTENT_LENGTH, length.into());
                }
                let chunked =
                    framing.chunked && !parts.headers.contains_key(header::CONTENT_LENGTH);
                let detached = DetachedBody { body, keep_alive: framing.keep_alive, chunked };
                *self.lock() = Some(Box::new(detached));
                let first = Some(first);
                Response::from_parts(parts, HyperBody::First { first, handoff: Arc::clone(self) })
            }
            first => Response::from_parts(parts, HyperBody::Whole { first, rest: body }),
        }
    }

    /// Called by the socket after each flush.
    pub(super) fn on_flush(&self) {
        if self.read.load(Ordering::Relaxed) {
            self.written.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the detached body once hyper's part of it is written; `None` until then.
    pub(super) fn take(&self) -> Option<Box<DetachedBody>> {
        if !self.written.load(Ordering::Relaxed) {
            return None;
        }
        self.read.store(false, Ordering::Relaxed);
        self.written.store(false, Ordering::Relaxed);
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<DetachedBody>>> {
        self.detached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body that hyper sees.
#[expect(
    clippy::large_enum_variant,
    reason = "boxing would cost every short response an allocation"
)]
pub(super) enum HyperBody {
    /// The whole body.
    Whole { first: Option<Bytes>, rest: RelayBody },
    /// Its first chunk; then it is pending until the socket is taken from hyper.
    First { first: Option<Bytes>, handoff: Arc<StreamHandoff> },
}

impl Body for HyperBody {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        match &mut *self {
            Self::Whole { first, rest } => match first.take() {
                Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
                None => Pin::new(rest).poll_frame(cx),
            },
            Self::First { first, handoff } => match first.take() {
                Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
                None => {
                    handoff.read.store(true, Ordering::Relaxed);
                    Poll::Pending
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { first, rest } => first.is_none() && rest.is_end_stream(),
            Self::First { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { first: None, rest } => rest.size_hint(),
            Self::Whole { .. } | Self::First { .. } => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use http::{Response, header};
    use http_body_util::BodyExt as _;

    use super::{ClientFraming, HyperBody, StreamHandoff};
    use crate::relay::{Content, RelayBody};
    use crate::telemetry::Record;

    const LONG: usize = 8 << 20;

    fn detach(handoff: &Arc<StreamHandoff>, length: usize) -> Response<HyperBody> {
        let content = Content::Whole(Bytes::from(vec![b'x'; length]));
        let response = Response::new(RelayBody::new(content, Record::for_nobody(), None));
        handoff.detach(response, ClientFraming { chunked: true, keep_alive: true })
    }

    #[test]
    fn a_short_response_is_left_to_hyper() {
        let handoff = Arc::new(StreamHandoff::default());
        assert!(matches!(detach(&handoff, 1000).into_body(), HyperBody::Whole { first: None, .. }));
        assert!(handoff.lock().is_none());
    }

    #[test]
    fn a_long_response_is_detached_once_its_first_bytes_are_written() {
        let handoff = Arc::new(StreamHandoff::default());
        let response = detach(&handoff, LONG);
        assert_eq!(response.headers()[header::CONTENT_LENGTH], LONG.to_string());
        let mut body = response.into_body();
        body.frame().now_or_never().unwrap().unwrap().unwrap();
        handoff.on_flush();
        assert!(handoff.take().is_none());
        assert!(body.frame().now_or_never().is_none());
        handoff.on_flush();
        let detached = handoff.take().unwrap();
        assert!(!detached.chunked && detached.keep_alive);
    }
}
