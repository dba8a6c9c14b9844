//! `weir probe`: one real request to each endpoint of each model, and how long each step of it
//! took. It shows what GitLab's "Test connection" shows to an administrator, and more.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Response, header};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout};

use super::Out;
use super::out::{align, plural, suggestion};
use super::serve::runtime;
use crate::app::StartError;
use crate::config::{Config, show_duration};
use crate::credentials::Credentials;
use crate::error::{GatewayError, Kind, Shape};
use crate::generation::{Delta, Encode, Generation, Message, Role, Sampling};
use crate::model::{EndpointUrl, Model};
use crate::provider::Outbound;
use crate::relay::{Call, Content, PassthroughCall, Relay, RelayBody};
use crate::route::{Route, Rule};
use crate::telemetry::labels::Surface;
use crate::telemetry::{Metrics, Record, RequestInfo, Sink, TraceIds};
use crate::upstream::{ConnectTimings, Endpoints, Fetcher, Registry, SharedEgress, Upstreams};

/// Probes every model, or the one with this name. Exits with 1 when an endpoint fails.
pub(super) fn run(config: &Config, only: Option<&str>, out: &mut Out) -> ExitCode {
    let routes = routes(config);
    let names: Vec<&str> = routes.iter().map(|route| &*route.model.id).collect();
    if let Some(name) = only.filter(|name| !names.contains(name)) {
        out.remark(format_args!(
            "{name:?} is not a model of the file: {}",
            suggestion(name, names)
        ));
        return ExitCode::FAILURE;
    }
    let selected = routes.iter().filter(|route| only.is_none_or(|name| *route.model.id == *name));
    let targets: Vec<(&Route, &EndpointUrl)> = selected
        .flat_map(|route| route.model.endpoints.iter().map(move |url| (&**route, url)))
        .collect();
    match probe_all(config, &targets, out) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            out.remark(format_args!("{} failed", plural(failed, "endpoint")));
            ExitCode::FAILURE
        }
        Err(error) => {
            out.remark(error);
            ExitCode::FAILURE
        }
    }
}

/// Returns routes to the models in the order of the file, then to GitLab's cloud if a feature uses
/// it.
fn routes(config: &Config) -> Vec<Arc<Route>> {
    let models =
        config.models.iter().filter_map(|model| config.table.resolve_named(&model.id).ok());
    models.chain(config.table.cloud().cloned()).collect()
}

/// Probes one endpoint after the other, so that one does not slow the next, and prints the table.
/// Returns the number of failures; fails when the system refuses a runtime.
fn probe_all(
    config: &Config,
    targets: &[(&Route, &EndpointUrl)],
    out: &mut Out,
) -> Result<usize, StartError> {
    let metrics = Arc::new(Metrics::new().map_err(|error| StartError::Metrics(error.to_string()))?);
    let registry = Arc::new(Registry::new(metrics));
    let proxies = &config.outward.settings().proxies;
    let has_tunnels = targets.iter().any(|(_, url)| proxies.of(url).is_some());
    let head =
        ["model", "endpoint", "dns", "tcp", "proxy", "tls", "first token", "total", "result"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut failed = 0;
    let credentials = Credentials::default();
    credentials.set(config.table.refreshable_credentials());
    let refresh =
        credentials.refresh_task(Fetcher::new(SharedEgress::new(Arc::clone(&config.outward))));
    runtime()?.block_on(async {
        let relay = Relay::new(Upstreams::new(Arc::clone(&registry)));
        let probing = async {
            for (route, url) in targets {
                out.remark(format_args!("probing {} at {url} …", route.model.id));
                if let Some(renewed) = route.model.access.refreshable() {
                    renewed.wait_for_fetch().await;
                }
                let route = with_endpoint(route, url);
                let endpoints = registry.endpoints(
                    [&route.model].into_iter(),
                    Arc::clone(&config.outward),
                    &config.resilience,
                );
                let probed = probe(&relay, &route, &endpoints).await;
                failed += usize::from(probed.result.is_err());
                rows.push(probed.row(&route, url));
            }
        };
        tokio::select! {
            () = probing => {}
            // never first: it ends with the credentials, which are held above
            () = refresh.run() => {}
        }
    });
    if !has_tunnels {
        rows.iter_mut().for_each(|row| _ = row.remove(PROXY_COLUMN));
    }
    align(&rows).iter().for_each(|row| out.line(row));
    Ok(failed)
}

/// The column that is left out if no endpoint is reached through a proxy.
const PROXY_COLUMN: usize = 4;

/// The result of probing one endpoint.
struct Probed {
    connect: Option<ConnectTimings>,
    first_token: Option<Duration>,
    total: Duration,
    result: Result<String, String>,
}

impl Probed {
    fn row(&self, route: &Route, url: &EndpointUrl) -> Vec<String> {
        let time = |duration: Duration| {
            show_duration(Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(0)))
        };
        let step = |of: fn(&ConnectTimings) -> Duration| {
            self.connect.as_ref().map_or_else(|| "-".to_owned(), |timings| time(of(timings)))
        };
        let result = match &self.result {
            Ok(text) => format!("ok: {text}"),
            Err(text) => format!("FAILED: {text}"),
        };
        vec![
            route.model.id.to_string(),
            url.to_string(),
            step(|s| s.dns),
            step(|s| s.tcp),
            step(|s| s.tunnel),
            step(|s| s.tls),
            self.first_token.map_or_else(|| "-".to_owned(), time),
            time(self.total),
            result,
        ]
    }
}

/// Probes the only endpoint of this route, whose state is in `endpoints`.
async fn probe(relay: &Relay, route: &Route, endpoints: &Endpoints) -> Probed {
    let started = Instant::now();
    let failed = |text: String| Probed {
        connect: None,
        first_token: None,
        total: started.elapsed(),
        result: Err(text),
    };
    let Some([endpoint, ..]) = endpoints.of(&route.model.id) else {
        return failed("no endpoint".to_owned());
    };
    let connecting = timeout(route.timeouts.connect, relay.upstreams().probe(endpoint)).await;
    let timings = match connecting {
        Ok(Ok(timings)) => timings,
        Ok(Err(error)) => return failed(error.to_string()),
        Err(_) => {
            return failed(format!(
                "no connection within {} (timeouts.connect)",
                show_duration(route.timeouts.connect)
            ));
        }
    };
    let notes = Arc::new(LastNote::default());
    let sink: Arc<dyn Sink> = Arc::<LastNote>::clone(&notes);
    let mut record = Record::open(sink, Surface::Unknown, TraceIds::of(&HeaderMap::new()), None);
    let response = request(relay, route, endpoints, &mut record.facts).await;
    let sent = record.facts.started;
    let result = match response {
        Ok(content) => read_to_end(content, record, &notes).await,
        Err(error) => Err(describe(&error)),
    };
    let (first_token, result) = match result {
        Ok((first, text)) => (first.map(|first| first.saturating_duration_since(sent)), Ok(text)),
        Err(text) => (None, Err(text)),
    };
    Probed { connect: Some(timings), first_token, total: started.elapsed(), result }
}

/// Returns a route to the same model with only this endpoint.
fn with_endpoint(route: &Route, url: &EndpointUrl) -> Route {
    let model = Model { endpoints: vec![url.clone()], ..(*route.model).clone() };
    Route {
        feature: None,
        model: Arc::new(model),
        timeouts: route.timeouts,
        rule: Rule::Named,
        fallback: None,
    }
}

/// Sends a short chat request, or an embedding request if the model is of that family; to GitLab's
/// cloud a health check.
async fn request(
    relay: &Relay,
    route: &Route,
    endpoints: &Endpoints,
    facts: &mut RequestInfo,
) -> Result<Content, GatewayError> {
    let call = Call { route, endpoints, shape: Shape::Gitlab };
    if route.model.provider.is_gateway() {
        return Ok(health(relay, call, facts).await?.into_body());
    }
    if &*route.model.family.name == "embedding" {
        let body =
            serde_json::json!({"model": &*route.model.upstream_name, "input": ["ok"]}).to_string();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let outbound = Outbound {
            method: Method::POST,
            path: "/embeddings".into(),
            headers,
            body: Bytes::from(body).into(),
        };
        let passed = PassthroughCall { outbound, stream: false, hide_usage: false };
        return Ok(relay.forward(call, passed, facts).await?.into_body());
    }
    let generation = Generation {
        messages: vec![Message::text(Role::User, "Reply with the single word OK.")],
        sampling: Sampling { max_tokens: Some(8), temperature: Some(0.0), ..Sampling::default() },
        stream: true,
        ..Generation::default()
    };
    Ok(relay
        .stream(call, &generation, &|| Box::new(TextEncoder), "text/plain", facts)
        .await?
        .into_body())
}

/// Requests the health check of GitLab's cloud, which needs no token
/// (contract::ai_gateway_server §1.1). Fails on any status but 2xx.
async fn health(
    relay: &Relay,
    call: Call<'_>,
    facts: &mut RequestInfo,
) -> Result<Response<Content>, GatewayError> {
    let agent = HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));
    let headers = HeaderMap::from_iter([(header::USER_AGENT, agent)]);
    let (path, body) = ("/monitoring/healthz".into(), Bytes::new().into());
    let outbound = Outbound { method: Method::GET, path, headers, body };
    let response = relay
        .forward(call, PassthroughCall { outbound, stream: false, hide_usage: false }, facts)
        .await?;
    match response.status() {
        status if status.is_success() => Ok(response),
        status => Err(GatewayError::new(
            Kind::UpstreamStatus(status.as_u16()),
            format!(
                "GET /monitoring/healthz returned {status}: is gitlab.cloud_url a gateway of \
                 GitLab's?"
            ),
        )),
    }
}

/// Reads the response to its end, and returns the time of its first token and its size. Fails with
/// the reason in the record if it breaks off.
async fn read_to_end(
    content: Content,
    record: Record,
    notes: &LastNote,
) -> Result<(Option<Instant>, String), String> {
    let first = record.facts.first_token;
    let mut body = RelayBody::new(content, record, None);
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
            Err(error) => {
                drop(body);
                let note = notes.note.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Err(
                    note.map_or_else(|| error.to_string(), |note| format!("{error}: {note}"))
                );
            }
        }
    }
    Ok((first, plural(bytes, "byte")))
}

/// Returns the text of an error for the operator.
fn describe(error: &GatewayError) -> String {
    error
        .operator()
        .map_or_else(|| error.public().to_owned(), |more| format!("{}: {more}", error.public()))
}

/// Encodes a response as its plain text.
struct TextEncoder;

impl Encode for TextEncoder {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        if let Delta::Text(text) | Delta::Reasoning(text) = delta {
            out.extend_from_slice(text.as_bytes());
        }
    }

    fn finish(&mut self, _out: &mut BytesMut) {}
}

/// Keeps the note of the last record. A probe is not a request of a client, so it is not counted.
#[derive(Default)]
struct LastNote {
    note: Mutex<Option<String>>,
}

impl Sink for LastNote {
    fn begin(&self, _surface: Surface) {}

    fn finish(&self, facts: &RequestInfo) {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&facts.note);
    }
}
