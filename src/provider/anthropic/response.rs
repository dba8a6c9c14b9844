//! A message, unstreamed or as events → deltas; and the inspection of events that pass through.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fault;
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, Generation, StopReason, Usage};
use crate::provider::pending_tool_calls::PendingToolCalls;
use crate::provider::tool_names::ToolNames;
use crate::provider::{Decode, EventInfo, unreadable_response};
use crate::wire::{SseFrames, event_data, find_last_member};

/// Maximum size of one event of a stream in bytes; large tool arguments arrive in fragments.
const MAX_EVENT: usize = 4 << 20;

#[derive(Deserialize)]
struct ResponseMessage<'a> {
    #[serde(borrow, default)]
    content: Vec<ContentBlock<'a>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    usage: Option<RawUsage>,
}

/// Content block of any type, at its start or complete. Types that no surface has a format for have
/// none of these fields.
#[derive(Deserialize)]
struct ContentBlock<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct RawUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    output_tokens_details: Option<Details>,
}

#[derive(Clone, Copy, Deserialize)]
struct Details {
    #[serde(default)]
    thinking_tokens: u64,
}

impl RawUsage {
    /// Returns the counts updated by a later report. Counts are cumulative; a later report may omit
    /// counts of an earlier one.
    fn merged_with(self, later: Self) -> Self {
        Self {
            input_tokens: later.input_tokens.or(self.input_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
            cache_read_input_tokens: later.cache_read_input_tokens.or(self.cache_read_input_tokens),
            cache_creation_input_tokens: later
                .cache_creation_input_tokens
                .or(self.cache_creation_input_tokens),
            output_tokens_details: later.output_tokens_details.or(self.output_tokens_details),
        }
    }

    /// Converts the counts. Anthropic counts tokens that were read from the cache or written to it
    /// separately from `input_tokens`; `Usage::input` is everything that was read.
    fn into_usage(self) -> Usage {
        let read = self.cache_read_input_tokens.unwrap_or(0);
        let cache = read.saturating_add(self.cache_creation_input_tokens.unwrap_or(0));
        Usage {
            input: self.input_tokens.unwrap_or(0).saturating_add(cache),
            output: self.output_tokens.unwrap_or(0),
            cached: read,
            reasoning: self.output_tokens_details.map_or(0, |details| details.thinking_tokens),
        }
    }
}

fn stop_reason(reason: &str) -> StopReason {
    match reason {
        "end_turn" | "stop_sequence" => StopReason::End,
        "tool_use" => StopReason::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
        "refusal" => StopReason::ContentFilter,
        // pause_turn, and reasons of later versions
        _ => StopReason::Other,
    }
}

/// Decodes an unstreamed response. Fails on an error and on a body without `stop_reason`.
pub(super) fn decode_response(
    generation: &Generation,
    body: &[u8],
) -> Result<Vec<Delta>, GatewayError> {
    let message: ResponseMessage<'_> = serde_json::from_slice(body)
        .map_err(|error| unreadable_response("the answer is not a message", &error))?;
    let Some(reason) = message.stop_reason else {
        let is_error = inspect_event(body).error.is_some();
        let error = || unreadable_response("the answer is not a message", &"no stop_reason");
        return Err(if is_error { fault::from_event(body) } else { error() });
    };
    let (mut out, mut calls) = (Vec::new(), PendingToolCalls::new(ToolNames::of(generation)));
    for block in message.content {
        match (&*block.kind, block.id, block.name) {
            ("tool_use", Some(id), Some(name)) => {
                out.push(calls.complete(id, name, block.input.map(RawValue::get)))
            }
            _ => {
                out.extend(block.thinking.filter(|text| !text.is_empty()).map(Delta::Reasoning));
                out.extend(
                    block.signature.filter(|text| !text.is_empty()).map(Delta::ReasoningSignature),
                );
                out.extend(block.text.filter(|text| !text.is_empty()).map(Delta::Text));
            }
        }
    }
    out.push(Delta::Stop(stop_reason(&reason)));
    out.extend(message.usage.map(|usage| Delta::Usage(usage.into_usage())));
    Ok(out)
}

/// Event of any type.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    message: Option<ResponseMessage<'a>>,
    #[serde(borrow)]
    content_block: Option<ContentBlock<'a>>,
    #[serde(borrow)]
    delta: Option<ContentDelta<'a>>,
    usage: Option<RawUsage>,
}

#[derive(Deserialize)]
struct ContentDelta<'a> {
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    partial_json: Option<String>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
}

/// Decoder of a stream of events.
pub(super) struct MessagesStreamDecoder {
    frames: SseFrames,
    calls: PendingToolCalls,
    usage: RawUsage,
    stopped: bool,
}

impl MessagesStreamDecoder {
    pub(super) fn new(generation: &Generation) -> Self {
        Self {
            frames: SseFrames::new(MAX_EVENT),
            calls: PendingToolCalls::new(ToolNames::of(generation)),
            usage: RawUsage::default(),
            stopped: false,
        }
    }

    fn event(&mut self, event: &[u8], out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        let Some(data) = event_data(event) else { return Ok(()) };
        let event: Event<'_> = serde_json::from_slice(&data)
            .map_err(|error| unreadable_response("an event", &error))?;
        match &*event.kind {
            "message_start" => {
                self.merge_usage(event.message.and_then(|message| message.usage), out)
            }
            "content_block_start" => {
                if let Some(block) = event.content_block {
                    self.start_block(event.index, block, out)?;
                }
            }
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    self.push_delta(event.index, delta, out);
                }
            }
            "content_block_stop" => out.extend(self.calls.stop(event.index)),
            "message_delta" => {
                if let Some(reason) = event.delta.and_then(|delta| delta.stop_reason) {
                    self.stopped = true;
                    out.push(Delta::Stop(stop_reason(&reason)));
                }
                self.merge_usage(event.usage, out);
            }
            "error" => return Err(fault::from_event(&data)),
            // ping, message_stop, and events of later versions
            _ => {}
        }
        Ok(())
    }

    fn start_block(
        &mut self,
        index: u64,
        block: ContentBlock<'_>,
        out: &mut Vec<Delta>,
    ) -> Result<(), GatewayError> {
        if let ("tool_use", Some(id), Some(name)) = (&*block.kind, block.id, block.name) {
            out.push(self.calls.start(index, id, name)?);
            // empty here, and complete from servers that do not stream arguments
            let input =
                block.input.map(RawValue::get).filter(|input| !matches!(*input, "{}" | "null"));
            out.extend(input.and_then(|input| self.calls.push_arguments(index, input.to_owned())));
            return Ok(());
        }
        out.extend(block.text.filter(|text| !text.is_empty()).map(Delta::Text));
        out.extend(block.thinking.filter(|text| !text.is_empty()).map(Delta::Reasoning));
        Ok(())
    }

    fn push_delta(&mut self, index: u64, delta: ContentDelta<'_>, out: &mut Vec<Delta>) {
        out.extend(delta.text.filter(|text| !text.is_empty()).map(Delta::Text));
        out.extend(delta.thinking.filter(|text| !text.is_empty()).map(Delta::Reasoning));
        out.extend(delta.signature.filter(|text| !text.is_empty()).map(Delta::ReasoningSignature));
        out.extend(
            delta.partial_json.and_then(|fragment| self.calls.push_arguments(index, fragment)),
        );
    }

    /// Merges a report of token counts. Both the first and the last event have one, so a truncated
    /// response has the counts of the first.
    fn merge_usage(&mut self, usage: Option<RawUsage>, out: &mut Vec<Delta>) {
        let Some(usage) = usage else { return };
        self.usage = self.usage.merged_with(usage);
        out.push(Delta::Usage(self.usage.into_usage()));
    }
}

impl Decode for MessagesStreamDecoder {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        self.frames.feed(chunk);
        while let Some(event) =
            self.frames.next_event().map_err(|error| unreadable_response("the stream", &error))?
        {
            self.event(&event, out)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        // a last event without its blank line is complete too
        let rest = self.frames.take_rest();
        if !rest.trim_ascii().is_empty() {
            self.event(&rest, out)?;
        }
        if self.stopped {
            return Ok(());
        }
        Err(GatewayError::new(
            Kind::UpstreamBroken,
            "The model server closed the stream before the end",
        )
        .internal("the stream ended without a stop_reason"))
    }
}

/// Parses the data of one event that passes through; one that does not parse has no content.
pub(super) fn inspect_event(data: &[u8]) -> EventInfo {
    let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else {
        return EventInfo::default();
    };
    let usage = event.usage.or_else(|| event.message.and_then(|message| message.usage));
    let is_call = event.content_block.is_some_and(|block| block.kind == "tool_use");
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let text_len =
        event.delta.map_or(0, |d| length(&d.text) + length(&d.thinking) + length(&d.partial_json));
    EventInfo {
        content: is_call || text_len > 0,
        text_len,
        usage: usage.map(RawUsage::into_usage),
        // counts are part of events that the client needs anyway
        only_usage: false,
        done: event.kind == "message_stop",
        error: (event.kind == "error").then(|| match fault::from_event(data).kind() {
            Kind::ContentFilter => Kind::ContentFilter,
            _ => Kind::UpstreamBroken,
        }),
    }
}

/// Parses the token counts of an unstreamed response; `body` may be only its end.
pub(super) fn parse_usage(body: &[u8]) -> Option<Usage> {
    find_last_member(body, "\"usage\"").map(RawUsage::into_usage)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::{MessagesStreamDecoder, decode_response, inspect_event, parse_usage};
    use crate::error::{GatewayError, Kind};
    use crate::generation::{Delta, Generation, StopReason, Tool, Usage};
    use crate::provider::Decode as _;

    fn request() -> Generation {
        let tool = Tool {
            name: "a.b".into(),
            description: String::new(),
            parameters: json!({}),
            strict: None,
        };
        Generation { tools: vec![tool], ..Generation::default() }
    }

    fn decode(chunks: &[&[u8]]) -> Result<Vec<Delta>, GatewayError> {
        let (mut decoder, mut out) = (MessagesStreamDecoder::new(&request()), Vec::new());
        for chunk in chunks {
            decoder.feed(Bytes::copy_from_slice(chunk), &mut out)?;
        }
        decoder.finish(&mut out)?;
        Ok(out)
    }

    /// Stream as in the API's documentation, with a `ping`, thinking, text, a call in fragments and
    /// one without arguments.
    fn stream() -> String {
        let events = [
            json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "m",
                "stop_reason": null, "usage": {"input_tokens": 10, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 1, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hi é"}}),
            json!({"type": "content_block_stop", "index": 1}),
            json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t1", "name": "a_b", "input": {}}}),
            json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}}),
            json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{\"x\""}}),
            json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ":1}"}}),
            json!({"type": "content_block_stop", "index": 2}),
            json!({"type": "content_block_start", "index": 3, "content_block": {"type": "tool_use", "id": "t2", "name": "now", "input": {}}}),
            json!({"type": "content_block_stop", "index": 3}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 7}}}),
            json!({"type": "message_stop"}),
        ];
        events
            .iter()
            .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()))
            .collect()
    }

    fn call(index: u32, id: Option<&str>, name: Option<&str>, arguments: &str) -> Delta {
        Delta::ToolCall {
            index,
            id: id.map(Into::into),
            name: name.map(Into::into),
            arguments: arguments.into(),
        }
    }

    #[test]
    fn a_stream_decodes_the_same_however_it_is_split() {
        let text = stream();
        let expected = [
            Delta::Usage(Usage { input: 14, output: 1, cached: 3, reasoning: 0 }),
            Delta::Reasoning("hm".into()),
            Delta::ReasoningSignature("sig".into()),
            Delta::Text("Hi é".into()),
            call(0, Some("t1"), Some("a.b"), ""),
            call(0, None, None, "{\"x\""),
            call(0, None, None, ":1}"),
            call(1, Some("t2"), Some("now"), ""),
            call(1, None, None, "{}"),
            Delta::Stop(StopReason::ToolCalls),
            Delta::Usage(Usage { input: 14, output: 20, cached: 3, reasoning: 7 }),
        ];
        assert_eq!(decode(&[text.as_bytes()]).unwrap(), expected);
        let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(decode(&single).unwrap(), expected);
    }

    #[test]
    fn truncated_streams_and_error_events_are_failures() {
        let text = stream();
        let end = text.find("event: message_delta").unwrap();
        for cut in 0..end {
            assert!(decode(&[&text.as_bytes()[..cut]]).is_err(), "cut at {cut}");
        }
        let overloaded = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
        for chunks in
            [vec![overloaded.as_bytes()], vec![&text.as_bytes()[..end], overloaded.as_bytes()]]
        {
            assert_eq!(decode(&chunks).unwrap_err().kind(), Kind::UpstreamStatus(529));
        }
        assert_eq!(decode(&[b"data: not json\n\n"]).unwrap_err().kind(), Kind::UpstreamBroken);
    }

    #[test]
    fn unstreamed_responses() {
        let body = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use", "stop_sequence": null,
            "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Hi"},
                {"type": "tool_use", "id": "t1", "name": "a_b", "input": {"x": 1}}, {"type": "tool_use", "id": "t2", "name": "now", "input": {}}],
            "usage": {"input_tokens": 10, "output_tokens": 5}})
        .to_string();
        let usage = Usage { input: 10, output: 5, ..Usage::default() };
        assert_eq!(
            decode_response(&request(), body.as_bytes()).unwrap(),
            [
                Delta::Reasoning("hm".into()),
                Delta::ReasoningSignature("s".into()),
                Delta::Text("Hi".into()),
                call(0, Some("t1"), Some("a.b"), "{\"x\":1}"),
                call(1, Some("t2"), Some("now"), "{}"),
                Delta::Stop(StopReason::ToolCalls),
                Delta::Usage(usage),
            ]
        );
        assert_eq!(parse_usage(body.as_bytes()), Some(usage));
        for wrong in ["", "[]", "{}"] {
            assert_eq!(
                decode_response(&request(), wrong.as_bytes()).unwrap_err().kind(),
                Kind::UpstreamBroken,
                "{wrong}"
            );
        }
        let overloaded = br#"{"type":"error","error":{"type":"overloaded_error"}}"#;
        assert_eq!(
            decode_response(&request(), overloaded).unwrap_err().kind(),
            Kind::UpstreamStatus(529)
        );
    }

    #[test]
    fn events_are_inspected_for_content_usage_errors_and_the_end() {
        let events: Vec<_> = stream()
            .split("\n\n")
            .filter_map(|event| Some(inspect_event(event.split_once("data: ")?.1.as_bytes())))
            .collect();
        assert_eq!(
            events.iter().position(|event| event.content),
            Some(3),
            "thinking is the first content"
        );
        assert_eq!(events.iter().filter(|event| event.usage.is_some()).count(), 2);
        assert!(events.last().unwrap().done && !events[0].done);
        assert_eq!(
            inspect_event(br#"{"type":"error","error":{}}"#).error,
            Some(Kind::UpstreamBroken)
        );
        assert_eq!(inspect_event(b"nonsense").error, None);
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(5);
        let good = stream();
        for _ in 0..2000 {
            let mut bytes = good.clone().into_bytes();
            for _ in 0..random.usize(1..5) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..bytes.len()));
            let size = random.usize(1..300);
            drop(decode(&bytes.chunks(size).collect::<Vec<_>>()));
            drop(decode_response(&request(), &bytes));
            parse_usage(&bytes);
        }
    }
}
