//! Every call that reaches a model, streamed and not, with how each reports a failure: one table
//! for what must hold on all of them.

use serde_json::{Value, json};

use super::{Answer, End, chat_body};

/// How a response carries the model's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// OpenAI's events: a failure is one more, with `error`.
    OpenAiEvents,
    /// Anthropic's events: a failure is `event: error`.
    AnthropicEvents,
    /// GitLab Duo Chat's lines: a failure is an event `error`, before the first output and after
    /// it.
    ChatEvents,
    /// GitLab's prompts, one object per line: a failure is one more with `detail`.
    Lines,
    /// GitLab's code suggestions, version 4: a failure is `event: error`.
    CodeEvents,
    /// Plain text: no error fits into it, so the connection is cut.
    Text,
    /// A JSON value that is passed on while it arrives: the connection is cut.
    Passed,
    /// A JSON value that is read to its end first: any failure is a status.
    Whole,
}

/// One call.
pub(crate) struct Surface {
    /// The name in the messages of failed tests.
    pub(crate) name: String,
    /// The label in metrics and log.
    pub(crate) label: &'static str,
    pub(crate) path: &'static str,
    pub(crate) body: Value,
    pub(crate) form: Form,
}

impl Surface {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.body.to_string().into_bytes()
    }

    /// Returns whether the client receives nothing before the model's response is complete.
    pub(crate) fn is_gathered(&self) -> bool {
        self.form == Form::Whole
    }

    /// Returns whether the client receives the model's text as it is generated.
    pub(crate) fn is_streamed(&self) -> bool {
        !matches!(self.form, Form::Passed | Form::Whole)
    }

    /// Returns whether this response reports a failure before any output: by its status, or, where
    /// the status is always 200, by its only event. The code is in a header either way.
    pub(crate) fn tells_before(&self, answer: &Answer) -> bool {
        let is_error = match self.form {
            Form::ChatEvents => {
                answer.status() == 200
                    && events(answer).first().is_some_and(|e| e["type"] == "error")
            }
            _ => answer.status() >= 400,
        };
        let says_so = match answer.header("content-type") {
            Some("application/json") => {
                let body = answer.json();
                ["error", "detail"].iter().any(|key| !body[*key].is_null())
            }
            _ => !answer.body.is_empty(),
        };
        is_error && says_so && answer.end == End::Proper && answer.header("x-weir-error").is_some()
    }

    /// Returns whether this response began well, reports a failure as its form can, and does not
    /// look complete.
    pub(crate) fn tells_after(&self, answer: &Answer) -> bool {
        let text = String::from_utf8_lossy(&answer.body);
        let last = events(answer).pop().unwrap_or_default();
        let reported = match self.form {
            Form::OpenAiEvents => last["error"]["code"].is_string() && !text.contains("[DONE]"),
            Form::AnthropicEvents => last["type"] == "error" && !text.contains("message_stop"),
            Form::ChatEvents => last["type"] == "error",
            Form::Lines => !last["detail"].is_null() && !text.contains("\"usage\""),
            Form::CodeEvents => text.contains("event: error\r\n") && !text.contains("stream_end"),
            Form::Text | Form::Passed => return answer.status() == 200 && answer.end == End::Cut,
            Form::Whole => return self.tells_before(answer),
        };
        reported && answer.status() == 200 && answer.end == End::Proper
    }

    /// Returns whether this response succeeded and contains this text.
    pub(crate) fn is_good(&self, answer: &Answer, phrase: &str) -> bool {
        let text = String::from_utf8_lossy(&answer.body);
        let has_text = self.path.contains("embeddings") || text.contains(phrase);
        let complete = match self.form {
            Form::OpenAiEvents => text.contains("[DONE]"),
            Form::AnthropicEvents => text.contains("message_stop"),
            _ => true,
        };
        has_text
            && complete
            && answer.status() == 200
            && answer.end == End::Proper
            && !text.contains("\"error\"")
    }
}

/// Returns the JSON of each event or line, whatever its form.
fn events(answer: &Answer) -> Vec<Value> {
    let text = String::from_utf8_lossy(&answer.body);
    let values = text.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    values.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Returns all calls. The model is `m`, the default of all features.
pub(crate) fn surfaces() -> Vec<Surface> {
    let mut all = Vec::new();
    let mut add = |name: &str, label, path, body, form| {
        all.push(Surface { name: format!("{name} ({form:?})"), label, path, body, form });
    };
    add_open_calls(&mut add);
    add_gitlab_calls(&mut add);
    all
}

/// Adds the calls of OpenAI's and Anthropic's APIs, and GitLab's proxies of them.
fn add_open_calls(mut add: impl FnMut(&str, &'static str, &'static str, Value, Form)) {
    add("chat", "openai_chat", "/v1/chat/completions", chat_body("m", true), Form::OpenAiEvents);
    add("chat", "openai_chat", "/v1/chat/completions", chat_body("m", false), Form::Passed);
    let completion = |stream| json!({"model": "m", "prompt": "Hello", "stream": stream});
    add(
        "completions",
        "openai_completions",
        "/v1/completions",
        completion(true),
        Form::OpenAiEvents,
    );
    add("completions", "openai_completions", "/v1/completions", completion(false), Form::Passed);
    let texts = json!({"model": "m", "input": ["a"]});
    add("embeddings", "openai_embeddings", "/v1/embeddings", texts, Form::Passed);
    let texts = json!({"contents": ["a"]});
    add(
        "code embeddings",
        "gitlab_embeddings",
        "/v1/embeddings/code_embeddings",
        texts,
        Form::Whole,
    );
    let proxied = "/v1/proxy/openai/v1/chat/completions";
    add("proxy, OpenAI", "gitlab_proxy", proxied, chat_body("gpt-5", true), Form::OpenAiEvents);
    add("proxy, OpenAI", "gitlab_proxy", proxied, chat_body("gpt-5", false), Form::Passed);
    let message = |stream| json!({"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "Hello"}], "stream": stream});
    add("messages", "anthropic_messages", "/v1/messages", message(true), Form::AnthropicEvents);
    add("messages", "anthropic_messages", "/v1/messages", message(false), Form::Whole);
    let proxied = "/v1/proxy/anthropic/v1/messages";
    add("proxy, Anthropic", "gitlab_proxy", proxied, message(true), Form::AnthropicEvents);
    add("proxy, Anthropic", "gitlab_proxy", proxied, message(false), Form::Whole);
}

/// Adds the calls of GitLab's own API.
fn add_gitlab_calls(mut add: impl FnMut(&str, &'static str, &'static str, Value, Form)) {
    let chat = json!({"messages": [{"role": "user", "content": "Hello", "context": null, "current_file": null,
        "additional_context": [], "agent_scratchpad": null}], "model_metadata": null, "unavailable_resources": []});
    add("Duo Chat", "gitlab_chat_agent", "/v2/chat/agent", chat, Form::ChatEvents);
    let chat = |stream| json!({"prompt_components": [{"payload": {"content": "Hello"}}], "stream": stream});
    add("chat v1", "gitlab_chat", "/v1/chat/agent", chat(true), Form::Text);
    add("chat v1", "gitlab_chat", "/v1/chat/agent", chat(false), Form::Whole);
    let file = |stream| {
        json!({"project_path": "a/b", "project_id": 1, "intent": "completion", "stream": stream, "prompt_version": 2,
            "current_file": {"file_name": "app.py", "content_above_cursor": "x = ", "content_below_cursor": "\n"}})
    };
    add("code v2", "gitlab_code", "/v2/code/completions", file(true), Form::Text);
    add("code v2", "gitlab_code", "/v2/code/completions", file(false), Form::Whole);
    let generate = |stream| {
        json!({"project_path": "a/b", "project_id": 1, "intent": "generation", "stream": stream, "prompt_version": 2, "prompt": "Hello",
            "current_file": {"file_name": "app.py", "content_above_cursor": "x = ", "content_below_cursor": "\n"}})
    };
    add("generations v2", "gitlab_code", "/v2/code/generations", generate(true), Form::Text);
    add("generations v2", "gitlab_code", "/v2/code/generations", generate(false), Form::Whole);
    let components = |stream| {
        json!({"prompt_components": [{"type": "code_editor_completion", "metadata": {"source": "GitLab EE", "version": "18.9.0"},
            "payload": {"file_name": "app.py", "content_above_cursor": "x = ", "content_below_cursor": "", "stream": stream}}]})
    };
    add("code v3", "gitlab_code", "/v3/code/completions", components(true), Form::Text);
    add("code v3", "gitlab_code", "/v3/code/completions", components(false), Form::Whole);
    add("code v4", "gitlab_code", "/v4/code/suggestions", components(true), Form::CodeEvents);
    add("code v4", "gitlab_code", "/v4/code/suggestions", components(false), Form::Whole);
    let prompt = |stream| json!({"inputs": {"diff": "-a\n+b"}, "prompt_version": "^1.0.0", "stream": stream});
    add(
        "prompts v1",
        "gitlab_prompts",
        "/v1/prompts/generate_commit_message",
        prompt(true),
        Form::Text,
    );
    add(
        "prompts v1",
        "gitlab_prompts",
        "/v1/prompts/generate_commit_message",
        prompt(false),
        Form::Whole,
    );
    add(
        "prompts v2",
        "gitlab_prompts",
        "/v2/prompts/generate_commit_message",
        prompt(true),
        Form::Lines,
    );
    add(
        "prompts v2",
        "gitlab_prompts",
        "/v2/prompts/generate_commit_message",
        prompt(false),
        Form::Whole,
    );
    let check = "/v1/prompts/model_configuration%2Fcheck";
    add("Test connection", "gitlab_model_check", check, json!({"inputs": {}}), Form::Whole);
}
