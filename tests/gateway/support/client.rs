//! A client that records what is on the wire: the head as sent, the body with its arrival times,
//! and whether it ended properly. It can disconnect at any point.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::soon;

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Ended by its length or its last chunk.
    Proper,
    /// The connection was closed before the end.
    Cut,
    /// The HTTP/2 stream was reset with this reason.
    Reset(h2::Reason),
}

/// A byte stream under a connection: TCP, or TLS on it.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

/// One connection. Dropping it disconnects.
pub(crate) struct Client {
    stream: Box<dyn Wire>,
    buffer: Vec<u8>,
}

/// A response head.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(super) headers: Vec<(String, String)>,
}

/// A whole response.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// The pieces of the body with their arrival times.
    pub(crate) pieces: Vec<(Instant, Vec<u8>)>,
    pub(crate) end: End,
}

impl Head {
    /// Returns a header's value by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Returns the `data` of each event.
    pub(crate) fn events(&self) -> Vec<String> {
        let events = self.text().split_terminator("\n\n");
        events.map(|event| event.strip_prefix("data: ").unwrap_or(event).to_owned()).collect()
    }

    /// Returns head and body as text, for searches that must find nothing.
    pub(crate) fn everything(&self) -> String {
        format!("{:?}\n{}", self.head, String::from_utf8_lossy(&self.body))
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = soon("connecting", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Connects; dropping this client resets the connection without a FIN.
    pub(crate) async fn that_resets(address: SocketAddr) -> Self {
        let stream = soon("connecting", TcpStream::connect(address)).await.unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        Self::over(stream)
    }

    /// Wraps an established connection.
    pub(crate) fn over(stream: impl Wire + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    /// Half-closes the connection, with `close_notify` on TLS; reading goes on.
    pub(crate) async fn shutdown(&mut self) {
        let _ = soon("the goodbye", self.stream.shutdown()).await;
    }

    /// Writes these bytes as they are.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // A gateway that has responded early may close before all is written.
        let _ = soon("writing", async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        })
        .await;
    }

    /// Sends a request, with `Content-Length` if it has a body.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: weir.test\r\n");
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        if !body.is_empty() {
            head.push_str(&format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            ));
        }
        head.push_str("\r\n");
        self.write([head.as_bytes(), body].concat()).await;
    }

    /// Reads more into the buffer. Returns false at the end.
    async fn fill(&mut self) -> bool {
        soon("more of the answer", self.stream.read_buf(&mut self.buffer))
            .await
            .is_ok_and(|count| count > 0)
    }

    /// Returns the next response's head; `None` when the connection was closed instead.
    pub(crate) async fn try_head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Head { status, headers })
    }

    /// Returns the next response's head; panics when the connection was closed instead.
    pub(crate) async fn head(&mut self) -> Head {
        self.try_head().await.expect("an answer instead of a close")
    }

    /// Returns the next chunk of a chunked body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>, End> {
        let line_end = loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            if !self.fill().await {
                return Err(End::Cut);
            }
        };
        let size = std::str::from_utf8(&self.buffer[..line_end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        while self.buffer.len() < line_end + 2 + size + 2 {
            if !self.fill().await {
                return Err(End::Cut);
            }
        }
        let chunk =
            self.buffer.drain(..line_end + 2 + size + 2).skip(line_end + 2).take(size).collect();
        Ok((size > 0).then_some(chunk))
    }

    /// Reads a chunked body until it contains `text`; returns what was read.
    pub(crate) async fn read_until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            let chunk = self.chunk().await.expect("more").expect("more");
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        seen
    }

    /// Returns the response whose head was read, with the rest of its body. `bodiless` for
    /// responses to HEAD.
    pub(crate) async fn body(&mut self, head: Head, bodiless: bool) -> Answer {
        let mut answer = Answer { head, body: Vec::new(), pieces: Vec::new(), end: End::Proper };
        if bodiless || answer.status() == 204 {
            return answer;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                match self.chunk().await {
                    Ok(Some(chunk)) => answer.pieces.push((Instant::now(), chunk)),
                    Ok(None) => break,
                    Err(end) => {
                        answer.end = end;
                        break;
                    }
                }
            }
            answer.body = answer.pieces.iter().flat_map(|(_, piece)| piece.clone()).collect();
            return answer;
        }
        let length: usize =
            answer.header("content-length").expect("a framed body").parse().unwrap();
        while self.buffer.len() < length && self.fill().await {}
        if self.buffer.len() < length {
            answer.end = End::Cut;
        }
        answer.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        answer.pieces.push((Instant::now(), answer.body.clone()));
        answer
    }

    /// Sends a request and returns the whole response.
    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.send(method, path, headers, body).await;
        let head = self.head().await;
        self.body(head, method == "HEAD").await
    }

    /// Returns whether the other side has closed the connection; waits for bytes or the close.
    pub(crate) async fn is_closed(&mut self) -> bool {
        !self.fill().await
    }

    /// Returns whether the connection is closed without an HTTP response: a TLS alert is no head.
    pub(crate) async fn is_let_go_without_an_answer(&mut self) -> bool {
        while self.fill().await {}
        !self.buffer.starts_with(b"HTTP/")
    }
}
