//! One kept-alive client connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::{Framing, head_end, header, malformed};

/// No exchange of ours takes longer unless something hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// A connection and what was read ahead from it.
#[derive(Debug)]
pub struct Client {
    socket: TcpStream,
    received: Vec<u8>,
    body: Vec<u8>,
    /// Of the answer under way.
    framing: Framing,
    is_kept: bool,
}

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = timeout(Duration::from_secs(5), TcpStream::connect(address)).await??;
        Self::on(socket)
    }

    /// On a connection that is there already.
    pub fn on(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let (received, body) = (Vec::with_capacity(16 << 10), Vec::with_capacity(16 << 10));
        Ok(Self { socket, received, body, framing: Framing::Length(0), is_kept: true })
    }

    /// Whether the last answer let the connection be used again.
    pub const fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Sends a request and reads its answer. `on_body` gets the decoded bytes that one read
    /// brought. Returns the status; after an error the connection is of no more use.
    pub async fn exchange(
        &mut self,
        request: &[u8],
        on_body: impl FnMut(&[u8]),
    ) -> io::Result<u16> {
        timeout(LIMIT, self.exchange_unbounded(request, on_body)).await?
    }

    async fn exchange_unbounded(
        &mut self,
        request: &[u8],
        mut on_body: impl FnMut(&[u8]),
    ) -> io::Result<u16> {
        self.send(request).await?;
        let status = self.head().await?;
        while self.more(&mut on_body).await? {}
        Ok(status)
    }

    /// Sends a request.
    pub async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.socket.write_all(request).await
    }

    /// Reads an answer's head; its body is next.
    pub async fn head(&mut self) -> io::Result<u16> {
        let end = loop {
            if let Some(end) = head_end(&self.received) {
                break end;
            }
            self.read().await?;
        };
        let head = &self.received[..end];
        let status =
            head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let status = status.ok_or_else(|| malformed("status line"))?;
        self.framing = Framing::of(head)?;
        self.is_kept =
            header(head, "connection").is_none_or(|value| !value.eq_ignore_ascii_case("close"));
        self.received.drain(..end);
        Ok(status)
    }

    /// Hands on more of the body; false at its end.
    pub async fn more(&mut self, mut on_body: impl FnMut(&[u8])) -> io::Result<bool> {
        loop {
            self.body.clear();
            let ended = self.framing.decode(&mut self.received, &mut self.body)?;
            if !self.body.is_empty() {
                on_body(&self.body);
            }
            if ended || !self.body.is_empty() {
                return Ok(!ended);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.socket.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
