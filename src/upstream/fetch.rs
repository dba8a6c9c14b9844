//! A small document from a server that the operator has configured: an issuer's keys, a cloud's
//! credentials. One connection per document, bounded in time and size, no redirects. Nothing of a
//! client's request is sent here.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::time::timeout;

use super::{ConnectError, ExchangeError, SharedEgress};
use crate::model::EndpointUrl;
use crate::upstream::http::connection::Connection;
use crate::upstream::net::connect::connect;
use crate::upstream::net::egress::ConnectOptions;
use crate::wire::{Payload, ResponseHead, write_request_head};

/// The timeout from name resolution to the last byte.
const LIMIT: Duration = Duration::from_secs(10);
/// The size limit: GitLab's key set is a few KiB, a token less.
const MAX_BODY: usize = 1 << 20;

/// A client for small documents.
pub struct Fetcher {
    egress: SharedEgress,
}

/// A document that arrived with status 200.
#[derive(Debug)]
pub struct FetchResult {
    /// The response's headers.
    pub headers: HeaderMap,
    /// The document.
    pub body: Bytes,
}

/// A request for a document. Not `Debug`: its body may hold a secret.
pub struct FetchRequest<'a> {
    /// `GET`, `POST` or `PUT`.
    pub method: &'a str,
    /// The server; its path is put before `path`.
    pub url: &'a EndpointUrl,
    /// Path and query, percent-encoded.
    pub path: &'a str,
    /// The headers; the defaults of a fetch are added where they are missing.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A response of any status. Not `Debug`: its body may hold a token.
pub struct FetchResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no document. `Display` is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection was made.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The connection broke, or the response is not HTTP.
    #[error("{0}")]
    Broken(#[from] ExchangeError),
    /// The status is not 200.
    #[error("HTTP {0}")]
    Status(StatusCode),
    /// A redirect, which is not followed.
    #[error("HTTP {0} to {1}: redirects are not followed, name the address it leads to")]
    Redirect(StatusCode, String),
    /// The body is longer than 1 MiB.
    #[error("the answer is longer than 1 MiB")]
    TooLong,
    /// The response did not arrive in time.
    #[error("no answer within 10 s")]
    Expired,
    /// The connection was not made in time.
    #[error("no connection within {0:?}")]
    Unreached(Duration),
}

impl FetchError {
    /// Returns whether a timeout expired.
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Expired | Self::Unreached(_))
    }
}

impl Fetcher {
    /// Creates a client that makes each connection by the egress settings then in force.
    pub const fn new(egress: SharedEgress) -> Self {
        Self { egress }
    }

    /// Gets the document at this URL; `path` is appended to the URL's own. Fails unless it arrives
    /// with status 200 within ten seconds.
    pub async fn get(&self, url: &EndpointUrl, path: &str) -> Result<FetchResult, FetchError> {
        let request = FetchRequest {
            method: "GET",
            url,
            path,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let response =
            timeout(LIMIT, self.send(request, LIMIT)).await.unwrap_or(Err(FetchError::Expired))?;
        let FetchResponse { status, headers, body } = response;
        match status {
            StatusCode::OK => Ok(FetchResult { headers, body }),
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

    /// Sends a request and returns the response, whatever its status. `limit` bounds the
    /// connecting; the caller bounds the rest.
    pub async fn send(
        &self,
        request: FetchRequest<'_>,
        limit: Duration,
    ) -> Result<FetchResponse, FetchError> {
        let connect_options = self.egress.load().options_for_server(request.url);
        send_request(request, &connect_options, limit).await
    }
}

/// Sends a request with these connect options, and returns the response, whatever its status.
pub(super) async fn send_request(
    request: FetchRequest<'_>,
    connect_options: &ConnectOptions,
    limit: Duration,
) -> Result<FetchResponse, FetchError> {
    let connecting = timeout(limit, connect(request.url, connect_options)).await;
    let (stream, _) = connecting.map_err(|_| FetchError::Unreached(limit))??;
    let mut connection = Connection::new(stream);
    let body = Payload::from(request.body.clone());
    let ResponseHead { status, headers, framing, .. } =
        connection.exchange(request_head(request), &body).await?;
    let body = connection.read_body(framing, MAX_BODY).await?.ok_or(FetchError::TooLong)?;
    Ok(FetchResponse { status, headers, body })
}

fn request_head(request: FetchRequest<'_>) -> Bytes {
    const DEFAULTS: [(HeaderName, &str); 2] = [
        (header::ACCEPT, "application/json"),
        (header::USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION"))),
    ];
    let FetchRequest { method, url, path, mut headers, body } = request;
    for (name, value) in DEFAULTS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.remove(header::CONTENT_LENGTH);
    // cannot fail: an authority's characters were checked when it was parsed
    if let Ok(host) = HeaderValue::from_str(url.authority().as_str()) {
        headers.entry(header::HOST).or_insert(host);
    }
    let root = if url.base_path().is_empty() && !path.starts_with('/') { "/" } else { "" };
    let mut head = BytesMut::with_capacity(256);
    write_request_head(&mut head, method, &[url.base_path(), root, path], &headers, body.len());
    head.freeze()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use http::HeaderMap;

    use super::{FetchError, FetchRequest, FetchResult, Fetcher, LIMIT};
    use crate::model::EndpointUrl;
    use crate::upstream::SharedEgress;

    async fn server() -> (TcpListener, EndpointUrl) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url =
            EndpointUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        (listener, url)
    }

    /// Returns the result of a fetch from a server that responds with these bytes and closes, and
    /// the request.
    async fn fetch(response: Vec<u8>) -> (Result<FetchResult, FetchError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url =
            EndpointUrl::parse(&format!("http://{}/root", listener.local_addr().unwrap())).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let _ = stream.write_all(&response).await;
            String::from_utf8(request[..length].to_vec()).unwrap()
        };
        let fetcher = Fetcher::new(SharedEgress::default());
        tokio::join!(fetcher.get(&url, "/keys"), serve)
    }

    #[tokio::test]
    async fn a_document_arrives_whole() {
        let (response, request) =
            fetch(b"HTTP/1.1 200 OK\r\ncache-control: max-age=9\r\n\r\n{\"keys\":[]}".to_vec())
                .await;
        let response = response.unwrap();
        assert_eq!(
            (&*response.body, &response.headers["cache-control"]),
            (&b"{\"keys\":[]}"[..], &"max-age=9".parse().unwrap())
        );
        assert!(
            request.starts_with("GET /root/keys HTTP/1.1\r\n")
                && request.contains("\r\nhost: 127.0.0.1:"),
            "{request}"
        );
    }

    #[tokio::test]
    async fn a_request_body_is_sent_and_an_error_body_is_returned() {
        let (listener, url) = server().await;
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let response = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(response).await.unwrap();
            String::from_utf8(request[..length].to_vec()).unwrap()
        };
        let mut headers = HeaderMap::new();
        headers.insert("content-length", "99".parse().unwrap());
        headers.insert("host", "signed.example".parse().unwrap());
        let request =
            FetchRequest { method: "POST", url: &url, path: "?a=b", headers, body: "x=y".into() };
        let fetcher = Fetcher::new(SharedEgress::default());
        let (response, request) = tokio::join!(fetcher.send(request, LIMIT), serve);
        let response = response.unwrap();
        assert_eq!((response.status.as_u16(), &*response.body), (400, &b"{}"[..]));
        assert!(
            request.starts_with("POST /?a=b HTTP/1.1\r\n")
                && request.ends_with("content-length: 3\r\n\r\nx=y"),
            "{request}"
        );
        assert!(
            request.contains("host: signed.example\r\n") && !request.contains("99"),
            "{request}"
        );
    }

    #[tokio::test]
    async fn every_other_response_is_an_error_with_its_reason() {
        let of = async |response: &[u8]| fetch(response.to_vec()).await.0.unwrap_err().to_string();
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
    async fn a_document_without_an_end_is_an_error() {
        let mut response = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        response.resize(2 << 20, b' ');
        assert!(matches!(fetch(response).await.0, Err(FetchError::TooLong)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_given_up_after_ten_seconds() {
        let (_listener, url) = server().await;
        let started = tokio::time::Instant::now();
        let response = Fetcher::new(SharedEgress::default()).get(&url, "").await;
        assert!(matches!(response, Err(FetchError::Expired)), "{response:?}");
        assert_eq!(started.elapsed().as_secs(), 10);
    }
}
