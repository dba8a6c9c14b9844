//! Users' tokens through the whole gateway: GitLab asks for one with its own, an IDE calls with it.
//! It opens code completion by the model it is bound to, and nothing else
//! (contract::gitlab_client §3.4, §6.4; contract::ai_gateway_server §5.4).

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{
    AGENT, CHECK, FIRST, Gateway, OPENAI, OTHER, chat, checked, exchange, file, oidc, openai,
    serve, sign_as,
};

const USER_TOKEN: &str = "/v1/code/user_access_token";

impl Gateway {
    /// GitLab's own request for one of its users' tokens.
    fn user_token(&self, token: &str, user: &str) -> (u16, Value) {
        let headers = format!("{}x-gitlab-global-user-id: {user}\r\n", oidc(token));
        let head =
            format!("POST {USER_TOKEN} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}");
        let (status, body) =
            exchange(self.public, &format!("{head}content-type: application/json\r\n\r\n"));
        (status, serde_json::from_str(&body).unwrap())
    }

    /// One for `user-1`, by a key of the operator's: the other one, which is none of GitLab's.
    fn issued(&self) -> String {
        let signing = "auth.user_tokens.signing_key = { env = \"SIGNING\" }\n";
        self.reloader.apply(checked(&format!("{}{signing}", file(self.gitlab, self.model))));
        let (status, answer) = self.user_token(&self.token(&["complete_code"]), "user-1");
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }

    /// A request as that user's IDE makes it, or somebody who has its headers.
    fn by_ide(&self, path: &str, token: &str, body: &Value) -> (u16, String) {
        self.post_with(path, &format!("{}x-gitlab-global-user-id: user-1\r\n", oidc(token)), body)
    }
}

/// The claims of a token, or its header.
fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap())
        .unwrap()
}

/// A body of the v2 calls. An IDE names no model.
fn flat() -> Value {
    let file = json!({
        "file_name": "a.py", "content_above_cursor": "def greet():\n    return ", "content_below_cursor": "\n",
    });
    json!({ "prompt_version": 1, "project_path": "group/project", "current_file": file, "telemetry": [] })
}

/// A body of the v3 and v4 calls, with a component of this type.
fn component(kind: &str, stream: bool) -> Value {
    let mut payload = flat()["current_file"].take();
    payload["stream"] = stream.into();
    json!({ "prompt_components": [{ "type": kind, "payload": payload }] })
}

const COMPLETION: &str = "code_editor_completion";
const GENERATION: &str = "code_editor_generation";

#[test]
fn gitlab_gets_a_token_for_a_user_that_opens_nothing_but_code_completion() {
    let weir = Gateway::start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (status, answer) = weir.user_token(&weir.token(&["complete_code"]), "user-1");
    assert_eq!((status, answer.as_object().unwrap().len()), (200, 2), "{answer}");
    let expires_at = answer["expires_at"].as_u64().unwrap();
    assert!((now + 3590..now + 3700).contains(&expires_at), "{expires_at}");
    let token = answer["token"].as_str().unwrap();
    let claims = part(token, 1);
    assert_eq!((&claims["sub"], &claims["scopes"]), (&json!("user-1"), &json!(["complete_code"])));
    assert_eq!(claims["model"], "m", "bound to what completes code now");
    let user = "x-gitlab-global-user-id: user-1\r\n";
    let call = |path: &str, more: &str, body: &Value| {
        weir.post_with(path, &format!("{}{more}", oidc(token)), body)
    };
    let refused = |what: &str| (403, format!("{{\"detail\":\"Unauthorized to {what}\"}}"));
    assert_eq!(call(CHECK, user, &json!({})), refused("access 'model_configuration/check'"));
    assert_eq!(call(AGENT, user, &chat()), refused("access duo chat"));
    assert_eq!(call(OPENAI, user, &openai()).0, 403);
    assert_eq!(
        call(USER_TOKEN, user, &json!({})),
        refused("create user access token"),
        "no token begets another"
    );
    let mismatch = (401, "{\"error\":\"Header mismatch 'X-Gitlab-Global-User-Id'\"}".to_owned());
    assert_eq!(call(AGENT, "x-gitlab-global-user-id: user-2\r\n", &chat()), mismatch);
    assert_eq!(call(AGENT, "", &chat()), mismatch);
    assert_eq!(weir.sent(), 0);
}

#[test]
fn a_user_token_that_cannot_be_given_is_refused_with_the_reason() {
    let weir = Gateway::start();
    let code = weir.token(&["complete_code"]);
    let detail = |text: &str| json!({ "detail": text });
    let no_scope = detail("Unauthorized to create user access token");
    assert_eq!(weir.user_token(&weir.token(&["duo_chat", "generate_code"]), "u"), (403, no_scope));
    let (status, body) = weir.post(USER_TOKEN, &code, &json!({}));
    assert_eq!(
        (status, body.as_str()),
        (400, "{\"detail\":\"Missing X-Gitlab-Global-User-Id header\"}")
    );
    assert_eq!(weir.post_with(USER_TOKEN, "", &json!({})).0, 401);
    weir.reloader.apply(checked(&format!(
        "{}features.code_completions = \"disabled\"\n",
        file(weir.gitlab, weir.model)
    )));
    let disabled =
        detail("code_completions is disabled by the administrator (features.code_completions)");
    assert_eq!(weir.user_token(&code, "u"), (403, disabled));
    weir.reloader
        .apply(checked(&file(weir.gitlab, weir.model).replace("features.default = \"m\"\n", "")));
    let (status, body) = weir.user_token(&code, "u");
    assert!(
        status == 422
            && body["detail"]
                .as_str()
                .unwrap()
                .starts_with("No model is configured for code_completions")
    );
}

/// What each of the completion calls answers, in its own form.
fn completed(weir: &Gateway, token: &str) -> Vec<String> {
    let calls = [
        ("/v2/code/completions", flat()),
        ("/v2/completions", flat()),
        ("/v3/code/completions", component(COMPLETION, false)),
        ("/v4/code/suggestions", component(COMPLETION, false)),
    ];
    let answer = |(path, body)| {
        let (status, body) = weir.by_ide(path, token, &body);
        assert_eq!(status, 200, "{path}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        answer["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    calls.into_iter().map(answer).collect()
}

#[test]
fn an_ide_completes_by_the_model_its_token_is_bound_to() {
    let weir = Gateway::start();
    let token = weir.issued();
    assert_eq!(completed(&weir, &token), ["hello"; 4]);
    assert_eq!(weir.sent(), 4);
    // another model completes for everybody else now
    let (other, heard) = serve(|_| {
        let message = json!({ "role": "assistant", "content": "other" });
        json!({ "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] })
            .to_string()
    });
    let reload = |stated: &str| {
        let text = file(weir.gitlab, weir.model).replace("features.default = \"m\"\n", stated);
        let signing = "auth.user_tokens.signing_key = { env = \"SIGNING\" }\n";
        weir.reloader
            .apply(checked(&format!("{text}models.n.endpoint = \"http://{other}/v1\"\n{signing}")));
    };
    reload("features.default = \"n\"\n");
    let gitlabs = weir.token(&["complete_code"]);
    assert_eq!(
        (completed(&weir, &token), completed(&weir, &gitlabs)),
        (vec!["hello".to_owned(); 4], vec!["other".to_owned(); 4])
    );
    // what the operator says of the feature itself comes first
    reload("features.code_completions = \"n\"\n");
    assert_eq!(completed(&weir, &token), ["other"; 4]);
    reload("features.code_completions = \"disabled\"\n");
    let (status, body) = weir.by_ide("/v2/code/completions", &token, &flat());
    assert!(status == 403 && body.contains("code_completions is disabled"), "{body}");
    assert_eq!((weir.sent(), heard.load(Ordering::SeqCst)), (8, 8));
}

#[test]
fn a_users_token_opens_no_other_call_and_nothing_is_sent() {
    let weir = Gateway::start();
    let token = weir.issued();
    let inputs = json!({ "inputs": { "diff": "d" } });
    let message =
        json!({ "model": "m", "max_tokens": 5, "messages": [{ "role": "user", "content": "Hi" }] });
    let generate = |stream| component(GENERATION, stream);
    let calls = [
        ("/v2/code/generations", flat(), "access code generations"),
        ("/v3/code/completions", generate(false), "access code suggestions"),
        ("/v3/code/completions", generate(true), "access code suggestions"),
        ("/v4/code/suggestions", generate(false), "access code suggestions"),
        ("//v4/code%2Fsuggestions/", generate(true), "access code suggestions"),
        ("/v1/chat/agent", chat(), "access duo chat"),
        (
            "/v2/chat/agent",
            json!({ "messages": [{ "role": "user", "content": "Hi" }] }),
            "access duo chat",
        ),
        ("/v1/chat/explain_code", chat(), "access duo_chat_explain_code"),
        (CHECK, json!({}), "access 'model_configuration/check'"),
        ("/v1/prompts/generate_commit_message", inputs.clone(), "access prompts"),
        ("/v2/prompts/generate_commit_message", inputs.clone(), "access prompts"),
        // its primitive is the one that the token has
        ("/v1/prompts/code_suggestions%2Fcompletions", inputs.clone(), "access prompts"),
        ("/v1/search/gitlab-docs", inputs.clone(), "search documentations"),
        ("/v1/embeddings/code_embeddings", inputs.clone(), "access code embeddings"),
        ("/v1/amazon_q/events", inputs.clone(), "access this path"),
        (USER_TOKEN, inputs, "create user access token"),
        (OPENAI, openai(), "access models"),
        ("/v1/completions", json!({ "model": "m", "prompt": "Hi" }), "access models"),
        ("/v1/embeddings", json!({ "model": "m", "input": "Hi" }), "access models"),
        ("/v1/messages", message.clone(), "access models"),
        ("/v1/messages/count_tokens", message.clone(), "access models"),
        ("/v1/proxy/openai/v1/chat/completions", openai(), "access proxy"),
        ("/v1/proxy/anthropic/v1/messages", message, "access proxy"),
    ];
    for (path, body, what) in calls {
        let (status, answer) = weir.by_ide(path, &token, &body);
        assert!(
            status == 403 && answer.contains(&format!("Unauthorized to {what}\"")),
            "{path}: {status} {answer}"
        );
    }
    assert_eq!(weir.sent(), 0);
}

#[test]
fn a_users_token_does_not_go_to_gitlabs_cloud() {
    let weir = Gateway::start();
    let token = weir.issued();
    let (cloud, heard) = serve(|_| json!({}).to_string());
    let to_cloud = format!(
        "gitlab.cloud_url = \"http://{cloud}/ai\"\nfeatures.code_completions = \"gitlab\"\n"
    );
    let signing = "auth.user_tokens.signing_key = { env = \"SIGNING\" }\n";
    weir.reloader.apply(checked(&format!("{}{to_cloud}{signing}", file(weir.gitlab, weir.model))));
    for (path, body) in
        [("/v2/code/completions", flat()), ("/v4/code/suggestions", component(COMPLETION, false))]
    {
        let (status, answer) = weir.by_ide(path, &token, &body);
        assert!(
            status == 403 && answer.contains("accepts no token of this gateway"),
            "{path}: {status} {answer}"
        );
    }
    assert_eq!((weir.sent(), heard.load(Ordering::SeqCst)), (0, 0));
}

#[test]
fn a_user_names_no_model_and_no_address() {
    let weir = Gateway::start();
    let token = weir.issued();
    let (inside, heard) = serve(|_| json!({}).to_string());
    let endpoint = format!("http://{inside}/v1");
    let mut by_name = flat();
    by_name["model_name"] = json!("mistral");
    assert_eq!(
        weir.by_ide("/v2/code/completions", &token, &by_name).0,
        200,
        "a name alone is no model"
    );
    let mut by_fields = by_name;
    by_fields["model_endpoint"] = json!(endpoint);
    let mut by_metadata = component(COMPLETION, false);
    by_metadata["model_metadata"] =
        json!({ "name": "mistral", "endpoint": endpoint, "identifier": "openai/m" });
    let mut by_bedrock = component(COMPLETION, false);
    by_bedrock["model_metadata"] =
        json!({ "name": "mistral", "identifier": "bedrock/mistral.m-v1:0" });
    let calls = [
        ("/v2/code/completions", by_fields),
        ("/v3/code/completions", by_metadata.clone()),
        ("/v4/code/suggestions", by_metadata),
        ("/v4/code/suggestions", by_bedrock),
    ];
    for (path, body) in calls {
        let (status, answer) = weir.by_ide(path, &token, &body);
        assert!(
            status == 403 && answer.contains("A user's token is bound to"),
            "{path}: {status} {answer}"
        );
    }
    assert_eq!((weir.sent(), heard.load(Ordering::SeqCst)), (1, 0));
}

#[test]
fn a_users_token_that_is_not_ours_or_no_longer_is_refused() {
    let weir = Gateway::start();
    let token = weir.issued();
    let (kid, claims) = (part(&token, 0)["kid"].take(), part(&token, 1));
    let changed = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    assert_eq!(
        weir.by_ide("/v2/completions", &sign_as(&kid, OTHER, &claims), &flat()).0,
        200,
        "forged well enough"
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let tampered = |claims: &Value, header: &str| {
        let signature = token.rsplit_once('.').unwrap().1;
        format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string()))
    };
    let header = token.split_once('.').unwrap().0;
    let no_algorithm = URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "kid": kid }).to_string());
    let stranger = Gateway::start();
    let (_, strangers) = stranger.user_token(&stranger.token(&["complete_code"]), "user-1");
    let forbidden = [
        ("expired", sign_as(&kid, OTHER, &changed("exp", json!(now - 600)))),
        ("not yet", sign_as(&kid, OTHER, &changed("nbf", json!(now + 600)))),
        (
            "of another issuer",
            sign_as(&kid, OTHER, &changed("iss", json!(format!("http://{}", weir.gitlab)))),
        ),
        (
            "for another service",
            sign_as(&kid, OTHER, &changed("aud", json!("gitlab-duo-workflow-service"))),
        ),
        ("for nobody", sign_as(&kid, OTHER, &changed("sub", json!("")))),
        ("of GitLab's key under our name", sign_as(&kid, FIRST, &claims)),
        ("of our key under a name of no key", sign_as(&json!("nobody"), OTHER, &claims)),
        ("for another model", tampered(&changed("model", json!("n")), header)),
        (
            "for more",
            tampered(&changed("scopes", json!(["complete_code", "generate_code"])), header),
        ),
        ("without algorithm", tampered(&claims, &no_algorithm)),
        ("without signature", token[..=token.rfind('.').unwrap()].to_owned()),
        ("of another gateway", strangers["token"].as_str().unwrap().to_owned()),
    ];
    let sent = weir.sent();
    let refused = (401, "{\"error\":\"Forbidden by auth provider\"}".to_owned());
    for (which, token) in &forbidden {
        assert_eq!(weir.by_ide("/v2/code/completions", token, &flat()), refused, "{which}");
        assert_eq!(
            weir.by_ide("/v4/code/suggestions", token, &component(COMPLETION, true)),
            refused,
            "{which}"
        );
    }
    assert_eq!(weir.sent(), sent, "nothing of it went further");
}
