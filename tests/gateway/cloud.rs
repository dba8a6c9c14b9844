//! `"gitlab"` in `[features]`: requests go to GitLab's cloud gateway byte for byte with the
//! caller's own token, and its responses come back unchanged. Nothing of this gateway goes with
//! them.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::{Answer, Client, End, Gateway, Reply, Upstream, one_model};

/// The headers that GitLab sends with every call (contract::gitlab_client §2.1), in an unusual
/// order.
const GITLABS: [(&str, &str); 8] = [
    ("x-gitlab-version", "18.9.0"),
    ("X-Gitlab-Instance-Id", "1111-2222"),
    ("User-Agent", "gitlab-workhorse/v18"),
    ("authorization", "Bearer callers.own.token"),
    ("X-GITLAB-Rails-Send-Start", "1762435200.123456"),
    ("X-Request-ID", "01ABC"),
    ("accept", "application/json"),
    ("Accept-Encoding", "gzip;q=1.0,identity;q=0.3"),
];
/// Headers that must not be forwarded.
const STRANGERS: [(&str, &str); 9] = [
    ("connection", "keep-alive, X-Gitlab-Hop"),
    ("x-gitlab-hop", "canary"),
    ("cookie", "session=canary"),
    ("x-api-key", "canary"),
    ("x-forwarded-for", "10.0.0.canary"),
    ("proxy-authorization", "Basic canary"),
    ("te", "trailers, canary"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("x-canary", "x"),
];
const CHAT: &str = "/v1/chat/agent";
/// Whitespace, an escape and an unknown field that no parser would serialize unchanged.
const ODD: &str = "{ \"stream\" :false,\r\n\t\"prompt_components\": [ {\"payload\":{\"content\" : \"H\\u0069\"}} ] , \"x\":1.50 }\n ";

fn to_cloud(cloud: &Upstream, features: &str) -> String {
    format!("[gitlab]\ncloud_url = \"http://{}/ai\"\n[features]\n{features}\n", cloud.address)
}

async fn gateway(cloud: &Upstream) -> Gateway {
    Gateway::start(&to_cloud(cloud, "default = \"gitlab\"")).await
}

fn chat() -> Vec<u8> {
    json!({"prompt_components": [{"payload": {"content": "Hello"}}]}).to_string().into_bytes()
}

async fn ask(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    gateway.call("POST", CHAT, headers, &chat()).await
}

#[tokio::test]
async fn a_request_goes_on_byte_for_byte_and_with_what_is_gitlabs_alone() {
    let cloud = Upstream::always(Reply::json(200, &json!({"response": "hi"}))).await;
    let gateway = gateway(&cloud).await;
    let target = "//v1%2Fchat/agent?a=%2F&b=c%20d";
    let answer = gateway
        .call("POST", target, &[&STRANGERS[..], &GITLABS[..]].concat(), ODD.as_bytes())
        .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let request = cloud.only_request();
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", &*format!("/ai{target}"))
    );
    assert_eq!(request.text(), ODD);
    for (name, value) in GITLABS {
        assert_eq!(request.header(&name.to_ascii_lowercase()), Some(value), "{name}");
    }
    let mut names: Vec<String> = request
        .head_text()
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.to_owned()))
        .collect();
    names.sort();
    let mut expected: Vec<String> =
        GITLABS.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    expected.extend(["host", "content-type", "content-length"].map(str::to_owned));
    expected.sort();
    assert_eq!(names, expected, "nothing of ours, nothing twice");
    assert_eq!(request.header("host"), Some(&*cloud.address.to_string()));
    assert!(!request.head_text().contains("canary"));
}

#[tokio::test]
async fn an_answer_comes_back_byte_for_byte() {
    let body = b"{ \"response\":\r\n \"h\\u0069\" }\n\n\xff".as_slice();
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("content-encoding", "x-canary"),
        ("x-gitlab-feature", "y"),
        ("retry-after", "7"),
        ("server", "cloudflare"),
        ("set-cookie", "__cf_bm=1"),
        ("alt-svc", "h3=\":443\""),
    ];
    let cloud = Upstream::always(Reply::whole(207, &headers, body)).await;
    let gateway = gateway(&cloud).await;
    let answer = ask(&gateway, &GITLABS).await;
    assert_eq!((answer.status(), answer.body.as_slice()), (207, body));
    for (name, value) in &headers[..4] {
        assert_eq!(answer.header(name), Some(*value));
    }
    for name in ["server", "set-cookie", "alt-svc"] {
        assert_eq!(answer.header(name), None, "{name} is about the cloud's host");
    }
    assert_eq!(answer.header("x-request-id"), Some("01ABC"));
    let line = gateway.line(&answer).await;
    assert_eq!(
        (&line["provider"], &line["model"], &line["outcome"]),
        (&json!("gitlab"), &json!("gitlab"), &json!("ok"))
    );
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("weir_requests_total", &[("model", "gitlab"), ("outcome", "ok")]), 1.0);
    assert_eq!(metrics.sum("weir_upstream_healthy", &[("model", "gitlab")]), 1.0);
}

#[tokio::test]
async fn a_stream_comes_as_it_is_made_and_is_not_looked_into() {
    let gate = Arc::new(Notify::new());
    let first = "event: stream_start\ndata: {\"a\":1}\n\nevent: content_ch";
    let reply =
        Reply::head(200, &[("content-type", "text/event-stream"), ("x-streaming-format", "sse")]);
    let cloud =
        Upstream::always(reply.bytes(first).gate(&gate).bytes("unk\r\n\r\ndata:[DONE]").end())
            .await;
    let gateway = gateway(&cloud).await;
    let mut client = Client::connect(gateway.public).await;
    client
        .send(
            "POST",
            CHAT,
            &GITLABS,
            b"{\"stream\":true,\"prompt_components\":[{\"payload\":{\"content\":\"x\"}}]}",
        )
        .await;
    let head = client.head().await;
    assert_eq!(head.header("x-streaming-format"), Some("sse"));
    assert_eq!(client.read_until("content_ch").await, first, "half an event, at once");
    gate.notify_one();
    let answer = client.body(head, false).await;
    assert_eq!((answer.text(), answer.end), ("unk\r\n\r\ndata:[DONE]", End::Proper));
    let line = gateway.line(&answer).await;
    assert_eq!((&line["stream"], &line["outcome"]), (&json!(true), &json!("ok")), "{line}");
    assert!(line.get("tokens_in").is_none(), "what the cloud counts it does not say: {line}");
}

#[tokio::test]
async fn what_the_cloud_refuses_keeps_its_meaning() {
    let stated = r#"{"error":"insufficient_credits"}"#;
    let cases = [
        (401, "unauthorized", "refused"),
        (403, "forbidden", "refused"),
        (429, "upstream_status", "upstream_error"),
    ];
    for (status, code, outcome) in cases {
        let cloud =
            Upstream::always(Reply::whole(status, &[("content-type", "application/json")], stated))
                .await;
        let gateway = gateway(&cloud).await;
        let answer = ask(&gateway, &GITLABS).await;
        assert_eq!((answer.status(), answer.text()), (status, stated));
        assert_eq!(answer.header("x-weir-error"), None, "these are the cloud's words");
        let line = gateway.line(&answer).await;
        assert_eq!(
            (&line["status"], &line["error_code"]),
            (&json!(status), &json!(code)),
            "{line}"
        );
        assert_eq!(line["outcome"], outcome, "{line}");
        assert_eq!(cloud.requests().len(), 1, "not sent again");
    }
}

#[tokio::test]
async fn a_cloud_that_is_silent_is_a1000_and_one_that_is_gone_is_502() {
    let cloud = Upstream::always(Reply::stalled()).await;
    let gateway = Gateway::start(&to_cloud(
        &cloud,
        "duo_chat = { model = \"gitlab\", timeouts = { first_byte = \"80ms\" } }",
    ))
    .await;
    let answer = ask(&gateway, &[]).await;
    assert_eq!((answer.status(), answer.header("x-weir-error")), (504, Some("A1000")));
    assert!(
        answer.text().contains("A1000: gitlab did not answer within 0.08 s (first_byte)"),
        "{}",
        answer.text()
    );
    cloud.closed(0).await;

    let cut = Upstream::always(Reply::head(200, &[]).bytes("{\"type\":").then_close()).await;
    gateway.reload(&to_cloud(&cut, "duo_chat = \"gitlab\""));
    let answer = ask(&gateway, &[]).await;
    assert_eq!((answer.status(), answer.end), (200, End::Cut), "a clean end would be a lie");
    assert_eq!(gateway.line(&answer).await["error_code"], "upstream_broken");

    gateway.reload(
        "[gitlab]\ncloud_url = \"http://127.0.0.1:1\"\n[features]\nduo_chat = \"gitlab\"\n",
    );
    let answer = ask(&gateway, &[]).await;
    assert_eq!((answer.status(), answer.header("x-weir-error")), (502, Some("upstream_connect")));
    assert!(!answer.everything().contains("127.0.0.1"));
}

#[tokio::test]
async fn each_feature_goes_its_own_form_and_a_reload_turns_it() {
    let cloud = Upstream::always(Reply::json(200, &json!({"response": "from the cloud"}))).await;
    let model = Upstream::says("mine").await;
    let file = |features: &str| {
        format!("{}{features}\n", to_cloud(&cloud, "").replace("[features]", ""))
            + &one_model(&model.url())
    };
    let gateway =
        Gateway::start(&(file("") + "duo_chat = \"gitlab\"\nduo_chat_fix_code = \"disabled\"\n"))
            .await;
    let text =
        async |path: &str| gateway.call("POST", path, &GITLABS, &chat()).await.text().to_owned();
    assert!(text(CHAT).await.contains("from the cloud"));
    assert!(text("/v1/chat/explain_code").await.contains("from the cloud"), "as its parent");
    assert_eq!(gateway.chat("m", false).await.json()["choices"][0]["message"]["content"], "mine");
    gateway.reload(&(file("") + "duo_chat = \"disabled\"\nduo_chat_explain_code = \"gitlab\"\n"));
    assert!(text(CHAT).await.contains("disabled by the administrator"));
    assert!(text("/v1/chat/explain_code").await.contains("from the cloud"));
    gateway.reload(&file(""));
    assert!(text("/v1/chat/explain_code").await.contains("mine"));
    assert_eq!(cloud.requests().len(), 3);
}

#[tokio::test]
async fn a_static_key_never_leaves() {
    let cloud = Upstream::always(Reply::json(200, &json!({}))).await;
    let auth = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nstatic_keys = [\"sk-canary\"]\n";
    let gateway =
        Gateway::start_whole(&format!("{auth}{}", to_cloud(&cloud, "default = \"gitlab\""))).await;
    let key = [("authorization", "Bearer sk-canary")];
    let answer = ask(&gateway, &key).await;
    assert_eq!(answer.status(), 403);
    assert!(answer.text().contains("not a static key of this gateway"), "{}", answer.text());
    let answer = gateway.call("POST", "/v1/amazon_q/events", &key, b"{}").await;
    assert!(
        answer.status() == 404 && answer.text().contains("Not Found: Amazon Q"),
        "{}",
        answer.text()
    );
    let answer =
        gateway.call("POST", "/v1/search/gitlab-docs", &key, br#"{"payload":{"query":"x"}}"#).await;
    assert_eq!((answer.status(), &answer.json()["response"]["results"]), (200, &json!([])));
    assert_eq!(ask(&gateway, &[]).await.status(), 401);
    assert!(cloud.requests().is_empty());
}

#[tokio::test]
async fn a_self_hosted_models_address_and_key_never_leave() {
    let cloud = Upstream::always(Reply::json(200, &json!({}))).await;
    let gateway = Gateway::start(&to_cloud(&cloud, "duo_chat = \"gitlab\"")).await;
    let payload = json!({"content": "x", "model": "mistral", "model_endpoint": "http://gpu:8000/v1", "model_api_key": "canary"});
    let answer = gateway.post(CHAT, &json!({"prompt_components": [{"payload": payload}]})).await;
    assert_eq!((answer.status(), answer.header("x-weir-error")), (422, Some("endpoint_refused")));
    assert!(
        answer.text().contains("choose the GitLab AI vendor model in GitLab too"),
        "{}",
        answer.text()
    );
    assert!(cloud.requests().is_empty());
    // GitLab's own models have neither (contract::gitlab_client §4.1)
    let payload = json!({"content": "x", "model": "claude", "model_identifier": "claude_sonnet"});
    assert_eq!(
        gateway.post(CHAT, &json!({"prompt_components": [{"payload": payload}]})).await.status(),
        200
    );
}

#[tokio::test]
async fn a_call_only_gitlab_knows_goes_where_the_default_goes() {
    let cloud = Upstream::always(Reply::json(200, &json!({"models": []}))).await;
    let gateway = gateway(&cloud).await;
    let answer = gateway.call("GET", "/v1/future%2Fcall?x=1", &GITLABS, b"").await;
    assert_eq!((answer.status(), answer.json()), (200, json!({"models": []})));
    let request = cloud.only_request();
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("GET", "/ai/v1/future%2Fcall?x=1")
    );
    assert_eq!(request.header("content-length"), None, "a GET has no body");
    let line = gateway.line(&answer).await;
    assert_eq!((&line["surface"], &line["model"]), (&json!("unknown"), &json!("gitlab")), "{line}");
    assert_eq!(gateway.call("PUT", "/v5/call", &GITLABS, b"x").await.status(), 404);
    assert_eq!(gateway.get("/etc/passwd").await.status(), 404);
    gateway.reload(&to_cloud(&cloud, "duo_chat = \"gitlab\""));
    assert_eq!(gateway.call("GET", "/v1/future%2Fcall", &GITLABS, b"").await.status(), 404);
    assert_eq!(cloud.requests().len(), 1);
}

#[tokio::test]
async fn openais_surface_says_that_the_cloud_is_not_for_it() {
    let cloud = Upstream::always(Reply::json(200, &json!({}))).await;
    let gateway = gateway(&cloud).await;
    for model in ["feature/duo_chat", "feature/code_completions"] {
        let answer = gateway.chat(model, true).await;
        assert_eq!(
            (answer.status(), &answer.json()["error"]["code"]),
            (404, &json!("model_not_found"))
        );
        assert!(answer.text().contains("GitLab's AI vendor model here"), "{}", answer.text());
    }
    assert_eq!(gateway.chat("gitlab", false).await.status(), 404, "no name of the file");
    assert_eq!(gateway.get("/v1/models").await.json()["data"], json!([]));
    assert!(cloud.requests().is_empty());
    let status: Value = gateway.admin("/status").await.json();
    let row = &status["models"][0];
    assert_eq!(
        (&row["name"], &row["provider"], &row["endpoints"][0]["healthy"]),
        (&json!("gitlab"), &json!("gitlab"), &json!(true))
    );
}

#[tokio::test]
async fn what_the_cloud_answers_it_also_gives_tokens_for_and_searches_for() {
    let cloud = Upstream::always(Reply::json(200, &json!({"from": "the cloud"}))).await;
    let gateway =
        Gateway::start(&to_cloud(&cloud, "duo_chat = \"gitlab\"\ncode_completions = \"gitlab\""))
            .await;
    for path in ["/v1/code/user_access_token", "/v1/search/gitlab-docs"] {
        let answer = gateway.call("POST", path, &GITLABS, b"{}").await;
        assert_eq!((answer.status(), answer.text()), (200, r#"{"from":"the cloud"}"#), "{path}");
    }
    let paths: Vec<String> = cloud.requests().into_iter().map(|request| request.path).collect();
    assert!(
        paths[0].ends_with("/v1/code/user_access_token")
            && paths[1].ends_with("/v1/search/gitlab-docs"),
        "{paths:?}"
    );
}
