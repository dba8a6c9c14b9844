//! Sending one request: pick a replica, take or make a connection, wait for the head, all within limits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header, response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::connect::{Connector, Sender};
use super::endpoint::{Endpoint, Endpoints, Entered, Registry};
use super::pool::Pool;
use super::{ConnectError, Settings, Steps, Timers};
use crate::error::{GatewayError, Kind};
use crate::provider::{Attempt, Dialect, Outbound};
use crate::route::Model;
use crate::telemetry::labels::Phase;
use crate::telemetry::{Facts, TRACEPARENT, X_REQUEST_ID};
use crate::wire::Payload;

/// Runs a connection's I/O until it ends. The server hands it in: only `app` and `server` spawn.
pub type Spawn = Arc<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

/// One worker's way out.
pub struct Upstreams {
    pool: Arc<Pool>,
    connector: Connector,
    registry: Arc<Registry>,
    spawn: Spawn,
}

/// What to send, and to whom.
pub struct Sending<'a> {
    /// The model; its endpoints are in `endpoints`, unless a request named it.
    pub model: &'a Model,
    /// The snapshot's endpoints.
    pub endpoints: &'a Endpoints,
    /// Signs each attempt.
    pub dialect: &'a dyn Dialect,
    /// The request; each attempt replaces the last one's credentials.
    pub outbound: &'a mut Outbound,
}

/// An answer whose head has arrived.
pub struct Inbound {
    /// Status and headers.
    pub parts: response::Parts,
    /// The body, still arriving.
    pub body: Incoming,
    /// To be ended when the body was read to its end.
    pub lease: Lease,
}

/// A connection in use. Dropping it closes the connection, which makes a model server stop (providers.md
/// d3.4); [`Lease::end`] keeps it instead.
pub struct Lease {
    sender: Sender,
    entered: Entered,
    pool: Arc<Pool>,
}

impl Lease {
    /// Where the answer comes from.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        self.entered.endpoint()
    }

    /// The answer was read to its end: the connection may serve again.
    pub fn end(self) {
        self.pool.put(self.entered.endpoint().pool_key, self.sender);
    }
}

impl Upstreams {
    /// With an empty pool.
    pub fn new(settings: Settings, registry: Arc<Registry>, spawn: Spawn) -> Self {
        Self { pool: Arc::new(Pool::new(settings.clone())), connector: Connector::new(settings), registry, spawn }
    }

    /// Closes kept connections that are too old.
    pub fn prune(&self) {
        self.pool.prune();
    }

    /// Sends and waits for the head. On return the first-byte limit is running.
    ///
    /// A kept connection may have died unseen; if it dies before a byte of the answer, the request goes
    /// once more on a new one (providers.md d3.5).
    pub async fn send(
        &self,
        sending: Sending<'_>,
        timers: &mut Timers,
        facts: &mut Facts,
    ) -> Result<Inbound, GatewayError> {
        let model = sending.model;
        let entered = self.choose(model, sending.endpoints)?.enter();
        let endpoint = Arc::clone(entered.endpoint());
        facts.upstream_started = Some(Instant::now());
        let mut kept = self.pool.take(endpoint.pool_key);
        loop {
            let reused = kept.is_some();
            let mut sender = match kept.take() {
                Some(sender) => sender,
                None => self.connect(&endpoint, model, timers).await?,
            };
            let attempt = Attempt { endpoint: &endpoint.url, now: endpoint.provider_time() };
            sending.dialect.authorize(sending.outbound, model, &attempt)?;
            let request = request(sending.outbound, &endpoint, facts)?;
            match timers.run(Phase::FirstByte, exchange(&mut sender, request)).await {
                Err(expired) => return Err(expired.error(&model.id)),
                Ok(Ok(response)) => {
                    endpoint.reached(true);
                    let (parts, body) = response.into_parts();
                    return Ok(Inbound { parts, body, lease: Lease { sender, entered, pool: Arc::clone(&self.pool) } });
                }
                Ok(Err(error)) if reused && is_replayable(&error) => facts.retries += 1,
                Ok(Err(error)) => return Err(broken(&endpoint, &error)),
            }
        }
    }

    /// Opens a connection and reports its steps, for `weir probe`.
    pub async fn probe(&self, endpoint: &Endpoint, model: &Model) -> Result<Steps, ConnectError> {
        let (sender, driver, steps) = self.connector.connect(&endpoint.url, model.from_request).await?;
        self.drive(driver);
        self.pool.put(endpoint.pool_key, sender);
        Ok(steps)
    }

    async fn connect(&self, endpoint: &Endpoint, model: &Model, timers: &mut Timers) -> Result<Sender, GatewayError> {
        let connecting = self.connector.connect(&endpoint.url, model.from_request);
        let connected = timers.run(Phase::Connect, connecting).await;
        match connected {
            Ok(Ok((sender, driver, _))) => {
                self.drive(driver);
                Ok(sender)
            }
            Ok(Err(error)) => {
                endpoint.reached(false);
                Err(error.error())
            }
            Err(expired) => {
                endpoint.reached(false);
                Err(expired.error(&model.id).internal(format!("connecting to {}", endpoint.url)))
            }
        }
    }

    fn drive(&self, driver: super::connect::Driver) {
        (self.spawn)(Box::pin(async move {
            // Its error is also the error of the request under way, which reports it.
            let _ = driver.await;
        }));
    }

    /// The replica with the fewest requests under way, among those that were reached last time if there
    /// is one; ties are broken at random, so that workers do not move in step.
    fn choose(&self, model: &Model, endpoints: &Endpoints) -> Result<Arc<Endpoint>, GatewayError> {
        let list = match endpoints.of(&model.id) {
            Some(list) if !model.from_request => list,
            _ => {
                let url = model.endpoints.first().ok_or_else(|| no_endpoint(model))?;
                return Ok(self.registry.transient(&model.id, url));
            }
        };
        let offset = if list.len() > 1 { fastrand::usize(..list.len()) } else { 0 };
        let rotated = list.iter().cycle().skip(offset).take(list.len());
        rotated.min_by_key(|e| (!e.is_healthy(), e.inflight())).cloned().ok_or_else(|| no_endpoint(model))
    }
}

fn no_endpoint(model: &Model) -> GatewayError {
    GatewayError::new(Kind::Internal, "the model has no endpoint").internal(format!("model {}", model.id))
}

/// The wait for readiness is for the previous answer's last bytes to be put away, on our own side.
async fn exchange(sender: &mut Sender, request: Request<OutBody>) -> Result<Response<Incoming>, hyper::Error> {
    sender.ready().await?;
    sender.send_request(request).await
}

/// Whether the peer closed without a byte of an answer.
fn is_replayable(error: &hyper::Error) -> bool {
    error.is_closed() || error.is_canceled() || error.is_incomplete_message() || is_reset(error)
}

fn is_reset(error: &hyper::Error) -> bool {
    use std::error::Error as _;
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(|e| matches!(e.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe))
}

fn broken(endpoint: &Endpoint, error: &hyper::Error) -> GatewayError {
    use std::error::Error as _;
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    let public = if error.is_parse() {
        "the model server did not answer in HTTP"
    } else {
        "the model server closed the connection"
    };
    GatewayError::new(Kind::UpstreamBroken, public).internal(format!("{}: {error}{cause}", endpoint.url))
}

/// The request of one attempt.
fn request(outbound: &Outbound, endpoint: &Endpoint, facts: &Facts) -> Result<Request<OutBody>, GatewayError> {
    let mut request = Request::new(OutBody::new(&outbound.body));
    let path = format!("{}{}", endpoint.url.base(), outbound.path);
    *request.uri_mut() = path.try_into().map_err(|error: http::uri::InvalidUri| {
        GatewayError::new(Kind::Internal, "the upstream path is not a path").internal(error.to_string())
    })?;
    *request.method_mut() = http::Method::POST;
    let headers = request.headers_mut();
    headers.clone_from(&outbound.headers);
    // a signature may cover another name than the connection's
    headers.entry(header::HOST).or_insert_with(|| endpoint.host.clone());
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION"))));
    headers.insert(X_REQUEST_ID, facts.ids.request_id().clone());
    headers.insert(TRACEPARENT, facts.ids.traceparent());
    Ok(request)
}

/// Headers that belong to one connection (RFC 9110 §7.6.1); `Connection` may name more.
pub const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A request body of shared pieces.
pub(super) struct OutBody {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl OutBody {
    pub(super) fn new(payload: &Payload) -> Self {
        Self { left: payload.len() as u64, pieces: payload.pieces().to_vec().into_iter() }
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.pieces.next();
        self.left -= piece.as_ref().map_or(0, |p| p.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
