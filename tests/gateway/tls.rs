//! TLS on the public port: which clients are admitted, what a client sees, and that what holds for
//! plain connections holds here, too.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use weir::config::Environment;

use crate::support::{
    Authority, Client, End, Folder, Gateway, Hello, Pair, Process, Reply, Upstream, chat_body,
    eventually, older_kind, one_model, parse, secure,
};

const CHAT: &str = "/v1/chat/completions";

/// Returns the lines of `[server.tls]`, by their full names: the base configuration already has the
/// table `[server]`.
fn lines(folder: &Folder, more: &str) -> String {
    format!("cert = {:?}\nkey = {:?}\n{more}", folder.path("tls.crt"), folder.path("tls.key"))
}

fn save(folder: &Folder, pair: &Pair) {
    folder.replace("tls.key", &pair.key);
    folder.replace("tls.crt", &pair.cert);
}

/// Starts a gateway with one model, and a certificate for `weir.test` by this authority.
async fn gateway(
    name: &str,
    authority: &Authority,
    upstream: &Upstream,
    more: &str,
) -> (Folder, Gateway) {
    let folder = Folder::new(name);
    save(&folder, &authority.issue("weir.test"));
    let file = format!("{}[server.tls]\n{}", one_model(&upstream.url()), lines(&folder, more));
    let gateway = Gateway::start(&file).await;
    (folder, gateway)
}

/// Connects a client that trusts this authority only.
async fn client(address: SocketAddr, authority: &Authority) -> Client {
    Client::over(secure(address, Hello::trusting(authority)).await.unwrap())
}

#[tokio::test]
async fn both_versions_answer_over_http_1_1() {
    let (authority, upstream) = (Authority::new(), Upstream::says("Hi").await);
    let (_folder, gateway) = gateway("tls-versions", &authority, &upstream, "").await;
    for version in rustls::ALL_VERSIONS {
        let hello =
            Hello { versions: &[version], alpn: &["http/1.1"], ..Hello::trusting(&authority) };
        let stream = secure(gateway.public, hello).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(
            (session.protocol_version(), session.alpn_protocol()),
            (Some(version.version), Some(&b"http/1.1"[..]))
        );
        let mut client = Client::over(stream);
        assert_eq!(client.call("GET", "/monitoring/healthz", &[], b"").await.status(), 200);
        for stream in [true, false, true] {
            let body = chat_body("m", stream).to_string();
            let answer = client.call("POST", CHAT, &[], body.as_bytes()).await;
            assert_eq!((answer.status(), answer.end), (200, End::Proper), "{}", answer.text());
            assert!(answer.text().contains("Hi"), "on one connection: {}", answer.text());
        }
    }
    let hello = Hello { alpn: &["spdy/3"], ..Hello::trusting(&authority) };
    let refused = secure(gateway.public, hello).await.unwrap_err().to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    let refused =
        secure(gateway.public, Hello::trusting(&Authority::new())).await.unwrap_err().to_string();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    eventually("the counts", async || {
        let metrics = gateway.metrics().await;
        metrics.sum("weir_tls_handshakes_failed_total", &[("reason", "refused_by_client")]) == 1.0
            && metrics.sum("weir_tls_handshakes_failed_total", &[("reason", "failed")]) == 1.0
    })
    .await;
}

#[tokio::test]
async fn a_body_in_pieces_and_a_long_answer_arrive_whole() {
    let long = "x".repeat(2 << 20);
    let reply = json!({"choices": [{"message": {"content": long}}]});
    let (authority, upstream) =
        (Authority::new(), Upstream::always(Reply::json(200, &reply)).await);
    let (_folder, gateway) = gateway("tls-large", &authority, &upstream, "").await;
    let mut client = client(gateway.public, &authority).await;
    let mut body = chat_body("m", false);
    body["messages"][0]["content"] = long.as_str().into();
    let body = body.to_string();
    client
        .write(format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len()))
        .await;
    for piece in body.as_bytes().chunks(100_000) {
        client.write(piece).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let head = client.head().await;
    let answer = client.body(head, false).await;
    assert_eq!((answer.status(), answer.end), (200, End::Proper));
    assert_eq!(answer.json(), reply);
    assert_eq!(
        upstream.requests()[0].json()["messages"],
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["messages"]
    );
}

#[tokio::test]
async fn a_stream_larger_than_every_buffer_reaches_a_slow_reader_whole() {
    let piece = "y".repeat(64 * 1024);
    let reply = (0..128).fold(Reply::sse(), |reply, _| reply.text(&piece)).done(true);
    let (authority, upstream) = (Authority::new(), Upstream::always(reply).await);
    let (_folder, gateway) = gateway("tls-slow", &authority, &upstream, "").await;
    let mut client = client(gateway.public, &authority).await;
    client.send("POST", CHAT, &[], chat_body("m", true).to_string().as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let head = client.head().await;
    let answer = client.body(head, false).await;
    assert_eq!(answer.end, End::Proper);
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(answer.text().matches('y').count(), 128 * piece.len());
}

/// How a client disconnects.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// Its process ends.
    Abruptly,
    /// It sends `close_notify`, as TLS requires.
    WithAGoodbye,
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_upstream() {
    let authority = Authority::new();
    for (name, reply, until) in [
        ("before", Reply::stalled(), ""),
        ("within", Reply::sse().text("one").stall(), "one"),
        (
            "endless",
            Reply::sse().forever(b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"),
            "x",
        ),
    ] {
        let upstream = Upstream::always(reply).await;
        let (_folder, gateway) =
            gateway(&format!("tls-leaves-{name}"), &authority, &upstream, "").await;
        for (index, leaves) in [Leaves::Abruptly, Leaves::WithAGoodbye].into_iter().enumerate() {
            let id = format!("{name}-{leaves:?}");
            let mut client = client(gateway.public, &authority).await;
            client
                .send(
                    "POST",
                    CHAT,
                    &[("x-request-id", &id)],
                    chat_body("m", true).to_string().as_bytes(),
                )
                .await;
            upstream.received(index + 1).await;
            if !until.is_empty() {
                client.head().await;
                client.read_until(until).await;
            }
            if matches!(leaves, Leaves::WithAGoodbye) {
                client.shutdown().await;
            } else {
                drop(client);
            }
            upstream.closed(upstream.requests()[index].connection).await;
            assert_eq!(gateway.log.line(&id).await["outcome"], "cancelled", "{id}");
        }
    }
}

#[tokio::test]
async fn a_request_sent_ahead_is_no_goodbye() {
    let gate = Arc::new(Notify::new());
    let authority = Authority::new();
    let upstream =
        Upstream::always(Reply::sse().text("one").gate(&gate).text("two").done(true)).await;
    let (_folder, gateway) = gateway("tls-ahead", &authority, &upstream, "").await;
    let mut client = client(gateway.public, &authority).await;
    client.send("POST", CHAT, &[], chat_body("m", true).to_string().as_bytes()).await;
    let head = client.head().await;
    client.read_until("one").await;
    client.send("GET", "/monitoring/healthz", &[], b"").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.notify_one();
    let answer = client.body(head, false).await;
    assert!(answer.text().contains("[DONE]"), "{}", answer.text());
    assert_eq!(client.head().await.status, 200, "and it is answered");
}

#[tokio::test]
async fn plain_http_and_silence_are_let_go() {
    let (authority, upstream) = (Authority::new(), Upstream::says("Hi").await);
    let folder = Folder::new("tls-plain");
    save(&folder, &authority.issue("weir.test"));
    let text =
        format!("{}[limits]\nheader_timeout = \"200ms\"\n", process_file(&folder, &upstream));
    let text = text.replace("[telemetry]", "[telemetry]\nlevel = \"debug\"");
    let weir = Process::serve(&folder.write("weir.toml", &text)).await;
    let mut plain = Client::connect(weir.public).await;
    plain.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(plain.is_let_go_without_an_answer().await, "at most an alert");
    let mut silent = Client::connect(weir.public).await;
    assert!(silent.is_closed().await);
    eventually("the lines", async || {
        let output = weir.output();
        output.contains("plain HTTP on the TLS port?")
            && output.contains("no handshake within limits.header_timeout")
    })
    .await;
    let metrics = weir.metrics().await;
    for reason in ["not_tls", "timed_out"] {
        assert_eq!(
            metrics.sum("weir_tls_handshakes_failed_total", &[("reason", reason)]),
            1.0,
            "{reason}"
        );
    }
    assert_eq!(metrics.sum("weir_requests_total", &[]), 0.0);
    assert_eq!(upstream.requests().len(), 0);
}

/// Returns a whole file for the program itself.
fn process_file(folder: &Folder, upstream: &Upstream) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[server.tls]\n{}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [telemetry]\nformat = \"json\"\n[auth]\nmode = \"off\"\n{}",
        lines(folder, ""),
        one_model(&upstream.url())
    )
}

#[tokio::test]
async fn a_new_certificate_is_taken_while_a_stream_runs_and_a_broken_one_is_not() {
    let gate = Arc::new(Notify::new());
    let upstream =
        Upstream::always(Reply::sse().text("one").gate(&gate).text("two").done(true)).await;
    let (old, new) = (Authority::new(), Authority::new());
    let folder = Folder::new("tls-reload");
    save(&folder, &old.issue_between("weir.test", (2020, 2090)));
    let weir = Process::serve(&folder.write("weir.toml", &process_file(&folder, &upstream))).await;
    let mut streaming = client(weir.public, &old).await;
    streaming.send("POST", CHAT, &[], chat_body("m", true).to_string().as_bytes()).await;
    let head = streaming.head().await;
    streaming.read_until("one").await;

    folder
        .replace("tls.key", "-----BEGIN PRIVATE KEY-----\nsk-canary\n-----END PRIVATE KEY-----\n");
    eventually("the failed reload", async || {
        weir.metrics().await.sum("weir_config_reload_ok", &[]) == 0.0
    })
    .await;
    let faults = weir.admin("/status").await.json()["last_reload"]["faults"].to_string();
    assert!(
        faults.contains("server.tls.key") && faults.contains("tls.key holds no private key"),
        "{faults}"
    );
    eventually("the log", async || weir.output().contains("tls.key holds no private key")).await;
    assert!(!weir.output().contains("canary"));
    client(weir.public, &old).await;
    const EXPIRY: &str = "weir_tls_certificate_expiry_timestamp_seconds";
    assert_eq!(weir.metrics().await.sum(EXPIRY, &[]), 3_786_912_000.0, "2090-01-01");

    save(&folder, &new.issue_between("weir.test", (2020, 2091)));
    eventually("the new certificate", async || {
        secure(weir.public, Hello::trusting(&new)).await.is_ok()
    })
    .await;
    assert!(secure(weir.public, Hello::trusting(&old)).await.is_err());
    eventually("the new date", async || weir.metrics().await.sum(EXPIRY, &[]) == 3_818_448_000.0)
        .await;

    gate.notify_one();
    let answer = streaming.body(head, false).await;
    assert!(answer.text().contains("[DONE]"), "{}", answer.text());
    let again = streaming.call("GET", "/monitoring/healthz", &[], b"").await;
    assert_eq!(again.status(), 200, "a connection keeps what it was accepted with");
}

#[tokio::test]
async fn a_file_that_names_other_certificates_is_watched_for_those() {
    let upstream = Upstream::says("Hi").await;
    let (first, second, third) = (Authority::new(), Authority::new(), Authority::new());
    let folder = Folder::new("tls-moved");
    save(&folder, &first.issue("weir.test"));
    let text = process_file(&folder, &upstream);
    let weir = Process::serve(&folder.write("weir.toml", &text)).await;
    let is_served =
        async |authority: &Authority| secure(weir.public, Hello::trusting(authority)).await.is_ok();
    assert!(is_served(&first).await);
    std::fs::create_dir(folder.path("moved")).unwrap();
    let put = |pair: Pair| {
        folder.write("moved/tls.key", &pair.key);
        folder.write("moved/tls.crt", &pair.cert);
    };
    put(second.issue("weir.test"));
    folder.replace("weir.toml", &text.replace("/tls.", "/moved/tls."));
    eventually("the other files", async || is_served(&second).await).await;
    put(third.issue("weir.test"));
    eventually("their new content", async || is_served(&third).await).await;
}

#[tokio::test]
async fn with_client_ca_only_its_clients_get_in() {
    let (authority, clients, upstream) =
        (Authority::new(), Authority::new(), Upstream::says("Hi").await);
    let folder = Folder::new("tls-mutual-ca");
    let ca = folder.write("clients.crt", &clients.pem());
    let (_files, gateway) =
        gateway("tls-mutual", &authority, &upstream, &format!("client_ca = {ca:?}\n")).await;
    let known = clients.issue("gitlab.test");
    let hello = Hello { shows: Some(&known), ..Hello::trusting(&authority) };
    let mut client = Client::over(secure(gateway.public, hello).await.unwrap());
    assert_eq!(client.call("GET", "/monitoring/healthz", &[], b"").await.status(), 200);
    let (stranger, late) =
        (Authority::new().issue("gitlab.test"), clients.issue_between("gitlab.test", (2001, 2002)));
    for shows in [None, Some(&stranger), Some(&late)] {
        for version in rustls::ALL_VERSIONS {
            let hello = Hello { shows, versions: &[version], ..Hello::trusting(&authority) };
            // TLS 1.3's client has sent everything before it receives the refusal
            if let Ok(stream) = secure(gateway.public, hello).await {
                let mut client = Client::over(stream);
                client.send("GET", "/monitoring/healthz", &[], b"").await;
                assert!(client.try_head().await.is_none());
            }
        }
    }
    eventually("the counts", async || {
        let metrics = gateway.metrics().await;
        metrics.sum("weir_tls_handshakes_failed_total", &[("reason", "client_certificate")]) == 6.0
    })
    .await;
}

#[tokio::test]
async fn a_revoked_client_is_out_with_the_next_list_and_without_a_restart() {
    let (authority, clients, upstream) =
        (Authority::new(), Authority::new(), Upstream::says("Hi").await);
    let folder = Folder::new("tls-revoked");
    save(&folder, &authority.issue("weir.test"));
    let (ca, crl) = (folder.write("clients.crt", &clients.pem()), folder.path("clients.crl"));
    let (one, two) = (clients.issue("one.test"), clients.issue("two.test"));
    folder.write("clients.crl", &clients.revoking(&[&one]));
    let more = format!("client_ca = {ca:?}\nclient_crl = {crl:?}\n");
    let text = process_file(&folder, &upstream).replace("[admin]", &format!("{more}[admin]"));
    let weir = Process::serve(&folder.write("weir.toml", &text)).await;
    let is_let_in = async |pair: &Pair| {
        let hello = Hello { shows: Some(pair), ..Hello::trusting(&authority) };
        let Ok(stream) = secure(weir.public, hello).await else { return false };
        let mut client = Client::over(stream);
        client.send("GET", "/monitoring/healthz", &[], b"").await;
        client.try_head().await.is_some()
    };
    assert!(!is_let_in(&one).await && is_let_in(&two).await);
    folder.replace("clients.crl", &clients.revoking(&[&two]));
    eventually("the new list", async || is_let_in(&one).await && !is_let_in(&two).await).await;
    folder.replace("clients.crl", "garbage");
    eventually("the refusal", async || {
        weir.metrics().await.sum("weir_config_reload_ok", &[]) == 0.0
    })
    .await;
    let faults = weir.admin("/status").await.json()["last_reload"]["faults"].to_string();
    assert!(
        faults.contains("server.tls.client_crl") && faults.contains("holds no list of revoked"),
        "{faults}"
    );
    assert!(is_let_in(&one).await && !is_let_in(&two).await, "the old list stays");
    // an authority without a list admits no client
    folder.replace("clients.crl", &Authority::new().revoking(&[]));
    eventually("another's list", async || !is_let_in(&one).await).await;
}

/// Returns the one fault of a file with this certificate and key.
fn fault(folder: &Folder, cert: &str, key: &str) -> String {
    save(folder, &Pair { cert: cert.to_owned(), key: key.to_owned() });
    let faults = parse(&format!("[server.tls]\n{}", lines(folder, ""))).unwrap_err();
    let lines: Vec<String> = faults.iter().map(|fault| fault.headline()).collect();
    let [line] = lines.as_slice() else { panic!("{lines:#?}") };
    line.clone()
}

#[test]
fn certificates_that_cannot_work_are_faults_of_the_file() {
    let authority = Authority::new();
    let (one, two) = (authority.issue("weir.test"), authority.issue("weir.test"));
    let folder = Folder::new("tls-faults");
    let other_key = fault(&folder, &one.cert, &two.key);
    assert!(other_key.starts_with("weir.toml:3:7: error: server.tls.key: "), "{other_key}");
    assert!(
        other_key.ends_with(
            "tls.key does not belong to the (first) certificate that is named beside it"
        ),
        "{other_key}"
    );
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (cert, key, says) in [
        (&*one.cert, encrypted, "tls.key has a passphrase: write it without one"),
        (&one.cert, &one.cert, "tls.key holds a certificate and no key"),
        (&one.cert, "sk-canary", "tls.key holds no private key in PEM"),
        (
            &one.cert,
            "-----BEGIN PRIVATE KEY-----\nc2stY2FuYXJ5\n-----END PRIVATE KEY-----\n",
            "tls.key is of a kind",
        ),
        (&one.key, &one.key, "tls.crt holds no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &one.key,
            "holds what is no certificate",
        ),
        (
            "-----BEGIN CERTIFICATE-----\n~~~~\n-----END CERTIFICATE-----\n",
            &one.key,
            "tls.crt is not a PEM file",
        ),
    ] {
        let stated = fault(&folder, cert, key);
        assert!(stated.contains(says) && !stated.contains("canary"), "{says}: {stated}");
    }
    let stated = |text: &str| parse(text).unwrap_err().to_string();
    assert!(
        stated("[server.tls]\ncert = \"nowhere.crt\"\nkey = \"nowhere.key\"\n")
            .contains("nowhere.key: no such file")
    );
    let half = stated("[server.tls]\ncert = \"tls.crt\"\n");
    assert!(half.contains("server.tls: expected key as well"), "{half}");
    let open = stated("[server.tls]\nclient_ca = \"clients.crt\"\n");
    assert!(
        open.contains("server.tls: expected cert as well"),
        "clients are not let in unasked: {open}"
    );
    let idle = stated("[server.tls]\ncert = \"a\"\nkey = \"b\"\nclient_crl = \"c\"\n");
    assert!(idle.contains("server.tls.client_crl: expected client_ca as well"), "{idle}");
    assert!(stated("[server]\ntls = true\n").contains("expected a table of keys"));
}

#[test]
fn every_kind_of_key_is_taken() {
    let authority = Authority::new();
    let folder = Folder::new("tls-kinds");
    let rsa = include_str!("../golden/jwt/first.pem");
    let kinds = [
        rcgen::KeyPair::from_pem(rsa).unwrap(),
        rcgen::KeyPair::generate().unwrap(),
        rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
        rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
    ];
    let mut keys: Vec<(String, String)> = kinds
        .iter()
        .map(|key| (authority.sign("weir.test", (2020, 2100), key), key.serialize_pem()))
        .collect();
    keys[0].1 = rsa.to_owned();
    keys.push((keys[0].0.clone(), older_kind(&kinds[0].serialize_der(), "RSA")));
    keys.push((keys[1].0.clone(), older_kind(&kinds[1].serialize_der(), "EC")));
    for (cert, key) in keys {
        save(&folder, &Pair { cert, key: key.clone() });
        let config = parse(&format!("[server.tls]\n{}", lines(&folder, "")))
            .unwrap_or_else(|faults| panic!("{faults}"));
        assert!(
            config.tls.is_some() && config.warnings.is_empty(),
            "{}",
            key.lines().next().unwrap()
        );
    }
}

#[test]
fn dates_are_warned_about_and_shown() {
    let authority = Authority::new();
    let folder = Folder::new("tls-dates");
    let file = folder.write("weir.toml", &format!("[server.tls]\n{}", lines(&folder, "")));
    let check = |years| {
        save(&folder, &authority.issue_between("weir.test", years));
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        let output = command.args(["check", "--config"]).arg(&file).env_clear().output().unwrap();
        assert!(output.status.success(), "a date is no reason not to start");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let late = check((2001, 2002));
    assert!(
        late.contains("warning: server.tls.cert: the certificate expired on 2002-01-01T00:00:00Z"),
        "{late}"
    );
    assert!(late.contains("until 2002-01-01T00:00:00Z, 0 days left"), "{late}");
    let early = check((2090, 2091));
    assert!(
        early.contains("warning: server.tls.cert: the certificate is not valid before 2090-01-01"),
        "{early}"
    );
    let fine = check((2001, 2091));
    assert!(!fine.contains("warning: ") && fine.contains("until 2091-01-01T00:00:00Z"), "{fine}");
    assert!(fine.contains("need no certificate"), "{fine}");
}

#[test]
fn the_official_containers_variables_turn_it_on() {
    let folder = Folder::new("tls-official");
    save(&folder, &Authority::new().issue("weir.test"));
    let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    let read = |enabled: &str, key: &str| {
        let variables = [
            ("AIGW_FASTAPI__TLS__ENABLED", enabled.to_owned()),
            ("AIGW_FASTAPI__TLS__CERT_FILE", path("tls.crt")),
            ("AIGW_FASTAPI__TLS__KEY_FILE", key.to_owned()),
        ];
        weir::config::from_str("", "weir.toml", &Environment::from_iter(variables))
    };
    assert!(read("true", &path("tls.key")).unwrap().tls.is_some());
    assert!(read("false", &path("tls.key")).unwrap().tls.is_none());
    assert!(
        read("true", "").unwrap_err().to_string().contains("AIGW_FASTAPI__TLS__ENABLED: expected")
    );
    assert!(
        read("maybe", &path("tls.key")).unwrap_err().to_string().contains("expected true or false")
    );
}

#[tokio::test]
async fn healthcheck_speaks_https_and_verifies() {
    let (authority, upstream) = (Authority::new(), Upstream::says("Hi").await);
    let folder = Folder::new("tls-health");
    save(&folder, &authority.issue("127.0.0.1"));
    let ca = folder.write("ca.crt", &authority.pem());
    let weir = Process::serve(&folder.write("weir.toml", &process_file(&folder, &upstream))).await;
    let url = format!("https://{}/monitoring/healthz", weir.public);
    let ask = |authority: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["healthcheck", &url]).env_clear().env("SSL_CERT_FILE", authority);
        let output = command.output().unwrap();
        (
            output.status.success(),
            String::from_utf8([output.stdout, output.stderr].concat()).unwrap(),
        )
    };
    let (ready, stated) = ask(&ca);
    assert!(ready && stated.contains("ready: https://"), "{stated}");
    let stranger = folder.write("stranger.crt", &Authority::new().pem());
    let (ready, stated) = ask(&stranger);
    assert!(!ready && stated.contains("UnknownIssuer"), "{stated}");
}
