//! GitLab's side of Duo Chat, written from the contract (contract::gitlab_client §7, §11.1): its
//! line reader, its loop over tools, its retries, and the code that its user would see.

use serde_json::{Value, json};

use super::{Answer, Client, End, Gateway};

/// What the user of the chat sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Answer(String),
    /// GitLab's own sentence, with this code.
    Code(&'static str),
}

/// What GitLab makes of one response.
enum Step {
    Shown(Shown),
    Action(Value),
    Again,
}

/// One question of a user.
pub(crate) struct DuoChat<'a> {
    gateway: &'a Gateway,
    headers: Vec<(&'static str, &'static str)>,
    /// The body of the next request.
    pub(crate) body: Value,
    /// The responses so far.
    pub(crate) answers: Vec<Answer>,
}

impl<'a> DuoChat<'a> {
    pub(crate) fn asks(gateway: &'a Gateway, question: &str) -> Self {
        let message = json!({"role": "user", "content": question, "context": null, "current_file": null, "additional_context": [], "agent_scratchpad": null});
        let body = json!({"messages": [message], "model_metadata": null, "unavailable_resources": ["Pipelines", "Vulnerabilities"]});
        let headers = vec![
            ("x-gitlab-version", "18.9.0"),
            ("accept-encoding", "gzip;q=1.0,deflate;q=0.6,identity;q=0.3"),
        ];
        Self { gateway, headers, body, answers: Vec::new() }
    }

    /// Runs the loop over tools; `tool` returns each observation from a tool's name and input.
    pub(crate) async fn run(&mut self, tool: impl Fn(&str, &str) -> String) -> Shown {
        let mut steps = Vec::new();
        for _ in 0..10 {
            let action = match self.step().await {
                Step::Shown(shown) => return shown,
                Step::Action(action) => action,
                Step::Again => continue,
            };
            let observation =
                tool(action["tool"].as_str().unwrap(), action["tool_input"].as_str().unwrap());
            let first = steps.is_empty();
            steps.push(json!({"action": action, "observation": observation}));
            let messages = self.body["messages"].as_array_mut().unwrap();
            if !first {
                messages.pop();
            }
            messages.push(json!({"role": "assistant", "agent_scratchpad": steps}));
        }
        Shown::Code("A1006")
    }

    /// Runs the loop; panics when a tool is called.
    pub(crate) async fn shown(&mut self) -> Shown {
        self.run(|name, _| panic!("{name} was called")).await
    }

    /// Sends one request; a retryable error gets two more attempts.
    async fn step(&mut self) -> Step {
        let mut error = None;
        for _ in 0..3 {
            let body = self.body.to_string();
            let mut client = Client::connect(self.gateway.public).await;
            let answer =
                client.call("POST", "/v2/chat/agent", &self.headers, body.as_bytes()).await;
            self.answers.push(answer.clone());
            match read(&answer) {
                Ok(step) => return step,
                Err((code, retryable)) => error = Some((code, retryable)),
            }
            if error.is_some_and(|(_, retryable)| !retryable) {
                break;
            }
        }
        Step::Shown(Shown::Code(error.unwrap().0))
    }

    /// Returns the last response's events, without heartbeats.
    pub(crate) fn events(&self) -> Vec<Value> {
        events(self.answers.last().unwrap())
    }
}

/// Returns what GitLab's `{…}\n` matches, chunk by chunk: a line without its end is never seen.
pub(crate) fn events(answer: &Answer) -> Vec<Value> {
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    for (_, piece) in &answer.pieces {
        assert!(piece.is_ascii(), "a character may be split between two reads: {piece:?}");
        buffer.extend_from_slice(piece);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let line = line.strip_suffix(b"\n").unwrap();
            let start = line.iter().position(|byte| *byte == b'{');
            if let Some(start) = start.filter(|_| line.ends_with(b"}")) {
                found.push(serde_json::from_slice(&line[start..]).unwrap());
            }
        }
    }
    found
}

/// Returns a step, or a code and whether the request is worth a retry.
fn read(answer: &Answer) -> Result<Step, (&'static str, bool)> {
    match answer.status() {
        403 => return Err(("M3006", false)),
        200..=299 => {}
        _ => return Err(("A9999", false)),
    }
    let (mut stated, mut action, mut unknown, mut events_seen) = (None::<String>, None, None, 0);
    for event in events(answer) {
        events_seen += 1;
        let data = &event["data"];
        match event["type"].as_str().unwrap() {
            "error" => return Err(code(data)),
            "final_answer_delta" => {
                stated.get_or_insert_default().push_str(data["text"].as_str().unwrap())
            }
            "action" => action = action.or_else(|| Some(data.clone())),
            "unknown" => {
                unknown = unknown.or_else(|| Some(data["text"].as_str().unwrap().to_owned()))
            }
            _ => events_seen -= 1,
        }
    }
    if answer.end == End::Cut {
        return Err(("A1003", false));
    }
    if events_seen == 0 {
        return Err(("A1002", false));
    }
    Ok(match (stated.or(unknown.filter(|_| action.is_none())), action) {
        (Some(stated), _) => Step::Shown(Shown::Answer(stated)),
        (None, Some(action)) => Step::Action(action),
        (None, None) => Step::Again,
    })
}

fn code(data: &Value) -> (&'static str, bool) {
    let message = data["message"].as_str().unwrap();
    let code = if message.contains("prompt is too long") {
        "A1005"
    } else if message.contains("tool not available") {
        "G3001"
    } else {
        "A1004"
    };
    (code, data["retryable"] == true)
}
