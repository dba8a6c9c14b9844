//! Encodes the model's turn as the events that GitLab's chat reads (contract::gitlab_client §7.2,
//! contract::ai_gateway_server §4.4). Both tool protocols result in the same lines.

use std::sync::Arc;

use bytes::BytesMut;
use serde_json::json;

use super::call::FirstCall;
use super::conversation::ToolProtocol;
use super::react::{Action, ParsedTurn, TurnParser, normalize_tool_name};
use super::tools::{self, Tool};
use crate::error::chat_error;
use crate::generation::{Delta, Encode, StopReason, Usage, without_thinking};
use crate::wire::write_json_line;

/// Encodes one turn.
pub(super) struct ChatEventEncoder {
    /// `None` once the turn has ended.
    parser: Option<TurnParser>,
    call: Option<FirstCall>,
    /// The tools that the request may use.
    tools: Vec<&'static Tool>,
    /// The model under whose name the usage is reported.
    model: Arc<str>,
    stop: Option<StopReason>,
    usage: Option<Usage>,
    /// What was wrong with the turn, for the log.
    fault: Option<String>,
}

impl ChatEventEncoder {
    /// Creates the encoder of a turn of a model that may call `tools` by `protocol`.
    pub(super) fn new(protocol: ToolProtocol, tools: &[&'static Tool], model: Arc<str>) -> Self {
        let parser = Some(TurnParser::new(protocol, !tools.is_empty()));
        Self {
            parser,
            call: None,
            tools: tools.to_vec(),
            model,
            stop: None,
            usage: None,
            fault: None,
        }
    }

    /// Ends the turn and returns its result. A native function call is accepted whatever the
    /// protocol.
    fn end_turn(&mut self) -> ParsedTurn {
        let turn = self.parser.take().map_or(ParsedTurn::Answer, TurnParser::finish);
        match (turn, self.call.take()) {
            (ParsedTurn::Unknown(thought) | ParsedTurn::FreeText(thought), Some(call)) => {
                let (tool, input) = (normalize_tool_name(&call.name), call.input());
                ParsedTurn::Action(Action { thought: without_thinking(&thought), tool, input })
            }
            (ParsedTurn::Unknown(text), None) => ParsedTurn::Unknown(without_thinking(&text)),
            (ParsedTurn::FreeText(text), None) => ParsedTurn::FreeText(without_thinking(&text)),
            (turn, _) => turn,
        }
    }

    /// Writes the turn's final events; `false` if the turn failed, which is an error event.
    fn write_turn(&mut self, turn: ParsedTurn, out: &mut BytesMut) -> bool {
        match turn {
            ParsedTurn::Answer => write_answer("", self.stop, out),
            ParsedTurn::FreeText(text) if !text.is_empty() => {
                write_answer(&text, None, out);
                write_answer("", self.stop, out);
            }
            ParsedTurn::Unknown(text) if !text.is_empty() => {
                write_json_line(&json!({"type": "unknown", "data": {"text": text}}), out);
            }
            ParsedTurn::Action(Action { thought, tool, input })
                if self.tools.iter().any(|available| available.name == tool) =>
            {
                let data = json!({"thought": thought, "tool": tool, "tool_input": input});
                write_json_line(&json!({"type": "action", "data": data}), out);
            }
            // GitLab looks for this text: the user lacks a subscription (G3001)
            ParsedTurn::Action(Action { tool, .. }) if tools::is_known(&tool) => {
                chat_error("tool not available", false, out);
                return false;
            }
            ParsedTurn::Action(Action { tool, .. }) => {
                chat_error("The model called a tool that does not exist", false, out);
                let tool: String = tool.chars().take(100).collect();
                self.fault =
                    Some(format!("the model called the tool `{tool}`, which does not exist"));
                return false;
            }
            ParsedTurn::FreeText(_) | ParsedTurn::Unknown(_) => {
                let message = empty_turn_message(self.stop);
                chat_error(message, false, out);
                self.fault = Some(message.to_owned());
                return false;
            }
        }
        true
    }
}

impl Encode for ChatEventEncoder {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        match delta {
            Delta::Text(text) => {
                let answer = self.parser.as_mut().and_then(|parser| parser.feed(text));
                answer.iter().for_each(|answer| write_answer(answer, None, out));
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
        let turn = self.end_turn();
        if !self.write_turn(turn, out) {
            return;
        }
        if let Some(usage) = self.usage.filter(Usage::is_reported) {
            let counts =
                json!({&*self.model: {"input_tokens": usage.input, "output_tokens": usage.output}});
            write_json_line(&json!({"type": "usage", "data": {"usage": counts}}), out);
        }
    }

    fn failure(&self) -> Option<&str> {
        self.fault.as_deref()
    }
}

/// Writes a delta of the answer; the last one is empty and carries the finish reason.
fn write_answer(text: &str, stop: Option<StopReason>, out: &mut BytesMut) {
    let reason = stop.map(|stop| match stop {
        StopReason::Length => "length",
        StopReason::ContentFilter => "content_filter",
        StopReason::End | StopReason::ToolCalls | StopReason::Other => "stop",
    });
    write_json_line(
        &json!({"type": "final_answer_delta", "data": {"text": text, "finish_reason": reason}}),
        out,
    );
}

/// Returns the error for a turn without any text. GitLab would otherwise show an empty line, or
/// take a stream without events for a timeout (A1002).
const fn empty_turn_message(stop: Option<StopReason>) -> &'static str {
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

    use super::{ChatEventEncoder, ToolProtocol};
    use crate::api::gitlab::chat_agent::tools;
    use crate::auth::Caller;
    use crate::generation::{Delta, Encode as _, StopReason, Usage};

    /// Returns the events of a turn; merge requests cannot be read.
    fn events(protocol: ToolProtocol, deltas: &[Delta]) -> Vec<Value> {
        let tools = tools::available_to(&Caller::Anonymous, None, &["Merge Requests"]);
        let mut encoder = ChatEventEncoder::new(protocol, &tools, "m".into());
        let mut out = BytesMut::new();
        deltas.iter().for_each(|delta| encoder.delta(delta, &mut out));
        encoder.finish(&mut out);
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

    fn answer(text: &str, reason: Option<&str>) -> Value {
        json!({"type": "final_answer_delta", "data": {"text": text, "finish_reason": reason}})
    }

    fn failed(message: &str) -> Vec<Value> {
        vec![json!({"type": "error", "data": {"message": message, "retryable": false}})]
    }

    const STOP: Delta = Delta::Stop(StopReason::End);

    #[test]
    fn a_react_answer_is_streamed_and_counted() {
        let usage = Delta::Usage(Usage { input: 11, output: 6, ..Usage::default() });
        let all = events(
            ToolProtocol::React,
            &[text("Thought: x\nFinal Answer: Grü"), text("ße."), STOP, usage],
        );
        let counts = json!({"type": "usage", "data": {"usage": {"m": {"input_tokens": 11, "output_tokens": 6}}}});
        assert_eq!(
            all,
            [answer("Grü", None), answer("ße.", None), answer("", Some("stop")), counts]
        );
    }

    #[test]
    fn both_protocols_call_a_tool_with_the_same_line() {
        let expected = json!({"type": "action", "data": {"thought": "Look.", "tool": "issue_reader", "tool_input": "#1"}});
        let react = [text("Thought: Look.\nAction: issue_reader\nAction Input: #1"), STOP];
        assert_eq!(events(ToolProtocol::React, &react), std::slice::from_ref(&expected));
        let native = [
            Delta::Reasoning("hm".into()),
            text("Look."),
            call(0, Some("issue_reader"), ""),
            call(0, None, "{\"input\":\"#1\"}"),
            call(1, Some("epic_reader"), "{}"),
            Delta::Stop(StopReason::ToolCalls),
        ];
        assert_eq!(events(ToolProtocol::Native, &native), std::slice::from_ref(&expected));
        assert_eq!(events(ToolProtocol::React, &native), [expected]);
    }

    #[test]
    fn text_without_a_call_is_the_answer_only_where_calls_are_native() {
        assert_eq!(
            events(ToolProtocol::Native, &[text("Hi."), STOP]),
            [answer("Hi.", None), answer("", Some("stop"))]
        );
        assert_eq!(
            events(ToolProtocol::React, &[text("Hi."), STOP]),
            [json!({"type": "unknown", "data": {"text": "Hi."}})]
        );
        let thinking = events(ToolProtocol::React, &[text("so\n</think>\nHi."), STOP]);
        assert_eq!(thinking, [json!({"type": "unknown", "data": {"text": "Hi."}})]);
    }

    #[test]
    fn unavailable_and_unknown_tools_have_different_errors() {
        let call = |tool: &str| [text(&format!("Action: {tool}\nAction Input: x")), STOP];
        assert_eq!(
            events(ToolProtocol::React, &call("merge_request_reader")),
            failed("tool not available")
        );
        assert_eq!(
            events(ToolProtocol::React, &call("web_search")),
            failed("The model called a tool that does not exist")
        );
    }

    #[test]
    fn an_empty_turn_is_an_error() {
        for protocol in [ToolProtocol::Native, ToolProtocol::React] {
            assert_eq!(events(protocol, &[STOP]), failed("The model's answer was empty"));
            let length = Delta::Stop(StopReason::Length);
            assert_eq!(
                events(protocol, &[length]),
                failed("The model used up its tokens before it answered")
            );
        }
    }
}
