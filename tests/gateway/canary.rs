//! A canary in every slot that takes a secret, the most talkative log, every endpoint called, every
//! kind of failure provoked: the canaries appear nowhere. And prompts stay out of the log unless
//! file and request both allow them in.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{
    Client, ConnectProxy, Folder, Process, Reply, Upstream, chat_body, eventually,
};

/// Every slot of the file that takes a secret, by its path in the reference, and the variable that
/// holds it here.
const SLOTS: [(&str, &str); 11] = [
    ("auth.static_keys", "CLIENT_KEY"),
    ("auth.user_tokens.signing_key", "SIGNING_KEY"),
    ("auth.user_tokens.validation_key", "PREVIOUS_KEY"),
    ("models.codestral.api_key", "MODEL_KEY"),
    ("models.codestral.access_key_id", "AWS_ID"),
    ("models.codestral.secret_access_key", "AWS_SECRET"),
    ("models.codestral.session_token", "AWS_TOKEN"),
    ("models.codestral.entra.client_secret", "ENTRA_SECRET"),
    ("limits.shared", "REDIS"),
    ("proxy.credentials", "PROXY_USER"),
    // secrets without a key in the file: environment variables only
    ("-", "AWS_BEARER_TOKEN_BEDROCK"),
];

/// Returns the secret in this variable.
fn canary(variable: &str) -> String {
    match variable {
        "SIGNING_KEY" => include_str!("../golden/jwt/first.pem").to_owned(),
        "PREVIOUS_KEY" => include_str!("../golden/jwt/second.pem").to_owned(),
        // each signature contains this one: a name, no secret
        "AWS_ID" => "AKIDOFTHETEST".to_owned(),
        "REDIS" => "redis://:canary-of-redis@127.0.0.1:9/0".to_owned(),
        "PROXY_USER" => "canary-user:canary-password".to_owned(),
        _ => format!("canary-{}", variable.to_ascii_lowercase().replace('_', "-")),
    }
}

/// Returns what no text may contain: the canaries as they are, as Basic, and a line of each PEM.
fn songs() -> Vec<String> {
    let pems = ["SIGNING_KEY", "PREVIOUS_KEY"].map(canary);
    let lines = pems.iter().map(|pem| pem.lines().nth(3).unwrap().to_owned());
    lines.chain(["canary".to_owned(), STANDARD.encode(canary("PROXY_USER"))]).collect()
}

/// Returns the slots of the schema, read from the reference.
fn slots_of_the_schema() -> BTreeSet<String> {
    let reference = weir::config::reference();
    let mut section = String::new();
    let mut slots = BTreeSet::new();
    // whether a key may hold a secret is noted in the line above it
    let mut above = "";
    for line in reference.lines() {
        let stated = std::mem::replace(&mut above, line);
        let line = line.trim_start_matches('#');
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((name, value)) = line.split_once(" = ")
            && [stated, value].iter().any(|text| text.contains("{ env = "))
        {
            slots.insert(format!("{section}.{name}"));
        }
    }
    slots
}

#[test]
fn no_slot_is_forgotten() {
    let known =
        SLOTS.iter().map(|(slot, _)| (*slot).to_owned()).filter(|slot| slot != "-").collect();
    assert_eq!(slots_of_the_schema(), known, "a new slot for a secret gets its canary here");
}

fn file(upstream: &Upstream, proxy: &ConnectProxy) -> String {
    let (url, root) = (upstream.url(), format!("http://{}", upstream.address));
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
workers = 1
[admin]
listen = "127.0.0.1:0"
[telemetry]
level = "trace"
format = "json"
[gitlab]
url = "http://gitlab.test"
[auth]
static_keys = [{{ env = "CLIENT_KEY" }}]
user_tokens = {{ signing_key = {{ env = "SIGNING_KEY" }}, validation_key = {{ env = "PREVIOUS_KEY" }} }}
[proxy]
url = "{}"
credentials = {{ env = "PROXY_USER" }}
[models.up]
endpoint = "{url}"
api_key = {{ env = "MODEL_KEY" }}
[models.down]
endpoint = "http://127.0.0.1:9/v1"
api_key = {{ env = "MODEL_KEY" }}
[models.far]
endpoint = "http://model.test:8000/v1"
api_key = {{ env = "MODEL_KEY" }}
[models.claude]
identifier = "anthropic/claude"
endpoint = "{root}"
api_key = {{ env = "MODEL_KEY" }}
[models.azure]
identifier = "azure/gpt"
endpoint = "{root}"
entra = {{ tenant = "t", client_id = "c", client_secret = {{ env = "ENTRA_SECRET" }}, authority = "{root}" }}
[models.keys]
identifier = "bedrock/anthropic.claude-3-haiku-20240307-v1:0"
region = "eu-central-1"
endpoint = "{root}"
access_key_id = {{ env = "AWS_ID" }}
secret_access_key = {{ env = "AWS_SECRET" }}
session_token = {{ env = "AWS_TOKEN" }}
[models.bearer]
identifier = "bedrock/anthropic.claude-3-haiku-20240307-v1:0"
region = "eu-central-1"
endpoint = "{root}"
[limits]
shared = {{ env = "REDIS" }}
[features]
duo_chat = "down"
code_completions = "up"
default = "up"
request_loopback = true
"#,
        proxy.url()
    )
}

/// Returns every call there is, with bodies that get as far as they can.
fn calls() -> Vec<(&'static str, String, Value)> {
    let named = |identifier: &str| json!({"inputs": {}, "model_metadata": {"name": "gpt", "endpoint": "http://127.0.0.1:9/v1", "api_key": "canary-of-the-request", "identifier": identifier}});
    let chats = ["up", "down", "far", "claude", "azure", "keys", "bearer", "nothing"]
        .iter()
        .flat_map(|model| {
            [true, false]
                .map(|stream| ("POST", "/v1/chat/completions".to_owned(), chat_body(model, stream)))
        });
    let code = json!({"prompt_version": 1, "current_file": {"file_name": "a.py", "content_above_cursor": "x", "content_below_cursor": ""}});
    let chat = json!({"prompt_components": [{"payload": {"content": "Hello"}}]});
    let others = [
        (
            "POST",
            "/v1/messages",
            json!({"model": "claude", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}),
        ),
        ("POST", "/v1/messages/count_tokens", json!({"model": "claude", "messages": []})),
        ("POST", "/v1/completions", json!({"model": "up", "prompt": "x"})),
        ("POST", "/v1/embeddings", json!({"model": "up", "input": "x"})),
        ("GET", "/v1/models", json!(null)),
        ("POST", "/v1/chat/agent", chat.clone()),
        ("POST", "/v1/chat/explain_code", chat),
        (
            "POST",
            "/v2/chat/agent",
            json!({"messages": [{"role": "user", "content": "x"}], "options": {}}),
        ),
        ("POST", "/v1/prompts/model_configuration/check", named("custom_openai/x")),
        ("POST", "/v1/prompts/model_configuration/check", named("nope/x")),
        ("POST", "/v1/prompts/chat/explain_code", json!({"inputs": {}})),
        ("GET", "/v1/models/definitions", json!(null)),
        ("POST", "/v1/embeddings/code_embeddings", json!({"contents": ["x"]})),
        ("POST", "/v1/search/gitlab-docs", json!({"payload": {"query": "x"}})),
        ("POST", "/v1/code/user_access_token", json!({})),
        ("POST", "/v2/code/completions", code.clone()),
        ("POST", "/v2/code/generations", code.clone()),
        ("POST", "/v3/code/completions", code.clone()),
        ("POST", "/v4/code/suggestions", code),
        ("POST", "/v1/proxy/anthropic/v1/messages", json!({"model": "x", "messages": []})),
        ("POST", "/v1/nothing", json!({"api_key": "canary"})),
        ("PUT", "/v1/chat/agent?token=canary", json!({})),
        ("GET", "/monitoring/healthz", json!(null)),
    ];
    chats.chain(others.map(|(method, path, body)| (method, path.to_owned(), body))).collect()
}

// the test blocks on commands while the model server responds to them
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_anywhere_at_the_most_talkative_level() {
    let upstream = Upstream::start(|request| match request.connection % 5 {
        _ if request.path.ends_with("/token") => Reply::json(
            200,
            &json!({"access_token": "canary-of-entra", "token_type": "Bearer", "expires_in": 3600}),
        ),
        0 => Reply::json(401, &json!({"error": {"message": "Unauthorized"}})),
        1 => Reply::json(500, &json!({"error": {"message": "boom"}})),
        2 => Reply::raw("garbage"),
        3 => Reply::sse().text("one").then_close(),
        _ => Reply::sse().text("one").done(true),
    })
    .await;
    let proxy = ConnectProxy::answers("HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").await;
    let folder = Folder::new("slots");
    let path = folder.write("weir.toml", &file(&upstream, &proxy));
    let variables: Vec<(&str, String)> =
        SLOTS.iter().map(|(_, variable)| (*variable, canary(variable))).collect();
    let environment: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut weir = Process::serve_with(&path, &environment).await;
    let mut seen = String::new();
    let key = canary("CLIENT_KEY");
    let (bearer, strange) =
        (format!("Bearer {key}"), format!("Basic {}", STANDARD.encode("x:canary")));
    for auth in [
        ("authorization", &*bearer),
        ("x-api-key", &*key),
        ("authorization", &*strange),
        ("x-api-key", "canary"),
    ] {
        for (method, path, body) in calls() {
            let headers =
                [auth, ("x-request-id", "known"), ("cookie", "canary"), ("x-canary", "canary")];
            let answer = Client::connect(weir.public)
                .await
                .call(method, &path, &headers, body.to_string().as_bytes())
                .await;
            seen.push_str(&answer.everything());
        }
    }
    for path in ["/metrics", "/status", "/live", "/ready", "/nothing?canary"] {
        seen.push_str(&weir.admin(path).await.everything());
        let page = Client::connect(weir.admin)
            .await
            .call("GET", path, &[("accept", "text/html")], b"")
            .await;
        seen.push_str(&page.everything());
    }
    weir.signal("HUP");
    folder.write(
        "weir.toml",
        &file(&upstream, &proxy)
            .replace("[features]", "[featurs]\ndefault = { api_key = \"canary\" }\n[features]"),
    );
    eventually("the failed reload", async || {
        weir.metrics().await.sum("weir_config_reload_ok", &[]) == 0.0
    })
    .await;
    seen.push_str(&weir.admin("/status").await.everything());
    folder.write("weir.toml", &file(&upstream, &proxy));
    weir.signal("TERM");
    assert!(weir.ended().await.success());
    for command in
        [&["check"][..], &["explain", "duo_chat"], &["explain", "code_completions"], &["probe"]]
    {
        seen.push_str(&reported(command, &path, &environment));
    }
    seen.push_str(&debugged(&path, &environment));

    check_canaries_were_used(&upstream, &proxy);
    let reported = weir.output();
    assert!(
        reported.matches("\"kind\":\"request\"").count() >= 4 * calls().len(),
        "all was looked at"
    );
    check_no_canary(&seen, &reported);
}

/// Fails unless the model server and the proxy received the canaries.
fn check_canaries_were_used(upstream: &Upstream, proxy: &ConnectProxy) {
    let sent: String =
        upstream.requests().iter().map(|request| request.head_text() + request.text()).collect();
    for variable in
        ["MODEL_KEY", "AWS_ID", "AWS_TOKEN", "ENTRA_SECRET", "AWS_BEARER_TOKEN_BEDROCK", "OF_ENTRA"]
    {
        assert!(sent.contains(&canary(variable)), "{variable}");
    }
    assert!(proxy.heads().concat().contains(&STANDARD.encode(canary("PROXY_USER"))));
}

/// Fails if a canary is in what clients saw, or in the log.
fn check_no_canary(seen: &str, reported: &str) {
    for (source, text) in [("an answer, a page or a command", seen), ("a log", reported)] {
        for song in songs() {
            if let Some(at) = text.to_ascii_lowercase().find(&song.to_ascii_lowercase()) {
                panic!(
                    "{song} in {source}: …{}…",
                    String::from_utf8_lossy(
                        &text.as_bytes()[at.saturating_sub(300)..(at + 100).min(text.len())]
                    )
                );
            }
        }
    }
}

/// Runs a command; returns both outputs.
fn reported(command: &[&str], file: &Path, environment: &[(&str, &str)]) -> String {
    let mut run = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = run
        .args(command)
        .arg("--config")
        .arg(file)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// Returns the most that a panic's message could contain.
fn debugged(file: &Path, environment: &[(&str, &str)]) -> String {
    let env = weir::config::Environment::from_iter(environment.iter().copied());
    format!("{:?}{env:?}", weir::config::load(file, &env).unwrap())
}

const ALLOWED: (&str, &str) = ("x-gitlab-enabled-instance-verbose-ai-logs", "true");

#[tokio::test]
async fn prompts_are_logged_only_where_file_and_request_allow_it_and_without_keys() {
    let upstream = Upstream::start(|request| {
        if request.json()["stream"] == true {
            Reply::sse().text("wordy ").text("answer glpat-").text("0123456789abcdef").done(true)
        } else {
            Reply::json(200, &json!({"choices": [{"message": {"content": "wordy answer glpat-0123456789abcdef"}}]}))
        }
    })
    .await;
    let question = |stream| {
        let content = "wordy question with sk-0123456789abcdef in it";
        json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": content}]})
            .to_string()
    };
    for (switch, header, is_reported) in [
        ("", Some(ALLOWED), false),
        ("log_prompts = false", Some(ALLOWED), false),
        ("log_prompts = true", None, false),
        ("log_prompts = true", Some((ALLOWED.0, "false")), false),
        ("log_prompts = true", Some(ALLOWED), true),
    ] {
        let folder = Folder::new("log-prompts");
        let file = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"off\"\n\
             [telemetry]\nformat = \"json\"\nlevel = \"trace\"\n{switch}\n[models.m]\nendpoint = {:?}\n",
            upstream.url()
        );
        let mut weir = Process::serve(&folder.write("weir.toml", &file)).await;
        for stream in [true, false] {
            let headers: Vec<_> = header.into_iter().collect();
            let mut client = Client::connect(weir.public).await;
            let answer = client
                .call("POST", "/v1/chat/completions", &headers, question(stream).as_bytes())
                .await;
            assert_eq!(answer.status(), 200);
        }
        weir.signal("TERM");
        assert!(weir.ended().await.success());
        let output = weir.output();
        assert_eq!(output.matches("\"kind\":\"request\"").count(), 2);
        let lines: Vec<Value> = output
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| line["message"] == "prompt")
            .collect();
        if !is_reported {
            assert!(lines.is_empty() && !output.contains("wordy"), "{switch} {header:?}: {output}");
            continue;
        }
        assert_eq!(lines.len(), 2, "{output}");
        for line in lines {
            assert!(
                line["request"].as_str().unwrap().contains("wordy question with ••• in it"),
                "{line}"
            );
            assert_eq!(line["response"], "wordy answer •••", "{line}");
            assert_eq!(line["model"], "m");
        }
        assert!(!output.contains("0123456789abcdef"), "{output}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_crash_leaves_no_core_dump() {
    use std::os::unix::fs::MetadataExt as _;
    let upstream = Upstream::says("Hi").await;
    let folder = Folder::new("core-dumps");
    let file = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[telemetry]\nformat = \"json\"\n\
         [models.m]\nendpoint = {:?}\n",
        upstream.url()
    );
    let weir = Process::serve_apart(&folder.write("weir.toml", &file)).await;
    let memory = std::fs::metadata(format!("/proc/{}/mem", weir.id())).unwrap();
    assert_eq!((memory.uid(), memory.gid()), (0, 0), "what nobody may look into is root's");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", weir.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
}
