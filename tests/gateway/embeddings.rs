//! GitLab's semantic code search: its request, its literal refusals, its response
//! (contract::gitlab_client §9.4).

use serde_json::{Value, json};

use crate::support::{Gateway, Reply, Upstream};

const PATH: &str = "/v1/embeddings/code_embeddings";
const LAB: &str = "[features]\nrequest_loopback = true\n";

fn vectors(count: usize) -> Value {
    let vector = |index: usize| json!({"object": "embedding", "index": index, "embedding": [0.25, 0.5, -0.125]});
    let data: Vec<Value> = (0..count).rev().map(vector).collect();
    json!({"object": "list", "model": "up", "data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}})
}

/// Starts a server that returns the same vector for every text.
async fn server() -> Upstream {
    Upstream::start(|request| {
        let count = request.json()["input"].as_array().unwrap().len();
        Reply::json(200, &vectors(count))
    })
    .await
}

fn metadata(upstream: &Upstream) -> Value {
    json!({"provider": "litellm", "name": "embedding", "endpoint": upstream.url(), "api_key": "sk-form", "identifier": "openai/bge-m3"})
}

#[tokio::test]
async fn all_three_paths_ask_the_model_of_the_form_in_openais_format() {
    let upstream = server().await;
    let gateway = Gateway::start(LAB).await;
    for path in ["", "/index", "/search"] {
        let body =
            json!({"model_metadata": metadata(&upstream), "contents": ["def a(): pass", "x"]});
        let answer = gateway.post(&format!("{PATH}{path}"), &body).await;
        let expected = r#"{"model":{"engine":"litellm_embedding","name":"embedding","identifier":"openai/bge-m3"},"predictions":[{"embedding":[0.25,0.5,-0.125],"index":0},{"embedding":[0.25,0.5,-0.125],"index":1}]}"#;
        assert_eq!((answer.status(), answer.text()), (200, expected));
        let line = gateway.line(&answer).await;
        assert_eq!(
            (&line["surface"], &line["feature"], &line["tokens_in"]),
            (&json!("gitlab_embeddings"), &json!("embeddings_code"), &json!(7)),
            "{line}"
        );
    }
    for request in upstream.requests() {
        assert_eq!(
            (request.path.as_str(), request.header("authorization")),
            ("/v1/embeddings", Some("Bearer sk-form"))
        );
        let body =
            json!({"input": ["def a(): pass", "x"], "model": "bge-m3", "encoding_format": "float"});
        assert_eq!(request.json(), body);
    }
}

#[tokio::test]
async fn the_file_decides_before_the_request() {
    let (ours, theirs) = (server().await, server().await);
    let file = format!(
        "[models.e]\nidentifier = \"custom_openai/up\"\nendpoint = \"{}\"\n{LAB}embeddings_code = \"e\"\n",
        ours.url()
    );
    let gateway = Gateway::start(&file).await;
    let stated = [
        json!({"provider": "gitlab", "identifier": "text_embedding_005"}),
        metadata(&theirs),
        Value::Null,
    ];
    for model_metadata in stated {
        let answer = gateway
            .post(
                PATH,
                &json!({"model_metadata": model_metadata, "contents": ["x"], "dimensions": 3}),
            )
            .await;
        assert_eq!((answer.status(), &answer.json()["model"]["identifier"]), (200, &json!("up")));
    }
    assert_eq!((ours.requests().len(), theirs.requests().len()), (3, 0));
    assert_eq!(ours.requests()[0].json()["dimensions"], 3);
}

#[tokio::test]
async fn azure_is_called_by_its_own_path_and_key() {
    let upstream = server().await;
    let file = format!(
        "[models.e]\nidentifier = \"azure/ada\"\nendpoint = \"{}\"\napi_key = \"k\"\napi_version = \"2024-10-21\"\n[features]\nembeddings_code = \"e\"\n",
        upstream.url().trim_end_matches("/v1")
    );
    let answer = Gateway::start(&file).await.post(PATH, &json!({"contents": ["x"]})).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let request = upstream.only_request();
    assert_eq!(request.path, "/openai/deployments/ada/embeddings?api-version=2024-10-21");
    assert_eq!(request.header("api-key"), Some("k"));
}

#[tokio::test]
async fn refusals_are_gitlabs_word_for_word_and_nothing_is_sent() {
    let upstream = server().await;
    let gateway = Gateway::start(LAB).await;
    let without = |name: &str| {
        let mut metadata = metadata(&upstream);
        metadata.as_object_mut().unwrap().remove(name);
        metadata
    };
    let with = |name: &str, value: &str| {
        let mut metadata = metadata(&upstream);
        metadata[name] = json!(value);
        metadata
    };
    for (model_metadata, detail) in [
        (with("provider", "openai"), "Allowed providers are: gitlab|litellm."),
        (without("provider"), "Allowed providers are: gitlab|litellm."),
        (without("name"), "Model `name` must be set when using `litellm` provider."),
        (
            with("name", "mistral"),
            "Model `name` must be 'embedding' when using `litellm` provider.",
        ),
        (without("endpoint"), "Model `endpoint` must be set when using `litellm` provider."),
        (
            with("endpoint", "gpu"),
            "model_metadata.endpoint: an endpoint starts with http:// or https://",
        ),
        (
            json!({"provider": "gitlab", "identifier": "x"}),
            "No model is configured for embeddings_code: set features.embeddings_code or features.default",
        ),
    ] {
        let answer =
            gateway.post(PATH, &json!({"model_metadata": model_metadata, "contents": ["x"]})).await;
        assert_eq!((answer.status(), answer.json()), (422, json!({ "detail": detail })));
    }
    let many: Vec<&str> = vec!["x"; 2049];
    for (more, detail) in [
        (json!({"contents": []}), "contents: expected at least one text"),
        (
            json!({"contents": many}),
            "contents: expected at most 2048 texts, there are 2049: send several requests",
        ),
        (json!({"contents": ["x", 7]}), "contents.1: expected a string"),
        (json!({}), "contents: Field required"),
        (json!({"contents": ["x"], "dimensions": 0}), "dimensions: expected a number above 0"),
    ] {
        let mut body = more;
        body["model_metadata"] = metadata(&upstream);
        let answer = gateway.post(PATH, &body).await;
        assert_eq!((answer.status(), answer.json()), (422, json!({ "detail": detail })));
    }
    let file = "[models.e]\nidentifier = \"anthropic/claude\"\nendpoint = \"http://127.0.0.1:1\"\n[features]\nembeddings_code = \"e\"\n";
    let answer = Gateway::start(file).await.post(PATH, &json!({"contents": ["x"]})).await;
    assert!(
        answer.status() == 422
            && answer.text().contains("`e` of kind anthropic gives no embeddings"),
        "{}",
        answer.text()
    );
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn dimensions_are_dropped_only_where_that_is_allowed() {
    let upstream = Upstream::start(|request| match request.json().get("dimensions") {
        Some(_) => Reply::json(400, &json!({"error": {"message": "no such dimensions"}})),
        None => Reply::json(200, &vectors(1)),
    })
    .await;
    let gateway = Gateway::start(LAB).await;
    let mut body =
        json!({"model_metadata": metadata(&upstream), "contents": ["x"], "dimensions": 768});
    let refused = gateway.post(PATH, &body).await;
    assert_eq!((refused.status(), refused.json()), (400, json!({"detail": "no such dimensions"})));
    body["litellm_drop_params"] = json!(true);
    assert_eq!(gateway.post(PATH, &body).await.status(), 200);
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn a_model_server_that_fails_is_reported_in_one_sentence() {
    for (upstream_status, status, detail) in [
        (400, 400, "fake"),
        (401, 401, "The model server answered 401 Unauthorized"),
        (429, 429, "The model server answered 429 Too Many Requests"),
        (500, 502, "The model server answered 500 Internal Server Error"),
    ] {
        let failing = Reply::json(upstream_status, &json!({"error": {"message": "fake"}}));
        let upstream = Upstream::always(failing).await;
        let gateway = Gateway::start(LAB).await;
        let answer = gateway
            .post(PATH, &json!({"model_metadata": metadata(&upstream), "contents": ["x"]}))
            .await;
        assert_eq!((answer.status(), answer.json()), (status, json!({ "detail": detail })));
        assert_eq!(upstream.requests().len(), 1, "no hidden retries");
    }
    let short = Upstream::always(Reply::json(200, &vectors(1))).await;
    let body = json!({"model_metadata": metadata(&short), "contents": ["x", "y"]});
    let answer = Gateway::start(LAB).await.post(PATH, &body).await;
    assert_eq!(
        (answer.status(), answer.json()),
        (502, json!({"detail": "The model server's answer could not be read"}))
    );
}
