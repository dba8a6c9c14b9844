//! The rules of precedence (`weir::route::Rule`), each with the request that it decides; and
//! addresses that must never be called.

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Reply, Upstream};

/// A gateway with two models, `one` and `two`, and these lines in `[features]`.
struct House {
    one: Upstream,
    two: Upstream,
    gateway: Gateway,
}

impl House {
    async fn with(features: &str) -> Self {
        let (one, two) = (Upstream::says("one").await, Upstream::says("two").await);
        let model = |name: &str, url: String| {
            format!("[models.{name}]\nendpoint = \"{url}\"\napi_key = \"sk-{name}\"\n")
        };
        let models = [model("one", one.url()), model("two", two.url())].concat();
        let gateway = Gateway::start(&format!("{models}[features]\n{features}\n")).await;
        Self { one, two, gateway }
    }

    /// Sends one of GitLab's chats.
    async fn send(&self, name: &str, named: Option<&str>) -> Answer {
        let mut payload = json!({"content": "Hello", "provider": "litellm"});
        if let Some(endpoint) = named {
            payload["model"] = json!("mistral");
            payload["model_endpoint"] = json!(endpoint);
            payload["model_api_key"] = json!("sk-request");
            payload["model_identifier"] = json!("custom_openai/theirs");
        }
        let body = json!({"prompt_components": [{"payload": payload}]});
        self.gateway.post(&format!("/v1/chat/{name}"), &body).await
    }

    /// Returns the status, the body, and the log line.
    async fn ask(&self, name: &str, named: Option<&str>) -> (u16, Value, Value) {
        let answer = self.send(name, named).await;
        (answer.status(), answer.json(), self.gateway.line(&answer).await)
    }

    /// Returns the model that responded.
    async fn answered(&self, name: &str, named: Option<&str>) -> String {
        let (status, body, line) = self.ask(name, named).await;
        assert_eq!(status, 200, "{body}");
        format!("{} by {}", body["response"].as_str().unwrap(), line["model"].as_str().unwrap())
    }

    fn nothing_sent(&self) {
        assert_eq!(
            (self.one.connections(), self.two.connections()),
            (0, 0),
            "nothing may be sent anywhere"
        );
    }
}

#[tokio::test]
async fn the_features_line_wins_over_the_request() {
    let house = House::with("duo_chat = \"one\"\ndefault = \"two\"\nrequest_loopback = true").await;
    assert_eq!(house.answered("agent", Some(&house.two.url())).await, "one by one");
    assert_eq!(house.one.only_request().header("authorization"), Some("Bearer sk-one"));
}

#[tokio::test]
async fn a_sub_feature_has_its_own_line_or_its_parents() {
    let house = House::with("duo_chat = \"one\"\nduo_chat_write_tests = \"two\"").await;
    assert_eq!(house.answered("explain_code", None).await, "one by one");
    assert_eq!(house.answered("write_tests", None).await, "two by two");
}

#[tokio::test]
async fn the_requests_model_wins_over_the_default() {
    let house = House::with("default = \"one\"\nrequest_loopback = true").await;
    assert_eq!(house.answered("agent", Some(&house.two.url())).await, "two by request");
    let sent = house.two.only_request();
    assert_eq!(
        (&sent.json()["model"], sent.header("authorization")),
        (&json!("theirs"), Some("Bearer sk-request"))
    );
    assert_eq!(house.answered("agent", None).await, "one by one");
}

#[tokio::test]
async fn listed_takes_only_endpoints_of_the_file() {
    let house =
        House::with("default = \"one\"\nrequest_models = \"listed\"\nrequest_loopback = true")
            .await;
    assert_eq!(house.answered("agent", Some(&house.two.url())).await, "two by request");
    let stranger = Upstream::says("stranger").await;
    let (status, body, line) = house.ask("agent", Some(&stranger.url())).await;
    assert_eq!((status, &line["error_code"]), (422, &json!("endpoint_refused")), "{body}");
    assert_eq!(stranger.connections(), 0);
}

#[tokio::test]
async fn ignored_models_of_requests_are_as_if_not_there() {
    let house = House::with("default = \"one\"\nrequest_models = \"ignore\"").await;
    assert_eq!(house.answered("agent", Some(&house.two.url())).await, "one by one");
}

#[tokio::test]
async fn without_a_rule_it_is_422_and_never_a_guess() {
    let house = House::with("code_completions = \"one\"").await;
    let (status, body, line) = house.ask("agent", None).await;
    assert_eq!(
        (status, &line["error_code"], &line["outcome"]),
        (422, &json!("no_model"), &json!("refused"))
    );
    let stated = body["detail"][0]["msg"].as_str().unwrap();
    assert_eq!(
        stated,
        "No model is configured for duo_chat: set features.duo_chat or features.default"
    );
    house.nothing_sent();
}

#[tokio::test]
async fn disabled_is_403_and_sends_nothing() {
    let house = House::with(
        "default = \"one\"\nduo_chat_write_tests = \"disabled\"\nrequest_loopback = true",
    )
    .await;
    for named in [None, Some(house.two.url())] {
        let (status, body, line) = house.ask("write_tests", named.as_deref()).await;
        assert_eq!(
            (status, &line["error_code"], &line["outcome"]),
            (403, &json!("feature_disabled"), &json!("refused"))
        );
        assert!(
            body["detail"][0]["msg"].as_str().unwrap().contains("duo_chat_write_tests"),
            "{body}"
        );
    }
    let answer = house.gateway.chat("feature/duo_chat_write_tests", true).await;
    assert_eq!(
        (answer.status(), &answer.json()["error"]["code"]),
        (403, &json!("feature_disabled"))
    );
    house.nothing_sent();
    // its siblings are not disabled
    assert_eq!(house.answered("explain_code", None).await, "one by one");
}

#[tokio::test]
async fn a_disabled_parent_disables_what_has_no_line_of_its_own() {
    let house =
        House::with("default = \"one\"\nduo_chat = \"disabled\"\nduo_chat_write_tests = \"two\"")
            .await;
    assert_eq!(house.ask("explain_code", None).await.0, 403);
    house.nothing_sent();
    assert_eq!(house.answered("write_tests", None).await, "two by two");
}

#[tokio::test]
async fn a_disabled_default_refuses_what_no_rule_names() {
    let house = House::with("default = \"disabled\"").await;
    assert_eq!(house.ask("agent", None).await.0, 403);
    house.nothing_sent();
}

#[tokio::test]
async fn the_prefix_decides_and_provider_nothing() {
    let house = House::with("request_loopback = true").await;
    let ask = |provider: &str, identifier: &str| {
        let payload = json!({"content": "Hello", "provider": provider, "model": "mistral",
            "model_endpoint": house.two.url(), "model_identifier": identifier});
        json!({"prompt_components": [{"payload": payload}]})
    };
    for (provider, identifier, upstream_name) in [
        ("bedrock", "custom_openai/a", "a"),
        ("openai", "litellm_proxy/b/c", "b/c"),
        ("vertex_ai", "hosted_vllm/d", "d"),
        ("anthropic", "plain", "plain"),
        ("litellm", "", "mistral"),
    ] {
        let answer = house.gateway.post("/v1/chat/agent", &ask(provider, identifier)).await;
        assert_eq!(answer.status(), 200, "{provider} {identifier}: {}", answer.text());
        assert_eq!(
            house.two.requests().last().unwrap().json()["model"],
            upstream_name,
            "{identifier}"
        );
    }
}

#[tokio::test]
async fn link_local_and_metadata_addresses_are_refused_in_every_spelling() {
    // even where loopback is allowed
    let house = House::with("request_loopback = true").await;
    for host in [
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "2852039166",
        "0xa9fea9fe",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "0.0.0.0",
        "[::]",
        "224.0.0.1",
        "255.255.255.255",
    ] {
        let answer = house.send("agent", Some(&format!("http://{host}/latest"))).await;
        let refused = (answer.status(), answer.header("x-weir-error"));
        assert_eq!(refused, (422, Some("endpoint_refused")), "{host}: {}", answer.text());
    }
    house.nothing_sent();
}

#[tokio::test]
async fn loopback_is_refused_in_every_spelling_unless_allowed() {
    let house = House::with("default = \"one\"").await;
    let port = house.two.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "127.9.9.9",
        "localhost",
        "LOCALHOST",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ] {
        let answer = house.send("agent", Some(&format!("http://{host}:{port}/v1"))).await;
        let refused = (answer.status(), answer.header("x-weir-error"));
        assert_eq!(refused, (422, Some("endpoint_refused")), "{host}: {}", answer.text());
        assert!(!answer.text().contains("127."), "the address stays in the log: {}", answer.text());
    }
    house.nothing_sent();
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let goal = Upstream::says("goal").await;
    let location = format!("{}/chat/completions", goal.url());
    let upstream = Upstream::always(Reply::whole(307, &[("location", &location)], "")).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let answer = gateway.chat("m", false).await;
    assert_eq!(answer.status(), 502, "{}", answer.text());
    assert!(answer.header("location").is_none());
    assert_eq!((upstream.requests().len(), goal.connections()), (1, 0));
}

#[tokio::test]
async fn replicas_share_the_requests_in_flight() {
    let (one, two) =
        (Upstream::always(Reply::stalled()).await, Upstream::always(Reply::stalled()).await);
    let file = format!("[models.m]\nendpoints = [\"{}\", \"{}\"]\n", one.url(), two.url());
    let gateway = Gateway::start(&file).await;
    let mut clients = Vec::new();
    for count in 1..=6 {
        clients.push(gateway.open_chat("m", true).await);
        crate::support::eventually("one more request", async || {
            one.requests().len() + two.requests().len() == count
        })
        .await;
    }
    assert_eq!((one.requests().len(), two.requests().len()), (3, 3));
}
