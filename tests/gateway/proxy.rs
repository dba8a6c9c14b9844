//! A proxy for outbound requests: what goes through it, what never does, and the message when it
//! fails.

use serde_json::{Value, json};
use weir::config::Environment;

use crate::support::{
    Authority, ConnectProxy, Folder, Gateway, Upstream, eventually, front, one_model, parse,
};

const PLAIN: &str = "http://model.test:8000/v1";

fn environment<'v>(variables: impl IntoIterator<Item = (&'static str, &'v str)>) -> Environment {
    Environment::from_iter(variables)
}

fn proxied(url: &str, more: &str) -> String {
    format!("{}[proxy]\nurl = {url:?}\n{more}", one_model(PLAIN))
}

/// Returns the note of a request whose connection failed.
async fn note(gateway: &Gateway) -> String {
    let answer = gateway.chat("m", false).await;
    assert_eq!(answer.status(), 502, "{}", answer.text());
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    let line = gateway.line(&answer).await;
    assert_eq!(line["error_code"], "upstream_connect", "{line}");
    line["note"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn plain_and_encrypted_servers_are_reached_by_a_tunnel_that_is_kept() {
    let (authority, upstream) = (Authority::new(), Upstream::says("Hi").await);
    let folder = Folder::new("proxy-tunnel");
    let ca = folder.write("ca.crt", &authority.pem());
    let secure = front(upstream.address, &authority.issue("model.test")).await;
    let extra = format!("[tls]\nextra_ca = [{ca:?}]\n");
    for (to, endpoint, goal) in [
        (upstream.address, PLAIN, "model.test:8000"),
        (secure, "https://model.test/v1", "model.test:443"),
    ] {
        let proxy = ConnectProxy::to(to).await;
        let before = upstream.requests().len();
        let file = format!(
            "{}{extra}[proxy]\nurl = {:?}\ncredentials = \"us:se%3cret\"\n",
            one_model(endpoint),
            proxy.url()
        );
        let gateway = Gateway::start(&file).await;
        for stream in [false, true, false] {
            let answer = gateway.chat("m", stream).await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
        }
        let [head] = &proxy.heads()[..] else { panic!("{:?}", proxy.heads()) };
        assert!(
            head.starts_with(&format!("CONNECT {goal} HTTP/1.1\r\nhost: {goal}\r\n")),
            "{head}"
        );
        assert!(head.contains("\r\nproxy-authorization: Basic dXM6c2UlM2NyZXQ=\r\n"), "{head}");
        assert!(!head.contains("content-length"), "{head}");
        for request in &upstream.requests()[before..] {
            assert!(
                !request.head_text().to_ascii_lowercase().contains("proxy"),
                "{}",
                request.head_text()
            );
            assert_eq!((&*request.method, &*request.path), ("POST", "/v1/chat/completions"));
        }
    }
}

#[tokio::test]
async fn the_variables_are_read_as_curl_reads_them_and_the_file_wins() {
    let upstream = Upstream::says("Hi").await;
    let (proxy, other) = (
        ConnectProxy::to(upstream.address).await,
        ConnectProxy::answers("HTTP/1.1 403 No\r\n\r\n").await,
    );
    let (url, wrong) = (proxy.url(), other.url());
    let with_user = url.replace("http://", "http://us:p%40ss@");
    let bare = url.replace("http://", "");
    let file = one_model(PLAIN);
    let of_file = proxied(&url, "");
    for (env, file) in [
        (environment([("HTTP_PROXY", &*url)]), &file),
        (environment([("http_proxy", &*url), ("HTTP_PROXY", &*wrong)]), &file),
        (environment([("ALL_PROXY", &*bare)]), &file),
        (environment([("http_proxy", &*with_user), ("https_proxy", &*wrong)]), &file),
        (environment([("http_proxy", &*wrong), ("no_proxy", "other.test")]), &of_file),
    ] {
        let gateway = Gateway::start_with(&env, file).await;
        let answer = gateway.chat("m", false).await;
        assert_eq!(answer.status(), 200, "{env:?} {file}: {}", answer.text());
    }
    assert_eq!(proxy.heads().len(), 5);
    assert_eq!(proxy.heads().iter().filter(|head| head.contains("Basic dXM6cEBzcw==")).count(), 1);
    assert_eq!(other.heads().len(), 0);
    for (env, file) in [
        (environment([("https_proxy", &*url)]), file.clone()),
        (environment([("http_proxy", &*url), ("NO_PROXY", "localhost, .test")]), file.clone()),
        (
            environment([("http_proxy", &*url), ("no_proxy", "*"), ("NO_PROXY", "none.test")]),
            file.clone(),
        ),
        (environment([("http_proxy", &*url)]), format!("{file}[proxy]\nurl = \"none\"\n")),
        (
            environment([("http_proxy", &*url)]),
            format!("{file}[proxy]\nexcept = [\"model.test\"]\n"),
        ),
    ] {
        let gateway = Gateway::start_with(&env, &file).await;
        assert!(note(&gateway).await.contains("model.test does not resolve"), "{env:?}");
    }
    assert_eq!(proxy.heads().len(), 5, "none of these went through it");
}

#[tokio::test]
async fn this_machine_is_reached_directly() {
    let upstream = Upstream::says("Hi").await;
    let proxy = ConnectProxy::answers("HTTP/1.1 403 No\r\n\r\n").await;
    for endpoint in [upstream.url(), format!("http://localhost:{}/v1", upstream.address.port())] {
        let gateway =
            Gateway::start(&format!("{}[proxy]\nurl = {:?}\n", one_model(&endpoint), proxy.url()))
                .await;
        assert_eq!(gateway.chat("m", false).await.status(), 200);
    }
    assert_eq!(proxy.heads().len(), 0);
}

/// Returns one of GitLab's chats that names its model's address.
fn ask(endpoint: &str) -> Value {
    let payload = json!({
        "content": "Hello", "provider": "litellm", "model": "mistral", "model_endpoint": endpoint,
        "model_api_key": "sk-request", "model_identifier": "custom_openai/theirs",
    });
    json!({"prompt_components": [{"payload": payload}]})
}

#[tokio::test]
async fn what_a_request_names_is_resolved_and_checked_before_the_proxy_hears_of_it() {
    let upstream = Upstream::says("Hi").await;
    let proxy = ConnectProxy::to(upstream.address).await;
    let gateway = Gateway::start(&format!("[proxy]\nurl = {:?}\n", proxy.url())).await;
    let post = async |endpoint: &str| gateway.post("/v1/chat/agent", &ask(endpoint)).await;
    for inside in [
        "http://169.254.169.254/v1",
        "http://127.0.0.1:8000/v1",
        "http://localhost:8000/v1",
        "http://2852039166/v1",
        "http://[::ffff:169.254.169.254]/v1",
        "http://0.0.0.0:8000/v1",
    ] {
        let answer = post(inside).await;
        let refused = (answer.status(), answer.header("x-weir-error"));
        assert_eq!(refused, (422, Some("endpoint_refused")), "{inside}: {}", answer.text());
    }
    assert_eq!(
        post("http://model.test:8000/v1").await.status(),
        502,
        "a name that only the proxy knows is not checked"
    );
    assert_eq!(proxy.goals(), [] as [&str; 0], "the proxy received nothing");
    let answer = post("http://192.0.2.1:8000/v1").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(proxy.goals(), ["192.0.2.1:8000"], "the address that was checked");
    let answer = post("http://3221225985:8000/v1").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(
        proxy.goals().last().unwrap(),
        "192.0.2.1:8000",
        "not the name, which may lead it elsewhere"
    );
    assert_eq!(upstream.requests().len(), 2);
    let file = format!("[features]\nrequest_loopback = true\n[proxy]\nurl = {:?}\n", proxy.url());
    let near = format!("http://2130706433:{}/v1", upstream.address.port());
    let answer = Gateway::start(&file).await.post("/v1/chat/agent", &ask(&near)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(
        (proxy.goals().len(), upstream.requests().len()),
        (2, 3),
        "this machine, by whatever name, is near"
    );
}

#[tokio::test]
async fn a_proxy_that_fails_is_named_with_what_to_do() {
    let started = async |proxy: &str| {
        let env = environment([("http_proxy", proxy)]);
        Gateway::start_with(&env, &one_model(PLAIN)).await
    };
    let down = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let stated = note(&started(&format!("http://us:canary@{down}")).await).await;
    assert!(stated.contains("(http_proxy)") && stated.contains("refused"), "{stated}");
    assert!(
        !stated.contains("canary") && !stated.contains("dXM6Y2FuYXJ5"),
        "nor as Basic: {stated}"
    );
    let stated = note(&started("http://no-such-proxy.test:3128").await).await;
    assert!(stated.contains("(http_proxy)") && stated.contains("does not resolve"), "{stated}");
    for (answer, why) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n",
            "HTTP 407",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
            "no tunnel to model.test:8000: HTTP 403",
        ),
        ("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "bytes before the tunnel"),
        ("SSH-2.0-x\r\n\r\n", "does not answer as an HTTP proxy"),
    ] {
        let proxy = ConnectProxy::answers(answer).await;
        let stated = note(&started(&proxy.url()).await).await;
        assert!(stated.contains(why) && stated.contains("(http_proxy)"), "{stated}");
    }
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let env = environment([("http_proxy", &*format!("http://{}", silent.local_addr().unwrap()))]);
    let gateway = Gateway::start_with(
        &env,
        &format!("{}[timeouts]\nconnect = \"100ms\"\n", one_model(PLAIN)),
    )
    .await;
    let answer = gateway.chat("m", false).await;
    let line = gateway.line(&answer).await;
    assert!(line["note"].as_str().unwrap().contains("by way of http://127.0.0.1"), "{line}");
}

#[tokio::test]
async fn gitlabs_keys_are_fetched_through_it_too() {
    let documents = Upstream::always(crate::support::Reply::json(404, &json!({}))).await;
    let proxy = ConnectProxy::to(documents.address).await;
    let file = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[gitlab]\nurl = \"http://gitlab.test\"\n";
    let _gateway = Gateway::start_whole(&format!("{file}[proxy]\nurl = {:?}\n", proxy.url())).await;
    eventually("the question", async || proxy.goals().contains(&"gitlab.test:80".to_owned())).await;
}

#[test]
fn proxies_that_cannot_be_are_faults() {
    let stated = |text: &str| parse(text).unwrap_err().to_string();
    for url in ["https://proxy:3128", "socks5://proxy:1080", "proxy:port", "http://proxy/path", ""]
    {
        let fault = stated(&format!("[proxy]\nurl = {url:?}\n"));
        assert!(
            fault.contains("weir.toml:2:7: error: proxy.url: expected a URL like"),
            "{url}: {fault}"
        );
    }
    let inside = stated("[proxy]\nurl = \"http://us:canary@proxy:3128\"\n");
    assert!(inside.contains("proxy.credentials") && !inside.contains("canary"), "{inside}");
    let half = stated("[proxy]\nurl = \"http://proxy\"\ncredentials = \"canary\"\n");
    assert!(half.contains("expected user:password") && !half.contains("canary"), "{half}");
    assert!(
        stated("[proxy]\nexcept = [\"10.0.0.0/99\"]\n")
            .contains("weir.toml:2:11: error: proxy.except")
    );
    let of_environment = |variables: &[(&'static str, &str)]| {
        weir::config::from_str("", "weir.toml", &environment(variables.iter().copied()))
    };
    let socks =
        of_environment(&[("HTTPS_PROXY", "socks5://us:canary@h:1")]).unwrap_err().to_string();
    assert!(socks.contains("HTTPS_PROXY: expected a URL") && !socks.contains("canary"), "{socks}");
    let config = of_environment(&[
        ("HTTPS_PROXY", "http://us:canary@h:1"),
        ("NO_PROXY", "a.test,10.0.0.0/99"),
    ])
    .unwrap();
    let text = format!("{config:?}");
    assert!(!text.contains("canary") && !text.contains("dXM6Y2FuYXJ5"), "{text}");
    assert!(
        config.warnings[0].message.contains("\"10.0.0.0/99\" is left out"),
        "{:?}",
        config.warnings
    );
    assert_eq!(config.provenance.source("proxy.url"), "HTTPS_PROXY");
}
