//! A small document from a server of the operator's choice: an issuer's keys. One connection per document,
//! bounded in time and size, no redirects. Nothing of a client's request goes out here.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::time::timeout;

use super::connect::Connector;
use super::exchange::Connection;
use super::{ConnectError, ExchangeError, Settings};
use crate::route::EndpointUrl;
use crate::wire::{Head, Payload, write_head};

/// From the name's resolution to the last byte.
const LIMIT: Duration = Duration::from_secs(10);
/// GitLab's key set is a few KiB.
const MAX_BODY: usize = 1 << 20;

/// Fetches documents.
pub struct Fetcher {
    connector: Connector,
}

/// A document that arrived with 200.
#[derive(Debug)]
pub struct Fetched {
    /// The answer's headers.
    pub headers: HeaderMap,
    /// The document.
    pub body: Bytes,
}

/// Why there is no document. `Display` is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The connection broke, or what came is not HTTP.
    #[error("{0}")]
    Broken(#[from] ExchangeError),
    /// Another status than 200.
    #[error("HTTP {0}")]
    Status(StatusCode),
    /// A redirect, which is not followed.
    #[error("HTTP {0} to {1}: redirects are not followed, name the address it leads to")]
    Redirect(StatusCode, String),
    /// Longer than a key set is.
    #[error("the answer is longer than 1 MiB")]
    TooLong,
    /// Not there in time.
    #[error("no answer within 10 s")]
    Expired,
}

impl Fetcher {
    /// With the settings of all outward connections.
    pub const fn new(settings: Settings) -> Self {
        Self { connector: Connector::new(settings) }
    }

    /// The document at this address; `path` comes after the URL's own.
    pub async fn get(&self, url: &EndpointUrl, path: &str) -> Result<Fetched, FetchError> {
        timeout(LIMIT, self.get_unbounded(url, path)).await.unwrap_or(Err(FetchError::Expired))
    }

    async fn get_unbounded(&self, url: &EndpointUrl, path: &str) -> Result<Fetched, FetchError> {
        let (stream, _) = self.connector.connect(url, false).await?;
        let mut connection = Connection::new(stream);
        let Head { status, headers, framing, .. } =
            connection.exchange(request_head(url, path), &Payload::default()).await?;
        if status.is_redirection() {
            let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            return Err(FetchError::Redirect(status, location.unwrap_or("nowhere").chars().take(200).collect()));
        }
        if status != StatusCode::OK {
            return Err(FetchError::Status(status));
        }
        let body = connection.document(framing, MAX_BODY).await?.ok_or(FetchError::TooLong)?;
        Ok(Fetched { headers, body })
    }
}

fn request_head(url: &EndpointUrl, path: &str) -> Bytes {
    const FIXED: [(HeaderName, &str); 4] = [
        (header::ACCEPT, "application/json"),
        (header::ACCEPT_ENCODING, "identity"),
        (header::CONNECTION, "close"),
        (header::USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION"))),
    ];
    let mut headers: HeaderMap =
        FIXED.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect();
    // an authority is a header's value: its characters were checked when it was parsed
    headers.extend(HeaderValue::from_str(url.authority().as_str()).map(|host| (header::HOST, host)));
    let path = if url.base().is_empty() && path.is_empty() { "/" } else { path };
    let mut head = BytesMut::with_capacity(256);
    write_head(&mut head, "GET", &[url.base(), path], &headers, 0);
    head.freeze()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::{FetchError, Fetched, Fetcher};
    use crate::route::EndpointUrl;
    use crate::upstream::Settings;

    /// What a server that answers with these bytes and closes is taken for, and what it was asked.
    async fn fetch(answer: Vec<u8>) -> (Result<Fetched, FetchError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = EndpointUrl::parse(&format!("http://{}/root", listener.local_addr().unwrap())).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.unwrap();
            let _ = stream.write_all(&answer).await;
            String::from_utf8(asked[..length].to_vec()).unwrap()
        };
        let fetcher = Fetcher::new(Settings::default());
        tokio::join!(fetcher.get(&url, "/keys"), serve)
    }

    #[tokio::test]
    async fn a_document_arrives_whole() {
        let (answer, asked) = fetch(b"HTTP/1.1 200 OK\r\ncache-control: max-age=9\r\n\r\n{\"keys\":[]}".to_vec()).await;
        let answer = answer.unwrap();
        assert_eq!(
            (&*answer.body, &answer.headers["cache-control"]),
            (&b"{\"keys\":[]}"[..], &"max-age=9".parse().unwrap())
        );
        assert!(asked.starts_with("GET /root/keys HTTP/1.1\r\n") && asked.contains("\r\nhost: 127.0.0.1:"), "{asked}");
    }

    #[tokio::test]
    async fn what_is_no_document_is_told() {
        let of = async |answer: &[u8]| fetch(answer.to_vec()).await.0.unwrap_err().to_string();
        assert_eq!(of(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await, "HTTP 503 Service Unavailable");
        let moved = of(b"HTTP/1.1 301 Moved Permanently\r\nlocation: https://g/\r\ncontent-length: 0\r\n\r\n").await;
        assert!(moved.starts_with("HTTP 301 Moved Permanently to https://g/: redirects are not followed"), "{moved}");
        assert!(!of(b"SSH-2.0-OpenSSH\r\n").await.is_empty());
        let cut = of(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
        assert!(!cut.contains("1 MiB"), "{cut}");
    }

    #[tokio::test]
    async fn a_document_without_end_is_cut_off() {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.resize(2 << 20, b' ');
        assert!(matches!(fetch(answer).await.0, Err(FetchError::TooLong)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_left_after_ten_seconds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = EndpointUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let started = tokio::time::Instant::now();
        let answer = Fetcher::new(Settings::default()).get(&url, "").await;
        assert!(matches!(answer, Err(FetchError::Expired)), "{answer:?}");
        assert_eq!(started.elapsed().as_secs(), 10);
    }
}
