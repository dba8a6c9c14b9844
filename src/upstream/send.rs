//! Sending one request to one replica: take or make a connection, wait for the head, all within
//! limits. Which replica, and whether another one after it, is the relay's to say.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;

use super::balance::attempted::Tried;
use super::balance::choose;
use super::endpoint::{Endpoint, Endpoints, Entered, Registry, Seen};
use super::{AnswerBody, ConnectError, ExchangeError, Steps, Timers};
use crate::error::{GatewayError, Kind};
use crate::model::Model;
use crate::provider::{Attempt, Dialect, Outbound};
use crate::route::Route;
use crate::telemetry::labels::Phase;
use crate::telemetry::{Facts, TRACEPARENT, X_REQUEST_ID};
use crate::upstream::http::connection::Connection;
use crate::upstream::http::pool::Pool;
use crate::upstream::limit::concurrency::{Asked, Place, Places};
use crate::upstream::net::connect::connect;
use crate::upstream::net::tls::is_alert;
use crate::wire::{Head, Payload, write_head};

/// One worker's way out.
pub struct Upstreams {
    pool: Arc<Pool>,
    registry: Arc<Registry>,
}

/// What to send, and to whom.
pub struct Sending<'a> {
    /// The model.
    pub model: &'a Model,
    /// The replica.
    pub endpoint: &'a Arc<Endpoint>,
    /// Signs each attempt.
    pub dialect: &'a dyn Dialect,
    /// The request; each attempt replaces the last one's credentials.
    pub outbound: &'a mut Outbound,
}

/// An answer whose head has arrived.
pub struct Inbound {
    /// The status.
    pub status: http::StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, still arriving.
    pub body: AnswerBody,
    /// When its request was about to be sent.
    pub sent: Instant,
}

impl Upstreams {
    /// With an empty pool.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { pool: Arc::default(), registry }
    }

    /// Closes kept connections that are too old.
    pub fn prune(&self) {
        self.pool.prune();
    }

    /// The replica to ask next, of those that the model has in `endpoints`, and its place among
    /// them; one of its own for a model that a request brought.
    pub fn choose(
        &self,
        model: &Model,
        endpoints: &Endpoints,
        replicas: &[Arc<Endpoint>],
        tried: Tried,
        body: &Payload,
    ) -> Result<(usize, Arc<Endpoint>), GatewayError> {
        if let Some((place, endpoint)) = choose(replicas, tried, endpoints.affinity(model), body) {
            return Ok((place, Arc::clone(endpoint)));
        }
        let url = model.endpoints.first().ok_or_else(|| no_endpoint(model))?;
        Ok((0, self.registry.transient(model, url, endpoints.outward())))
    }

    /// A place at the route's model, waited for if it must be; none for a model that a request
    /// brought. To be held until the answer's body ends.
    pub async fn place(
        &self,
        route: &Route,
        endpoints: &Endpoints,
        timers: &mut Timers,
        facts: &mut Facts,
    ) -> Result<Option<Place>, GatewayError> {
        let Some(places) = endpoints.places(&route.model) else { return Ok(None) };
        let waiting = match places.ask(route.class())? {
            Asked::Place(place) => return Ok(Some(place)),
            Asked::Queued(waiting) => waiting,
        };
        facts.queue.begin();
        // boxed, since it is rare: every request's future would otherwise hold its space
        let place = timers.run(Phase::Total, Box::pin(waiting.place())).await;
        facts.queue.end();
        place.map_err(|expired| expired.error(&route.model.id))?.map(Some)
    }

    /// A place at the route's model, if one is free.
    pub fn free_place(
        &self,
        route: &Route,
        endpoints: &Endpoints,
    ) -> Result<Option<Place>, GatewayError> {
        endpoints.places(&route.model).map(Places::free).transpose()
    }

    /// Sends and waits for the head. On return the first-byte limit is running.
    ///
    /// A kept connection may have died unseen; if it dies before a byte of the answer, the request
    /// goes once more on a new one (providers.md d3.5).
    pub async fn send(
        &self,
        mut sending: Sending<'_>,
        timers: &mut Timers,
        facts: &mut Facts,
    ) -> Result<Inbound, GatewayError> {
        let sent = Instant::now();
        facts.sending(sent);
        let endpoint = sending.endpoint;
        let mut may_reuse = true;
        loop {
            let entered = endpoint.enter();
            let kept = if may_reuse { self.pool.take(endpoint.pool_key) } else { None };
            let reused = kept.is_some();
            let connection = match kept {
                Some(connection) => connection,
                None => self.connect(endpoint, sending.model, timers).await?,
            };
            match self.exchange(&mut sending, connection, entered, timers, facts).await {
                Err(Failure::Unanswered) if reused => {
                    facts.retries += 1;
                    may_reuse = false;
                }
                Err(Failure::Unanswered) => {
                    return Err(broken(endpoint, &ExchangeError::Unanswered));
                }
                Err(Failure::Told(error)) => return Err(error),
                Ok((Head { status, headers, .. }, body)) => {
                    return Ok(Inbound { status, headers, body, sent });
                }
            }
        }
    }

    /// One attempt on one connection.
    async fn exchange(
        &self,
        sending: &mut Sending<'_>,
        mut connection: Connection,
        entered: Entered,
        timers: &mut Timers,
        facts: &Facts,
    ) -> Result<(Head, AnswerBody), Failure> {
        let (model, endpoint) = (sending.model, sending.endpoint);
        let attempt = Attempt { endpoint: &endpoint.url, now: endpoint.provider_time() };
        sending.dialect.authorize(sending.outbound, model, &attempt)?;
        let head = request_head(sending, endpoint, facts);
        let answered = {
            let exchange = pin!(connection.exchange(head, &sending.outbound.body));
            timers
                .run(Phase::FirstByte, exchange)
                .await
                .map_err(|expired| expired.error(&model.id))?
        };
        match answered {
            Ok(head) => {
                endpoint.saw(Seen::Answered);
                let pool = Arc::clone(&self.pool);
                let body =
                    AnswerBody::new(connection, head.framing, head.keep_alive, entered, pool);
                Ok((head, body))
            }
            Err(ExchangeError::Unanswered) => Err(Failure::Unanswered),
            Err(error) => Err(broken(endpoint, &error).into()),
        }
    }

    /// Opens a connection and reports its steps, for `weir probe`.
    pub async fn probe(&self, endpoint: &Endpoint) -> Result<Steps, ConnectError> {
        let (stream, steps) = connect(&endpoint.url, &endpoint.way).await?;
        self.pool.put(endpoint.pool_key, Connection::new(stream));
        Ok(steps)
    }

    async fn connect(
        &self,
        endpoint: &Endpoint,
        model: &Model,
        timers: &mut Timers,
    ) -> Result<Connection, GatewayError> {
        // boxed, since it is rare and large: every request's future would otherwise hold its space
        let connecting = Box::pin(connect(&endpoint.url, &endpoint.way));
        let error = match timers.run(Phase::Connect, connecting).await {
            Ok(Ok((stream, _))) => return Ok(Connection::new(stream)),
            Ok(Err(error)) => error.error(),
            Err(expired) => expired.error(&model.id).internal(format!(
                "connecting to {}{}",
                endpoint.url,
                endpoint.way.told()
            )),
        };
        endpoint.saw(Seen::Unreachable);
        Err(error)
    }
}

/// How one attempt ended without an answer.
enum Failure {
    /// Not a byte came.
    Unanswered,
    /// What the client is told.
    Told(GatewayError),
}

impl From<GatewayError> for Failure {
    fn from(error: GatewayError) -> Self {
        Self::Told(error)
    }
}

fn no_endpoint(model: &Model) -> GatewayError {
    GatewayError::new(Kind::Internal, "the model has no endpoint")
        .internal(format!("model {}", model.id))
}

/// The peer's fault, told without its address.
fn broken(endpoint: &Endpoint, error: &ExchangeError) -> GatewayError {
    if let ExchangeError::Io(alert) = error
        && is_alert(alert)
    {
        let why = format!("TLS with {}: {alert}{}", endpoint.url, endpoint.way.tls.advice(alert));
        return GatewayError::new(Kind::UpstreamConnect, "TLS with the model server failed")
            .internal(why);
    }
    let public = match error {
        ExchangeError::NotHttp(_) => "the model server did not answer in HTTP",
        ExchangeError::Unanswered | ExchangeError::Cut => "the model server closed the connection",
        ExchangeError::Io(e) if e.kind() == io::ErrorKind::ConnectionReset => {
            "the model server closed the connection"
        }
        ExchangeError::Io(_) => "the connection to the model server failed",
    };
    GatewayError::new(Kind::UpstreamBroken, public).internal(format!("{}: {error}", endpoint.url))
}

/// The head of one attempt. A gateway gets no header of ours: the request goes on as it came.
fn request_head(sending: &Sending<'_>, endpoint: &Endpoint, facts: &Facts) -> Bytes {
    const USER_AGENT: HeaderValue =
        HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));
    let outbound = &*sending.outbound;
    let mut headers = outbound.headers.clone();
    // a signature may cover another name than the connection's
    headers.entry(header::HOST).or_insert_with(|| endpoint.host.clone());
    if !sending.model.provider.is_gateway() {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(X_REQUEST_ID, facts.ids.request_id().clone());
        headers.insert(TRACEPARENT, facts.ids.traceparent());
    }
    let mut head = BytesMut::with_capacity(512);
    write_head(
        &mut head,
        outbound.method.as_str(),
        &[endpoint.url.base(), &outbound.path],
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
