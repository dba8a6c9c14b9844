//! One kept-alive client connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::{Framing, head_end, malformed};

/// No exchange of ours takes longer unless something hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// A connection and what was read ahead from it.
#[derive(Debug)]
pub struct Client {
    socket: TcpStream,
    received: Vec<u8>,
    body: Vec<u8>,
}

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = timeout(Duration::from_secs(5), TcpStream::connect(address)).await??;
        socket.set_nodelay(true)?;
        Ok(Self { socket, received: Vec::with_capacity(16 << 10), body: Vec::with_capacity(16 << 10) })
    }

    /// Sends a request and reads its answer. `on_body` gets the decoded bytes that one read brought.
    /// Returns the status; after an error the connection is of no more use.
    pub async fn exchange(&mut self, request: &[u8], on_body: impl FnMut(&[u8])) -> io::Result<u16> {
        timeout(LIMIT, self.exchange_unbounded(request, on_body)).await?
    }

    async fn exchange_unbounded(&mut self, request: &[u8], mut on_body: impl FnMut(&[u8])) -> io::Result<u16> {
        self.socket.write_all(request).await?;
        let end = loop {
            self.read().await?;
            if let Some(end) = head_end(&self.received) {
                break end;
            }
        };
        let head = &self.received[..end];
        let status = head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let status = status.ok_or_else(|| malformed("status line"))?;
        let mut framing = Framing::of(head)?;
        self.received.drain(..end);
        loop {
            self.body.clear();
            let ended = framing.decode(&mut self.received, &mut self.body)?;
            if !self.body.is_empty() {
                on_body(&self.body);
            }
            if ended {
                return Ok(status);
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
