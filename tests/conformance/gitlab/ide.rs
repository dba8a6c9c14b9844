//! Code suggestions (contract::gitlab_client §6, §13): Rails hands the call to Workhorse, which
//! waits 55 s for a head and passes on whatever then comes; the editor behind it reads JSON, raw
//! text or server-sent events.

use serde_json::{Value, json};

use super::http::{Broken, Head, Http, Request, seconds};
use super::{GitLab, wire};

/// What the editor is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Suggested {
    /// Code; none is a suggestion of nothing.
    Code(String),
    /// A status that is no success, with the seconds after which to try again.
    Refused { status: u16, retry_after: Option<u32> },
    /// A stream that did not come to its end, and what came.
    Broken(String),
}

/// How the editor wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    Stream,
}

const ABOVE: &str = "def add(a, b):\n    ";

impl GitLab {
    /// Completion at the cursor (contract::gitlab_client §6.1), as Rails words it for the model of
    /// its settings.
    pub(crate) async fn complete(&self, form: Form) -> Suggested {
        let mut body = cursor(form);
        let fields = body.as_object_mut().unwrap();
        match &self.model {
            Some(model) => fields.extend([
                ("model_provider".to_owned(), json!("litellm")),
                ("prompt_version".to_owned(), json!(2)),
                ("prompt".to_owned(), Value::Null),
                ("model_endpoint".to_owned(), model["endpoint"].clone()),
                ("model_name".to_owned(), model["name"].clone()),
                ("model_api_key".to_owned(), model["api_key"].clone()),
                ("model_identifier".to_owned(), model["identifier"].clone()),
            ]),
            // no setting, or "GitLab default" while a local URL is set
            None => fields.extend([
                ("prompt_version".to_owned(), json!(1)),
                ("model_name".to_owned(), json!("codestral-2501")),
                ("model_provider".to_owned(), json!("fireworks_ai")),
            ]),
        }
        self.workhorse("/v2/code/completions", &body.to_string()).await
    }

    /// Generation from a comment (contract::gitlab_client §6.2): `/v4/code/suggestions`, or what
    /// older clients get.
    pub(crate) async fn generate(&self, path: &str, form: Form) -> Suggested {
        let body = json!({"prompt_components": [{"type": "code_editor_generation", "payload": {
            "file_name": "app.py", "content_above_cursor": "# adds two numbers\n", "content_below_cursor": "",
            "language_identifier": "Python", "stream": form == Form::Stream,
            "prompt_id": "code_suggestions/generations", "prompt_version": "^1.0.0",
            "prompt_enhancer": {"examples_array": [], "trimmed_content_above_cursor": "# adds two numbers\n",
                "trimmed_content_below_cursor": "", "related_files": [], "related_snippets": [], "libraries": [],
                "user_instruction": "Write what the comment says."},
        }}]});
        self.workhorse(path, &self.with_metadata(body)).await
    }

    /// Completion where GitLab sends it to v4 (contract::gitlab_client §6.3).
    pub(crate) async fn complete_v4(&self, form: Form) -> Suggested {
        let body = json!({"prompt_components": [{"type": "code_editor_completion", "payload": {
            "file_name": "app.py", "content_above_cursor": ABOVE, "content_below_cursor": "\n",
            "language_identifier": "Python", "stream": form == Form::Stream,
        }}]});
        self.workhorse("/v4/code/suggestions", &self.with_metadata(body)).await
    }

    /// Completion by an editor that has a user's token (contract::gitlab_client §6.4) and asks the
    /// gateway itself. It knows no model.
    pub(crate) async fn complete_directly(&self, token: &str, form: Form) -> Suggested {
        let mut body = cursor(form);
        body["prompt_version"] = json!(1);
        let bearer = format!("Bearer {token}");
        let body = body.to_string();
        let request = Request {
            headers: &[("authorization", &bearer)],
            ..Request::post("/v2/code/completions", &body)
        };
        suggested(self.http, request).await.unwrap_or_else(|_| Suggested::Broken(String::new()))
    }

    /// Workhorse: its own user agent, 55 s for the head and no limit after it; what it cannot get
    /// is its own 500.
    async fn workhorse(&self, path: &str, body: &str) -> Suggested {
        let http = Http { patience: seconds(55), ..self.http };
        let request = Request {
            headers: &[("x-gitlab-language-server-version", "7.20.0")],
            ..Request::post(path, body)
        };
        suggested(http, request)
            .await
            .unwrap_or(Suggested::Refused { status: 500, retry_after: None })
    }
}

/// What the editor knows of the place where code is missing.
fn cursor(form: Form) -> Value {
    json!({
        "project_path": "group/project", "project_id": 7, "intent": "completion", "telemetry": [],
        "choices_count": 4, "stream": form == Form::Stream,
        "current_file": {"file_name": "app.py", "content_above_cursor": ABOVE, "content_below_cursor": "\n"},
        "context": [{"type": "file", "name": "util.py", "content": "def sub(a, b): return a - b"}],
    })
}

/// A call, read as the editor reads it; an error if not even a piece of its body came.
async fn suggested(http: Http, request: Request<'_>) -> Result<Suggested, Broken> {
    let (mut seen, mut head) = (Vec::new(), None);
    let ended = http.stream(request, |first: &Head, piece| {
        head.get_or_insert_with(|| first.clone());
        seen.extend_from_slice(piece);
        true
    });
    let ended = ended.await;
    let text = String::from_utf8(seen).expect("UTF-8");
    match ended {
        Ok(head) => Ok(editor(&head, text)),
        Err(_) if head.is_some() => Ok(Suggested::Broken(text)),
        Err(broken) => Err(broken),
    }
}

/// The editor, by the type of what came.
fn editor(head: &Head, text: String) -> Suggested {
    if !head.is_success() {
        let retry_after = head.header("retry-after").and_then(|value| value.parse().ok());
        return Suggested::Refused { status: head.status, retry_after };
    }
    if head.is_json() {
        let body: Value = serde_json::from_str(&text).expect("JSON");
        return Suggested::Code(body["choices"][0]["text"].as_str().unwrap_or_default().to_owned());
    }
    if head.header("x-streaming-format") != Some("sse") {
        return Suggested::Code(text);
    }
    let events = wire::events(&text).expect("events");
    let names: Vec<&str> =
        events.as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap()).collect();
    let Some(("stream_start", middle)) = names.split_first().map(|(first, rest)| (*first, rest))
    else {
        return Suggested::Broken(text);
    };
    let content = &events[1]["data"]["choices"][0]["delta"]["content"];
    match middle {
        ["stream_end"] => Suggested::Code(String::new()),
        ["content_chunk", "stream_end"] => {
            Suggested::Code(content.as_str().expect("text").to_owned())
        }
        _ => Suggested::Broken(text),
    }
}
