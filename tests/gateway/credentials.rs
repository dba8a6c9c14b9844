//! Credentials that expire, through a running gateway: where they are fetched, what is sent with
//! them, what a client gets without them, and that a reload keeps them.

use serde_json::{Value, json};

use crate::support::{Folder, Gateway, Process, Reply, Upstream, chat_body, eventually};

fn granted() -> Reply {
    Reply::json(
        200,
        &json!({"token_type": "Bearer", "expires_in": 3599, "access_token": "entra-canary"}),
    )
}

fn azure(model: &Upstream, authority: &Upstream, secret: &str) -> String {
    let (endpoint, authority) = (model.address, authority.address);
    format!(
        "[models.m]\nidentifier = \"azure/gpt\"\nendpoint = \"http://{endpoint}\"\napi_version = \"2024-10-21\"\n\
         entra = {{ tenant = \"t-1\", client_id = \"c-1\", client_secret = \"{secret}\", authority = \"http://{authority}\" }}\n"
    )
}

async fn ask(gateway: &Gateway) -> (u16, Value) {
    let answer = gateway
        .call("POST", "/v1/chat/completions", &[], chat_body("m", false).to_string().as_bytes())
        .await;
    (answer.status(), serde_json::from_str(answer.text()).unwrap())
}

#[tokio::test]
async fn an_entra_token_is_fetched_once_and_sent_alone() {
    let (model, authority) = (Upstream::says("hi").await, Upstream::always(granted()).await);
    let gateway = Gateway::start(&azure(&model, &authority, "app-canary+&=")).await;
    for _ in 0..3 {
        assert_eq!(ask(&gateway).await.0, 200);
    }
    let token_call = authority.only_request();
    assert_eq!((&*token_call.method, &*token_call.path), ("POST", "/t-1/oauth2/v2.0/token"));
    assert_eq!(
        token_call.text(),
        "grant_type=client_credentials&client_id=c-1&scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default\
         &client_secret=app-canary%2B%26%3D"
    );
    for request in model.requests() {
        assert_eq!(request.header("authorization"), Some("Bearer entra-canary"));
        assert_eq!(request.header("api-key"), None);
    }
    assert!(!gateway.log.text().contains("canary"));
}

#[tokio::test]
async fn a_reload_forgets_no_token_and_another_secret_needs_its_own() {
    let model = Upstream::says("hi").await;
    let denied = json!({"error": "invalid_client", "error_description": "AADSTS7000222: expired.\r\nTrace ID: 1"});
    let authority = Upstream::script([granted(), Reply::json(401, &denied)]).await;
    let file = azure(&model, &authority, "a");
    let gateway = Gateway::start(&file).await;
    assert_eq!(ask(&gateway).await.0, 200);
    gateway.reload(&file);
    authority.received(2).await;
    assert_eq!(ask(&gateway).await.0, 200, "the token is good, whatever came since");
    gateway.reload(&azure(&model, &authority, "b"));
    let (status, body) = ask(&gateway).await;
    assert_eq!((status, body["error"]["code"].as_str()), (503, Some("no_credentials")));
    assert!(body["error"]["message"].as_str().unwrap().contains("Entra ID token"), "{body}");
    assert_eq!(model.requests().len(), 2, "nothing goes out without credentials");
    let line = gateway.log.line(body["error"]["request_id"].as_str().unwrap()).await;
    let note = line["note"].as_str().unwrap();
    assert!(
        note.contains("invalid_client: AADSTS7000222: expired.") && !note.contains("Trace"),
        "{note}"
    );
}

#[tokio::test]
async fn an_authority_that_is_silent_costs_a_request_two_seconds() {
    let (model, authority) = (Upstream::says("hi").await, Upstream::always(Reply::stalled()).await);
    let gateway = Gateway::start(&azure(&model, &authority, "a")).await;
    let began = std::time::Instant::now();
    let (status, body) = ask(&gateway).await;
    assert_eq!((status, body["error"]["code"].as_str()), (503, Some("no_credentials")));
    let waited = began.elapsed().as_secs_f32();
    assert!((1.5..4.5).contains(&waited), "the fetch itself may take five: {waited}");
    assert_eq!((model.requests().len(), authority.requests().len()), (0, 1));
}

#[tokio::test]
async fn the_containers_role_signs_and_its_absence_is_reported() {
    let converse = json!({"output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}},
        "stopReason": "end_turn", "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}});
    let model = Upstream::always(Reply::json(200, &converse)).await;
    let role = json!({"AccessKeyId": "ASIATEST", "SecretAccessKey": "secret-canary", "Token": "token-canary",
        "Expiration": "2999-01-01T00:00:00Z"});
    let container = Upstream::always(Reply::json(200, &role)).await;
    let folder = Folder::new("container");
    let file = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[telemetry]\nformat = \"json\"\n\
         [models.m]\nidentifier = \"bedrock/x\"\nregion = \"eu-central-1\"\nendpoint = \"http://{}\"\n",
        model.address
    );
    let file = folder.write("weir.toml", &file);
    let uri = format!("http://{}/role", container.address);
    let weir = Process::serve_with(&file, &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri)]).await;
    assert_eq!(weir.chat("m").await.status(), 200);
    let sent = model.only_request();
    assert!(
        sent.header("authorization").unwrap().contains("Credential=ASIATEST/"),
        "{}",
        sent.head_text()
    );
    assert_eq!(sent.header("x-amz-security-token"), Some("token-canary"));
    assert!(!weir.output().contains("canary"), "{}", weir.output());

    let nobody = Process::serve_with(&file, &[("AWS_EC2_METADATA_DISABLED", "true")]).await;
    let answer = nobody.chat("m").await;
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("1")));
    assert!(answer.text().contains("no valid AWS credentials"), "{}", answer.text());
    eventually("the reason in the log", async || {
        nobody.output().contains("AWS credentials could not be fetched")
    })
    .await;
}

#[tokio::test]
async fn a_corrected_clock_is_used_where_it_was_found_out() {
    for _ in 0..3 {
        let refused = Reply::whole(
            403,
            &[
                ("date", "Wed, 01 Jan 2031 00:00:00 GMT"),
                ("x-amzn-errortype", "InvalidSignatureException"),
            ],
            r#"{"message":"Signature expired: 20260101T000000Z is now earlier than 20310101T000000Z (5 min.)"}"#,
        );
        let good = Reply::json(
            200,
            &json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}),
        );
        let replies = [refused, good];
        let replicas = [Upstream::script(replies.clone()).await, Upstream::script(replies).await];
        let gateway = Gateway::start(&format!(
            "[models.m]\nidentifier = \"bedrock/x\"\nregion = \"eu-central-1\"\nbedrock_openai = true\n\
             endpoints = [\"http://{}\", \"http://{}\"]\naccess_key_id = \"AKID\"\nsecret_access_key = \"s\"\n\
             guardrail = {{ identifier = \"g1\", version = \"2\", trace = \"enabled\" }}\n",
            replicas[0].address, replicas[1].address
        ))
        .await;
        let (status, body) = ask(&gateway).await;
        assert_eq!(status, 200, "{body}");
        let counts = replicas.each_ref().map(|replica| replica.requests().len());
        assert!(counts == [2, 0] || counts == [0, 2], "{counts:?}");
        let received = replicas.iter().flat_map(Upstream::requests).next_back().unwrap();
        assert_eq!(received.path, "/openai/v1/chat/completions");
        assert_eq!(received.header("x-amzn-bedrock-guardrailversion"), Some("2"));
        assert_eq!(received.header("x-amzn-bedrock-trace"), Some("ENABLED"));
        assert!(
            received
                .header("authorization")
                .unwrap()
                .contains("x-amzn-bedrock-guardrailidentifier")
        );
    }
}
