//! Hand-made tokens, and a GitLab that publishes keys, rotates them and becomes unreachable.

mod issue;
mod policy;
mod tokens;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(super) const FIRST: &str = include_str!("../../../tests/golden/jwt/first.pem");
pub(super) const SECOND: &str = include_str!("../../../tests/golden/jwt/second.pem");
pub(super) const OTHER: &str = include_str!("../../../tests/golden/jwt/other.pem");
/// Both published keys, and some that are of no use.
pub(super) const JWKS: &str = include_str!("../../../tests/golden/jwt/jwks.json");
/// A token that openssl signed with the first key.
pub(super) const GOLDEN: &str = include_str!("../../../tests/golden/jwt/token.txt");
/// The time of issue of that token.
pub(super) const GOLDEN_TIME: u64 = 1_762_430_400;
pub(super) const ISSUER: &str = "https://gitlab.example.com";
pub(super) const INSTANCE: &str = "11111111-2222-4333-8444-555555555555";

pub(super) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Returns the published key of this index, as JSON.
pub(super) fn jwk(index: usize) -> Value {
    let keys: Value = serde_json::from_str(JWKS).unwrap();
    let mut strong = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|key| key["kid"].as_str().unwrap().len() == 43);
    strong.nth(index).cloned().unwrap()
}

pub(super) fn kid(index: usize) -> String {
    jwk(index)["kid"].as_str().unwrap().to_owned()
}

pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns the claims of a token that GitLab issued at that time.
pub(super) fn claims(issued: u64) -> Value {
    json!({
        "jti": "x", "iss": ISSUER, "sub": INSTANCE, "aud": ["gitlab-ai-gateway", "gitlab-duo-workflow-service"],
        "iat": issued, "nbf": issued - 5, "exp": issued + 3600, "gitlab_realm": "self-managed",
        "scopes": ["complete_code", "duo_chat"], "skip_usage_cutoff": false,
    })
}

pub(super) fn header(kid: &str) -> Value {
    json!({ "typ": "JWT", "alg": "RS256", "kid": kid })
}

/// Signs with RS256, whatever the header contains.
pub(super) fn sign(pem: &str, header: &Value, claims: &Value) -> String {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    format!("{message}.{}", base64(signature))
}

/// Returns a token issued now and signed with the n-th published key.
pub(super) fn token_of(index: usize) -> String {
    let pem = [FIRST, SECOND][index];
    sign(pem, &header(&kid(index)), &claims(seconds_now()))
}

pub(super) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The fake GitLab's response to the next request.
#[derive(Clone, Debug)]
pub(super) enum Response {
    /// These keys.
    Keys(Vec<Value>),
    /// 502.
    Down,
    /// None: the connection is accepted and stays silent.
    Silent,
}

/// A GitLab with only the two public documents.
pub(super) struct FakeGitlab {
    pub(super) address: SocketAddr,
    response: Arc<Mutex<Response>>,
    fetches: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for FakeGitlab {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl FakeGitlab {
    /// Starts a listener. `issuer` is the name in its discovery document.
    pub(super) async fn start(issuer: &'static str, response: Response) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (response, fetches) = (Arc::new(Mutex::new(response)), Arc::new(AtomicUsize::new(0)));
        let (current, counter) = (Arc::clone(&response), Arc::clone(&fetches));
        let serving = tokio::spawn(async move {
            let mut silent = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                let is_discovery = request[..length]
                    .starts_with(b"GET /.well-known/openid-configuration HTTP/1.1\r\n");
                assert!(
                    is_discovery || request.starts_with(b"GET /oauth/discovery/keys HTTP/1.1\r\n")
                );
                counter.fetch_add(usize::from(is_discovery), Ordering::SeqCst);
                let response = current.lock().unwrap().clone();
                let body = match response {
                    Response::Keys(_) if is_discovery => {
                        json!({ "issuer": issuer, "jwks_uri": format!("http://{address}/oauth/discovery/keys") })
                    }
                    Response::Keys(keys) => json!({ "keys": keys }),
                    Response::Down => {
                        let _ = stream
                            .write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
                            .await;
                        continue;
                    }
                    Response::Silent => {
                        silent.push(stream);
                        continue;
                    }
                };
                let body = body.to_string();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: max-age=86400\r\n";
                let reply = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(reply.as_bytes()).await;
            }
        });
        Self { address, response, fetches, serving }
    }

    pub(super) fn respond_with(&self, response: Response) {
        *self.response.lock().unwrap() = response;
    }

    /// Returns the number of requests for the discovery document: one per fetch.
    pub(super) fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}
