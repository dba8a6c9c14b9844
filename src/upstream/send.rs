//! Sending one request to one replica: take a pooled connection or open one, wait for the head of
//! the response, all within timeouts. Which replica, and whether another one after it, is decided
//! by the relay.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;

use super::balance::attempted::AttemptedSet;
use super::balance::choose;
use super::endpoint::{Endpoint, InFlightGuard, Observation};
use super::registry::{Endpoints, Registry};
use super::{AnswerBody, ConnectError, ConnectTimings, ExchangeError, Timers};
use crate::error::{GatewayError, Kind, Phase};
use crate::model::Model;
use crate::provider::{Dialect, Outbound, SigningContext};
use crate::route::Route;
use crate::telemetry::{RequestInfo, TRACEPARENT, X_REQUEST_ID};
use crate::upstream::http::connection::Connection;
use crate::upstream::http::pool::Pool;
use crate::upstream::limit::concurrency::{Acquire, ConcurrencyLimit, Permit};
use crate::upstream::net::connect::connect;
use crate::upstream::net::tls::is_alert;
use crate::wire::{Payload, ResponseHead, write_request_head};

/// The client side of one worker: its connection pool, and the registry.
pub struct Upstreams {
    pool: Arc<Pool>,
    registry: Arc<Registry>,
}

/// One attempt: what to send, and to which replica.
pub struct Sending<'a> {
    /// The model.
    pub model: &'a Model,
    /// The replica.
    pub endpoint: &'a Arc<Endpoint>,
    /// The provider's dialect, which signs each attempt.
    pub dialect: &'a dyn Dialect,
    /// The request; each attempt replaces the credentials of the one before.
    pub outbound: &'a mut Outbound,
}

/// A response whose head has arrived.
pub struct Inbound {
    /// The status.
    pub status: http::StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, still arriving.
    pub body: AnswerBody,
    /// When the request was about to be sent.
    pub sent: Instant,
}

/// The replica of an attempt.
#[derive(Debug)]
pub struct ChosenReplica {
    /// Its index in the list that was chosen from; 0 for a transient endpoint.
    pub index: usize,
    /// The replica.
    pub endpoint: Arc<Endpoint>,
}

impl Upstreams {
    /// Creates a client side with an empty pool.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { pool: Arc::default(), registry }
    }

    /// Closes the pooled connections that have expired.
    pub fn prune(&self) {
        self.pool.prune();
    }

    /// Returns the replica for the next attempt, or a transient
    /// endpoint for a model that a request named. Fails when such a model has no endpoint.
    pub fn choose(
        &self,
        model: &Model,
        endpoints: &Endpoints,
        replicas: &[Arc<Endpoint>],
        attempted: AttemptedSet,
        body: &Payload,
    ) -> Result<ChosenReplica, GatewayError> {
        let affinity = endpoints.affinity(model);
        if let Some(candidate) = choose(replicas, attempted, affinity, body) {
            return Ok(ChosenReplica {
                index: candidate.index,
                endpoint: Arc::clone(candidate.endpoint),
            });
        }
        let url = model.endpoints.first().ok_or_else(|| no_endpoint(model))?;
        Ok(ChosenReplica {
            index: 0,
            endpoint: self.registry.transient(model, url, endpoints.egress()),
        })
    }

    /// Acquires a permit of the route's model, after waiting for one if none is free; returns
    /// `None` for a model that a request named. The permit is to be held until the response's body
    /// ends.
    pub async fn acquire(
        &self,
        route: &Route,
        endpoints: &Endpoints,
        timers: &mut Timers,
        facts: &mut RequestInfo,
    ) -> Result<Option<Permit>, GatewayError> {
        let Some(limit) = endpoints.concurrency_limit(&route.model) else { return Ok(None) };
        let waiter = match limit.acquire(route.class())? {
            Acquire::Permit(permit) => return Ok(Some(permit)),
            Acquire::Queued(waiter) => waiter,
        };
        facts.queue.begin();
        // boxed, since it is rare: every request's future would otherwise be larger by its size
        let permit = timers.run(Phase::Total, Box::pin(waiter.wait())).await;
        facts.queue.end();
        permit.map_err(|expired| expired.error(&route.model.id))?.map(Some)
    }

    /// Acquires a permit of the route's model if one is free; fails when none is, without waiting.
    pub fn try_acquire(
        &self,
        route: &Route,
        endpoints: &Endpoints,
    ) -> Result<Option<Permit>, GatewayError> {
        endpoints.concurrency_limit(&route.model).map(ConcurrencyLimit::try_acquire).transpose()
    }

    /// Sends the request and waits for the head. On return the first-byte timeout is running.
    ///
    /// A pooled connection may have been closed unnoticed; if it closes before a byte of the
    /// response, the request is sent once more on a new one (contract::providers §d3.5).
    pub async fn send(
        &self,
        mut sending: Sending<'_>,
        timers: &mut Timers,
        facts: &mut RequestInfo,
    ) -> Result<Inbound, GatewayError> {
        let sent = Instant::now();
        facts.record_send(sent);
        let endpoint = sending.endpoint;
        let mut can_reuse = true;
        loop {
            let in_flight = endpoint.enter();
            let pooled = if can_reuse { self.pool.take(endpoint.pool_key) } else { None };
            let reused = pooled.is_some();
            let connection = match pooled {
                Some(connection) => connection,
                None => self.connect(endpoint, sending.model, timers).await?,
            };
            match self.exchange(&mut sending, connection, in_flight, timers, facts).await {
                Err(Failure::NoResponse) if reused => {
                    facts.retries += 1;
                    can_reuse = false;
                }
                Err(Failure::NoResponse) => {
                    return Err(upstream_broken(endpoint, &ExchangeError::NoResponse));
                }
                Err(Failure::Error(error)) => return Err(error),
                Ok((ResponseHead { status, headers, .. }, body)) => {
                    return Ok(Inbound { status, headers, body, sent });
                }
            }
        }
    }

    /// Sends one attempt on one connection.
    async fn exchange(
        &self,
        sending: &mut Sending<'_>,
        mut connection: Connection,
        in_flight: InFlightGuard,
        timers: &mut Timers,
        facts: &RequestInfo,
    ) -> Result<(ResponseHead, AnswerBody), Failure> {
        let (model, endpoint) = (sending.model, sending.endpoint);
        let attempt = SigningContext { endpoint: &endpoint.url, now: endpoint.provider_time() };
        sending.dialect.authorize(sending.outbound, model, &attempt)?;
        let head = request_head(sending, endpoint, facts);
        let exchanged = {
            let exchange = pin!(connection.exchange(head, &sending.outbound.body));
            timers
                .run(Phase::FirstByte, exchange)
                .await
                .map_err(|expired| expired.error(&model.id))?
        };
        match exchanged {
            Ok(head) => {
                endpoint.record(Observation::HeadersReceived);
                let pool = Arc::clone(&self.pool);
                let body =
                    AnswerBody::new(connection, head.framing, head.keep_alive, in_flight, pool);
                Ok((head, body))
            }
            Err(ExchangeError::NoResponse) => Err(Failure::NoResponse),
            Err(error) => Err(upstream_broken(endpoint, &error).into()),
        }
    }

    /// Opens a connection and returns how long its steps took, for `weir probe`.
    pub async fn probe(&self, endpoint: &Endpoint) -> Result<ConnectTimings, ConnectError> {
        let (stream, timings) = connect(&endpoint.url, &endpoint.connect_options).await?;
        self.pool.put(endpoint.pool_key, Connection::new(stream));
        Ok(timings)
    }

    async fn connect(
        &self,
        endpoint: &Endpoint,
        model: &Model,
        timers: &mut Timers,
    ) -> Result<Connection, GatewayError> {
        // boxed, since it is rare and large: every request's future would otherwise be larger by
        // its size
        let connecting = Box::pin(connect(&endpoint.url, &endpoint.connect_options));
        let error = match timers.run(Phase::Connect, connecting).await {
            Ok(Ok((stream, _))) => return Ok(Connection::new(stream)),
            Ok(Err(error)) => error.to_gateway_error(),
            Err(expired) => expired.error(&model.id).internal(format!(
                "connecting to {}{}",
                endpoint.url,
                endpoint.connect_options.describe()
            )),
        };
        endpoint.record(Observation::Unreachable);
        Err(error)
    }
}

/// How one attempt ended without a response.
enum Failure {
    /// Not a byte arrived.
    NoResponse,
    /// The error for the client.
    Error(GatewayError),
}

impl From<GatewayError> for Failure {
    fn from(error: GatewayError) -> Self {
        Self::Error(error)
    }
}

fn no_endpoint(model: &Model) -> GatewayError {
    GatewayError::new(Kind::Internal, "the model has no endpoint")
        .internal(format!("model {}", model.id))
}

/// Builds the error of a peer that failed; its public text does not contain the address.
fn upstream_broken(endpoint: &Endpoint, error: &ExchangeError) -> GatewayError {
    if let ExchangeError::Io(alert) = error
        && is_alert(alert)
    {
        let why = format!(
            "TLS with {}: {alert}{}",
            endpoint.url,
            endpoint.connect_options.tls.hint(alert)
        );
        return GatewayError::new(Kind::UpstreamConnect, "TLS with the model server failed")
            .internal(why);
    }
    let public = match error {
        ExchangeError::NotHttp(_) => "the model server did not answer in HTTP",
        ExchangeError::NoResponse | ExchangeError::Truncated => {
            "the model server closed the connection"
        }
        ExchangeError::Io(e) if e.kind() == io::ErrorKind::ConnectionReset => {
            "the model server closed the connection"
        }
        ExchangeError::Io(_) => "the connection to the model server failed",
    };
    GatewayError::new(Kind::UpstreamBroken, public).internal(format!("{}: {error}", endpoint.url))
}

/// Builds the head of one attempt. A gateway gets no header of ours: the request is forwarded as it
/// came.
fn request_head(sending: &Sending<'_>, endpoint: &Endpoint, facts: &RequestInfo) -> Bytes {
    const USER_AGENT: HeaderValue =
        HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));
    let outbound = &*sending.outbound;
    let mut headers = outbound.headers.clone();
    // a signature may cover another host name than the connection's
    headers.entry(header::HOST).or_insert_with(|| endpoint.host.clone());
    if !sending.model.provider.is_gateway() {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(X_REQUEST_ID, facts.ids.request_id().clone());
        headers.insert(TRACEPARENT, facts.ids.traceparent());
    }
    let mut head = BytesMut::with_capacity(512);
    write_request_head(
        &mut head,
        outbound.method.as_str(),
        &[endpoint.url.base_path(), &outbound.path],
        &headers,
        outbound.body.len(),
    );
    head.freeze()
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
