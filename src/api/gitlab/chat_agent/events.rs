//! What the model does → the events that GitLab's chat reads (gitlab-client.md §7.2,
//! ai-gateway-server.md §4.4). Both ways of calling tools end in the same lines.

use std::sync::Arc;

use bytes::BytesMut;
use serde_json::json;

use super::call::FirstCall;
use super::conversation::Way;
use super::react::{Action, Reader, Turn, tool_name};
use super::tools::{self, Tool};
use crate::error::chat_error;
use crate::generation::{Delta, Encode, StopReason, Usage, without_thinking};
use crate::wire::write_line;

/// Writes one turn.
pub(super) struct Events {
    /// Gone at the end.
    reader: Option<Reader>,
    call: Option<FirstCall>,
    offered: Vec<&'static Tool>,
    /// What the usage is counted for.
    model: Arc<str>,
    stop: Option<StopReason>,
    usage: Option<Usage>,
    fault: Option<String>,
}

impl Events {
    /// For a model that was offered these tools in this way.
    pub(super) fn new(way: Way, offered: &[&'static Tool], model: Arc<str>) -> Self {
        let reader = Some(Reader::new(way, !offered.is_empty()));
        Self {
            reader,
            call: None,
            offered: offered.to_vec(),
            model,
            stop: None,
            usage: None,
            fault: None,
        }
    }

    /// What the turn came to. A call counts whichever way was asked for.
    fn turn(&mut self) -> Turn {
        let turn = self.reader.take().map_or(Turn::Answer, Reader::finish);
        match (turn, self.call.take()) {
            (Turn::Unknown(thought) | Turn::Words(thought), Some(call)) => {
                let (tool, input) = (tool_name(&call.name), call.input());
                Turn::Action(Action { thought: without_thinking(&thought), tool, input })
            }
            (Turn::Unknown(text), None) => Turn::Unknown(without_thinking(&text)),
            (Turn::Words(text), None) => Turn::Words(without_thinking(&text)),
            (turn, _) => turn,
        }
    }

    /// Whether the turn came to something.
    fn tell(&mut self, turn: Turn, out: &mut BytesMut) -> bool {
        match turn {
            Turn::Answer => piece("", self.stop, out),
            Turn::Words(text) if !text.is_empty() => {
                piece(&text, None, out);
                piece("", self.stop, out);
            }
            Turn::Unknown(text) if !text.is_empty() => {
                write_line(&json!({"type": "unknown", "data": {"text": text}}), out);
            }
            Turn::Action(Action { thought, tool, input })
                if self.offered.iter().any(|offered| offered.name == tool) =>
            {
                let data = json!({"thought": thought, "tool": tool, "tool_input": input});
                write_line(&json!({"type": "action", "data": data}), out);
            }
            // GitLab looks for these words: the user lacks a subscription (G3001)
            Turn::Action(Action { tool, .. }) if tools::exists(&tool) => {
                chat_error("tool not available", false, out);
                return false;
            }
            Turn::Action(Action { tool, .. }) => {
                chat_error("The model asked for a tool that does not exist", false, out);
                let tool: String = tool.chars().take(100).collect();
                self.fault =
                    Some(format!("the model asked for the tool `{tool}`, which does not exist"));
                return false;
            }
            Turn::Words(_) | Turn::Unknown(_) => {
                let nothing = nothing(self.stop);
                chat_error(nothing, false, out);
                self.fault = Some(nothing.to_owned());
                return false;
            }
        }
        true
    }
}

impl Encode for Events {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        match delta {
            Delta::Text(text) => {
                let said = self.reader.as_mut().and_then(|reader| reader.feed(text));
                said.iter().for_each(|said| piece(said, None, out));
            }
            Delta::ToolCall { index, name, arguments, .. } => {
                let call = self.call.get_or_insert_with(|| FirstCall::new(*index));
                call.feed(*index, name.as_deref(), arguments);
            }
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Stop(reason) => self.stop = Some(*reason),
            Delta::Reasoning(_) | Delta::ReasoningSignature(_) => {}
        }
    }

    fn finish(&mut self, out: &mut BytesMut) {
        let turn = self.turn();
        if !self.tell(turn, out) {
            return;
        }
        if let Some(usage) = self.usage.filter(Usage::is_reported) {
            let counts =
                json!({&*self.model: {"input_tokens": usage.input, "output_tokens": usage.output}});
            write_line(&json!({"type": "usage", "data": {"usage": counts}}), out);
        }
    }

    fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }
}

/// A piece of the answer; the last one is empty and gives the reason for the end.
fn piece(text: &str, stop: Option<StopReason>, out: &mut BytesMut) {
    let reason = stop.map(|stop| match stop {
        StopReason::Length => "length",
        StopReason::ContentFilter => "content_filter",
        StopReason::End | StopReason::ToolCalls | StopReason::Other => "stop",
    });
    write_line(
        &json!({"type": "final_answer_delta", "data": {"text": text, "finish_reason": reason}}),
        out,
    );
}

/// GitLab would show an empty line, or take a stream without events for a timeout (A1002).
const fn nothing(stop: Option<StopReason>) -> &'static str {
    match stop {
        Some(StopReason::Length) => "The model used up its tokens before it answered",
        Some(StopReason::ContentFilter) => {
            "The model's answer was withheld by its provider's filter"
        }
        _ => "The model's answer was empty",
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use serde_json::{Value, json};

    use super::{Events, Way};
    use crate::api::gitlab::chat_agent::tools;
    use crate::auth::Caller;
    use crate::generation::{Delta, Encode as _, StopReason, Usage};

    /// The events of a turn; merge requests cannot be read.
    fn events(way: Way, deltas: &[Delta]) -> Vec<Value> {
        let offered = tools::offered(&Caller::Anyone, None, &["Merge Requests"]);
        let (mut events, mut out) = (Events::new(way, &offered, "m".into()), BytesMut::new());
        deltas.iter().for_each(|delta| events.delta(delta, &mut out));
        events.finish(&mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        assert!(text.is_ascii() && text.ends_with('\n'), "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn text(text: &str) -> Delta {
        Delta::Text(text.into())
    }

    fn call(index: u32, name: Option<&str>, arguments: &str) -> Delta {
        Delta::ToolCall { index, id: None, name: name.map(Into::into), arguments: arguments.into() }
    }

    fn said(text: &str, reason: Option<&str>) -> Value {
        json!({"type": "final_answer_delta", "data": {"text": text, "finish_reason": reason}})
    }

    fn failed(message: &str) -> Vec<Value> {
        vec![json!({"type": "error", "data": {"message": message, "retryable": false}})]
    }

    const STOP: Delta = Delta::Stop(StopReason::End);

    #[test]
    fn a_react_answer_is_streamed_and_counted() {
        let usage = Delta::Usage(Usage { input: 11, output: 6, ..Usage::default() });
        let all =
            events(Way::React, &[text("Thought: x\nFinal Answer: Grü"), text("ße."), STOP, usage]);
        let counts = json!({"type": "usage", "data": {"usage": {"m": {"input_tokens": 11, "output_tokens": 6}}}});
        assert_eq!(all, [said("Grü", None), said("ße.", None), said("", Some("stop")), counts]);
    }

    #[test]
    fn both_ways_call_a_tool_with_the_same_line() {
        let meant = json!({"type": "action", "data": {"thought": "Look.", "tool": "issue_reader", "tool_input": "#1"}});
        let react = [text("Thought: Look.\nAction: issue_reader\nAction Input: #1"), STOP];
        assert_eq!(events(Way::React, &react), std::slice::from_ref(&meant));
        let native = [
            Delta::Reasoning("hm".into()),
            text("Look."),
            call(0, Some("issue_reader"), ""),
            call(0, None, "{\"input\":\"#1\"}"),
            call(1, Some("epic_reader"), "{}"),
            Delta::Stop(StopReason::ToolCalls),
        ];
        assert_eq!(events(Way::Native, &native), std::slice::from_ref(&meant));
        assert_eq!(events(Way::React, &native), [meant]);
    }

    #[test]
    fn words_without_a_call_are_the_answer_only_where_calls_are_native() {
        assert_eq!(
            events(Way::Native, &[text("Hi."), STOP]),
            [said("Hi.", None), said("", Some("stop"))]
        );
        assert_eq!(
            events(Way::React, &[text("Hi."), STOP]),
            [json!({"type": "unknown", "data": {"text": "Hi."}})]
        );
        let thinking = events(Way::React, &[text("so\n</think>\nHi."), STOP]);
        assert_eq!(thinking, [json!({"type": "unknown", "data": {"text": "Hi."}})]);
    }

    #[test]
    fn tools_that_are_not_there_are_told_apart() {
        let ask = |tool: &str| [text(&format!("Action: {tool}\nAction Input: x")), STOP];
        assert_eq!(events(Way::React, &ask("merge_request_reader")), failed("tool not available"));
        assert_eq!(
            events(Way::React, &ask("web_search")),
            failed("The model asked for a tool that does not exist")
        );
    }

    #[test]
    fn nothing_is_an_error() {
        for way in [Way::Native, Way::React] {
            assert_eq!(events(way, &[STOP]), failed("The model's answer was empty"));
            let length = Delta::Stop(StopReason::Length);
            assert_eq!(
                events(way, &[length]),
                failed("The model used up its tokens before it answered")
            );
        }
    }
}
