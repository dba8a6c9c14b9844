//! The server's half of a kept-alive connection.

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::http::{Framing, head_end};

/// Requests as they come on one connection, one at a time.
#[derive(Debug)]
pub struct Requests {
    received: Vec<u8>,
    head: Vec<u8>,
    body: Vec<u8>,
}

/// A request, until the next one is read.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Request line and headers, with the blank line.
    pub head: &'a [u8],
    /// Decoded.
    pub body: &'a [u8],
}

impl Default for Requests {
    fn default() -> Self {
        Self { received: Vec::with_capacity(4 << 10), head: Vec::new(), body: Vec::new() }
    }
}

impl Requests {
    /// The next one; `None` once the client has closed.
    pub async fn next(&mut self, socket: &mut TcpStream) -> io::Result<Option<Request<'_>>> {
        let end = loop {
            if let Some(end) = head_end(&self.received) {
                break end;
            }
            if socket.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        };
        self.head.clear();
        self.head.extend(self.received.drain(..end));
        let mut framing = Framing::of(&self.head)?;
        self.body.clear();
        while !framing.decode(&mut self.received, &mut self.body)? {
            if socket.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(Request { head: &self.head, body: &self.body }))
    }
}
