//! Tokens made by hand, and a GitLab that publishes keys, rotates them and goes away.

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
/// Signed by openssl with the first key.
pub(super) const GOLDEN: &str = include_str!("../../../tests/golden/jwt/token.txt");
/// When that token was issued.
pub(super) const GOLDEN_TIME: u64 = 1_762_430_400;
pub(super) const ISSUER: &str = "https://gitlab.example.com";
pub(super) const INSTANCE: &str = "11111111-2222-4333-8444-555555555555";

pub(super) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The published key of this place, as JSON.
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

/// What GitLab says of itself in a token issued at that time.
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

/// Signs with RS256, whatever the header says.
pub(super) fn sign(pem: &str, header: &Value, claims: &Value) -> String {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    format!("{message}.{}", base64(signature))
}

/// The n-th published key's private half, and a token of it issued now.
pub(super) fn fresh(index: usize) -> String {
    let pem = [FIRST, SECOND][index];
    sign(pem, &header(&kid(index)), &claims(seconds_now()))
}

pub(super) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What the fake GitLab does next.
#[derive(Clone, Debug)]
pub(super) enum Says {
    /// Publishes these keys.
    Keys(Vec<Value>),
    /// Answers 502.
    Down,
    /// Accepts, and says nothing.
    Silence,
}

/// A GitLab of which only the two public documents are there.
pub(super) struct FakeGitlab {
    pub(super) address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for FakeGitlab {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl FakeGitlab {
    /// Listens. `issuer` is what its discovery document says.
    pub(super) async fn start(issuer: &'static str, says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::new(AtomicUsize::new(0)));
        let (said, counted) = (Arc::clone(&says), Arc::clone(&asked));
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
                counted.fetch_add(usize::from(is_discovery), Ordering::SeqCst);
                let says = said.lock().unwrap().clone();
                let body = match says {
                    Says::Keys(_) if is_discovery => {
                        json!({ "issuer": issuer, "jwks_uri": format!("http://{address}/oauth/discovery/keys") })
                    }
                    Says::Keys(keys) => json!({ "keys": keys }),
                    Says::Down => {
                        let _ = stream
                            .write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
                            .await;
                        continue;
                    }
                    Says::Silence => {
                        silent.push(stream);
                        continue;
                    }
                };
                let body = body.to_string();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: max-age=86400\r\n";
                let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, says, asked, serving }
    }

    pub(super) fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// How often it was asked for its discovery document: once a fetch.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}
