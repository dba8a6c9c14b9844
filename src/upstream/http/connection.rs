//! One request and its answer on one connection. No task drives it: whoever waits for the answer
//! polls the socket, so a chunk goes from one socket to the other within one poll, and dropping the
//! exchange closes the connection, which makes a model server stop (providers.md d3.4).

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::upstream::Stream;
use crate::upstream::endpoint::{Endpoint, Entered};
use crate::upstream::http::pool::Pool;
use crate::upstream::limit::concurrency::Place;
use crate::upstream::net::tls::is_alert;
use crate::wire::{Framing, Head, NotHttp, Payload, read_head};

/// Bytes taken from a socket at once, on the stack: an open stream keeps no read buffer.
const READ: usize = 16 << 10;

/// A connection between two requests, or under one.
pub(crate) struct Connection {
    stream: Stream,
    /// What was read beyond the last response head.
    buffer: BytesMut,
    made: Instant,
}

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The peer closed before a byte of an answer: on a kept connection, the request may go once
    /// more.
    #[error("the connection closed before an answer")]
    Unanswered,
    /// The socket.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The bytes.
    #[error("{0}")]
    NotHttp(#[from] NotHttp),
    /// The body ended before its end.
    #[error("the connection closed in the middle of the answer")]
    Cut,
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::new(), made: Instant::now() }
    }

    /// How long ago it was made.
    pub(crate) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// Whether a kept connection is still open and silent, as far as the kernel has told us.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut space = [MaybeUninit::uninit(); 16];
        let mut read = ReadBuf::uninit(&mut space);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_read(&mut cx, &mut read).is_pending()
    }

    /// Sends a request and waits for the head of its answer. The caller bounds the time.
    pub(crate) async fn exchange(
        &mut self,
        head: Bytes,
        body: &Payload,
    ) -> Result<Head, ExchangeError> {
        match self.write(head, body).await {
            Ok(None) => self.head().await,
            // A server that refuses a request may answer before it has read all of it; the rest is
            // not sent.
            Ok(Some(head)) => Ok(Head { keep_alive: false, ..head }),
            // Or close.
            Err(ExchangeError::Io(error)) => {
                self.head().await.map_err(|read| match (read, error.kind()) {
                    (ExchangeError::Io(said), _) if is_alert(&said) => said.into(),
                    (_, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                        ExchangeError::Unanswered
                    }
                    _ => error.into(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a request; returns an answer's head that came before all of it was sent.
    async fn write(&mut self, head: Bytes, body: &Payload) -> Result<Option<Head>, ExchangeError> {
        let mut pieces: Vec<Bytes> = Vec::with_capacity(1 + body.pieces().len());
        pieces.push(head);
        pieces.extend_from_slice(body.pieces());
        let mut first = 0;
        while first < pieces.len() {
            let written = poll_fn(|cx| {
                let slices: Vec<IoSlice<'_>> =
                    pieces[first..].iter().map(|piece| IoSlice::new(piece)).collect();
                if let Poll::Ready(written) =
                    Pin::new(&mut self.stream).poll_write_vectored(cx, &slices)
                {
                    return Poll::Ready(written.map(Some));
                }
                // The server reads no more for now: does it say why? Its close is the next write's
                // to find.
                let read = ready!(poll_read(&mut self.stream, cx, |bytes| self
                    .buffer
                    .extend_from_slice(bytes)))?;
                if read > 0 { Poll::Ready(Ok::<_, io::Error>(None)) } else { Poll::Pending }
            })
            .await?;
            let Some(mut written) = written else {
                match read_head(&mut self.buffer)? {
                    None => continue,
                    early => return Ok(early),
                }
            };
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            while first < pieces.len() && written >= pieces[first].len() {
                written -= pieces[first].len();
                first += 1;
            }
            if let Some(piece) = pieces.get_mut(first) {
                piece.advance(written);
            }
        }
        poll_fn(|cx| Pin::new(&mut self.stream).poll_flush(cx)).await?;
        Ok(None)
    }

    /// Reads the whole of a body that is a document; `None` when it is longer than `limit` bytes.
    pub(crate) async fn document(
        &mut self,
        framing: Framing,
        limit: usize,
    ) -> Result<Option<Bytes>, ExchangeError> {
        let (mut framing, mut whole) = (framing, BytesMut::new());
        while !framing.is_over() {
            poll_fn(|cx| poll_body(self, &mut framing, cx, &mut whole)).await?;
            if whole.len() > limit {
                return Ok(None);
            }
        }
        Ok(Some(whole.freeze()))
    }

    async fn head(&mut self) -> Result<Head, ExchangeError> {
        loop {
            if let Some(head) = read_head(&mut self.buffer)? {
                return Ok(head);
            }
            let read = poll_fn(|cx| {
                poll_read(&mut self.stream, cx, |bytes| self.buffer.extend_from_slice(bytes))
            })
            .await;
            match read {
                Ok(0) if self.buffer.is_empty() => return Err(ExchangeError::Unanswered),
                Err(error)
                    if self.buffer.is_empty() && error.kind() == io::ErrorKind::ConnectionReset =>
                {
                    return Err(ExchangeError::Unanswered);
                }
                Ok(0) => return Err(ExchangeError::Cut),
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
        }
    }
}

/// Reads once; hands the bytes to `take` and says how many they were.
fn poll_read(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    let mut space = [MaybeUninit::uninit(); READ];
    let mut read = ReadBuf::uninit(&mut space);
    ready!(Pin::new(stream).poll_read(cx, &mut read))?;
    take(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}

/// The body of an answer. When it was read to its end the connection goes back to the pool; dropped
/// before, it closes.
pub struct AnswerBody {
    connection: Option<Connection>,
    framing: Framing,
    keep_alive: bool,
    entered: Entered,
    /// At the model; ends with this.
    place: Option<Place>,
    pool: Arc<Pool>,
}

impl AnswerBody {
    pub(crate) const fn new(
        connection: Connection,
        framing: Framing,
        keep_alive: bool,
        entered: Entered,
        pool: Arc<Pool>,
    ) -> Self {
        Self { connection: Some(connection), framing, keep_alive, entered, place: None, pool }
    }

    /// Keeps the request's place at its model until it ends.
    pub fn hold(&mut self, place: Option<Place>) {
        self.place = place;
    }

    /// Who answers.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        self.entered.endpoint()
    }

    /// Whether all of it was read.
    pub const fn is_over(&self) -> bool {
        self.connection.is_none()
    }

    /// The next bytes, or `None` at the end.
    pub fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ExchangeError>>> {
        let mut out = BytesMut::new();
        let read = match &mut self.connection {
            None => return Poll::Ready(None),
            Some(_) if self.framing.is_over() => Ok(()),
            Some(connection) => ready!(poll_body(connection, &mut self.framing, cx, &mut out)),
        };
        if let Err(error) = read {
            self.connection = None;
            return Poll::Ready(Some(Err(error)));
        }
        if self.framing.is_over() {
            self.end();
        }
        match (out.is_empty(), self.is_over()) {
            (true, true) => Poll::Ready(None),
            _ => Poll::Ready(Some(Ok(out.freeze()))),
        }
    }

    /// The connection may serve again, unless the server said otherwise or sent more than its
    /// answer, which would be read as the next one.
    fn end(&mut self) {
        if let Some(connection) =
            self.connection.take().filter(|c| self.keep_alive && c.buffer.is_empty())
        {
            self.pool.put(self.entered.endpoint().pool_key, connection);
        }
    }
}

/// Reads until some of the body is there or the framing says that it is over.
fn poll_body(
    connection: &mut Connection,
    framing: &mut Framing,
    cx: &mut Context<'_>,
    out: &mut BytesMut,
) -> Poll<Result<(), ExchangeError>> {
    let Connection { stream, buffer, .. } = connection;
    loop {
        if !buffer.is_empty() {
            // what came with the head
            let read = std::mem::take(buffer);
            framing.decode(&read, out)?;
        } else {
            let mut decoded = Ok(());
            let read = ready!(poll_read(stream, cx, |bytes| decoded = framing.decode(bytes, out)))?;
            decoded?;
            match (read, &framing) {
                (0, Framing::UntilClose) => *framing = Framing::Length(0),
                (0, _) => return Poll::Ready(Err(ExchangeError::Cut)),
                _ => {}
            }
        }
        if !out.is_empty() || framing.is_over() {
            return Poll::Ready(Ok(()));
        }
    }
}
