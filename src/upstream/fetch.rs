//! A small document from a server of the operator's choice: an issuer's keys, a cloud's
//! credentials. One connection per document, bounded in time and size, no redirects. Nothing of a
//! client's request goes out here.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::time::timeout;

use super::{ConnectError, ExchangeError, SharedOutward};
use crate::model::EndpointUrl;
use crate::upstream::http::connection::Connection;
use crate::upstream::net::connect::connect;
use crate::upstream::net::egress::Way;
use crate::wire::{Head, Payload, write_head};

/// From the name's resolution to the last byte.
const LIMIT: Duration = Duration::from_secs(10);
/// GitLab's key set is a few KiB, a token less.
const MAX_BODY: usize = 1 << 20;

/// Fetches documents.
pub struct Fetcher {
    outward: SharedOutward,
}

/// A document that arrived with 200.
#[derive(Debug)]
pub struct Fetched {
    /// The answer's headers.
    pub headers: HeaderMap,
    /// The document.
    pub body: Bytes,
}

/// A request for a document. Nothing prints it: its body may hold a secret.
pub struct Asked<'a> {
    /// `GET`, `POST` or `PUT`.
    pub method: &'a str,
    /// The server; its path comes before `path`.
    pub url: &'a EndpointUrl,
    /// Path and query, percent-encoded.
    pub path: &'a str,
    /// Those that a fetch always sends are set when they are not here.
    pub headers: HeaderMap,
    /// What is sent.
    pub body: Bytes,
}

/// Whatever a server answered. Nothing prints it: its body may hold a token.
pub struct Answered {
    /// Any status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
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
    /// Longer than such a document is.
    #[error("the answer is longer than 1 MiB")]
    TooLong,
    /// Not there in time.
    #[error("no answer within 10 s")]
    Expired,
    /// No connection in time.
    #[error("no connection within {0:?}")]
    Unreached(Duration),
}

impl FetchError {
    /// Whether it is only that nothing came in time.
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Expired | Self::Unreached(_))
    }
}

impl Fetcher {
    /// Each document in the way that is in force then.
    pub const fn new(outward: SharedOutward) -> Self {
        Self { outward }
    }

    /// The document at this address; `path` comes after the URL's own.
    pub async fn get(&self, url: &EndpointUrl, path: &str) -> Result<Fetched, FetchError> {
        let asked =
            Asked { method: "GET", url, path, headers: HeaderMap::new(), body: Bytes::new() };
        let answered =
            timeout(LIMIT, self.ask(asked, LIMIT)).await.unwrap_or(Err(FetchError::Expired))?;
        let Answered { status, headers, body } = answered;
        match status {
            StatusCode::OK => Ok(Fetched { headers, body }),
            _ if status.is_redirection() => {
                let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
                Err(FetchError::Redirect(
                    status,
                    location.unwrap_or("nowhere").chars().take(200).collect(),
                ))
            }
            _ => Err(FetchError::Status(status)),
        }
    }

    /// Whatever a server answers, its error bodies too. `limit` bounds the connecting; the caller
    /// bounds the rest.
    pub async fn ask(&self, asked: Asked<'_>, limit: Duration) -> Result<Answered, FetchError> {
        let way = self.outward.load().to_other(asked.url);
        ask(asked, &way, limit).await
    }
}

/// The same of a server that is reached in this way.
pub(super) async fn ask(
    asked: Asked<'_>,
    way: &Way,
    limit: Duration,
) -> Result<Answered, FetchError> {
    let connecting = timeout(limit, connect(asked.url, way)).await;
    let (stream, _) = connecting.map_err(|_| FetchError::Unreached(limit))??;
    let mut connection = Connection::new(stream);
    let body = Payload::from(asked.body.clone());
    let Head { status, headers, framing, .. } =
        connection.exchange(request_head(asked), &body).await?;
    let body = connection.document(framing, MAX_BODY).await?.ok_or(FetchError::TooLong)?;
    Ok(Answered { status, headers, body })
}

fn request_head(asked: Asked<'_>) -> Bytes {
    const USUAL: [(HeaderName, &str); 2] = [
        (header::ACCEPT, "application/json"),
        (header::USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION"))),
    ];
    let Asked { method, url, path, mut headers, body } = asked;
    for (name, value) in USUAL {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.remove(header::CONTENT_LENGTH);
    // an authority is a header's value: its characters were checked when it was parsed
    if let Ok(host) = HeaderValue::from_str(url.authority().as_str()) {
        headers.entry(header::HOST).or_insert(host);
    }
    let root = if url.base().is_empty() && !path.starts_with('/') { "/" } else { "" };
    let mut head = BytesMut::with_capacity(256);
    write_head(&mut head, method, &[url.base(), root, path], &headers, body.len());
    head.freeze()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use http::HeaderMap;

    use super::{Asked, FetchError, Fetched, Fetcher, LIMIT};
    use crate::model::EndpointUrl;
    use crate::upstream::SharedOutward;

    async fn server() -> (TcpListener, EndpointUrl) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url =
            EndpointUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        (listener, url)
    }

    /// What a server that answers with these bytes and closes is taken for, and what it was asked.
    async fn fetch(answer: Vec<u8>) -> (Result<Fetched, FetchError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url =
            EndpointUrl::parse(&format!("http://{}/root", listener.local_addr().unwrap())).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.unwrap();
            let _ = stream.write_all(&answer).await;
            String::from_utf8(asked[..length].to_vec()).unwrap()
        };
        let fetcher = Fetcher::new(SharedOutward::default());
        tokio::join!(fetcher.get(&url, "/keys"), serve)
    }

    #[tokio::test]
    async fn a_document_arrives_whole() {
        let (answer, asked) =
            fetch(b"HTTP/1.1 200 OK\r\ncache-control: max-age=9\r\n\r\n{\"keys\":[]}".to_vec())
                .await;
        let answer = answer.unwrap();
        assert_eq!(
            (&*answer.body, &answer.headers["cache-control"]),
            (&b"{\"keys\":[]}"[..], &"max-age=9".parse().unwrap())
        );
        assert!(
            asked.starts_with("GET /root/keys HTTP/1.1\r\n")
                && asked.contains("\r\nhost: 127.0.0.1:"),
            "{asked}"
        );
    }

    #[tokio::test]
    async fn a_body_goes_out_and_an_error_comes_back_with_its_own() {
        let (listener, url) = server().await;
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(answer).await.unwrap();
            String::from_utf8(asked[..length].to_vec()).unwrap()
        };
        let mut headers = HeaderMap::new();
        headers.insert("content-length", "99".parse().unwrap());
        headers.insert("host", "signed.example".parse().unwrap());
        let asked = Asked { method: "POST", url: &url, path: "?a=b", headers, body: "x=y".into() };
        let fetcher = Fetcher::new(SharedOutward::default());
        let (answered, asked) = tokio::join!(fetcher.ask(asked, LIMIT), serve);
        let answered = answered.unwrap();
        assert_eq!((answered.status.as_u16(), &*answered.body), (400, &b"{}"[..]));
        assert!(
            asked.starts_with("POST /?a=b HTTP/1.1\r\n")
                && asked.ends_with("content-length: 3\r\n\r\nx=y"),
            "{asked}"
        );
        assert!(asked.contains("host: signed.example\r\n") && !asked.contains("99"), "{asked}");
    }

    #[tokio::test]
    async fn what_is_no_document_is_told() {
        let of = async |answer: &[u8]| fetch(answer.to_vec()).await.0.unwrap_err().to_string();
        assert_eq!(
            of(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await,
            "HTTP 503 Service Unavailable"
        );
        let moved = of(
            b"HTTP/1.1 301 Moved Permanently\r\nlocation: https://g/\r\ncontent-length: 0\r\n\r\n",
        )
        .await;
        assert!(
            moved.starts_with(
                "HTTP 301 Moved Permanently to https://g/: redirects are not followed"
            ),
            "{moved}"
        );
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
        let (_listener, url) = server().await;
        let started = tokio::time::Instant::now();
        let answer = Fetcher::new(SharedOutward::default()).get(&url, "").await;
        assert!(matches!(answer, Err(FetchError::Expired)), "{answer:?}");
        assert_eq!(started.elapsed().as_secs(), 10);
    }
}
