//! A client of HTTP/2. Dropping an exchange resets its stream; dropping the client disconnects.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::client::{Head, Wire};
use super::{Answer, End, soon};

/// The initial window size of HTTP/2 (RFC 9113 §6.5.2).
const WINDOW: u32 = 65_535;

/// One connection.
pub(crate) struct Http2 {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A request that was started, on a stream of its own.
pub(crate) struct Exchange {
    head: ResponseFuture,
    body: Option<RecvStream>,
    /// Sends more of the request's body.
    pub(crate) request: SendStream<Bytes>,
}

impl Http2 {
    /// Connects in the clear, with prior knowledge.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::with_window(address, WINDOW).await
    }

    /// Connects in the clear; each stream receives no more than `window` bytes ahead of the reader.
    pub(crate) async fn with_window(address: SocketAddr, window: u32) -> Self {
        let stream = soon("connecting", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, window).await
    }

    /// Starts HTTP/2 on an established connection.
    pub(crate) async fn over(stream: impl Wire + 'static, window: u32) -> Self {
        let mut builder = Builder::new();
        builder
            .initial_window_size(window)
            .initial_connection_window_size(1 << 30)
            .enable_push(false);
        let (requests, connection) =
            soon("the handshake", builder.handshake::<_, Bytes>(stream)).await.unwrap();
        Self { requests, connection: tokio::spawn(connection) }
    }

    /// Sends the head of a request; the body follows.
    pub(crate) async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Exchange, h2::Error> {
        self.start(method, path, headers, false).await
    }

    /// Sends a whole request.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Exchange {
        let mut exchange = self.start(method, path, headers, body.is_empty()).await.unwrap();
        if !body.is_empty() {
            exchange.request.send_data(Bytes::copy_from_slice(body), true).unwrap();
        }
        exchange
    }

    async fn start(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        ends: bool,
    ) -> Result<Exchange, h2::Error> {
        let mut request = Request::builder().method(method).uri(format!("http://weir.test{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut requests = soon("room for a stream", self.requests.clone().ready()).await?;
        let (head, stream) = requests.send_request(request.body(()).unwrap(), ends)?;
        Ok(Exchange { head, body: None, request: stream })
    }

    /// Sends a request and returns the whole response.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.send(method, path, headers, body).await.answer().await
    }

    /// Returns whether the other side has sent GOAWAY.
    pub(crate) async fn gets_goaway(&self) -> bool {
        soon("a word", self.requests.clone().ready()).await.is_err_and(|error| error.is_go_away())
    }

    /// Waits for the connection's end.
    pub(crate) async fn ended(&mut self) -> Result<(), h2::Error> {
        soon("the connection's end", &mut self.connection).await.unwrap()
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Exchange {
    /// Returns the response head, or the error that came instead.
    pub(crate) async fn head(&mut self) -> Result<Head, h2::Error> {
        let (parts, body) = soon("a head", &mut self.head).await?.into_parts();
        self.body = Some(body);
        let headers = parts.headers.iter();
        let headers = headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        Ok(Head { status: parts.status.as_u16(), headers })
    }

    /// Returns the next piece of the body, `None` at its end, and gives its bytes back to flow
    /// control.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Option<Reason>> {
        let body = self.body.as_mut().expect("a head first");
        let Some(chunk) = soon("more of the answer", body.data()).await else { return Ok(None) };
        let chunk = chunk.map_err(|error| error.reason())?;
        let _ = body.flow_control().release_capacity(chunk.len());
        Ok(Some(chunk))
    }

    /// Reads until the body contains `text`; returns what was read.
    pub(crate) async fn read_until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            let chunk = self.chunk().await.expect("more").expect("more");
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        seen
    }

    /// Returns the whole response, or what is left of it.
    pub(crate) async fn answer(mut self) -> Answer {
        let head = self.head().await.expect("a head");
        self.rest(head).await
    }

    /// Returns the rest of a response whose head was read.
    pub(crate) async fn rest(&mut self, head: Head) -> Answer {
        let mut answer = Answer { head, body: Vec::new(), pieces: Vec::new(), end: End::Proper };
        loop {
            match self.chunk().await {
                Ok(Some(piece)) => answer.pieces.push((Instant::now(), piece.to_vec())),
                Ok(None) => break,
                Err(reason) => {
                    answer.end = reason.map_or(End::Cut, End::Reset);
                    break;
                }
            }
        }
        answer.body = answer.pieces.iter().flat_map(|(_, piece)| piece.clone()).collect();
        answer
    }
}
