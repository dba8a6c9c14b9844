//! The story of a request between route and answer, as plain code: send, judge the head, hold the
//! answer back until it has begun, hand over a body that owns all that must end with it.
//!
//! An answer has begun with its first content, since model servers send their head, a role, a ping
//! before the first token: until then a failure can still be another attempt at the next replica
//! (`attempts.rs`), with a second line of them beside the first where that is wanted (`hedge.rs`),
//! or an honest status instead of a broken stream. A surface that tells every failure inside its
//! stream gives a [`Promise`] instead, and its head goes out when the silence gets long; its
//! attempts go on all the same.

mod attempts;
mod body;
mod drain_deadline;
mod heartbeat;
mod hedge;
mod passthrough;
mod translate;

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use tokio::time::Instant;

pub use body::{Abort, Content, RelayBody, Stream};
pub use drain_deadline::Ending;
pub use heartbeat::{HeadStart, Promise};

use crate::error::{GatewayError, Kind, Shape};
use crate::generation::{Delta, Encode, Generation};
use crate::model::Model;
use crate::provider::{Outbound, dialect, excerpt};
use crate::route::Route;
use crate::telemetry::Facts;
use crate::upstream::{
    AnswerBody, Endpoint, Endpoints, Inbound, Seen, Timers, TriedTogether, Upstreams,
};
use crate::wire::Gather;
use attempts::Attempts;
use body::{Flow, Source};
use hedge::By;

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

/// Makes an encoder: each attempt begins with a new one.
pub type Encoder<'a> = &'a (dyn Fn() -> Box<dyn Encode> + Sync + 'a);

/// A request in the upstream's own dialect.
#[derive(Clone)]
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
        self.answered(call, passed, facts).await
    }

    /// A streamed answer, translated by an encoder into what the surface speaks. Each attempt gets
    /// its own.
    pub async fn stream(
        &self,
        call: Call<'_>,
        generation: &Generation,
        encoder: Encoder<'_>,
        content_type: &'static str,
        facts: &mut Facts,
    ) -> Result<Response<Content>, GatewayError> {
        let outbound = dialect(call.route.model.provider).encode(generation, &call.route.model)?;
        let translated = Translated { outbound, generation, encoder };
        let content = self.answered(call, translated, facts).await?;
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
        let deltas = self
            .fetch(call, outbound, MAX_ANSWER, |body| dialect.answer(generation, body), facts)
            .await?;
        facts.first_token = facts.upstream_ended;
        for delta in &deltas {
            if let Delta::Usage(usage) = delta {
                facts.usage = *usage;
            }
        }
        Ok(deltas)
    }

    /// How many tokens a generation would read, or `None` where the model's server cannot count
    /// beforehand.
    pub async fn count(
        &self,
        call: Call<'_>,
        generation: &Generation,
        facts: &mut Facts,
    ) -> Result<Option<u64>, GatewayError> {
        let dialect = dialect(call.route.model.provider);
        let Some(outbound) = dialect.count(generation, &call.route.model)? else { return Ok(None) };
        let read = |body: &[u8]| {
            let text = "The model server's answer could not be read";
            let unreadable = || GatewayError::new(Kind::UpstreamBroken, text);
            let count = dialect.counted(body);
            count.ok_or_else(|| {
                unreadable().internal(format!("no count of tokens: {}", excerpt(body)))
            })
        };
        self.fetch(call, outbound, MAX_ANSWER, read, facts).await.map(Some)
    }

    /// Sends a request in the upstream's own dialect, and reads the whole answer, of at most `max`
    /// bytes. One that cannot be read is a failure like any other.
    pub async fn fetch<T: Send>(
        &self,
        call: Call<'_>,
        outbound: Outbound,
        max: usize,
        read: impl Fn(&[u8]) -> Result<T, GatewayError> + Sync,
        facts: &mut Facts,
    ) -> Result<T, GatewayError> {
        self.answered(call, Fetched { outbound, max, read: &read }, facts).await
    }

    /// One attempt after the other until an answer has begun; with hedging, two lines of them.
    async fn answered<A: Ask>(
        &self,
        call: Call<'_>,
        mut ask: A,
        facts: &mut Facts,
    ) -> Result<A::Answer, GatewayError> {
        let attempts = Attempts::new(&self.upstreams, call);
        if call.route.model.priority {
            attempts.dialect().prioritize(ask.outbound(), call.route.class());
        }
        match hedging(&attempts, facts) {
            None => one_line(attempts, &mut ask, facts).await,
            // boxed: every request's future would otherwise hold the space of two lines
            Some(hedging) => Box::pin(self.two_lines(attempts, hedging, ask, facts)).await,
        }
    }

    /// A second line of attempts beside the first, once that has had its time.
    async fn two_lines<A: Ask>(
        &self,
        attempts: Attempts<'_>,
        (endpoint, wait): (&Endpoint, Duration),
        mut ask: A,
        facts: &mut Facts,
    ) -> Result<A::Answer, GatewayError> {
        let another = Attempts::new(&self.upstreams, attempts.call());
        let (tried, mut other, mut beside) =
            (TriedTogether::default(), ask.clone(), facts.beside());
        let first = one_line(attempts.beside(&tried), &mut ask, facts);
        let second = one_line(another.beside(&tried).extra(), &mut other, &mut beside);
        match hedge::race(first, second, wait, || endpoint.may_hedge(Instant::now())).await {
            By::First(answer) => answer,
            By::Second(answer) => {
                facts.take_over(beside);
                facts.retries += 1;
                answer
            }
        }
    }
}

/// How long the first line of attempts has, if a second may begin then.
fn hedging<'a>(attempts: &Attempts<'a>, facts: &Facts) -> Option<(&'a Endpoint, Duration)> {
    let [endpoint, _, ..] = attempts.replicas() else { return None };
    Some((endpoint, endpoint.hedge_after(facts.started)?))
}

/// One attempt after the other.
async fn one_line<A: Ask>(
    mut attempts: Attempts<'_>,
    ask: &mut A,
    facts: &mut Facts,
) -> Result<A::Answer, GatewayError> {
    loop {
        match ask.once(&mut attempts, facts).await {
            Err(error) => attempts.another(error, facts)?,
            answer => return answer,
        }
    }
}

/// What is asked, and what of an answer has to be there before it has begun.
trait Ask: Clone + Send {
    /// An answer that has begun.
    type Answer: Send;

    /// The request.
    fn outbound(&mut self) -> &mut Outbound;

    /// Makes one attempt.
    fn once(
        &mut self,
        attempts: &mut Attempts<'_>,
        facts: &mut Facts,
    ) -> impl Future<Output = Result<Self::Answer, GatewayError>> + Send;
}

impl Ask for Passed {
    type Answer = Response<Content>;

    fn outbound(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    async fn once(
        &mut self,
        attempts: &mut Attempts<'_>,
        facts: &mut Facts,
    ) -> Result<Self::Answer, GatewayError> {
        let dialect = attempts.dialect();
        let (Inbound { status, mut headers, body, sent }, timers) =
            attempts.send(&mut self.outbound, facts).await?;
        let is_gateway = attempts.call().route.model.provider.is_gateway();
        if is_gateway {
            facts.failure = Kind::of_gateway(status.as_u16());
        }
        let events = self.stream && is_event_stream(&headers);
        let flow = if events {
            let markers = dialect.markers();
            facts.uncounted.asked(markers.text_len(&self.outbound.body));
            Flow::Events(passthrough::Tap::new(dialect, self.hide_usage))
        } else {
            // what a gateway sends, or a server in another format than events, may be a stream all
            // the same
            let streams = self.stream || is_gateway;
            Flow::Whole { tail: passthrough::Tail::new(dialect), streams }
        };
        passthrough::clean_headers(&mut headers, events);
        let source = Source { body, timers, sent };
        let mut response = Response::new(begin(attempts, source, flow, facts).await?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// A stream that is translated.
#[derive(Clone)]
struct Translated<'a> {
    outbound: Outbound,
    generation: &'a Generation,
    encoder: Encoder<'a>,
}

impl Ask for Translated<'_> {
    type Answer = Content;

    fn outbound(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    async fn once(
        &mut self,
        attempts: &mut Attempts<'_>,
        facts: &mut Facts,
    ) -> Result<Self::Answer, GatewayError> {
        let (Inbound { body, sent, .. }, timers) = attempts.send(&mut self.outbound, facts).await?;
        facts
            .uncounted
            .asked(self.outbound.body.len().saturating_sub(self.generation.picture_bytes()));
        let decoder = attempts.dialect().decoder(self.generation);
        let translator = translate::Translator::new(decoder, (self.encoder)());
        begin(attempts, Source { body, timers, sent }, Flow::Deltas(translator), facts).await
    }
}

/// A whole answer that is read.
struct Fetched<'a, R> {
    outbound: Outbound,
    max: usize,
    read: &'a R,
}

impl<R> Clone for Fetched<'_, R> {
    fn clone(&self) -> Self {
        Self { outbound: self.outbound.clone(), ..*self }
    }
}

impl<T: Send, R: Fn(&[u8]) -> Result<T, GatewayError> + Sync> Ask for Fetched<'_, R> {
    type Answer = T;

    fn outbound(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    async fn once(
        &mut self,
        attempts: &mut Attempts<'_>,
        facts: &mut Facts,
    ) -> Result<T, GatewayError> {
        let (Inbound { body, sent, .. }, mut timers) =
            attempts.send(&mut self.outbound, facts).await?;
        let endpoint = Arc::clone(body.endpoint());
        let body = collect(body, self.max, &attempts.call().route.model, &mut timers).await?;
        let now = Instant::now();
        endpoint.saw(Seen::Spoke(now.saturating_duration_since(sent)));
        facts.upstream_ended = Some(now);
        (self.read)(&body)
    }
}

fn is_event_stream(headers: &http::HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    value.is_some_and(|v| v.len() >= 17 && v[..17].eq_ignore_ascii_case(b"text/event-stream"))
}

/// Waits until the answer has begun. A body that ends before is passed as it is.
async fn begin(
    attempts: &mut Attempts<'_>,
    source: Source,
    flow: Flow,
    facts: &mut Facts,
) -> Result<Content, GatewayError> {
    let Call { route, shape, .. } = attempts.call();
    let mut stream = Box::new(Stream::new(source, flow, shape, Arc::clone(&route.model.id)));
    stream.fill(facts).await?;
    stream.hold(attempts.leave());
    Ok(Content::Stream(stream))
}

/// Reads a body to its end, within the limits.
async fn collect(
    mut body: AnswerBody,
    max: usize,
    model: &Model,
    timers: &mut Timers,
) -> Result<Bytes, GatewayError> {
    let mut all = Gather::default();
    loop {
        let next = timers
            .go_on(poll_fn(|cx| body.poll_chunk(cx)))
            .await
            .map_err(|expired| expired.error(&model.id))?;
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
