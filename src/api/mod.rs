//! What clients call: endpoint → auth → parse → route → relay. One file per surface; none of them
//! names a provider.

mod answer_parts;
mod anthropic;
mod body;
mod cors;
mod endpoint;
mod fallback;
mod fields;
mod forward;
mod gitlab;
mod initial_series;
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
pub use gitlab::{CodeCall, ProxyCall};
pub use initial_series::initial_series;
pub use openai::OpenAiCall;

use crate::auth::Caller;
use crate::error::{GatewayError, Kind, Shape};
use crate::generation::Generation;
use crate::relay::{Call, Content, EarlyResponse, EarlyResponseSlot, Encoder, Relay};
use crate::route::{Feature, Route, RouteQuery, Table};
use crate::snapshot::{Shared, Snapshot};
use crate::telemetry::{PromptLog, RequestInfo};

/// The header by which GitLab's administrators allow prompts to be logged
/// (contract::gitlab_client §2.1).
const DETAILED_LOGS: &str = "x-gitlab-enabled-instance-verbose-ai-logs";

/// Handles requests; one per worker.
pub struct Api {
    shared: Shared,
    relay: Relay,
    draining: Arc<AtomicBool>,
}

/// What a handler works with: the request's head, the configuration snapshot, what is recorded.
struct Context<'a> {
    parts: &'a request::Parts,
    snapshot: &'a Snapshot,
    relay: &'a Relay,
    caller: Caller,
    early_response: Option<EarlyResponseSlot>,
    /// The error of the last model tried; `None` while the first model is being tried.
    failed: Option<GatewayError>,
    facts: &'a mut RequestInfo,
}

/// The result of routing a request.
enum Routed {
    /// The model that the handler has to call.
    Model(Arc<Route>),
    /// The response of another gateway, to which the request was passed unchanged: nothing is left
    /// to do.
    Answered(Response<Content>),
}

/// The response, or the error to render in the client's shape.
type Answer = Result<Response<Content>, GatewayError>;

impl Api {
    /// Creates the handler of one worker from the shared configuration and the worker's relay.
    pub const fn new(shared: Shared, relay: Relay, draining: Arc<AtomicBool>) -> Self {
        Self { shared, relay, draining }
    }

    /// Returns the relay, for the worker's tick.
    pub const fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Handles one request. The configuration snapshot is loaded once, here.
    pub async fn answer(
        &self,
        matched: Matched,
        request: http::Request<Incoming>,
        facts: &mut RequestInfo,
    ) -> Answer {
        let snapshot = self.shared.load();
        let (parts, body) = request.into_parts();
        let lists_for_anthropic = matches!(matched.endpoint, Ok(Endpoint::OpenAiModels))
            && anthropic::is_anthropic_client(&parts.headers);
        if lists_for_anthropic {
            facts.shape = Shape::Anthropic;
        }
        let mut caller = Caller::Anonymous;
        if !matched.is_open {
            caller = snapshot.auth.authenticate(&parts.headers, SystemTime::now()).await?;
        }
        let endpoint = matched.endpoint?;
        if let Some(permission) = endpoint.permission() {
            caller.authorize(&permission)?;
        }
        let rates = caller.rate_limits(snapshot.limits.rates);
        if endpoint.row().is_metered && !rates.is_unlimited() {
            // boxed: few callers have rates, and every request's future would reserve its size
            facts.meter = Some(
                Box::pin(snapshot.meters.admit(caller.rate_limit_key(facts.client), rates)).await?,
            );
        }
        let (parts, snapshot, relay) = (&parts, &*snapshot, &self.relay);
        let early_response = matched.early_response;
        let context =
            Context { parts, snapshot, relay, caller, early_response, failed: None, facts };
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
            Endpoint::UnknownGitlab => forward::unknown_call(context, body).await,
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
    /// Reads the body under the snapshot's limits, and keeps a copy for the prompt log where that
    /// is allowed.
    async fn body(&mut self, body: Incoming) -> Result<Bytes, GatewayError> {
        let bytes = body::collect(self.parts, body, &self.snapshot.limits).await?;
        self.facts.bytes_in = bytes.len() as u64;
        let is_true = |value: &str| value.trim().eq_ignore_ascii_case("true");
        if self.snapshot.log_prompts
            && text_header(&self.parts.headers, DETAILED_LOGS).is_some_and(is_true)
        {
            self.facts.prompt_log = Some(Box::new(PromptLog::new(&bytes)));
        }
        Ok(bytes)
    }

    /// Records the feature before the routing decision, so that a refusal counts for it, too.
    fn record_feature(&mut self, feature: Option<Feature>) {
        self.facts.feature = feature.map_or(self.facts.feature, Feature::name);
    }

    /// Returns the model for this request and records it for metrics and log; or returns the
    /// response, if the request was passed on.
    ///
    /// `body` is the request's, as received. Handlers parse what the `query` needs before, the rest
    /// after: a body that is passed on is validated by the other gateway.
    async fn route(&mut self, query: RouteQuery, body: &Bytes) -> Result<Routed, GatewayError> {
        self.record_feature(query.feature);
        let has_metadata = query.metadata.is_some();
        if has_metadata {
            self.caller.can_choose_model()?;
        }
        let route = self.snapshot.table.resolve_for(query, self.caller.pinned_model())?;
        self.record_route(&route);
        self.caller.can_use(&route.model)?;
        if route.model.provider.is_gateway() {
            // boxed: it is rare, and every handler's future would reserve its size
            return Box::pin(self.forward(&route, has_metadata, body)).await.map(Routed::Answered);
        }
        Ok(Routed::Model(route))
    }

    /// Does what [`Self::route`] does for a call in a vendor's dialect: returns the model that it
    /// names, or the result of `default_query` if no model of that name is configured.
    async fn route_named(
        &mut self,
        model: &str,
        default_query: Option<RouteQuery>,
        body: &Bytes,
    ) -> Result<Routed, GatewayError> {
        if let Some(query) = default_query.filter(|_| !self.snapshot.table.has_model(model)) {
            return self.route(query, body).await;
        }
        self.record_feature(model.strip_prefix("feature/").and_then(Feature::parse));
        let route = self.snapshot.table.resolve_named(model)?;
        self.record_route(&route);
        self.caller.can_use(&route.model)?;
        Ok(Routed::Model(route))
    }

    /// Records the routing decision, so that metrics and log have it whatever happens next.
    fn record_route(&mut self, route: &Route) {
        self.facts.feature = route.feature_label();
        self.facts.model = Arc::clone(&route.model.id);
        self.facts.provider = route.model.provider.label();
    }

    /// Calls the model and encodes its output in a vendor's dialect: as a stream of events if the
    /// request asks for one, else as one JSON value.
    async fn respond(
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
        let deltas = self.relay.generate(call, generation, self.facts).await?;
        let (mut encoder, mut out) = (encoder(), BytesMut::new());
        deltas.iter().for_each(|delta| encoder.delta(delta, &mut out));
        encoder.finish(&mut out);
        Ok(json(out.freeze()))
    }

    /// Allows the response head to be sent before the model's, whatever happens later: a stream of
    /// this type, with blank lines (which its clients skip) as keep-alive bytes. Does nothing on
    /// surfaces without an early response.
    fn allow_early_response(&self, content_type: &'static str) {
        let every = self.snapshot.chat.heartbeat;
        if let Some(slot) = &self.early_response {
            slot.set(EarlyResponse { content_type, beat: b"\n", interval: every });
        }
    }

    /// Returns when the request arrived, in Unix seconds: the time that response bodies contain.
    fn unix_time(&self) -> u64 {
        self.facts.wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// Returns the relay's input for a call to this route's model.
    const fn call<'r>(&self, route: &'r Route) -> Call<'r>
    where
        Self: 'r,
    {
        Call { route, endpoints: &self.snapshot.endpoints, shape: self.facts.shape }
    }
}

/// Returns the names of the configured models that this caller may use, then `feature/<name>` for
/// every feature that is routed to one of them.
fn model_names(table: &Table, caller: &Caller) -> Vec<String> {
    let is_usable = |route: &Route| caller.can_use(&route.model).is_ok();
    let mut names: Vec<String> = table
        .models()
        .filter(|route| is_usable(route))
        .map(|route| route.model.id.to_string())
        .collect();
    names.sort_unstable();
    let features = Feature::all().map(|feature| format!("feature/{}", feature.name()));
    names.extend(
        features.filter(|name| table.resolve_named(name).is_ok_and(|route| is_usable(&route))),
    );
    names
}

/// Returns a 200 with a JSON body.
fn json(body: impl Into<Bytes>) -> Response<Content> {
    let mut response = Response::new(Content::Whole(body.into()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Returns a header's value, or `None` if it is absent or not visible ASCII.
fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
