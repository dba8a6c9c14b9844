//! An answer that is still arriving leaves hyper once its head is out.
//!
//! hyper keeps two 8 KiB buffers per connection for as long as an answer lasts, which is most of
//! what an open stream would take; and while a client does not read it asks no body for more, so
//! that no limit could end one. So it parses the request, writes the head and the first bytes, and
//! then gives the socket back; the rest is framed here (RFC 9112 §7.1, §6.2), and when it has ended
//! hyper gets the socket again for the next request.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Write as _;
use tokio::time::{Sleep, sleep};

use super::client_io::ClientIo;
use crate::relay::{Abort, RelayBody};

/// The place where one connection's service leaves a streamed body for the connection's task.
#[derive(Default)]
pub(super) struct Handover {
    /// Boxed: each step of the way would otherwise hold its space in every connection.
    parked: Mutex<Option<Box<Parked>>>,
    /// hyper has taken all that it gets of the body.
    taken: AtomicBool,
    /// And written it to the socket.
    written: AtomicBool,
}

/// A body on its way out of hyper.
pub(super) struct Parked {
    pub(super) body: RelayBody,
    /// Whether the client may ask again on this connection.
    pub(super) keep_alive: bool,
    /// Its head tells no length, and its client knows chunks.
    pub(super) in_chunks: bool,
}

impl Handover {
    /// Parks the body of an answer that goes on; others go through hyper as they are. `keep_alive`
    /// as of [`keeps_alive`].
    pub(super) fn offer(
        self: &Arc<Self>,
        response: Response<RelayBody>,
        keep_alive: Option<bool>,
    ) -> Response<Outgoing> {
        let (mut parts, mut body) = response.into_parts();
        let length = body.size_hint().exact();
        match body.take_held() {
            Some(first) if !body.is_end_stream() => {
                if let Some(length) = length {
                    parts.headers.insert(header::CONTENT_LENGTH, length.into());
                }
                let in_chunks =
                    keep_alive.is_some() && !parts.headers.contains_key(header::CONTENT_LENGTH);
                let parked = Parked { body, keep_alive: keep_alive.unwrap_or(false), in_chunks };
                *self.parked.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Box::new(parked));
                let first = Some(first);
                Response::from_parts(parts, Outgoing::First { first, place: Arc::clone(self) })
            }
            held => Response::from_parts(parts, Outgoing::Whole { first: held, rest: body }),
        }
    }

    /// Told by the socket after each flush.
    pub(super) fn flushed(&self) {
        if self.taken.load(Ordering::Relaxed) {
            self.written.store(true, Ordering::Relaxed);
        }
    }

    /// The parked body, once hyper's part of it is on the wire.
    pub(super) fn take(&self) -> Option<Box<Parked>> {
        if !self.written.load(Ordering::Relaxed) {
            return None;
        }
        self.taken.store(false, Ordering::Relaxed);
        self.written.store(false, Ordering::Relaxed);
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Whether the client speaks chunks, and keeps the connection (RFC 9112 §9.3). HTTP/1.0 gets
/// neither.
pub(super) fn keeps_alive<B>(request: &Request<B>) -> Option<bool> {
    let closes = |value: &http::HeaderValue| {
        value
            .to_str()
            .is_ok_and(|text| text.split(',').any(|word| word.trim().eq_ignore_ascii_case("close")))
    };
    let close = request.headers().get_all(header::CONNECTION).iter().any(closes);
    (request.version() == Version::HTTP_11).then_some(!close)
}

/// The body that hyper sees.
#[expect(clippy::large_enum_variant, reason = "boxing would cost every short answer an allocation")]
pub(super) enum Outgoing {
    /// All of it.
    Whole { first: Option<Bytes>, rest: RelayBody },
    /// Its first chunk; then nothing, until the socket is taken back.
    First { first: Option<Bytes>, place: Arc<Handover> },
}

impl Body for Outgoing {
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
            Self::First { first, place } => match first.take() {
                Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
                None => {
                    place.taken.store(true, Ordering::Relaxed);
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

/// Writes the rest of an answer, one write for each piece; in chunks, if that is how it is framed.
pub(super) struct ChunkWriter {
    in_chunks: bool,
    /// `<size>\r\n`, or the last chunk.
    size: Vec<u8>,
    data: Bytes,
    sent: usize,
    over: bool,
    /// Runs once the answer is over or has no more time, while the client takes its last bytes.
    grace: Option<Pin<Box<Sleep>>>,
}

/// How long a client may take over the last bytes of an answer that has run out of time.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// The same, of an answer that ended in time: what is left is a socket's buffer at most.
pub(super) const LINGER: Duration = Duration::from_secs(60);

impl ChunkWriter {
    pub(super) const fn new(in_chunks: bool) -> Self {
        Self { in_chunks, size: Vec::new(), data: Bytes::new(), sent: 0, over: false, grace: None }
    }

    /// Ready when the stream has ended and all of it is written; fails when it broke off, when the
    /// client has left, or when it does not read although the answer has no more time.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut ClientIo,
        body: &mut RelayBody,
    ) -> Poll<io::Result<()>> {
        loop {
            if !(self.size.is_empty() && self.data.is_empty()) {
                match self.poll_write(cx, io) {
                    Poll::Ready(written) => written?,
                    Poll::Pending => return self.poll_stuck(cx, io, body),
                }
                continue;
            }
            if self.over {
                let flushed = Pin::new(&mut *io).poll_flush(cx)?;
                return if flushed.is_ready() {
                    Poll::Ready(Ok(()))
                } else {
                    self.poll_stuck(cx, io, body)
                };
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.start(frame.into_data().unwrap_or_default());
                    if body.is_whole() {
                        // a minute for each piece
                        self.grace = None;
                    }
                }
                Poll::Ready(None) => {
                    self.size.extend_from_slice(if self.in_chunks { b"0\r\n\r\n" } else { b"" });
                    self.over = true;
                }
                Poll::Ready(Some(Err(abort))) => return Poll::Ready(Err(io::Error::other(abort))),
                Poll::Pending => {
                    // Under TLS what was written may not be out yet. A flush that is done has
                    // looked for the client.
                    if Pin::new(&mut *io).poll_flush(cx)?.is_pending() {
                        io.check_open(cx)?;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// The client takes no more for now: it may have left, and it does not get for ever.
    fn poll_stuck(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut ClientIo,
        body: &mut RelayBody,
    ) -> Poll<io::Result<()>> {
        io.check_open(cx)?;
        let has_ended = self.over || body.is_whole() || body.is_end_stream();
        let limit = if has_ended {
            Some(LINGER)
        } else {
            body.poll_overdue(cx).is_ready().then_some(GRACE)
        };
        if let (Some(limit), None) = (limit, &self.grace) {
            self.grace = Some(Box::pin(sleep(limit)));
        }
        let Some(grace) = &mut self.grace else { return Poll::Pending };
        ready!(grace.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// An empty chunk would end the stream.
    fn start(&mut self, data: Bytes) {
        if self.in_chunks && !data.is_empty() {
            use io::Write as _;
            // Writing to a Vec cannot fail.
            let _ = write!(self.size, "{:x}\r\n", data.len());
        }
        self.data = data;
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, io: &mut ClientIo) -> Poll<io::Result<()>> {
        let end: &[u8] = if self.in_chunks && !self.over { b"\r\n" } else { b"" };
        let mut pieces = [IoSlice::new(&self.size), IoSlice::new(&self.data), IoSlice::new(end)];
        let mut left: &mut [IoSlice<'_>] = &mut pieces;
        IoSlice::advance_slices(&mut left, self.sent);
        let written = ready!(Pin::new(io).poll_write_vectored(cx, left))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.sent += written;
        if self.sent == self.size.len() + self.data.len() + end.len() {
            self.size.clear();
            self.data.clear();
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Response, header};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio::time::{Instant, sleep};

    use super::{ChunkWriter, Handover, Outgoing, Parked};
    use crate::relay::{Content, RelayBody};
    use crate::server::client_io::ClientIo;
    use crate::telemetry::Record;
    use crate::upstream::Stream;

    /// More than the sockets of a client with a small window hold.
    const LONG: usize = 8 << 20;

    fn offer(handover: &Arc<Handover>, length: usize) -> Response<Outgoing> {
        let content = Content::Whole(Bytes::from(vec![b'x'; length]));
        handover
            .offer(Response::new(RelayBody::new(content, Record::for_nobody(), None)), Some(true))
    }

    /// What is left of a long answer once its first piece is out.
    fn parked() -> (Arc<Handover>, Box<Parked>) {
        let handover = Arc::new(Handover::default());
        let response = offer(&handover, LONG);
        assert_eq!(response.headers()[header::CONTENT_LENGTH], LONG.to_string());
        let parked = handover.parked.lock().unwrap().take().unwrap();
        assert!(!parked.in_chunks && parked.keep_alive);
        (handover, parked)
    }

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[test]
    fn a_short_answer_is_hypers() {
        let handover = Arc::new(Handover::default());
        assert!(matches!(offer(&handover, 1000).into_body(), Outgoing::Whole { first: None, .. }));
        assert!(handover.parked.lock().unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_a_long_answer_is_cut_after_a_minute_and_who_takes_some_is_not() {
        let (mut client, server) = connected().await;
        let (handover, mut parked) = parked();
        let mut io = ClientIo::new(Stream::Plain(server), handover);
        let mut chunks = ChunkWriter::new(false);
        let begun = Instant::now();
        let writing = poll_fn(|cx| chunks.poll(cx, &mut io, &mut parked.body));
        let reading = async {
            // each time more than the pieces that are under way
            for _ in 0..3 {
                sleep(Duration::from_secs(50)).await;
                client.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
            }
            std::future::pending::<()>().await
        };
        let written = tokio::select! { written = writing => written, () = reading => Ok(()) };
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 150 + 60);
    }
}
