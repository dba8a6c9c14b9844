//! The story of a request between route and answer, as plain code: send, judge the head, hold it back until
//! the first byte of the body, hand over a body that owns all that must end with it.
//!
//! The head is held until the body's first byte because model servers send theirs before the first token:
//! until then a failure can still be an honest status instead of a broken stream. A surface that tells every
//! failure inside its stream gives a [`Promise`] instead, and its head goes out when the silence gets long.

mod body;
mod passthrough;
mod pulse;
mod translate;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use tokio::time::Instant;

pub use body::{Abort, Content, RelayBody, Stream};
pub use pulse::{HeadStart, Promise};

use crate::error::{GatewayError, Kind, Shape};
use crate::generation::{Delta, Encode, Generation};
use crate::provider::{Dialect, Outbound, dialect, excerpt};
use crate::route::{Model, Route};
use crate::telemetry::Facts;
use crate::upstream::{AnswerBody, Endpoint, Endpoints, Inbound, Seen, Sending, Timers, Upstreams};
use crate::wire::Gather;
use body::Flow;

/// A model server's error body is read up to this size.
const MAX_FAULT_BODY: usize = 64 << 10;
/// A whole answer that is translated, not passed, is held up to this size.
const MAX_ANSWER: usize = 16 << 20;

/// Sends requests along routes; one per worker.
pub struct Relay {
    upstreams: Upstreams,
}

/// What is constant for one request.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Where it goes.
    pub route: &'a Route,
    /// The snapshot's endpoints.
    pub endpoints: &'a Endpoints,
    /// How its errors look.
    pub shape: Shape,
}

/// A request in the upstream's own dialect.
pub struct Passed {
    /// The request.
    pub outbound: Outbound,
    /// Whether it asks for a stream of events.
    pub stream: bool,
    /// Whether we added `include_usage` and must hide its chunk.
    pub hide_usage: bool,
}

impl Relay {
    /// Through these connections.
    pub const fn new(upstreams: Upstreams) -> Self {
        Self { upstreams }
    }

    /// The way out, for the worker's tick.
    pub const fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// Same dialect in and out: the answer's bytes are handed on as they come.
    pub async fn pass(
        &self,
        call: Call<'_>,
        passed: Passed,
        facts: &mut Facts,
    ) -> Result<Response<Content>, GatewayError> {
        let dialect = dialect(call.route.model.provider);
        let mut timers = Timers::start(call.route.budget, facts.started);
        let mut outbound = passed.outbound;
        let inbound = self.send(call, dialect, &mut outbound, &mut timers, facts).await?;
        let Inbound { status, mut headers, body } = inbound;
        if dialect.is_gateway() {
            facts.failure = Kind::of_gateway(status.as_u16());
        }
        let events = passed.stream && is_event_stream(&headers);
        let flow = if events {
            facts.uncounted.asked(passthrough::text_len(&outbound.body));
            Flow::Events(passthrough::Tap::new(dialect, passed.hide_usage))
        } else {
            Flow::Whole(passthrough::Tail::new(dialect))
        };
        passthrough::clean_headers(&mut headers, events);
        let mut response = Response::new(first_byte(call, body, timers, flow, facts).await?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// A streamed answer, translated by `encoder` into what the surface speaks.
    pub async fn stream(
        &self,
        call: Call<'_>,
        generation: &Generation,
        encoder: Box<dyn Encode>,
        content_type: &'static str,
        facts: &mut Facts,
    ) -> Result<Response<Content>, GatewayError> {
        let dialect = dialect(call.route.model.provider);
        let mut timers = Timers::start(call.route.budget, facts.started);
        let mut outbound = dialect.encode(generation, &call.route.model)?;
        let Inbound { body, .. } = self.send(call, dialect, &mut outbound, &mut timers, facts).await?;
        facts.uncounted.asked(outbound.body.len().saturating_sub(generation.picture_bytes()));
        let flow = Flow::Deltas(translate::Translator::new(dialect.decoder(generation), encoder));
        let content = first_byte(call, body, timers, flow, facts).await?;
        let mut response = Response::new(content);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(response)
    }

    /// A whole answer, for surfaces that send one JSON value.
    pub async fn ask(
        &self,
        call: Call<'_>,
        generation: &Generation,
        facts: &mut Facts,
    ) -> Result<Vec<Delta>, GatewayError> {
        let dialect = dialect(call.route.model.provider);
        let outbound = dialect.encode(generation, &call.route.model)?;
        let body = self.fetch(call, outbound, MAX_ANSWER, facts).await?;
        facts.first_token = facts.upstream_ended;
        let deltas = dialect.answer(generation, &body)?;
        for delta in &deltas {
            if let Delta::Usage(usage) = delta {
                facts.usage = *usage;
            }
        }
        Ok(deltas)
    }

    /// How many tokens a generation would read, or `None` where the model's server cannot count beforehand.
    pub async fn count(
        &self,
        call: Call<'_>,
        generation: &Generation,
        facts: &mut Facts,
    ) -> Result<Option<u64>, GatewayError> {
        let dialect = dialect(call.route.model.provider);
        let Some(outbound) = dialect.count(generation, &call.route.model)? else { return Ok(None) };
        let body = self.fetch(call, outbound, MAX_ANSWER, facts).await?;
        let unreadable = || {
            let text = "The model server's answer could not be read";
            GatewayError::new(Kind::UpstreamBroken, text).internal(format!("no count of tokens: {}", excerpt(&body)))
        };
        dialect.counted(&body).map(Some).ok_or_else(unreadable)
    }

    /// Sends a request in the upstream's own dialect, and reads the whole answer, of at most `max` bytes.
    pub async fn fetch(
        &self,
        call: Call<'_>,
        mut outbound: Outbound,
        max: usize,
        facts: &mut Facts,
    ) -> Result<Bytes, GatewayError> {
        let dialect = dialect(call.route.model.provider);
        let mut timers = Timers::start(call.route.budget, facts.started);
        let Inbound { body, .. } = self.send(call, dialect, &mut outbound, &mut timers, facts).await?;
        let endpoint = Arc::clone(body.endpoint());
        let body = collect(body, max, &call.route.model, &mut timers).await?;
        spoke(&endpoint, facts);
        facts.upstream_ended = Some(Instant::now());
        Ok(body)
    }

    /// Takes a place at the model, sends, and turns a refusal into an error. One that a wrong clock explains is tried once more by the
    /// right time, at the replica whose clock it was.
    async fn send(
        &self,
        call: Call<'_>,
        dialect: &dyn Dialect,
        outbound: &mut Outbound,
        timers: &mut Timers,
        facts: &mut Facts,
    ) -> Result<Inbound, GatewayError> {
        let model = &call.route.model;
        let renewed = model.access.renewed();
        if let Some(renewed) = &renewed {
            // boxed, since it is rare that it waits: every request's future would otherwise hold its space
            Box::pin(renewed.ready(SystemTime::now())).await;
        }
        let place = self.upstreams.place(call.route, call.endpoints, timers, facts).await?;
        let mut corrected = None;
        loop {
            let same = corrected.clone();
            let sending = Sending { model, endpoints: call.endpoints, dialect, outbound: &mut *outbound, same };
            let Inbound { status, headers, mut body } = self.upstreams.send(sending, timers, facts).await?;
            if status.is_success() || dialect.is_gateway() {
                body.hold(place);
                return Ok(Inbound { status, headers, body });
            }
            let endpoint = Arc::clone(body.endpoint());
            // The status says enough when the body that goes with it cannot be read.
            let body = collect(body, MAX_FAULT_BODY, model, timers).await.unwrap_or_default();
            facts.upstream_ended = Some(Instant::now());
            let offset = dialect.clock_offset(status, &headers, &body, SystemTime::now());
            match offset.filter(|_| corrected.is_none()) {
                Some(offset) => endpoint.set_clock(offset),
                None => {
                    if let (401 | 403, Some(renewed)) = (status.as_u16(), renewed) {
                        renewed.doubt();
                    }
                    return Err(dialect.fault(status, &headers, &body));
                }
            }
            corrected = Some(endpoint);
            facts.retries += 1;
        }
    }
}

fn is_event_stream(headers: &http::HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    value.is_some_and(|v| v.len() >= 17 && v[..17].eq_ignore_ascii_case(b"text/event-stream"))
}

/// Waits for the first bytes that are for the client. A body that ends before them is passed as empty.
async fn first_byte(
    call: Call<'_>,
    body: AnswerBody,
    timers: Timers,
    flow: Flow,
    facts: &mut Facts,
) -> Result<Content, GatewayError> {
    let model = Arc::clone(&call.route.model.id);
    let endpoint = Arc::clone(body.endpoint());
    let mut stream = Box::new(Stream::new(body, timers, flow, call.shape, model));
    stream.fill(facts).await?;
    spoke(&endpoint, facts);
    Ok(Content::Stream(stream))
}

/// Notes how long it took until there was something for the client.
fn spoke(endpoint: &Endpoint, facts: &Facts) {
    if let Some(asked) = facts.upstream_started {
        endpoint.saw(Seen::Spoke(asked.elapsed()));
    }
}

/// Reads a body to its end, within the limits.
async fn collect(mut body: AnswerBody, max: usize, model: &Model, timers: &mut Timers) -> Result<Bytes, GatewayError> {
    let mut all = Gather::default();
    loop {
        let next = timers.go_on(poll_fn(|cx| body.poll_chunk(cx))).await.map_err(|expired| expired.error(&model.id))?;
        let Some(chunk) = next else { return Ok(all.into_bytes()) };
        let chunk = chunk.map_err(|error| body::broken(&error))?;
        timers.arrived(Instant::now());
        if all.len() + chunk.len() > max {
            return Err(too_long(max));
        }
        all.push(chunk);
    }
}

fn too_long(max: usize) -> GatewayError {
    let text = "The model server's answer is too long to be read";
    GatewayError::new(Kind::UpstreamBroken, text).internal(format!("more than {max} bytes"))
}
