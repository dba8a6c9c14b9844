//! HTTP as Rails and Workhorse speak it (contract::gitlab_client §12, §13): a new connection for
//! each call, and three rules about time that a server can break without noticing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// One of GitLab's seconds. 60 of them are then long enough for a busy machine to be on time.
const SECOND: Duration = Duration::from_millis(50);

/// So many of GitLab's seconds.
pub(crate) fn seconds(count: u32) -> Duration {
    SECOND * count
}

/// What Ruby's `Net::HTTP` raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Nobody listens.
    Refused,
    /// Silence for longer than the caller's patience, a head that comes in drips, a whole body that
    /// takes too long.
    ReadTimeout,
    /// The connection was closed before the answer's end.
    EndOfFile,
}

/// An answer's head.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether HTTParty parses the body (contract::gitlab_client §2.5).
    pub(crate) fn is_json(&self) -> bool {
        self.header("content-type").is_some_and(|value| value.starts_with("application/json"))
    }
}

/// A caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Http {
    pub(crate) gateway: SocketAddr,
    /// How long it may be silent (`ai_gateway_timeout_seconds`, by default 60).
    pub(crate) patience: Duration,
}

impl Http {
    pub(crate) fn rails(gateway: SocketAddr) -> Self {
        Self { gateway, patience: seconds(60) }
    }

    /// A call whose body is read whole: from its first byte on, within the patience.
    pub(crate) async fn whole(&self, request: Request<'_>) -> Result<(Head, String), Broken> {
        let mut wire = self.send(request).await?;
        let head = wire.head().await?;
        let mut body = Vec::new();
        let begun = Instant::now();
        while let Some(piece) = wire.piece(&head).await? {
            body.extend_from_slice(&piece);
        }
        if begun.elapsed() > self.patience {
            return Err(Broken::ReadTimeout);
        }
        Ok((head, String::from_utf8(body).unwrap()))
    }

    /// A call whose body is handed on as it comes; `more` says whether to go on reading.
    pub(crate) async fn stream(
        &self,
        request: Request<'_>,
        mut more: impl FnMut(&Head, &[u8]) -> bool,
    ) -> Result<Head, Broken> {
        let mut wire = self.send(request).await?;
        let head = wire.head().await?;
        if request.method == "HEAD" {
            return Ok(head);
        }
        while let Some(piece) = wire.piece(&head).await? {
            if !more(&head, &piece) {
                break;
            }
        }
        Ok(head)
    }

    async fn send(&self, request: Request<'_>) -> Result<Wire, Broken> {
        let connected = timeout(self.patience, TcpStream::connect(self.gateway)).await;
        let mut stream =
            connected.map_err(|_| Broken::ReadTimeout)?.map_err(|_| Broken::Refused)?;
        // a gateway that has answered early may close before all is written
        let _ = stream.write_all(request.to_text().as_bytes()).await;
        Ok(Wire { stream, buffer: Vec::new(), patience: self.patience, left: None })
    }
}

/// A call to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// Beside those of [`super::headers`].
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a str,
}

impl<'a> Request<'a> {
    pub(crate) const fn post(path: &'a str, body: &'a str) -> Self {
        Self { method: "POST", path, headers: &[], body }
    }

    fn to_text(self) -> String {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: weir.test\r\nconnection: close\r\n",
            self.method, self.path
        );
        let headers = super::headers().into_iter().chain(self.headers.iter().copied());
        headers.for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        if self.method == "POST" {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        format!("{head}\r\n{}", self.body)
    }
}

struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    patience: Duration,
    /// Of a body with a length: how much of it is to come.
    left: Option<usize>,
}

impl Wire {
    /// One read. Silence may last as long as the patience, whatever was read before.
    async fn fill(&mut self) -> Result<(), Broken> {
        match timeout(self.patience, self.stream.read_buf(&mut self.buffer)).await {
            Err(_) => Err(Broken::ReadTimeout),
            Ok(Ok(count)) if count > 0 => Ok(()),
            Ok(_) => Err(Broken::EndOfFile),
        }
    }

    /// A line of the head or a chunk's size. After 20 s it must be there whole
    /// (contract::gitlab_client §12.2).
    async fn line(&mut self) -> Result<String, Broken> {
        let begun = Instant::now();
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            if !self.buffer.is_empty() && begun.elapsed() > seconds(20) {
                return Err(Broken::ReadTimeout);
            }
            self.fill().await?;
        }
    }

    async fn head(&mut self) -> Result<Head, Broken> {
        let status = self.line().await?.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let head = Head { status, headers };
        self.left = head.header("content-length").map(|length| length.parse().unwrap());
        Ok(head)
    }

    /// The next piece of the body; `None` at its end.
    async fn piece(&mut self, head: &Head) -> Result<Option<Vec<u8>>, Broken> {
        assert_eq!(
            head.header("content-encoding"),
            None,
            "streams are not compressed (contract::gitlab_client §12.3)"
        );
        if let Some(left) = self.left {
            if left == 0 {
                return Ok(None);
            }
            if self.buffer.is_empty() {
                self.fill().await?;
            }
            let piece: Vec<u8> = self.buffer.drain(..left.min(self.buffer.len())).collect();
            self.left = Some(left - piece.len());
            return Ok(Some(piece));
        }
        assert_eq!(head.header("transfer-encoding"), Some("chunked"), "a body is framed: {head:?}");
        let size = usize::from_str_radix(&self.line().await?, 16).unwrap();
        while self.buffer.len() < size + 2 {
            self.fill().await?;
        }
        let piece = self.buffer.drain(..size + 2).take(size).collect();
        Ok((size > 0).then_some(piece))
    }
}
