//! Writes the rest of a detached response to its client, and ends it when the client does not read.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body as _;
use hyper::rt::Write as _;
use tokio::time::{Sleep, sleep};

use super::client_io::ClientIo;
use crate::relay::RelayBody;
use crate::server::drain::{LINGER, LINGER_EXPIRED};

/// Writes the rest of a response, one write for each piece; in chunks, if it is framed that way.
pub(super) struct ChunkWriter {
    chunked: bool,
    /// `<size>\r\n`, or the last chunk.
    chunk_head: Vec<u8>,
    data: Bytes,
    /// Bytes of head, data and trailing CRLF that are written.
    written: usize,
    /// Whether the body has ended.
    ended: bool,
    /// Runs once the response is over or has expired, while the client reads its last bytes.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl ChunkWriter {
    /// Creates a writer that has written nothing.
    pub(super) const fn new(chunked: bool) -> Self {
        Self {
            chunked,
            chunk_head: Vec::new(),
            data: Bytes::new(),
            written: 0,
            ended: false,
            lingering: None,
        }
    }

    /// Ready when the stream has ended and all of it is written; fails when it broke off, when the
    /// client has disconnected, or when the client does not read although the response has expired.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut ClientIo,
        body: &mut RelayBody,
    ) -> Poll<io::Result<()>> {
        loop {
            if !(self.chunk_head.is_empty() && self.data.is_empty()) {
                match self.poll_write(cx, io) {
                    Poll::Ready(written) => written?,
                    Poll::Pending => return self.poll_stalled(cx, io, body),
                }
                continue;
            }
            if self.ended {
                let flushed = Pin::new(&mut *io).poll_flush(cx)?;
                return if flushed.is_ready() {
                    Poll::Ready(Ok(()))
                } else {
                    self.poll_stalled(cx, io, body)
                };
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.start_chunk(frame.into_data().unwrap_or_default());
                    if body.is_whole() {
                        // a minute for each piece
                        self.lingering = None;
                    }
                }
                Poll::Ready(None) => {
                    let last: &[u8] = if self.chunked { b"0\r\n\r\n" } else { b"" };
                    self.chunk_head.extend_from_slice(last);
                    self.ended = true;
                }
                Poll::Ready(Some(Err(abort))) => return Poll::Ready(Err(io::Error::other(abort))),
                Poll::Pending => {
                    // Under TLS what was written may still be buffered. A flush that completes has
                    // checked the connection.
                    if Pin::new(&mut *io).poll_flush(cx)?.is_pending() {
                        io.check_open(cx)?;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Called while the client does not read. Fails when it has disconnected, and when its time is
    /// up.
    fn poll_stalled(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut ClientIo,
        body: &mut RelayBody,
    ) -> Poll<io::Result<()>> {
        io.check_open(cx)?;
        let has_ended = self.ended || body.is_whole() || body.is_end_stream();
        let limit = if has_ended {
            Some(LINGER)
        } else {
            body.poll_overdue(cx).is_ready().then_some(LINGER_EXPIRED)
        };
        if let (Some(limit), None) = (limit, &self.lingering) {
            self.lingering = Some(Box::pin(sleep(limit)));
        }
        let Some(timer) = &mut self.lingering else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Begins the chunk of these bytes. An empty chunk would end the stream, so none is begun.
    fn start_chunk(&mut self, data: Bytes) {
        if self.chunked && !data.is_empty() {
            use io::Write as _;
            // Writing to a Vec cannot fail.
            let _ = write!(self.chunk_head, "{:x}\r\n", data.len());
        }
        self.data = data;
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, io: &mut ClientIo) -> Poll<io::Result<()>> {
        let end: &[u8] = if self.chunked && !self.ended { b"\r\n" } else { b"" };
        let mut slices =
            [IoSlice::new(&self.chunk_head), IoSlice::new(&self.data), IoSlice::new(end)];
        let mut unwritten: &mut [IoSlice<'_>] = &mut slices;
        IoSlice::advance_slices(&mut unwritten, self.written);
        let count = ready!(Pin::new(io).poll_write_vectored(cx, unwritten))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.written += count;
        if self.written == self.chunk_head.len() + self.data.len() + end.len() {
            self.chunk_head.clear();
            self.data.clear();
            self.written = 0;
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
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio::time::{Instant, sleep};

    use super::{ChunkWriter, ClientIo};
    use crate::relay::{Content, RelayBody};
    use crate::server::http1::StreamHandoff;
    use crate::telemetry::Record;
    use crate::upstream::Stream;

    /// More than the sockets of a client with a small window hold.
    const LONG: usize = 8 << 20;

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_for_a_minute_is_cut_and_one_that_reads_some_is_not() {
        let (mut client, server) = connected().await;
        let content = Content::Whole(Bytes::from(vec![b'x'; LONG]));
        let mut body = RelayBody::new(content, Record::for_nobody(), None);
        body.take_buffered().unwrap();
        let mut io = ClientIo::new(Stream::Plain(server), Arc::new(StreamHandoff::default()));
        let mut writer = ChunkWriter::new(false);
        let begun = Instant::now();
        let writing = poll_fn(|cx| writer.poll(cx, &mut io, &mut body));
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
