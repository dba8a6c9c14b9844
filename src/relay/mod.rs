//! A request between its route and its response, as plain code: send, classify the head, buffer the
//! answer until its first content, return a body that owns everything that must end with it.
//!
//! A response is committed to an attempt at its first content, because model servers send their
//! head, a role, a ping before the first token. Until then a failure can still become another
//! attempt at the next replica (`attempts.rs`), with a hedged request in parallel where the file
//! enables it (`hedge.rs`), or an honest status instead of a broken stream. A surface that reports
//! every failure inside its stream sends an [`EarlyResponse`] instead: its head is sent when the silence
//! gets long, and its attempts continue all the same.

mod attempts;
mod body;
mod chunk;
mod drain_deadline;
mod heartbeat;
mod hedge;
mod mode;
mod passthrough;
mod stream;
mod translate;

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use tokio::time::Instant;

pub use body::{Content, RelayBody};
pub use drain_deadline::DrainDeadline;
pub use heartbeat::{EarlyResponse, EarlyResponseSlot};
pub use stream::{Abort, ResponseStream};

use crate::error::{GatewayError, Kind, Shape};
use crate::generation::{Delta, Encode, Generation};
use crate::model::Model;
use crate::provider::{Outbound, dialect, excerpt};
use crate::route::Route;
use crate::telemetry::RequestInfo;
use crate::upstream::{
    AnswerBody, Endpoint, Endpoints, Inbound, Observation, SharedAttemptedSet, Timers, Upstreams,
};
use crate::wire::ChunkBuffer;
use attempts::Attempts;
use hedge::Winner;
use mode::BodyMode;
use stream::Source;

/// The largest whole answer that is translated, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Sends requests along routes; one per worker.
pub struct Relay {
    upstreams: Upstreams,
}

/// What is constant for one request.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The model, its fallbacks and its timeouts.
    pub route: &'a Route,
    /// The snapshot's endpoints.
    pub endpoints: &'a Endpoints,
    /// The format of its errors.
    pub shape: Shape,
}

/// Creates an encoder: each attempt starts with a new one.
pub type Encoder<'a> = &'a (dyn Fn() -> Box<dyn Encode> + Sync + 'a);

/// A request in the dialect of its model server, whose answer is forwarded.
#[derive(Clone)]
pub struct PassthroughCall {
    /// The request.
    pub outbound: Outbound,
    /// Whether it requests a stream of events.
    pub stream: bool,
    /// Whether Weir added `include_usage`, so that the usage chunk must be removed again.
    pub hide_usage: bool,
}

impl Relay {
    /// Creates a relay that sends through `upstreams`.
    pub const fn new(upstreams: Upstreams) -> Self {
        Self { upstreams }
    }

    /// Returns the upstream connections, for the worker's periodic clean-up.
    pub const fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// Forwards a request in the model server's own dialect, and the bytes of its answer as they
    /// arrive. Fails when no attempt produced an answer.
    pub async fn forward(
        &self,
        call: Call<'_>,
        passed: PassthroughCall,
        facts: &mut RequestInfo,
    ) -> Result<Response<Content>, GatewayError> {
        self.run(call, passed, facts).await
    }

    /// Sends a generation and returns a streamed response, translated by the encoder to the
    /// surface's format. Fails when no attempt produced content.
    pub async fn stream(
        &self,
        call: Call<'_>,
        generation: &Generation,
        encoder: Encoder<'_>,
        content_type: &'static str,
        facts: &mut RequestInfo,
    ) -> Result<Response<Content>, GatewayError> {
        let outbound = dialect(call.route.model.provider).encode(generation, &call.route.model)?;
        let translated = TranslatedCall { outbound, generation, encoder };
        let content = self.run(call, translated, facts).await?;
        let mut response = Response::new(content);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(response)
    }

    /// Sends a generation and returns the deltas of the whole answer, for surfaces that send one JSON
    /// value.
    pub async fn generate(
        &self,
        call: Call<'_>,
        generation: &Generation,
        facts: &mut RequestInfo,
    ) -> Result<Vec<Delta>, GatewayError> {
        let dialect = dialect(call.route.model.provider);
        let outbound = dialect.encode(generation, &call.route.model)?;
        let deltas = self
            .fetch(
                call,
                outbound,
                MAX_ANSWER,
                |body| dialect.decode_response(generation, body),
                facts,
            )
            .await?;
        facts.first_token = facts.upstream_ended;
        for delta in &deltas {
            if let Delta::Usage(usage) = delta {
                facts.usage = *usage;
            }
        }
        Ok(deltas)
    }

    /// Returns how many input tokens a generation has, or `None` where the provider has no call that
    /// counts them.
    pub async fn count_tokens(
        &self,
        call: Call<'_>,
        generation: &Generation,
        facts: &mut RequestInfo,
    ) -> Result<Option<u64>, GatewayError> {
        let dialect = dialect(call.route.model.provider);
        let Some(outbound) = dialect.encode_token_count(generation, &call.route.model)? else {
            return Ok(None);
        };
        let read = |body: &[u8]| {
            let text = "The model server's answer could not be read";
            let unreadable = || GatewayError::new(Kind::UpstreamBroken, text);
            let count = dialect.parse_token_count(body);
            count.ok_or_else(|| {
                unreadable().internal(format!("no count of tokens: {}", excerpt(body)))
            })
        };
        self.fetch(call, outbound, MAX_ANSWER, read, facts).await.map(Some)
    }

    /// Sends a request in the model server's own dialect and parses the whole answer, of at most
    /// `max` bytes. An answer that `read` rejects is a failure of the attempt.
    pub async fn fetch<T: Send>(
        &self,
        call: Call<'_>,
        outbound: Outbound,
        max: usize,
        read: impl Fn(&[u8]) -> Result<T, GatewayError> + Sync,
        facts: &mut RequestInfo,
    ) -> Result<T, GatewayError> {
        self.run(call, FetchCall { outbound, max, read: &read }, facts).await
    }

    /// Runs attempts until one is committed; with hedging, two sequences of them in parallel.
    async fn run<A: UpstreamCall>(
        &self,
        call: Call<'_>,
        mut request: A,
        facts: &mut RequestInfo,
    ) -> Result<A::Answer, GatewayError> {
        let attempts = Attempts::new(&self.upstreams, call);
        if call.route.model.priority {
            attempts.dialect().set_priority(request.outbound(), call.route.class());
        }
        match hedge_delay(&attempts, facts) {
            None => run_attempts(attempts, &mut request, facts).await,
            // boxed: every request's future would otherwise reserve the space of both
            Some(hedging) => Box::pin(self.run_hedged(attempts, hedging, request, facts)).await,
        }
    }

    /// Runs a hedged sequence of attempts in parallel, once the first has run for `wait`.
    async fn run_hedged<A: UpstreamCall>(
        &self,
        attempts: Attempts<'_>,
        (endpoint, wait): (&Endpoint, Duration),
        mut request: A,
        facts: &mut RequestInfo,
    ) -> Result<A::Answer, GatewayError> {
        let another = Attempts::new(&self.upstreams, attempts.call());
        let (attempted, mut other, mut hedge_facts) =
            (SharedAttemptedSet::default(), request.clone(), facts.fork());
        let first = run_attempts(attempts.sharing(&attempted), &mut request, facts);
        let second =
            run_attempts(another.sharing(&attempted).hedged(), &mut other, &mut hedge_facts);
        match hedge::race(first, second, wait, || endpoint.withdraw_hedge(Instant::now())).await {
            Winner::Primary(answer) => answer,
            Winner::Hedge(answer) => {
                facts.merge(hedge_facts);
                facts.retries += 1;
                answer
            }
        }
    }
}

/// Returns how long the first sequence of attempts runs before a hedged one starts; `None` without
/// hedging or a second replica.
fn hedge_delay<'a>(
    attempts: &Attempts<'a>,
    facts: &RequestInfo,
) -> Option<(&'a Endpoint, Duration)> {
    let [endpoint, _, ..] = attempts.replicas() else { return None };
    Some((endpoint, endpoint.hedge_delay(facts.started)?))
}

/// Runs one attempt after the other, until one is committed or none is left.
async fn run_attempts<A: UpstreamCall>(
    mut attempts: Attempts<'_>,
    request: &mut A,
    facts: &mut RequestInfo,
) -> Result<A::Answer, GatewayError> {
    loop {
        match request.attempt(&mut attempts, facts).await {
            Err(error) => attempts.prepare_next(error, facts)?,
            answer => return answer,
        }
    }
}

/// A call to a model server: its request, and how much of the answer commits the response to an
/// attempt.
trait UpstreamCall: Clone + Send {
    /// The answer of a committed attempt.
    type Answer: Send;

    /// Returns the request.
    fn outbound(&mut self) -> &mut Outbound;

    /// Makes one attempt; fails as long as another one may follow.
    fn attempt(
        &mut self,
        attempts: &mut Attempts<'_>,
        facts: &mut RequestInfo,
    ) -> impl Future<Output = Result<Self::Answer, GatewayError>> + Send;
}

impl UpstreamCall for PassthroughCall {
    type Answer = Response<Content>;

    fn outbound(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    async fn attempt(
        &mut self,
        attempts: &mut Attempts<'_>,
        facts: &mut RequestInfo,
    ) -> Result<Self::Answer, GatewayError> {
        let dialect = attempts.dialect();
        let (Inbound { status, mut headers, body, sent }, timers) =
            attempts.send(&mut self.outbound, facts).await?;
        let is_gateway = attempts.call().route.model.provider.is_gateway();
        if is_gateway {
            facts.failure = Kind::of_gateway(status.as_u16());
        }
        let events = self.stream && is_event_stream(&headers);
        let mode = if events {
            facts.token_estimate.set_request(dialect.markers().text_len(&self.outbound.body));
            BodyMode::SseTap(passthrough::Tap::new(dialect, self.hide_usage))
        } else {
            // the body may still be a stream: of a gateway, or in another format than SSE
            let streams = self.stream || is_gateway;
            BodyMode::Opaque { tail: passthrough::UsageTail::new(dialect), streams }
        };
        passthrough::clean_headers(&mut headers, events);
        let source = Source { body, timers, sent };
        let mut response = Response::new(begin_stream(attempts, source, mode, facts).await?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// A call whose streamed answer is translated.
#[derive(Clone)]
struct TranslatedCall<'a> {
    outbound: Outbound,
    generation: &'a Generation,
    encoder: Encoder<'a>,
}

impl UpstreamCall for TranslatedCall<'_> {
    type Answer = Content;

    fn outbound(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    async fn attempt(
        &mut self,
        attempts: &mut Attempts<'_>,
        facts: &mut RequestInfo,
    ) -> Result<Self::Answer, GatewayError> {
        let (Inbound { body, sent, .. }, timers) = attempts.send(&mut self.outbound, facts).await?;
        facts.token_estimate.set_request(
            self.outbound.body.len().saturating_sub(self.generation.inline_image_bytes()),
        );
        let decoder = attempts.dialect().stream_decoder(self.generation);
        let translator = translate::Translator::new(decoder, (self.encoder)());
        begin_stream(
            attempts,
            Source { body, timers, sent },
            BodyMode::Transcode(translator),
            facts,
        )
        .await
    }
}

/// A call whose whole answer is parsed.
struct FetchCall<'a, R> {
    outbound: Outbound,
    max: usize,
    read: &'a R,
}

impl<R> Clone for FetchCall<'_, R> {
    fn clone(&self) -> Self {
        Self { outbound: self.outbound.clone(), ..*self }
    }
}

impl<T: Send, R: Fn(&[u8]) -> Result<T, GatewayError> + Sync> UpstreamCall for FetchCall<'_, R> {
    type Answer = T;

    fn outbound(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    async fn attempt(
        &mut self,
        attempts: &mut Attempts<'_>,
        facts: &mut RequestInfo,
    ) -> Result<T, GatewayError> {
        let (Inbound { body, sent, .. }, mut timers) =
            attempts.send(&mut self.outbound, facts).await?;
        let endpoint = Arc::clone(body.endpoint());
        let body = read_to_end(body, self.max, &attempts.call().route.model, &mut timers).await?;
        let now = Instant::now();
        endpoint.record(Observation::FirstToken(now.saturating_duration_since(sent)));
        facts.upstream_ended = Some(now);
        (self.read)(&body)
    }
}

fn is_event_stream(headers: &http::HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    value.is_some_and(|v| v.len() >= 17 && v[..17].eq_ignore_ascii_case(b"text/event-stream"))
}

/// Buffers the answer until its first content, which commits the response. A body that ends before
/// that is returned as it is.
async fn begin_stream(
    attempts: &mut Attempts<'_>,
    source: Source,
    mode: BodyMode,
    facts: &mut RequestInfo,
) -> Result<Content, GatewayError> {
    let Call { route, shape, .. } = attempts.call();
    let mut stream =
        Box::new(ResponseStream::new(source, mode, shape, Arc::clone(&route.model.id)));
    stream.buffer_until_content(facts).await?;
    stream.hold_permit(attempts.take_permit());
    Ok(Content::Stream(stream))
}

/// Reads a body to its end, within the timeouts and at most `max` bytes.
async fn read_to_end(
    mut body: AnswerBody,
    max: usize,
    model: &Model,
    timers: &mut Timers,
) -> Result<Bytes, GatewayError> {
    let mut all = ChunkBuffer::default();
    loop {
        let next = timers
            .resume(poll_fn(|cx| body.poll_chunk(cx)))
            .await
            .map_err(|expired| expired.error(&model.id))?;
        let Some(chunk) = next else { return Ok(all.into_bytes()) };
        let chunk = chunk.map_err(|error| stream::connection_error(&error))?;
        timers.restart_idle(Instant::now());
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
