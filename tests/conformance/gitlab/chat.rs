//! Duo Chat's loop (contract::gitlab_client §7): ask the agent, run the tool it names, ask again
//! with what the tool returned, at most ten times. What goes wrong becomes a code
//! (contract::gitlab_client §11.1).

use serde_json::{Value, json};

use super::http::{Broken, Request};
use super::tools::Tool;
use super::{GitLab, Shown, wire};

/// Steps for one question.
const STEPS: usize = 10;
/// Further tries of a step whose error says that it may be repeated.
const RETRIES: usize = 2;

/// What one step came to.
#[derive(Default)]
struct Step {
    deltas: Vec<String>,
    action: Option<Value>,
    unknown: Option<String>,
    error: Option<Value>,
    events: usize,
    /// What is not yet a line.
    rest: String,
}

impl GitLab {
    /// A question, after an earlier one and its answer; an issue is on the page.
    pub(crate) async fn chat(&self, question: &str) -> Shown {
        let mut steps: Vec<Value> = Vec::new();
        for _ in 0..STEPS {
            let step = match self.step(&self.question(question, &steps)).await {
                Ok(step) => step,
                Err(code) => return Shown::Code(code),
            };
            if !step.deltas.is_empty() {
                return Shown::Text(step.deltas.concat());
            }
            let Some(action) = step.action else {
                match step.unknown {
                    Some(text) => return Shown::Text(text),
                    None => continue,
                }
            };
            let Some(tool) = action["tool"].as_str().and_then(Tool::named) else {
                return Shown::Code("A9999");
            };
            match self.run(tool, action["tool_input"].as_str().unwrap_or_default()).await {
                Ok(observation) => {
                    steps.push(json!({"action": action, "observation": observation}))
                }
                Err(code) => return Shown::Code(code),
            }
        }
        Shown::Code("A1006")
    }

    /// contract::gitlab_client §7.1. `model_metadata` is always there, if only as null.
    fn question(&self, question: &str, steps: &[Value]) -> String {
        let mut messages = vec![
            json!({"role": "user", "content": "Hello", "additional_context": [], "agent_scratchpad": null}),
            json!({"role": "assistant", "content": "Hello!", "additional_context": null, "agent_scratchpad": []}),
            json!({"role": "user", "content": question, "context": {"type": "issue", "title": "A slow page"},
            "current_file": null, "additional_context": [
                {"category": "snippet", "id": "one", "content": "puts 1", "metadata": {}},
                {"category": "user_rule", "id": "rules", "content": "Be brief.", "metadata": {"a": 1}},
            ]}),
        ];
        if !steps.is_empty() {
            messages.push(json!({"role": "assistant", "agent_scratchpad": steps}));
        }
        json!({"messages": messages, "model_metadata": self.model, "unavailable_resources": ["Merge Requests", "Pipelines"]}).to_string()
    }

    async fn step(&self, body: &str) -> Result<Step, &'static str> {
        for tried in 0.. {
            let step = self.call(body).await?;
            let Some(error) = &step.error else { return Ok(step) };
            let message = error["message"].as_str().unwrap_or_default();
            match message {
                _ if error["retryable"] == true && tried < RETRIES => {}
                _ if message.contains("prompt is too long") => return Err("A1005"),
                _ if message.contains("tool not available") => return Err("G3001"),
                _ => return Err("A1004"),
            }
        }
        unreachable!("the loop returns")
    }

    async fn call(&self, body: &str) -> Result<Step, &'static str> {
        let mut step = Step::default();
        let request = Request::post("/v2/chat/agent", body);
        let ended =
            self.http.stream(request, |head, piece| !head.is_success() || step.take(piece)).await;
        match ended {
            Ok(head) if head.status == 403 => Err("M3006"),
            Ok(head) if !head.is_success() => Err("A9999"),
            Ok(_) if step.events == 0 && step.error.is_none() => Err("A1002"),
            Ok(_) => Ok(step),
            // what was raised for an error event came first
            Err(_) if step.error.is_some() => Ok(step),
            Err(Broken::ReadTimeout) => Err("A1000"),
            Err(Broken::EndOfFile) => Err("A1003"),
            Err(Broken::Refused) => Err("A9999"),
        }
    }
}

impl Step {
    /// A piece of the body. False once an error event was raised: the rest is not read.
    fn take(&mut self, piece: &[u8]) -> bool {
        self.rest.push_str(
            std::str::from_utf8(piece).expect("ASCII, so that no cut can fall into a character"),
        );
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let lines: String = self.rest.drain(..whole).collect();
        for event in wire::objects(&lines) {
            let (kind, data) = (event["type"].as_str().unwrap_or_default(), &event["data"]);
            let text = || data["text"].as_str().unwrap_or_default().to_owned();
            match kind {
                "final_answer_delta" => self.deltas.push(text()),
                "action" if self.action.is_none() => self.action = Some(data.clone()),
                "action" => {}
                "unknown" => self.unknown = Some(text()),
                "error" => {
                    self.error = Some(data.clone());
                    return false;
                }
                // no such class in Rails: logged and passed over
                _ => continue,
            }
            self.events += 1;
        }
        true
    }
}
