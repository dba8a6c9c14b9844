//! A small document from a server of the operator's choice: an issuer's keys. One connection per document,
//! bounded in time and size, no redirects. Nothing of a client's request goes out here.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;

use super::connect::{Connector, Driver, Sender};
use super::send::OutBody;
use super::{ConnectError, Settings};
use crate::route::EndpointUrl;
use crate::wire::Payload;

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
    Broken(String),
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
        let (sender, driver, _) = self.connector.connect(url, false).await?;
        exchange(sender, driver, request(url, path)?).await
    }
}

/// Runs the connection beside the exchange: nothing is spawned, so nothing outlives a cancelled fetch.
async fn exchange(sender: Sender, driver: Driver, request: Request<OutBody>) -> Result<Fetched, FetchError> {
    let (mut exchange, mut driver) = (pin!(answer(sender, request)), pin!(driver));
    tokio::select! {
        biased;
        answer = exchange.as_mut() => answer,
        // the server closed after its last byte; what it sent is there to be read
        _ = driver.as_mut() => exchange.await,
    }
}

async fn answer(mut sender: Sender, request: Request<OutBody>) -> Result<Fetched, FetchError> {
    let broken = |error: hyper::Error| FetchError::Broken(error.to_string());
    let (parts, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
    match parts.status {
        StatusCode::OK => {}
        status if status.is_redirection() => {
            let location = parts.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            return Err(FetchError::Redirect(status, location.unwrap_or("nowhere").chars().take(200).collect()));
        }
        status => return Err(FetchError::Status(status)),
    }
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
        let too_long = error.is::<http_body_util::LengthLimitError>();
        if too_long { FetchError::TooLong } else { FetchError::Broken(error.to_string()) }
    })?;
    Ok(Fetched { headers: parts.headers, body: body.to_bytes() })
}

fn request(url: &EndpointUrl, path: &str) -> Result<Request<OutBody>, FetchError> {
    let target = format!("{}{path}", url.base());
    let target = if target.is_empty() { "/" } else { &target };
    let request = Request::get(target)
        .header(header::HOST, url.authority().as_str())
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .header(header::CONNECTION, HeaderValue::from_static("close"))
        .header(header::USER_AGENT, HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION"))));
    request.body(OutBody::new(&Payload::default())).map_err(|error| FetchError::Broken(error.to_string()))
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
        assert!(asked.starts_with("GET /root/keys HTTP/1.1\r\nhost: 127.0.0.1:"), "{asked}");
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
