//! GitLab's tokens through the whole gateway: the process as it runs, a GitLab that publishes keys,
//! a model server that counts. What is refused is refused in GitLab's words, and nothing of it goes
//! further.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's own functions fail the test they are called from"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use weir::app::{App, Reloader};
use weir::config::{self, Environment};

use signing::{FIRST, JWKS, OTHER, sign, sign_as};

mod signing; // tokens as GitLab signs them
mod user_tokens; // what a user's own token opens, and what it does not

const INSTANCE: &str = "11111111-2222-4333-8444-555555555555";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Answers every connection with what `answer` makes of the request, and closes it.
fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let received = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            counted.fetch_add(1, Ordering::SeqCst);
            let mut request = vec![0; 64 << 10];
            let length = stream.read(&mut request).unwrap_or_default();
            let body = answer(&String::from_utf8_lossy(&request[..length]));
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
            let _ = stream.write_all(
                format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes(),
            );
        }
    });
    (address, received)
}

/// A GitLab of which only the public documents are there; it signs as the address it is reached by.
fn gitlab() -> SocketAddr {
    serve(|request| {
        let host = request.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        let document = json!({ "issuer": format!("http://{host}"), "jwks_uri": format!("http://{host}/keys") });
        if request.starts_with("GET /.well-known/") { document.to_string() } else { JWKS.to_owned() }
    })
    .0
}

struct Gateway {
    public: SocketAddr,
    admin: SocketAddr,
    gitlab: SocketAddr,
    model: SocketAddr,
    /// Requests that the model server was sent.
    sent: Arc<AtomicUsize>,
    reloader: Reloader,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.running.take().map(JoinHandle::join);
    }
}

impl Gateway {
    fn start() -> Self {
        let gitlab = gitlab();
        let (model, sent) = serve(|_| {
            let message = json!({ "role": "assistant", "content": "hello" });
            json!({ "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] })
                .to_string()
        });
        let text = file(gitlab, model);
        let (built, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let config = checked(&text);
                let app = App::build(config, Box::new(std::io::sink())).unwrap();
                built.send((app.public_addr(), app.admin_addr().unwrap(), app.reloader())).unwrap();
                app.run(async { _ = stopped.await }).await.unwrap();
            });
        });
        let (public, admin, reloader) = started.recv_timeout(TIMEOUT).unwrap();
        Self {
            public,
            admin,
            gitlab,
            model,
            sent,
            reloader,
            stop: Some(stop),
            running: Some(running),
        }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    fn claims(&self, scopes: &[&str]) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        json!({
            "iss": format!("http://{}", self.gitlab), "sub": INSTANCE, "aud": ["gitlab-ai-gateway"], "nbf": now - 5,
            "exp": now + 3600, "gitlab_realm": "self-managed", "scopes": scopes,
        })
    }

    fn token(&self, scopes: &[&str]) -> String {
        sign(FIRST, &self.claims(scopes))
    }

    /// A request as GitLab makes it: status and body.
    fn post(&self, path: &str, token: &str, body: &Value) -> (u16, String) {
        self.post_with(path, &oidc(token), body)
    }

    fn post_with(&self, path: &str, headers: &str, body: &Value) -> (u16, String) {
        let body = body.to_string();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}");
        exchange(self.public, &format!("{head}content-length: {}\r\n\r\n{body}", body.len()))
    }

    fn status(&self) -> Value {
        let (_, body) =
            exchange(self.admin, "GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        serde_json::from_str::<Value>(&body).unwrap()["auth"].take()
    }
}

/// Weir's own words to a configuration that does not check fail the test.
fn checked(text: &str) -> config::Config {
    config::from_str(
        text,
        "weir.toml",
        &Environment::from_iter([("KEY", "static-key"), ("SIGNING", OTHER)]),
    )
    .unwrap_or_else(|f| panic!("{f}"))
}

fn file(gitlab: SocketAddr, model: SocketAddr) -> String {
    format!(
        "server = {{ listen = \"127.0.0.1:0\", workers = 1 }}\nadmin.listen = \"127.0.0.1:0\"\n\
         gitlab.url = \"http://{gitlab}\"\nauth.static_keys = [{{ env = \"KEY\" }}]\n\
         models.m.endpoint = \"http://{model}/v1\"\nfeatures.default = \"m\"\n"
    )
}

/// The headers of GitLab's and of an IDE's requests with this token.
fn oidc(token: &str) -> String {
    format!(
        "authorization: Bearer {token}\r\nx-gitlab-authentication-type: oidc\r\n\
         x-gitlab-instance-id: {INSTANCE}\r\nx-gitlab-realm: self-managed\r\n"
    )
}

fn exchange(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

const CHECK: &str = "/v1/prompts/model_configuration%2Fcheck";
const AGENT: &str = "/v1/chat/agent";
const OPENAI: &str = "/v1/chat/completions";

fn chat() -> Value {
    json!({ "prompt_components": [{ "payload": { "content": "Hi" } }] })
}

fn openai() -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] })
}

#[test]
fn gitlab_is_answered_by_its_token_and_what_its_scopes_allow() {
    let weir = Gateway::start();
    let code = weir.token(&["complete_code", "generate_code"]);
    assert_eq!(weir.post(CHECK, &code, &json!({})), (200, "\"hello\"".to_owned()));
    let answer = weir.post(AGENT, &weir.token(&["duo_classic_chat"]), &chat());
    assert!(answer.0 == 200 && answer.1.contains("\"response\":\"hello\""), "{answer:?}");
    assert_eq!(weir.post(OPENAI, &code, &openai()).0, 200);
    assert_eq!(weir.sent(), 3);
    let refused = (403, "{\"detail\":\"Unauthorized to access duo chat\"}".to_owned());
    assert_eq!(weir.post(AGENT, &code, &chat()), refused);
    let explain = (403, "{\"detail\":\"Unauthorized to access duo_chat_explain_code\"}".to_owned());
    assert_eq!(weir.post("/v1/chat/explain_code", &weir.token(&["duo_chat"]), &chat()), explain);
    let check =
        (403, "{\"detail\":\"Unauthorized to access 'model_configuration/check'\"}".to_owned());
    assert_eq!(weir.post(CHECK, &weir.token(&["duo_chat"]), &json!({})), check);
    let (status, body) = weir.post(OPENAI, &weir.token(&[]), &openai());
    assert!(status == 403 && body.contains("\"type\":\"permission_error\""), "{body}");
    assert_eq!(weir.sent(), 3, "nothing was sent on for a caller without the scope");
    let status = weir.status();
    let issuer = &status["issuers"][0];
    assert_eq!(
        (&status["mode"], &status["static_keys"], &issuer["keys"]),
        (&json!("gitlab"), &json!(1), &json!(2))
    );
    assert_eq!(
        (&issuer["issuer"], &issuer["error"]),
        (&json!(format!("http://{}", weir.gitlab)), &Value::Null)
    );
    assert!(issuer["age_s"].as_u64().unwrap() < 60);
}

#[test]
fn a_prompt_is_opened_by_its_own_primitive() {
    let weir = Gateway::start();
    let ask = |id: &str, scopes: &[&str], inputs: Value| {
        weir.post(&format!("/v1/prompts/{id}"), &weir.token(scopes), &json!({ "inputs": inputs }))
    };
    let commit = json!({ "diff": "d" });
    assert_eq!(ask("generate_commit_message", &["generate_commit_message"], commit.clone()).0, 200);
    let refused =
        (403, "{\"detail\":\"Unauthorized to access 'generate_commit_message'\"}".to_owned());
    assert_eq!(
        ask("generate_commit_message", &["duo_chat", "explain_code"], commit.clone()),
        refused
    );
    assert_eq!(ask("generate_commit_message", &[], commit).0, 403);
    let input = json!({ "input": "q" });
    assert_eq!(ask("chat%2Fissue_reader", &["duo_chat"], input.clone()).0, 403);
    assert_eq!(ask("chat%2Fissue_reader", &["ask_issue"], input.clone()).0, 200);
    // older versions of this one are opened by the chat's own primitive
    assert_eq!(ask("chat/commit_reader", &["duo_chat"], input.clone()).0, 200);
    assert_eq!(ask("chat/commit_reader", &["ask_commit"], input).0, 200);
    assert_eq!(
        ask("nothing", &["duo_chat"], json!({})),
        (404, "{\"detail\":\"Prompt 'nothing' not found\"}".to_owned())
    );
    assert_eq!(weir.sent(), 4, "nothing was sent on for a caller without the scope");
}

#[test]
fn what_is_refused_goes_no_further() {
    let weir = Gateway::start();
    let scopes = ["complete_code", "duo_chat"];
    let changed = |name: &str, value: Value| {
        let mut claims = weir.claims(&scopes);
        claims[name] = value;
        sign(FIRST, &claims)
    };
    let good = weir.token(&scopes);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let claims = message.split_once('.').unwrap().1;
    let none = URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}");
    let forbidden = [
        sign(OTHER, &weir.claims(&scopes)),
        changed("iss", json!("https://evil.example.com")),
        changed("aud", json!(["gitlab-duo-workflow-service"])),
        changed("exp", json!(1)),
        changed("exp", json!("never")),
        changed("nbf", json!(4_000_000_000_u64)),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{message}."),
        good[..good.len() - 1].to_owned(),
        "x".repeat(20_000),
        "a.b.c".to_owned(),
    ];
    for token in &forbidden {
        let forbidden = (401, "{\"error\":\"Forbidden by auth provider\"}".to_owned());
        assert_eq!(weir.post(AGENT, token, &chat()), forbidden, "{token}");
        assert_eq!(weir.post(OPENAI, token, &openai()).0, 401, "{token}");
    }
    let invalid = (401, "{\"error\":\"Invalid authorization header\"}".to_owned());
    assert_eq!(weir.post(AGENT, "", &chat()), invalid);
    assert_eq!(weir.post_with(AGENT, "", &chat()).0, 401);
    let bare = format!("authorization: Bearer {good}\r\n");
    let (status, body) = weir.post_with(AGENT, &bare, &chat());
    assert_eq!(
        (status, body.as_str()),
        (401, "{\"error\":\"Invalid authentication token type - only OIDC is supported\"}")
    );
    let stolen =
        format!("{bare}x-gitlab-authentication-type: oidc\r\nx-gitlab-realm: self-managed\r\n");
    let (status, body) = weir.post_with(AGENT, &stolen, &chat());
    assert_eq!(
        (status, body.as_str()),
        (401, "{\"error\":\"Header mismatch 'X-Gitlab-Instance-Id'\"}")
    );
    assert_eq!(weir.sent(), 0, "the model server heard of none of them");
    assert_eq!(weir.post(AGENT, &good, &chat()).0, 200);
}

#[test]
fn a_reload_changes_whose_tokens_are_good() {
    let weir = Gateway::start();
    let token = weir.token(&["duo_chat"]);
    assert_eq!(weir.post(AGENT, &token, &chat()).0, 200);
    // the same GitLab: nothing is lost, not even for a moment
    weir.reloader.apply(checked(&file(weir.gitlab, weir.model)));
    assert_eq!(weir.status()["issuers"][0]["keys"], 2);
    assert_eq!(weir.post(AGENT, &token, &chat()).0, 200);
    // another one: the first request waits for its keys, the old tokens are refused
    let other = gitlab();
    weir.reloader.apply(checked(&file(other, weir.model)));
    let mut claims = weir.claims(&["duo_chat"]);
    claims["iss"] = json!(format!("http://{other}"));
    assert_eq!(weir.post(AGENT, &sign(FIRST, &claims), &chat()).0, 200);
    assert_eq!(weir.post(AGENT, &token, &chat()).0, 401);
    assert_eq!(weir.post_with(AGENT, "authorization: Bearer static-key\r\n", &chat()).0, 200);
}

#[test]
fn gitlabs_cloud_is_called_with_gitlabs_token_only() {
    let weir = Gateway::start();
    let (cloud, heard) = serve(|request| {
        let token = request
            .lines()
            .find_map(|line| line.strip_prefix("authorization: Bearer "))
            .unwrap_or_default();
        json!({ "heard": token }).to_string()
    });
    let to_cloud =
        format!("gitlab.cloud_url = \"http://{cloud}/ai\"\nfeatures.duo_chat = \"gitlab\"\n");
    weir.reloader.apply(checked(&format!("{}{to_cloud}", file(weir.gitlab, weir.model))));
    let token = weir.token(&["duo_chat"]);
    assert_eq!(weir.post(AGENT, &token, &chat()), (200, json!({ "heard": token }).to_string()));
    let (status, body) = weir.post_with(AGENT, "authorization: Bearer static-key\r\n", &chat());
    assert!(status == 403 && body.contains("not a static key of this gateway"), "{body}");
    assert_eq!(
        weir.post(AGENT, &weir.token(&["complete_code"]), &chat()).0,
        403,
        "our own rules come first"
    );
    assert_eq!((heard.load(Ordering::SeqCst), weir.sent()), (1, 0));
}

#[test]
fn a_gitlab_that_cannot_be_reached_is_503_and_soon() {
    let weir = Gateway::start();
    let token = weir.token(&["duo_chat"]);
    // nobody listens on port 1
    let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    weir.reloader.apply(checked(&file(nowhere, weir.model)));
    let received = Instant::now();
    let (status, body) = weir.post(AGENT, &token, &chat());
    assert!(status == 503 && body.contains("\"type\":\"no_signing_keys\""), "{body}");
    assert!(received.elapsed() < Duration::from_secs(4), "{:?}", received.elapsed());
    let error = weir.status()["issuers"][0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains(&nowhere.to_string()) && error.contains("refused"), "{error}");
    assert_eq!(weir.sent(), 0);
}
