//! What clients speak to: endpoint → auth → parse → route → relay. One file per surface; none of
//! them names a provider.

mod answer_parts;
mod anthropic;
mod body;
mod cors;
mod endpoint;
mod fallback;
mod fields;
mod forward;
mod gitlab;
mod openai;
mod peek;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header, request};
use hyper::body::Incoming;

pub use anthropic::{AnthropicCall, read_messages_request};
pub use cors::{allow_any_origin, is_cross_origin};
pub use endpoint::{Endpoint, Matched};
pub use gitlab::{CodeCall, Proxied};
pub use openai::OpenAiCall;

use crate::auth::Caller;
use crate::error::{GatewayError, Kind, Shape};
use crate::generation::Generation;
use crate::relay::{Call, Content, Encoder, HeadStart, Promise, Relay};
use crate::route::{Ask, Feature, Route, Table};
use crate::snapshot::{Shared, Snapshot};
use crate::telemetry::{Facts, Words};

/// Whether an administrator of the request's GitLab lets prompts be logged (gitlab-client.md §2.1).
const DETAILED_LOGS: &str = "x-gitlab-enabled-instance-verbose-ai-logs";

/// Answers requests; one per worker.
pub struct Api {
    shared: Shared,
    relay: Relay,
    draining: Arc<AtomicBool>,
}

/// What an endpoint works with: the request's head, the snapshot it runs on, its facts.
struct Context<'a> {
    parts: &'a request::Parts,
    snapshot: &'a Snapshot,
    relay: &'a Relay,
    caller: Caller,
    head_start: Option<HeadStart>,
    /// What the model that was asked last said, if it was not the first.
    failed: Option<GatewayError>,
    facts: &'a mut Facts,
}

/// What came of routing a request.
enum Routed {
    /// This model answers; the handler asks it.
    Model(Arc<Route>),
    /// The request went on as it came, and this is the answer: there is nothing left to do.
    Answered(Response<Content>),
}

type Answer = Result<Response<Content>, GatewayError>;

impl Api {
    /// On this configuration, through this relay.
    pub const fn new(shared: Shared, relay: Relay, draining: Arc<AtomicBool>) -> Self {
        Self { shared, relay, draining }
    }

    /// The relay, for the worker's tick.
    pub const fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Answers one request. The snapshot is loaded once, here.
    pub async fn answer(
        &self,
        matched: Matched,
        request: http::Request<Incoming>,
        facts: &mut Facts,
    ) -> Answer {
        let snapshot = self.shared.load();
        let (parts, body) = request.into_parts();
        let Matched { endpoint, head_start, is_open, .. } = matched;
        let lists_for_anthropic =
            matches!(endpoint, Ok(Endpoint::OpenAiModels)) && anthropic::speaks(&parts.headers);
        if lists_for_anthropic {
            facts.shape = Shape::Anthropic;
        }
        let mut caller = Caller::Anyone;
        if !is_open {
            caller = snapshot.auth.admit(&parts.headers, SystemTime::now()).await?;
        }
        let endpoint = endpoint?;
        if let Some(permission) = endpoint.permission() {
            caller.may(&permission)?;
        }
        let rates = caller.rates(snapshot.limits.rates);
        if endpoint.asks_a_model() && !rates.is_unlimited() {
            // boxed, since few have rates: every request's future would otherwise hold its space
            facts.meter =
                Some(Box::pin(snapshot.meters.admit(caller.account(facts.client), rates)).await?);
        }
        let (parts, snapshot, relay) = (&parts, &*snapshot, &self.relay);
        let context = Context { parts, snapshot, relay, caller, head_start, failed: None, facts };
        match endpoint {
            Endpoint::Head => Ok(Response::new(Content::Whole(Bytes::new()))),
            Endpoint::Preflight => Ok(cors::preflight(&parts.headers)),
            Endpoint::Healthz => Ok(json("{}")),
            Endpoint::Ready if self.draining.load(Ordering::Relaxed) => {
                Err(GatewayError::new(Kind::Overloaded, "Weir is draining"))
            }
            Endpoint::Ready => Ok(json("{}")),
            Endpoint::OpenAiModels if lists_for_anthropic => {
                Ok(json(anthropic::models::list(&snapshot.table, &context.caller)))
            }
            Endpoint::OpenAiModels => {
                Ok(json(openai::models::list(&snapshot.table, &context.caller)))
            }
            Endpoint::OpenAi(call) => openai::forward(context, call, None, body).await,
            Endpoint::Anthropic(call) => anthropic::forward(context, call, None, body).await,
            Endpoint::Proxy(proxied) => gitlab::proxy::forward(context, proxied, body).await,
            Endpoint::ChatV1(feature) => gitlab::chat_v1::answer(context, feature, body).await,
            Endpoint::Code(call) => gitlab::code::answer(context, call, body).await,
            Endpoint::ChatAgent => gitlab::chat_agent::answer(context, body).await,
            Endpoint::Elsewhere => forward::elsewhere(context, body).await,
            Endpoint::ModelCheck(version) => {
                gitlab::model_check::answer(context, version, body).await
            }
            Endpoint::CodeEmbeddings => gitlab::embeddings::answer(context, body).await,
            Endpoint::DocsSearch => gitlab::docs_search::answer(context, body).await,
            Endpoint::Definitions => Ok(json(gitlab::definitions::list(&snapshot.table))),
            Endpoint::UserToken => gitlab::user_token::answer(context, body).await,
            Endpoint::Prompts(version) => gitlab::prompts::answer(context, version, body).await,
        }
    }
}

impl Context<'_> {
    /// Reads the body under the snapshot's limits.
    async fn body(&mut self, body: Incoming) -> Result<Bytes, GatewayError> {
        let bytes = body::collect(self.parts, body, &self.snapshot.limits).await?;
        self.facts.bytes_in = bytes.len() as u64;
        let allows = |value: &str| value.trim().eq_ignore_ascii_case("true");
        if self.snapshot.log_prompts
            && text_header(&self.parts.headers, DETAILED_LOGS).is_some_and(allows)
        {
            self.facts.words = Some(Box::new(Words::of(&bytes)));
        }
        Ok(bytes)
    }

    /// Notes the feature before the decision, so that a refusal is counted for it, too.
    fn asked_for(&mut self, feature: Option<Feature>) {
        self.facts.feature = feature.map_or(self.facts.feature, Feature::name);
    }

    /// The model for this request, noted for metrics and log; or the answer, if the request was
    /// passed on.
    ///
    /// `body` is the request's, as received. What a handler needs for the `ask` is parsed before,
    /// the rest after: a body that goes on is for another gateway to judge.
    async fn route(&mut self, ask: Ask, body: &Bytes) -> Result<Routed, GatewayError> {
        self.asked_for(ask.feature);
        let names_a_model = ask.metadata.is_some();
        if names_a_model {
            self.caller.may_name_a_model()?;
        }
        let route = self.snapshot.table.resolve_for(ask, self.caller.bound_model())?;
        self.routed(&route);
        self.caller.may_use(&route.model)?;
        if route.model.provider.is_gateway() {
            // boxed, since it is rare: every handler's future would otherwise hold its space
            return Box::pin(self.forward(&route, names_a_model, body)).await.map(Routed::Answered);
        }
        Ok(Routed::Model(route))
    }

    /// As [`Self::route`], for a call in a vendor's dialect: the model that it names, or what
    /// `otherwise` asks for when the file has no model of that name.
    async fn route_named(
        &mut self,
        model: &str,
        otherwise: Option<Ask>,
        body: &Bytes,
    ) -> Result<Routed, GatewayError> {
        if let Some(ask) = otherwise.filter(|_| !self.snapshot.table.knows(model)) {
            return self.route(ask, body).await;
        }
        self.asked_for(model.strip_prefix("feature/").and_then(Feature::parse));
        let route = self.snapshot.table.resolve_named(model)?;
        self.routed(&route);
        self.caller.may_use(&route.model)?;
        Ok(Routed::Model(route))
    }

    /// Notes the decision, so that metrics and log carry it whatever comes next.
    fn routed(&mut self, route: &Route) {
        self.facts.feature = route.feature_label();
        self.facts.model = Arc::clone(&route.model.id);
        self.facts.provider = route.model.provider.label();
    }

    /// Asks the model, and writes its answer in a vendor's dialect: as events, or whole as one JSON
    /// value.
    async fn written(
        &mut self,
        route: &Route,
        generation: &Generation,
        encoder: Encoder<'_>,
    ) -> Answer {
        let call = self.call(route);
        if generation.stream {
            return self
                .relay
                .stream(call, generation, encoder, "text/event-stream", self.facts)
                .await;
        }
        let deltas = self.relay.ask(call, generation, self.facts).await?;
        let (mut encoder, mut out) = (encoder(), BytesMut::new());
        deltas.iter().for_each(|delta| encoder.delta(delta, &mut out));
        encoder.finish(&mut out);
        Ok(json(out.freeze()))
    }

    /// From here on the answer is a stream of this type, of lines of which clients skip the blank
    /// ones, whatever happens.
    fn promise_lines(&self, content_type: &'static str) {
        let every = self.snapshot.chat.heartbeat;
        self.head_start
            .iter()
            .for_each(|start| start.promise(Promise { content_type, beat: b"\n", every }));
    }

    /// When the request came, in Unix seconds: the time that answers carry.
    fn unix_time(&self) -> u64 {
        self.facts.wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// The call along this route.
    const fn call<'r>(&self, route: &'r Route) -> Call<'r>
    where
        Self: 'r,
    {
        Call { route, endpoints: &self.snapshot.endpoints, shape: self.facts.shape }
    }
}

/// The file's models that this caller may use, then `feature/<name>` for every feature that one of
/// them answers.
fn model_names(table: &Table, caller: &Caller) -> Vec<String> {
    let may_use = |route: &Route| caller.may_use(&route.model).is_ok();
    let mut names: Vec<String> = table
        .models()
        .filter(|route| may_use(route))
        .map(|route| route.model.id.to_string())
        .collect();
    names.sort_unstable();
    let features = Feature::all().map(|feature| format!("feature/{}", feature.name()));
    names.extend(
        features.filter(|name| table.resolve_named(name).is_ok_and(|route| may_use(&route))),
    );
    names
}

/// A 200 with JSON.
fn json(body: impl Into<Bytes>) -> Response<Content> {
    let mut response = Response::new(Content::Whole(body.into()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A header as text, if it is there and is text.
fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
