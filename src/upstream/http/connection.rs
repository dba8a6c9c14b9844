//! One request and its response on one connection. No task drives it: the task that waits for the
//! response polls the socket, so a chunk goes from one socket to the other within one poll, and
//! dropping the exchange closes the connection, which makes a model server stop
//! (contract::providers §d3.4).

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::upstream::net::stream::Stream;
use crate::upstream::net::tls::is_alert;
use crate::wire::{Framing, NotHttp, Payload, ResponseHead, read_response_head};

/// The bytes read from a socket at once, on the stack: an open stream keeps no read buffer.
const READ_SIZE: usize = 16 << 10;

/// A connection, idle or with a request under way.
pub(crate) struct Connection {
    stream: Stream,
    /// The bytes read beyond the last response head.
    buffer: BytesMut,
    opened_at: Instant,
}

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The peer closed before a byte of the response: if the connection was pooled, the request may
    /// be sent again.
    #[error("the connection closed before an answer")]
    NoResponse,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The response is not HTTP.
    #[error("{0}")]
    NotHttp(#[from] NotHttp),
    /// The connection closed before the end of the body.
    #[error("the connection closed in the middle of the answer")]
    Truncated,
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::new(), opened_at: Instant::now() }
    }

    /// Returns the time since the connection was opened.
    pub(crate) fn age(&self) -> Duration {
        self.opened_at.elapsed()
    }

    /// Returns whether an idle connection is still open and silent, as far as the kernel knows.
    pub(crate) fn is_idle_and_open(&mut self) -> bool {
        let mut space = [MaybeUninit::uninit(); 16];
        let mut read = ReadBuf::uninit(&mut space);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_read(&mut cx, &mut read).is_pending()
    }

    /// Returns whether bytes were read beyond the last response head.
    pub(super) fn has_unread_bytes(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Sends a request and waits for the head of its response. The caller bounds the time.
    pub(crate) async fn exchange(
        &mut self,
        head: Bytes,
        body: &Payload,
    ) -> Result<ResponseHead, ExchangeError> {
        match self.write(head, body).await {
            Ok(None) => self.read_head().await,
            // A server that refuses a request may respond before it has read all of it; the rest is
            // not sent.
            Ok(Some(head)) => Ok(ResponseHead { keep_alive: false, ..head }),
            // Or it closes the connection.
            Err(ExchangeError::Io(error)) => {
                self.read_head().await.map_err(|read| match (read, error.kind()) {
                    (ExchangeError::Io(alert), _) if is_alert(&alert) => alert.into(),
                    (_, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                        ExchangeError::NoResponse
                    }
                    _ => error.into(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a request. Returns the head of a response that arrived before all of it was sent.
    async fn write(
        &mut self,
        head: Bytes,
        body: &Payload,
    ) -> Result<Option<ResponseHead>, ExchangeError> {
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
                // The server does not read for now: has it sent the reason? Its close is left to
                // the next write.
                let read = ready!(poll_read(&mut self.stream, cx, |bytes| self
                    .buffer
                    .extend_from_slice(bytes)))?;
                if read > 0 { Poll::Ready(Ok::<_, io::Error>(None)) } else { Poll::Pending }
            })
            .await?;
            let Some(mut written) = written else {
                match read_response_head(&mut self.buffer)? {
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

    /// Reads a whole body; returns `None` when it is longer than `limit` bytes.
    pub(crate) async fn read_body(
        &mut self,
        framing: Framing,
        limit: usize,
    ) -> Result<Option<Bytes>, ExchangeError> {
        let (mut framing, mut whole) = (framing, BytesMut::new());
        while !framing.is_complete() {
            poll_fn(|cx| poll_body(self, &mut framing, cx, &mut whole)).await?;
            if whole.len() > limit {
                return Ok(None);
            }
        }
        Ok(Some(whole.freeze()))
    }

    async fn read_head(&mut self) -> Result<ResponseHead, ExchangeError> {
        loop {
            if let Some(head) = read_response_head(&mut self.buffer)? {
                return Ok(head);
            }
            let read = poll_fn(|cx| {
                poll_read(&mut self.stream, cx, |bytes| self.buffer.extend_from_slice(bytes))
            })
            .await;
            match read {
                Ok(0) if self.buffer.is_empty() => return Err(ExchangeError::NoResponse),
                Err(error)
                    if self.buffer.is_empty() && error.kind() == io::ErrorKind::ConnectionReset =>
                {
                    return Err(ExchangeError::NoResponse);
                }
                Ok(0) => return Err(ExchangeError::Truncated),
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
        }
    }
}

/// Reads once, passes the bytes to `take` and returns their number.
fn poll_read(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    let mut space = [MaybeUninit::uninit(); READ_SIZE];
    let mut read = ReadBuf::uninit(&mut space);
    ready!(Pin::new(stream).poll_read(cx, &mut read))?;
    take(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}

/// Reads until a part of the body has arrived or the framing has reached its end.
pub(super) fn poll_body(
    connection: &mut Connection,
    framing: &mut Framing,
    cx: &mut Context<'_>,
    out: &mut BytesMut,
) -> Poll<Result<(), ExchangeError>> {
    let Connection { stream, buffer, .. } = connection;
    loop {
        if !buffer.is_empty() {
            // the bytes that arrived with the head
            let read = std::mem::take(buffer);
            framing.decode(&read, out)?;
        } else {
            let mut decoded = Ok(());
            let read = ready!(poll_read(stream, cx, |bytes| decoded = framing.decode(bytes, out)))?;
            decoded?;
            match (read, &framing) {
                (0, Framing::UntilClose) => *framing = Framing::Length(0),
                (0, _) => return Poll::Ready(Err(ExchangeError::Truncated)),
                _ => {}
            }
        }
        if !out.is_empty() || framing.is_complete() {
            return Poll::Ready(Ok(()));
        }
    }
}
