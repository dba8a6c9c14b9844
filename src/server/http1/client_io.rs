//! The client's socket as hyper sees it, and the one thing for which hyper's own EOF detection
//! costs too much: noticing a client that disconnects in the middle of a response.
//!
//! hyper detects that by reading, for which it allocates a second 8 KiB buffer per request. So
//! hyper is configured to accept half-closed connections, and the check is made here: by peeking
//! when the kernel reports the socket readable. Under TLS a `close_notify` looks like any other
//! record until it is decrypted, which is done.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::handoff::StreamHandoff;
use crate::upstream::Stream;

/// A client's connection.
pub(super) struct ClientIo {
    stream: TokioIo<Stream>,
    handoff: Arc<StreamHandoff>,
    /// What hyper had read beyond the request whose response was detached.
    unread: Bytes,
}

impl ClientIo {
    /// Wraps a connection. Each flush is reported to `handoff`.
    pub(super) fn new(stream: Stream, handoff: Arc<StreamHandoff>) -> Self {
        Self { stream: TokioIo::new(stream), handoff, unread: Bytes::new() }
    }

    /// Puts back what hyper had read, to be read again. Mostly there is nothing: an empty slice of
    /// hyper's buffer would keep all of it allocated for as long as the stream lasts.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        self.unread = if bytes.is_empty() { Bytes::new() } else { bytes };
    }

    /// Fails once the client has closed its side. Bytes to be read (a pipelined request) are not an
    /// end of the connection.
    pub(super) fn check_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let arrived = match self.stream.inner_mut() {
            Stream::Plain(stream) => match stream.poll_read_ready(cx) {
                Poll::Ready(ready) => {
                    ready.map(|()| stream.poll_peek(cx, &mut ReadBuf::new(&mut [0])))?
                }
                Poll::Pending => return Ok(()),
            },
            Stream::Tls(stream) => peek_decrypted(stream, cx),
        };
        match arrived {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }

    fn inner(self: Pin<&mut Self>) -> Pin<&mut TokioIo<Stream>> {
        Pin::new(&mut self.get_mut().stream)
    }
}

/// Returns how many bytes there are to read, of at most one record, without consuming them.
fn peek_decrypted(
    stream: &mut TlsStream<TcpStream>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let had_nothing = stream.get_ref().1.wants_read();
    let peeked = Pin::new(stream).poll_fill_buf(cx).map_ok(<[u8]>::len);
    if had_nothing && matches!(peeked, Poll::Ready(Ok(1..))) {
        // hyper may be waiting for just this, and the socket will not wake it again
        cx.waker().wake_by_ref();
    }
    peeked
}

impl Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let length = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(length));
            return Poll::Ready(Ok(()));
        }
        self.inner().poll_read(cx, buf)
    }
}

impl Write for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, buf)
    }

    /// hyper flushes at the end of each poll, whether or not it has written, so this is where the
    /// connection is checked.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().inner().poll_flush(cx))?;
        self.handoff.on_flush();
        Poll::Ready(self.check_open(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(cx, bufs)
    }
}
