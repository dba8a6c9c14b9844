//! `/v1|v2/prompts/{id}` (contract::gitlab_client §8, contract::ai_gateway_server §1.2, §8.2): the
//! four forms of a response, and each failure. `prompt_answers.rs` has the prompts themselves.

use serde_json::{Value, json};

use crate::support::{
    Answer, Client, End, Folder, Gateway, Process, Reply, Upstream, eventually, one_model,
};

const COMMIT: &str = "/v1/prompts/generate_commit_message";
const EXPLAIN: &str = "/v1/prompts/chat/explain_code";
const SENTENCE: &str = "I'm sorry, I couldn't respond in time. Please try again. (A1000)";

fn commit(stream: bool) -> Value {
    json!({"inputs": {"diff": "-a\n+b"}, "prompt_version": "^1.0.0", "stream": stream})
}

fn explain() -> Value {
    json!({"inputs": {"input": "Explain", "selected_text": "x = 1"}, "stream": true})
}

/// Starts a model whose response consists of these pieces, streamed or whole.
async fn model(pieces: &'static [&'static str]) -> Upstream {
    Upstream::start(move |request| {
        if request.json()["stream"] == true {
            return pieces.iter().fold(Reply::sse(), |reply, piece| reply.text(piece)).done(true);
        }
        let message = json!({"role": "assistant", "content": pieces.concat()});
        Reply::json(
            200,
            &json!({"id": "c", "object": "chat.completion", "created": 1, "model": "up",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}),
        )
    })
    .await
}

#[tokio::test]
async fn an_answer_has_four_forms() {
    let upstream = model(&["Fix", " the \"b\"\n"]).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let usage = json!({"up": {"input_tokens": 7, "output_tokens": 2}});

    let whole = gateway.post(COMMIT, &commit(false)).await;
    assert_eq!((whole.status(), whole.header("content-type")), (200, Some("application/json")));
    assert_eq!(whole.json(), json!("Fix the \"b\"\n"));
    let whole = gateway.post("/v2/prompts/generate_commit_message", &commit(false)).await;
    assert_eq!(whole.json(), json!({"content": "Fix the \"b\"\n", "usage": usage}));

    let raw = gateway.post(COMMIT, &commit(true)).await;
    assert_eq!(
        (raw.status(), raw.header("content-type")),
        (200, Some("text/event-stream; charset=utf-8"))
    );
    assert_eq!((raw.text(), raw.end), ("Fix the \"b\"\n", End::Proper));
    let lines = gateway.post("/v2/prompts/generate_commit_message", &commit(true)).await;
    assert_eq!(
        json_lines(&lines),
        [
            json!({"content": "Fix"}),
            json!({"content": " the \"b\"\n"}),
            json!({"content": "", "usage": usage})
        ]
    );
    let line = gateway.line(&lines).await;
    for (key, value) in [
        ("surface", json!("gitlab_prompts")),
        ("feature", json!("generate_commit_message")),
        ("model", json!("m")),
        ("stream", json!(true)),
        ("tokens_in", json!(7)),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
}

fn json_lines(answer: &Answer) -> Vec<Value> {
    assert!(answer.text().ends_with('\n'), "{answer:?}");
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn thinking_is_no_part_of_an_answer() {
    let upstream = model(&["<thi", "nk>the user wants", "…</th", "ink>\n\nFix", " it"]).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    for version in ["v1", "v2"] {
        let path = format!("/{version}/prompts/generate_commit_message");
        let whole = gateway.post(&path, &commit(false)).await;
        assert!(whole.text().contains("\"Fix it\""), "{}", whole.text());
        let streamed = gateway.post(&path, &commit(true)).await;
        assert!(
            streamed.text().contains("Fix") && !streamed.text().contains("wants"),
            "{}",
            streamed.text()
        );
    }
    assert_eq!(gateway.post(COMMIT, &commit(true)).await.text(), "Fix it");
    let kept =
        Gateway::with_model(&upstream, "[families.general]\nstrip_reasoning = false\n").await;
    for stream in [false, true] {
        let answer = kept.post(COMMIT, &commit(stream)).await;
        assert!(
            answer.text().contains("the user wants"),
            "unless the family keeps it: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn paths_versions_and_inputs_may_be_written_as_gitlab_writes_them() {
    let upstream = model(&["ok"]).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    for path in [
        "/v1/prompts/chat%2Fexplain_code",
        "//v1//prompts/chat/explain_code/",
        "/v2/prompts/chat%2fexplain_code",
    ] {
        assert_eq!(gateway.post(path, &explain()).await.status(), 200, "{path}");
    }
    for version in
        [json!("^1.0.0"), json!("1.1.0-dev"), json!("amazon_q/1.0.0"), json!(""), Value::Null]
    {
        let mut body = explain();
        body["prompt_version"] = version.clone();
        assert_eq!(gateway.post(EXPLAIN, &body).await.status(), 200, "{version}");
    }
    let mut body = commit(false);
    body["inputs"]["foo"] = json!({"unknown": "inputs are no fault"});
    body["unknown"] = json!("fields neither");
    body["stream"] = Value::Null;
    assert_eq!(gateway.post(COMMIT, &body).await.status(), 200);
    let mut body = commit(false);
    body["inputs"]["diff"] = json!("{{ 7*7 }} {% raw %}");
    gateway.post(COMMIT, &body).await;
    let sent = upstream.requests().pop().unwrap().json();
    assert!(
        sent["messages"][1]["content"].as_str().unwrap().contains("{{ 7*7 }} {% raw %}"),
        "{sent}"
    );
    assert_eq!((&sent["max_tokens"], &sent["temperature"]), (&json!(1024), &json!(0.0)));
}

/// A model server's prefix cache needs the beginning of each prompt to be the same, byte for byte.
#[tokio::test]
async fn requests_for_one_prompt_begin_alike() {
    let upstream = model(&["ok"]).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    for diff in ["one", "two"] {
        gateway.post(COMMIT, &json!({"inputs": {"diff": diff}})).await;
    }
    let requests = upstream.requests();
    let system = |at: usize| requests[at].json()["messages"][0].clone();
    assert_eq!((system(0)["role"].as_str(), system(0)), (Some("system"), system(1)));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_reported_in_the_contracts_text() {
    let upstream = model(&["ok"]).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    let with = |version: &str| json!({"inputs": {"diff": "d"}, "prompt_version": version});
    for (path, body, status, detail) in [
        ("/v1/prompts/nothing/here", commit(false), 404, "Prompt 'nothing/here' not found"),
        (
            "/v1/prompts/chat/explain_code/base",
            explain(),
            404,
            "Prompt 'chat/explain_code/base' not found",
        ),
        (
            COMMIT,
            with("^9.0.0"),
            400,
            "No version matching '^9.0.0' (available: ['1.0.0', '1.1.0', '1.2.0'])",
        ),
        (COMMIT, with("not a version"), 422, "Invalid version constraint"),
        (COMMIT, json!({"inputs": {}}), 422, "'diff'"),
        (COMMIT, json!({"inputs": {}, "stream": true}), 422, "'diff'"),
    ] {
        let answer = gateway.post(path, &body).await;
        assert_eq!(
            (answer.status(), answer.json()),
            (status, json!({ "detail": detail })),
            "{path}"
        );
    }
    let answer = gateway.post(COMMIT, &json!({"prompt_version": "^1.0.0"})).await;
    assert_eq!(
        (answer.status(), &answer.json()["detail"][0]["loc"]),
        (422, &json!(["body", "inputs"]))
    );
    assert_eq!(gateway.get(COMMIT).await.status(), 405);
    assert_eq!(gateway.post("/v1/prompts/", &commit(false)).await.status(), 404);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_failed_model_is_421_on_every_form() {
    for (status, detail) in [
        (401, "401: Unauthorized"),
        (404, "404: Not Found"),
        (429, "429: Too Many Requests"),
        (500, "500: Internal Server Error"),
        (503, "503: Service Unavailable"),
    ] {
        let upstream =
            Upstream::always(Reply::json(status, &json!({"error": {"message": "boom"}}))).await;
        let gateway = Gateway::with_model(&upstream, "").await;
        for (path, stream) in
            [(COMMIT, false), (COMMIT, true), ("/v2/prompts/generate_commit_message", true)]
        {
            let answer = gateway.post(path, &commit(stream)).await;
            assert_eq!(
                (answer.status(), answer.json()),
                (421, json!({ "detail": detail })),
                "{path}"
            );
        }
        // people read what a chat tool streams, errors too
        let answer = gateway.post(EXPLAIN, &explain()).await;
        assert_eq!(
            (answer.status(), answer.header("content-type")),
            (421, Some("text/plain; charset=utf-8"))
        );
        assert!(
            !answer.text().contains(['{', '/']) && answer.text().len() < 200,
            "{}",
            answer.text()
        );
        assert_eq!(upstream.requests().len(), 4, "no hidden retries");
    }
    let gateway = Gateway::start(&one_model("http://127.0.0.1:9/v1")).await;
    let answer = gateway.post(COMMIT, &commit(false)).await;
    assert_eq!(answer.status(), 421);
    assert!(
        answer.json()["detail"].as_str().unwrap().starts_with("502: Bad Gateway"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn our_own_limit_is_504_with_a1000() {
    let upstream = Upstream::always(Reply::stalled()).await;
    let gateway = Gateway::with_model(&upstream, "[timeouts]\nfirst_byte = \"150ms\"\n").await;
    for (path, stream) in
        [(COMMIT, false), (COMMIT, true), ("/v2/prompts/generate_commit_message", true)]
    {
        let answer = gateway.post(path, &commit(stream)).await;
        assert_eq!(
            (answer.status(), answer.header("x-weir-error")),
            (504, Some("A1000")),
            "{path}"
        );
        let body = answer.json();
        assert_eq!(body["detail"], "A1000: m did not answer within 0.15 s (first_byte)");
        assert_eq!(
            (&body["error"]["code"], &body["error"]["limit_ms"]),
            (&json!("A1000"), &json!(150))
        );
    }
    let answer = gateway.post(EXPLAIN, &explain()).await;
    assert_eq!((answer.status(), answer.text()), (504, SENTENCE));
    let mut whole = explain();
    whole["stream"] = json!(false);
    let answer = gateway.post(EXPLAIN, &whole).await;
    assert_eq!((answer.status(), &answer.json()["error"]["code"]), (504, &json!("A1000")));
}

#[tokio::test]
async fn a_stream_that_breaks_is_cut_or_reported_in_a_line() {
    let upstream = Upstream::always(Reply::sse().text("one").then_close()).await;
    let gateway = Gateway::with_model(&upstream, "").await;
    for (path, body) in [(COMMIT, commit(true)), (EXPLAIN, explain())] {
        let answer = gateway.post(path, &body).await;
        assert_eq!((answer.status(), answer.text(), answer.end), (200, "one", End::Cut), "{path}");
        assert_eq!(gateway.line(&answer).await["error_code"], "upstream_broken");
    }
    let answer = gateway.post("/v2/prompts/chat/explain_code", &explain()).await;
    assert_eq!((answer.status(), answer.end), (200, End::Proper));
    let lines = json_lines(&answer);
    assert_eq!((lines.len(), &lines[0]), (2, &json!({"content": "one"})));
    assert!(lines[1]["detail"].as_str().unwrap().starts_with("502: Bad Gateway"), "{lines:?}");
}

#[tokio::test]
async fn the_feature_routes_and_may_be_disabled() {
    let (chat, tests) = (model(&["chat"]).await, model(&["tests"]).await);
    let file = format!(
        "[models.c]\nendpoint = \"{}\"\n[models.t]\nendpoint = \"{}\"\n\
         [features]\nduo_chat = \"c\"\nduo_chat_write_tests = \"t\"\nsummarize_review = \"disabled\"\n",
        chat.url(),
        tests.url()
    );
    let gateway = Gateway::start(&file).await;
    let body = json!({"inputs": {"input": "x", "selected_text": "y"}});
    assert_eq!(gateway.post("/v1/prompts/chat/write_tests", &body).await.json(), json!("tests"));
    assert_eq!(gateway.post(EXPLAIN, &body).await.json(), json!("chat"));
    assert_eq!(gateway.post("/v1/prompts/chat/issue_reader", &body).await.json(), json!("chat"));
    let refused = gateway
        .post("/v1/prompts/summarize_review", &json!({"inputs": {"draft_notes_content": "n"}}))
        .await;
    assert_eq!(refused.status(), 403, "{}", refused.text());
}

#[tokio::test]
async fn a_family_may_have_a_prompt_of_its_own() {
    let upstream = model(&["ok"]).await;
    let file = one_model(&upstream.url()).replace("family = \"general\"", "family = \"codegemma\"");
    let gateway = Gateway::start(&file).await;
    let body =
        json!({"inputs": {"prefix": "# add\n", "suffix": "", "user_instruction": "write it"}});
    assert_eq!(gateway.post("/v1/prompts/code_suggestions/generations", &body).await.status(), 200);
    let sent = upstream.only_request().json();
    let roles: Vec<&Value> =
        sent["messages"].as_array().unwrap().iter().map(|message| &message["role"]).collect();
    assert_eq!((roles, &sent["max_tokens"]), (vec![&json!("user")], &json!(512)), "{sent}");
}

const OWN: &str = "description = \"d\"\nversions = [\"1.0.0\"]\nfeature = \"generate_commit_message\"\n\
                   unit_primitives = [\"generate_commit_message\"]\ninputs = [\"diff\"]\n\
                   [[messages]]\nrole = \"user\"\ntext = \"Mine: {{ diff }}\"\n";

#[tokio::test]
async fn an_operators_directory_is_laid_over_the_programs_and_watched() {
    let upstream = model(&["ok"]).await;
    let folder = Folder::new("prompts");
    std::fs::create_dir_all(folder.path("own/generate_commit_message")).unwrap();
    let own = "own/generate_commit_message/base.toml";
    folder.write(own, OWN);
    let file = folder.write(
        "weir.toml",
        &format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"off\"\n\
             [telemetry]\nformat = \"json\"\n[prompts]\ndir = \"own\"\n{}",
            one_model(&upstream.url())
        ),
    );
    let weir = Process::serve(&file).await;
    let stated = async || {
        let body = commit(false).to_string();
        let mut client = Client::connect(weir.public).await;
        assert_eq!(client.call("POST", COMMIT, &[], body.as_bytes()).await.status(), 200);
        upstream.requests().pop().unwrap().json()["messages"][0]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(stated().await, "Mine: -a\n+b");
    folder.write(own, &OWN.replace("Mine", "Yours"));
    eventually("the changed prompt", async || stated().await.starts_with("Yours: ")).await;
    folder.write(own, &OWN.replace("diff }}", "dif }}"));
    eventually("the fault", async || {
        weir.output().contains("base.toml:8:18: error: dif is neither")
    })
    .await;
    assert_eq!(stated().await, "Yours: -a\n+b", "the old prompts stay in force");
}
