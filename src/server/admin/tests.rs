//! The admin listener over a real socket, with a made-up configuration and made-up counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Admin, base64, script};
use crate::auth::{GitlabSettings, IssuerRegistry, Policy, RateLimiter, Settings, StaticKey};
use crate::error::{Kind, Phase};
use crate::generation::Usage;
use crate::model::{EndpointUrl, Model, ProviderKind, Timeouts, TimeoutsPatch};
use crate::route::{Choice, Feature, RequestModels, Route, Rule, Table};
use crate::secret::Secret;
use crate::snapshot::{Chat, LastReload, Limits, Reloads, Shared, Snapshot};
use crate::telemetry::labels::Surface;
use crate::telemetry::{LogWriter, Metrics, Record, Sink, TraceIds, WorkerTelemetry};
use crate::upstream::{Observation, Registry, Resilience};

struct Rig {
    metrics: Arc<Metrics>,
    shared: Shared,
    reloads: Reloads,
    draining: Arc<AtomicBool>,
    registry: Registry,
    sink: Arc<dyn Sink>,
}

impl Rig {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let registry = Registry::new(Arc::clone(&metrics));
        let shared = Shared::new(snapshot(
            Table::new(Vec::new(), RequestModels::default(), Timeouts::DEFAULT),
            &registry,
            1,
        ));
        let (log, _) =
            LogWriter::start(Box::new(std::io::sink()), metrics.log_lines_dropped.clone()).unwrap();
        let sink = Arc::new(WorkerTelemetry::new(Arc::clone(&metrics), log));
        Self {
            metrics,
            shared,
            reloads: Reloads::default(),
            draining: Arc::default(),
            registry,
            sink,
        }
    }

    fn routed() -> Self {
        let rig = Self::new();
        rig.shared.swap(snapshot(table(), &rig.registry, 4));
        rig
    }

    /// Starts the listener; the sender stops it.
    async fn serve(
        &self,
        address: &str,
    ) -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let admin = Admin::new(
            Arc::clone(&self.metrics),
            self.shared.clone(),
            self.reloads.clone(),
            Arc::clone(&self.draining),
        );
        (address, stop, tokio::spawn(admin.serve(listener, stopped)))
    }

    /// Counts one request as the data path does.
    fn request(&self, model: &str, millis: u64, failure: Option<Kind>) {
        let ids = TraceIds::of(&http::HeaderMap::new());
        let mut record = Record::open(Arc::clone(&self.sink), Surface::OpenAiChat, ids, None);
        let facts = &mut record.facts;
        facts.started =
            tokio::time::Instant::now().checked_sub(Duration::from_millis(millis)).unwrap();
        facts.first_token = facts.started.checked_add(Duration::from_millis(millis / 4));
        (facts.feature, facts.model, facts.provider) = ("duo_chat", model.into(), "openai");
        (facts.failure, facts.complete) = (failure, failure.is_none());
        facts.usage = Usage { input: 40, output: 10, ..Usage::default() };
    }
}

fn model(id: &str, endpoints: &[&str]) -> Arc<Model> {
    Arc::new(Model {
        id: id.into(),
        provider: ProviderKind::OpenAi,
        upstream_name: format!("vendor/{id}").into(),
        family: std::sync::Arc::default(),
        endpoints: endpoints.iter().map(|url| EndpointUrl::parse(url).unwrap()).collect(),
        api_key: Some(Secret::new("sk-canary".to_owned())),
        access: crate::model::Access::default(),
        timeouts: TimeoutsPatch::default(),
        replicas: crate::model::ReplicaSettings::default(),
        concurrency: None,
        priority: false,
        from_request: false,
    })
}

fn table() -> Table {
    let chat = model("mistral-large", &["http://gpu-1:8000/v1", "http://gpu-2:8000/v1"]);
    let code = model("codestral", &["http://gpu-3:8000/v1"]);
    let mut table = Table::new(
        vec![Arc::clone(&chat), Arc::clone(&code)],
        RequestModels::default(),
        Timeouts::DEFAULT,
    );
    let route = |model: &Arc<Model>, feature, rule| {
        let (model, budget) = (Arc::clone(model), Timeouts::DEFAULT);
        Choice::Model(Arc::new(Route { feature, model, timeouts: budget, rule, fallback: None }))
    };
    table.set(Feature::DUO_CHAT, route(&chat, Some(Feature::DUO_CHAT), Rule::Feature));
    table.set(Feature::parse("duo_chat_fix_code").unwrap(), Choice::Disabled);
    table.set_default(route(&code, None, Rule::Default));
    table
}

fn snapshot(table: Table, registry: &Registry, generation: u64) -> Snapshot {
    let endpoints = registry.endpoints(
        table.models().map(|route| &route.model),
        Arc::default(),
        &Resilience::default(),
    );
    Snapshot {
        table,
        auth: Policy::Off,
        user_tokens: Arc::default(),
        meters: Arc::new(RateLimiter::new(Arc::new(Metrics::new().unwrap()))),
        docs: crate::docs::Settings::default(),
        prompts: Arc::default(),
        limits: Limits::default(),
        chat: Chat::default(),
        endpoints,
        log_prompts: false,
        generation,
    }
}

/// Sends a request and reads until the connection closes.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

async fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    raw(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n"))
        .await
}

async fn json(address: SocketAddr) -> Value {
    let response = get(address, "/status", "").await;
    serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn answers_probes_and_scrapes() {
    let rig = Rig::new();
    let (address, _stop, _) = rig.serve("127.0.0.1:0").await;
    let live = get(address, "/live", "").await;
    assert!(live.starts_with("HTTP/1.1 200 OK\r\n") && live.ends_with("\r\n\r\nok\n"), "{live}");
    assert!(get(address, "/ready", "").await.ends_with("\r\n\r\nready\n"));
    rig.draining.store(true, Ordering::Relaxed);
    let ready = get(address, "/ready", "").await;
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("\r\n\r\ndraining\n"), "{ready}");
    let metrics = get(address, "/metrics", "").await;
    assert!(
        metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{metrics}"
    );
    assert!(metrics.contains("\nweir_build_info{"), "{metrics}");
    let lost = get(address, "/nope", "").await;
    assert!(
        lost.starts_with("HTTP/1.1 404 ") && lost.contains("/metrics /live /ready /status"),
        "{lost}"
    );
}

#[tokio::test]
async fn only_reads() {
    let (address, _stop, _) = Rig::new().serve("127.0.0.1:0").await;
    let head = raw(address, "HEAD /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-length: 3\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    let post = raw(
        address,
        "POST /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD\r\n"), "{post}");
}

#[tokio::test]
async fn browsers_get_the_page_and_scripts_the_data() {
    let (address, _stop, _) = Rig::new().serve("127.0.0.1:0").await;
    let browser = "accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";
    let page = get(address, "/status", browser).await;
    assert!(page.contains("content-type: text/html; charset=utf-8\r\n"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'; "), "{page}");
    for scripts in
        ["", "accept: */*\r\n", "accept: application/json\r\n", "accept: text/html;q=0.5, */*\r\n"]
    {
        let data = get(address, "/status", scripts).await;
        assert!(data.contains("content-type: application/json\r\n"), "{scripts}: {data}");
    }
}

#[test]
fn the_policy_names_the_script() {
    assert!(script().contains("fetch("), "the page's script was not found");
    assert_eq!(base64(b"light w"), "bGlnaHQgdw==");
    assert_eq!(base64(b"light wo"), "bGlnaHQgd28=");
    assert_eq!(base64(b"light wor\xff"), "bGlnaHQgd29y/w==");
}

#[tokio::test]
async fn status_shows_the_route_of_each_feature_and_its_reason() {
    let (address, _stop, _) = Rig::routed().serve("127.0.0.1:0").await;
    let status = json(address).await;
    let features = status["features"].as_array().unwrap();
    assert_eq!(features.len(), Feature::COUNT + 1);
    let row = |name: &str| features.iter().find(|row| row["feature"] == name).unwrap();
    let decision = |name| {
        ["model", "rule", "key"].map(|field| row(name)[field].as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(decision("duo_chat"), ["mistral-large", "feature", "duo_chat"]);
    assert_eq!(decision("duo_chat_explain_code"), ["mistral-large", "parent", "duo_chat"]);
    assert_eq!(decision("duo_chat_fix_code"), ["disabled", "feature", "duo_chat_fix_code"]);
    assert_eq!(decision("code_completions"), ["codestral", "default", "default"]);
    assert_eq!(decision("default"), ["codestral", "default", "default"]);
    assert_eq!(
        row("code_completions")["timeouts_ms"]["total"],
        50_000,
        "GitLab's own limit caps it"
    );
    assert!(row("duo_chat_fix_code")["timeouts_ms"].is_null());
    assert_eq!(status["generation"], 4);
}

#[tokio::test]
async fn an_empty_file_has_no_model_for_anything() {
    let (address, _stop, _) = Rig::new().serve("127.0.0.1:0").await;
    let status = json(address).await;
    assert!(
        status["features"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["model"].is_null() && row["rule"].is_null())
    );
    assert_eq!(status["models"], serde_json::json!([]));
    assert_eq!(status["requests_total"], 0);
}

#[tokio::test]
async fn status_counts_by_model() {
    let rig = Rig::routed();
    (0..10).for_each(|_| rig.request("codestral", 75, None));
    rig.request("codestral", 60_000, Some(Kind::Expired(Phase::FirstByte)));
    rig.request("request", 75, Some(Kind::UpstreamStatus(500)));
    let snapshot = rig.shared.load();
    let endpoint = &snapshot.endpoints.of(&"mistral-large".into()).unwrap()[1];
    endpoint.record(Observation::Unreachable);
    let _in_flight = endpoint.enter();

    let (address, _stop, _) = rig.serve("127.0.0.1:0").await;
    let status = json(address).await;
    let [code, chat, request] = [0, 1, 2].map(|i| &status["models"][i]);
    assert_eq!(
        (&code["name"], &chat["name"], &request["name"]),
        (&"codestral".into(), &"mistral-large".into(), &"request".into())
    );
    assert_eq!((&code["requests"]["ok"], &code["requests"]["timeout"]), (&10.into(), &1.into()));
    assert_eq!(
        code["errors"][0],
        serde_json::json!({ "code": "A1000", "phase": "first_byte", "count": 1 })
    );
    assert_eq!((&code["tokens_in"], &code["tokens_out"]), (&440.into(), &110.into()));
    let p50 = code["p50_ms"].as_f64().unwrap();
    assert!((50.0..100.0).contains(&p50), "{p50}");
    assert!(code["p99_ms"].as_f64().unwrap() > 30_000.0);
    assert!(chat["p50_ms"].is_null());
    let expected = serde_json::json!({
        "url": "http://gpu-2:8000/v1", "healthy": false, "breaker": "open",
        "failure": "cannot be reached", "failure_s": 0,
        "busy_s": null, "wait_ms": null, "inflight": 1,
    });
    assert_eq!(chat["endpoints"][1], expected);
    assert_eq!(
        (&chat["inflight"], &chat["upstream_name"]),
        (&1.into(), &"vendor/mistral-large".into())
    );
    assert_eq!(
        (&request["requests"]["upstream_error"], &request["provider"]),
        (&1.into(), &Value::Null)
    );
    assert_eq!((&status["requests_total"], &status["errors"]["A1000"]), (&12.into(), &1.into()));
    let bounds = status["bucket_bounds_s"].as_array().unwrap().len();
    assert_eq!(code["duration_buckets"].as_array().unwrap().len(), bounds + 1);
    assert!(!status.to_string().contains("sk-canary"));
}

#[tokio::test]
async fn status_shows_the_faults_of_the_last_reload() {
    let rig = Rig::routed();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(951_782_400);
    rig.reloads.record(LastReload { at, ok: false, faults: vec!["weir.toml:3:1: <b>".into()] });
    let (address, _stop, _) = rig.serve("127.0.0.1:0").await;
    let reload = serde_json::json!({
        "at": "2000-02-29T00:00:00Z", "ok": false, "faults": ["weir.toml:3:1: <b>"]
    });
    assert_eq!(json(address).await["last_reload"], reload);
}

#[tokio::test]
async fn status_shows_how_callers_are_authenticated() {
    let rig = Rig::routed();
    let (address, _stop, _) = rig.serve("127.0.0.1:0").await;
    assert_eq!(
        json(address).await["auth"],
        serde_json::json!({ "mode": "off", "static_keys": 0, "issuers": [] })
    );
    let gitlab = GitlabSettings {
        url: EndpointUrl::parse("https://gitlab.example.com").unwrap(),
        cloud_issuer: None,
        audience: "gitlab-ai-gateway".into(),
    };
    let mut next = snapshot(table(), &rig.registry, 5);
    next.auth = IssuerRegistry::default().policy(
        Settings::Gitlab { keys: vec![Arc::new(StaticKey::new(b"sk-canary", "ci"))], gitlab },
        Arc::default(),
    );
    rig.shared.swap(next);
    let issuer = serde_json::json!({
        "url": "https://gitlab.example.com", "issuer": null, "keys": 0, "age_s": null, "error": null
    });
    let expected = serde_json::json!({ "mode": "gitlab", "static_keys": 1, "issuers": [issuer] });
    assert_eq!(json(address).await["auth"], expected);
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_returns() {
    let (address, stop, served) = Rig::new().serve("127.0.0.1:0").await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
    stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(2), served).await.expect("serve returns").unwrap();
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap(), 0, "the idle connection was closed");
    assert!(TcpStream::connect(address).await.is_err());
}

/// Serves the page with made-up traffic for inspection:
/// `cargo test --lib look_at_the_page -- --ignored`, then open http://127.0.0.1:8083/status
/// (traffic and faults), 8084 (draining) or 8085 (an empty file) within ten minutes.
#[tokio::test]
#[ignore = "serves until killed, for a person's eyes"]
async fn look_at_the_page() {
    let (busy, calm, empty) = (Rig::routed(), Rig::routed(), Rig::new());
    let faults = vec![
        "weir.toml:14:12: models.codestral.endpoints: expected http:// or https://, found \"gpu-3:8000\"\n  14 | endpoints  = [\"gpu-3:8000\"]\n     |               ^^^^^^^^^^^^".into(),
        "weir.toml:22:1: features.duo_chta: unknown feature; did you mean `duo_chat`?".into(),
    ];
    busy.reloads.record(LastReload { at: SystemTime::now(), ok: false, faults });
    let restart = vec!["server.listen changed: needs a restart".into()];
    calm.reloads.record(LastReload { at: SystemTime::now(), ok: true, faults: restart });
    calm.draining.store(true, Ordering::Relaxed);
    let snapshot = busy.shared.load();
    snapshot.endpoints.of(&"mistral-large".into()).unwrap()[1].record(Observation::Unreachable);
    let _in_flight =
        [(); 7].map(|()| snapshot.endpoints.of(&"mistral-large".into()).unwrap()[0].enter());
    let _served = [
        busy.serve("127.0.0.1:8083").await,
        calm.serve("127.0.0.1:8084").await,
        empty.serve("127.0.0.1:8085").await,
    ];
    for i in 0..6000_u64 {
        busy.request("codestral", 80 + i * 37 % 400, None);
        if i % 3 == 0 {
            busy.request("mistral-large", 900 + i * 131 % 4000, None);
        }
        if i % 40 == 0 {
            busy.request("mistral-large", 60_000, Some(Kind::Expired(Phase::FirstByte)));
            busy.request("request", 20, Some(Kind::UpstreamStatus(500)));
            busy.request("-", 1, Some(Kind::Unauthorized));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
