//! TLS towards model servers: which authorities Weir trusts, which identity it presents, and that
//! another certificate needs no restart.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::Notify;
use weir::config::Environment;

use crate::signing;
use crate::support::{
    Authority, Client, End, Folder, Gateway, Pair, Process, Reply, Upstream, chat_body, eventually,
    front, front_for, one_model, parse,
};

/// Returns the two lines of an identity, in files of this name.
fn lines(folder: &Folder, name: &str) -> String {
    let [cert, key] = ["crt", "key"].map(|kind| folder.path(&format!("{name}.{kind}")));
    format!("client_cert = {cert:?}\nclient_key = {key:?}\n")
}

fn save(folder: &Folder, name: &str, pair: &Pair) {
    folder.replace(&format!("{name}.key"), &pair.key);
    folder.replace(&format!("{name}.crt"), &pair.cert);
}

fn url(address: SocketAddr) -> String {
    format!("https://{address}/v1")
}

/// A model server with a certificate of `servers` that requires one of `clients`, and the files of
/// both sides.
struct Rig {
    folder: Folder,
    servers: Authority,
    clients: Authority,
    upstream: Upstream,
}

impl Rig {
    async fn new(name: &str) -> Self {
        let (folder, servers, clients) = (Folder::new(name), Authority::new(), Authority::new());
        folder.write("ca.crt", &servers.pem());
        save(&folder, "known", &clients.issue("weir.test"));
        save(&folder, "stranger", &Authority::new().issue("weir.test"));
        Self { folder, servers, clients, upstream: Upstream::says("Hi").await }
    }

    async fn server(&self, version: &'static rustls::SupportedProtocolVersion) -> String {
        url(front_for(
            &self.clients,
            self.upstream.address,
            &self.servers.issue("127.0.0.1"),
            version,
        )
        .await)
    }

    /// Returns `[tls]` with the servers' authority.
    fn tls(&self) -> String {
        format!("[tls]\nextra_ca = [{:?}]\n", self.folder.path("ca.crt"))
    }
}

#[tokio::test]
async fn a_model_server_with_a_private_authority_is_believed_only_when_it_is_named() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let upstream = Upstream::says("Hi").await;
    let folder = Folder::new("tls-out");
    let (ca, other) =
        (folder.write("ca.crt", &authority.pem()), folder.write("other.crt", &stranger.pem()));
    let (named, misnamed) = (authority.issue("127.0.0.1"), authority.issue("another.test"));
    let good = one_model(&url(front(upstream.address, &named).await));
    let bad = one_model(&url(front(upstream.address, &misnamed).await));
    let extra = |path: &Path| format!("[tls]\nextra_ca = [{path:?}]\n");
    let variable =
        |name: &str| Environment::from_iter([(name.to_owned(), ca.to_str().unwrap().to_owned())]);
    let nothing = Environment::default();
    for (env, file) in [
        (&nothing, format!("{good}{}", extra(&ca))),
        (&nothing, format!("{good}[models.m.tls]\nextra_ca = [{ca:?}]\n")),
        (&variable("SSL_CERT_FILE"), good.clone()),
        (&variable("REQUESTS_CA_BUNDLE"), good.clone()),
    ] {
        let gateway = Gateway::start_with(env, &file).await;
        let answer = gateway.chat("m", false).await;
        assert_eq!(answer.status(), 200, "{file}: {}", answer.text());
    }
    let sent = upstream.requests().len();
    let unknown = "UnknownIssuer (name its authority in tls.extra_ca)";
    for (file, why) in
        [(format!("{good}{}", extra(&other)), unknown), (format!("{bad}{}", extra(&ca)), "name")]
    {
        let gateway = Gateway::start_with(&nothing, &file).await;
        let answer = gateway.chat("m", false).await;
        assert_eq!(answer.status(), 502, "{}", answer.text());
        let line = gateway.line(&answer).await;
        assert_eq!(line["error_code"], "upstream_connect", "{line}");
        assert!(line["note"].as_str().unwrap().contains(why), "{line}");
    }
    assert_eq!(upstream.requests().len(), sent, "not a byte of a request went there");
}

#[tokio::test]
async fn a_model_server_that_asks_is_shown_the_operators_certificate() {
    let rig = Rig::new("tls-out-mutual").await;
    let path = |name: &str| rig.folder.path(name).to_str().unwrap().to_owned();
    let official = Environment::from_iter([
        ("AIGW_MTLS__ENABLED", "true".to_owned()),
        ("AIGW_MTLS__CERT_FILE", path("known.crt")),
        ("AIGW_MTLS__KEY_FILE", path("known.key")),
        ("AIGW_MTLS__CA_BUNDLE", path("ca.crt")),
    ]);
    let nothing = Environment::default();
    let own = |name: &str| format!("{}[models.m.tls]\n{}", rig.tls(), lines(&rig.folder, name));
    let shared = |name: &str| format!("{}{}", rig.tls(), lines(&rig.folder, name));
    for version in rustls::ALL_VERSIONS {
        let model = one_model(&rig.server(version).await);
        let over = format!("{}[models.m.tls]\n{}", shared("stranger"), lines(&rig.folder, "known"));
        for (env, more) in [
            (&nothing, own("known")),
            (&nothing, shared("known")),
            (&nothing, over),
            (&official, String::new()),
        ] {
            let gateway = Gateway::start_with(env, &format!("{model}{more}")).await;
            for stream in [true, false] {
                let answer = gateway.chat("m", stream).await;
                assert_eq!(answer.status(), 200, "{version:?} {more}: {}", answer.text());
            }
        }
        let sent = rig.upstream.requests().len();
        let does_not_take = "does not take our client certificate";
        for (more, why) in [
            (rig.tls(), "client certificate"),
            (own("stranger"), does_not_take),
            (shared("stranger"), does_not_take),
        ] {
            let gateway = Gateway::start(&format!("{model}{more}")).await;
            let answer = gateway.chat("m", false).await;
            assert_eq!(answer.status(), 502, "{}", answer.text());
            let line = gateway.line(&answer).await;
            let note = line["note"].as_str().unwrap();
            assert!(
                note.contains(why) && note.contains("tls.client_cert"),
                "{version:?} {more}: {line}"
            );
            assert_eq!(line["error_code"], "upstream_connect", "{line}");
        }
        assert_eq!(rig.upstream.requests().len(), sent, "not a byte of a request went there");
    }
}

#[tokio::test]
async fn a_connection_made_with_one_identity_is_never_anothers() {
    let rig = Rig::new("tls-out-pool").await;
    let at = rig.server(&rustls::version::TLS13).await;
    let model = |name: &str, own: &str| {
        format!("[models.{name}]\nendpoint = {at:?}\n[models.{name}.tls]\nextra_ca = []\n{own}")
    };
    let known = lines(&rig.folder, "known");
    let file = [rig.tls(), model("a", &known), model("b", &known), model("nobody", "")].concat();
    let file = format!(
        "{file}{}[features]\ndefault = \"a\"\n",
        model("stranger", &lines(&rig.folder, "stranger"))
    );
    let gateway = Gateway::start(&file).await;
    for _ in 0..2 {
        assert_eq!(gateway.chat("a", false).await.status(), 200);
        for other in ["nobody", "stranger"] {
            assert_eq!(
                gateway.chat(other, false).await.status(),
                502,
                "{other}, while a's connection lies there"
            );
        }
    }
    assert_eq!(gateway.chat("b", false).await.status(), 200);
    let connections: Vec<_> =
        rig.upstream.requests().iter().map(|request| request.connection).collect();
    let [first, again, b] = connections[..] else { panic!("{connections:?}") };
    assert_eq!(first, again, "a's own was kept for a");
    assert_ne!(first, b);
}

/// Returns a whole file for the program itself.
fn process_file(model: &str, tls: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [telemetry]\nformat = \"json\"\n[auth]\nmode = \"off\"\n{model}{tls}"
    )
}

#[tokio::test]
async fn new_certificates_and_authorities_are_taken_without_a_restart_and_broken_ones_are_not() {
    let gate = Arc::new(Notify::new());
    let mut rig = Rig::new("tls-out-reload").await;
    let opens = Arc::clone(&gate);
    rig.upstream = Upstream::start(move |request| {
        if request.json()["stream"] == true {
            Reply::sse().text("one").gate(&opens).text("two").done(true)
        } else {
            Reply::json(200, &json!({"choices": [{"message": {"content": "Hi"}}]}))
        }
    })
    .await;
    let at = rig.server(&rustls::version::TLS13).await;
    save(&rig.folder, "mine", &rig.clients.issue("weir.test"));
    let file =
        process_file(&one_model(&at), &format!("{}{}", rig.tls(), lines(&rig.folder, "mine")));
    let weir = Process::serve(&rig.folder.write("weir.toml", &file)).await;
    let mut streaming = Client::connect(weir.public).await;
    streaming
        .send("POST", "/v1/chat/completions", &[], chat_body("m", true).to_string().as_bytes())
        .await;
    let head = streaming.head().await;
    streaming.read_until("one").await;

    let generation = async || weir.metrics().await.sum("weir_config_generation", &[]);
    rig.folder
        .replace("mine.key", "-----BEGIN PRIVATE KEY-----\nsk-canary\n-----END PRIVATE KEY-----\n");
    eventually("the refusal", async || {
        weir.metrics().await.sum("weir_config_reload_ok", &[]) == 0.0
    })
    .await;
    let faults = weir.admin("/status").await.json()["last_reload"]["faults"].to_string();
    assert!(
        faults.contains("tls.client_key") && faults.contains("mine.key holds no private key"),
        "{faults}"
    );
    assert!(!weir.output().contains("canary"));
    assert_eq!(weir.chat("m").await.status(), 200, "the old one stays");

    let before = generation().await;
    save(&rig.folder, "mine", &Authority::new().issue("weir.test"));
    eventually("the stranger's", async || generation().await > before).await;
    assert_eq!(weir.chat("m").await.status(), 502, "kept connections are not for the new identity");
    let before = generation().await;
    save(&rig.folder, "mine", &rig.clients.issue("weir.test"));
    eventually("the new one", async || {
        generation().await > before && weir.chat("m").await.status() == 200
    })
    .await;

    let before = generation().await;
    rig.folder.replace("ca.crt", &Authority::new().pem());
    eventually("another authority", async || generation().await > before).await;
    assert_eq!(weir.chat("m").await.status(), 502);
    rig.folder.replace("ca.crt", &rig.servers.pem());
    eventually("the servers' authority", async || weir.chat("m").await.status() == 200).await;

    gate.notify_one();
    let answer = streaming.body(head, false).await;
    assert_eq!(answer.end, End::Proper);
    assert!(answer.text().contains("two") && answer.text().contains("[DONE]"), "{}", answer.text());
    assert!(!weir.output().contains("needs a restart"), "{}", weir.output());
}

#[tokio::test]
async fn gitlabs_keys_come_over_https_from_whom_its_authority_vouches_for() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (folder, upstream) = (Folder::new("tls-out-keys"), Upstream::says("Hi").await);
    folder.write("ca.crt", &authority.pem());
    let documents = Upstream::start(|request| {
        let host = request.header("host").unwrap();
        let discovery = json!({"issuer": format!("https://{host}"), "jwks_uri": format!("https://{host}/keys")});
        let document = if request.path == "/keys" { signing::JWKS.to_owned() } else { discovery.to_string() };
        Reply::whole(200, &[("content-type", "application/json")], document)
    })
    .await;
    save(&folder, "mine", &authority.issue("weir.test"));
    let wanting = &rustls::version::TLS12;
    let served = [
        (front(documents.address, &authority.issue("127.0.0.1")).await, 200, "null"),
        (front(documents.address, &stranger.issue("127.0.0.1")).await, 503, "UnknownIssuer"),
        (
            front_for(&authority, documents.address, &authority.issue("127.0.0.1"), wanting).await,
            503,
            "CertificateRequired",
        ),
    ];
    for (gitlab, status, why) in served {
        let file = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [resilience]\ndrain = \"100ms\"\n[gitlab]\nurl = \"https://{gitlab}\"\n[tls]\nextra_ca = [{:?}]\n{}{}",
            folder.path("ca.crt"),
            lines(&folder, "mine"),
            one_model(&upstream.url())
        );
        let gateway = Gateway::start_whole(&file).await;
        let claims = json!({
            "iss": format!("https://{gitlab}"), "sub": "instance", "aud": ["gitlab-ai-gateway"], "nbf": 1,
            "exp": 4_000_000_000_u64, "gitlab_realm": "self-managed", "scopes": ["duo_chat"],
        });
        let token = format!("Bearer {}", signing::sign(signing::FIRST, &claims));
        let headers = [
            ("authorization", &*token),
            ("x-gitlab-authentication-type", "oidc"),
            ("x-gitlab-instance-id", "instance"),
            ("x-gitlab-realm", "self-managed"),
        ];
        let body = json!({"prompt_components": [{"payload": {"content": "Hello"}}]}).to_string();
        let answer = gateway.call("POST", "/v1/chat/agent", &headers, body.as_bytes()).await;
        assert_eq!(answer.status(), status, "{}", answer.text());
        let forged = format!("Bearer {}", signing::sign(signing::OTHER, &claims));
        let headers = [("authorization", &*forged), headers[1], headers[2], headers[3]];
        let answer = gateway.call("POST", "/v1/chat/agent", &headers, body.as_bytes()).await;
        assert_eq!(answer.status(), if status == 200 { 401 } else { 503 }, "{}", answer.text());
        let error =
            gateway.admin("/status").await.json()["auth"]["issuers"][0]["error"].to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    assert_eq!(
        documents.requests().len(),
        2,
        "the stranger got no request, and the other server no identity of ours"
    );
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn identities_that_cannot_work_are_faults_of_the_file() {
    let folder = Folder::new("tls-out-faults");
    let authority = Authority::new();
    save(&folder, "one", &authority.issue("weir.test"));
    save(&folder, "late", &authority.issue_between("weir.test", (2001, 2002)));
    folder.write("other.key", &authority.issue("weir.test").key);
    let stated = |text: &str| parse(text).unwrap_err().to_string();
    let half = stated("[tls]\nclient_cert = \"a.crt\"\n");
    assert!(half.contains("tls.client_cert: expected client_key as well"), "{half}");
    let missing = stated("[tls]\nclient_cert = \"a.crt\"\nclient_key = \"a.key\"\n");
    assert!(
        missing.contains("a.crt: no such file") && missing.contains("a.key: no such file"),
        "{missing}"
    );
    let mixed = lines(&folder, "one").replace("one.key", "other.key");
    let mixed = stated(&format!(
        "[models.\"gpt-4.1\"]\nendpoint = \"https://h/v1\"\n[models.\"gpt-4.1\".tls]\n{mixed}"
    ));
    assert!(
        mixed.contains("weir.toml:5:14: error: models.\"gpt-4.1\".tls.client_key: "),
        "{mixed}"
    );
    assert!(mixed.contains("does not belong to the (first) certificate"), "{mixed}");
    let late = parse(&format!("[tls]\n{}", lines(&folder, "late"))).unwrap();
    assert_eq!(late.warnings[0].message, "the certificate expired on 2002-01-01T00:00:00Z");
    let official = |more: &[(&str, &str)]| {
        let fixed = [
            ("AIGW_MTLS__ENABLED", "true"),
            ("AIGW_MTLS__CERT_FILE", "a"),
            ("AIGW_MTLS__KEY_FILE", "b"),
        ];
        let env = Environment::from_iter(fixed.into_iter().chain(more.iter().copied()));
        weir::config::from_str("", "weir.toml", &env).unwrap_err().to_string()
    };
    let unverified = official(&[("AIGW_MTLS__VERIFY", "false")]);
    assert!(unverified.contains("AIGW_MTLS__VERIFY: servers are always verified"), "{unverified}");
    let locked = official(&[("AIGW_MTLS__KEY_PASSWORD", "sk-canary")]);
    assert!(locked.contains("AIGW_MTLS__KEY_PASSWORD") && !locked.contains("canary"), "{locked}");
    assert!(
        official(&[("AIGW_MTLS__KEY_FILE", "")])
            .contains("AIGW_MTLS__ENABLED: expected AIGW_MTLS__CERT_FILE and")
    );
    let off =
        Environment::from_iter([("AIGW_MTLS__ENABLED", "false"), ("AIGW_MTLS__VERIFY", "false")]);
    assert!(weir::config::from_str("", "weir.toml", &off).is_ok());
}
