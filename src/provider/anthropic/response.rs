//! A message, whole or as events → deltas; and the quick look that passthrough takes at each event.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fault;
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, Generation, StopReason, Usage};
use crate::provider::pending_tool_calls::OpenCalls;
use crate::provider::tool_names::ToolNames;
use crate::provider::{Decode, Seen, unreadable};
use crate::wire::{SseFrames, data_of, last_member};

/// One event of a stream holds at most this much; large tool arguments come in pieces.
const MAX_EVENT: usize = 4 << 20;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Vec<Block<'a>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    usage: Option<RawUsage>,
}

/// A block of any type, as it starts or whole. Types that no surface can show have none of these
/// fields.
#[derive(Deserialize)]
struct Block<'a> {
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
    /// Counts are cumulative; a later report may leave out what an earlier one said.
    fn and_then(self, later: Self) -> Self {
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

    /// Anthropic counts what the cache held or took apart from `input_tokens`; ours is everything
    /// read.
    fn usage(self) -> Usage {
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
        // pause_turn, and what comes next
        _ => StopReason::Other,
    }
}

/// A whole answer.
pub(super) fn whole(asked: &Generation, body: &[u8]) -> Result<Vec<Delta>, GatewayError> {
    let message: Message<'_> = serde_json::from_slice(body)
        .map_err(|error| unreadable("the answer is not a message", &error))?;
    let Some(reason) = message.stop_reason else {
        let is_error = look(body).error.is_some();
        let unreadable = || unreadable("the answer is not a message", &"no stop_reason");
        return Err(if is_error { fault::of_event(body) } else { unreadable() });
    };
    let (mut out, mut calls) = (Vec::new(), OpenCalls::new(ToolNames::of(asked)));
    for block in message.content {
        match (&*block.kind, block.id, block.name) {
            ("tool_use", Some(id), Some(name)) => {
                out.push(calls.whole(id, name, block.input.map(RawValue::get)))
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
    out.extend(message.usage.map(|usage| Delta::Usage(usage.usage())));
    Ok(out)
}

/// An event of any type.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    content_block: Option<Block<'a>>,
    #[serde(borrow)]
    delta: Option<Piece<'a>>,
    usage: Option<RawUsage>,
}

#[derive(Deserialize)]
struct Piece<'a> {
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    partial_json: Option<String>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
}

/// Decodes a stream.
pub(super) struct Stream {
    frames: SseFrames,
    calls: OpenCalls,
    usage: RawUsage,
    stopped: bool,
}

impl Stream {
    pub(super) fn new(asked: &Generation) -> Self {
        Self {
            frames: SseFrames::new(MAX_EVENT),
            calls: OpenCalls::new(ToolNames::of(asked)),
            usage: RawUsage::default(),
            stopped: false,
        }
    }

    fn event(&mut self, event: &[u8], out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        let Some(data) = data_of(event) else { return Ok(()) };
        let event: Event<'_> =
            serde_json::from_slice(&data).map_err(|error| unreadable("an event", &error))?;
        match &*event.kind {
            "message_start" => self.count(event.message.and_then(|message| message.usage), out),
            "content_block_start" => {
                if let Some(block) = event.content_block {
                    self.start(event.index, block, out)?;
                }
            }
            "content_block_delta" => {
                if let Some(piece) = event.delta {
                    self.piece(event.index, piece, out);
                }
            }
            "content_block_stop" => out.extend(self.calls.stop(event.index)),
            "message_delta" => {
                if let Some(reason) = event.delta.and_then(|delta| delta.stop_reason) {
                    self.stopped = true;
                    out.push(Delta::Stop(stop_reason(&reason)));
                }
                self.count(event.usage, out);
            }
            "error" => return Err(fault::of_event(&data)),
            // ping, message_stop, and what comes next
            _ => {}
        }
        Ok(())
    }

    fn start(
        &mut self,
        index: u64,
        block: Block<'_>,
        out: &mut Vec<Delta>,
    ) -> Result<(), GatewayError> {
        if let ("tool_use", Some(id), Some(name)) = (&*block.kind, block.id, block.name) {
            out.push(self.calls.start(index, id, name)?);
            // empty here, and whole from servers that do not stream arguments
            let input =
                block.input.map(RawValue::get).filter(|input| !matches!(*input, "{}" | "null"));
            out.extend(input.and_then(|input| self.calls.arguments(index, input.to_owned())));
            return Ok(());
        }
        out.extend(block.text.filter(|text| !text.is_empty()).map(Delta::Text));
        out.extend(block.thinking.filter(|text| !text.is_empty()).map(Delta::Reasoning));
        Ok(())
    }

    fn piece(&mut self, index: u64, piece: Piece<'_>, out: &mut Vec<Delta>) {
        out.extend(piece.text.filter(|text| !text.is_empty()).map(Delta::Text));
        out.extend(piece.thinking.filter(|text| !text.is_empty()).map(Delta::Reasoning));
        out.extend(piece.signature.filter(|text| !text.is_empty()).map(Delta::ReasoningSignature));
        out.extend(piece.partial_json.and_then(|fragment| self.calls.arguments(index, fragment)));
    }

    /// Both the first and the last event report: an answer that is broken off has been counted this
    /// far.
    fn count(&mut self, usage: Option<RawUsage>, out: &mut Vec<Delta>) {
        let Some(usage) = usage else { return };
        self.usage = self.usage.and_then(usage);
        out.push(Delta::Usage(self.usage.usage()));
    }
}

impl Decode for Stream {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        self.frames.feed(chunk);
        while let Some(event) =
            self.frames.next_event().map_err(|error| unreadable("the stream", &error))?
        {
            self.event(&event, out)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        // A last event without its blank line still counts.
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

/// The look at one passed-through event.
pub(super) fn look(data: &[u8]) -> Seen {
    let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else {
        return Seen::default();
    };
    let usage = event.usage.or_else(|| event.message.and_then(|message| message.usage));
    let is_call = event.content_block.is_some_and(|block| block.kind == "tool_use");
    let shown = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let text_len =
        event.delta.map_or(0, |d| shown(&d.text) + shown(&d.thinking) + shown(&d.partial_json));
    Seen {
        content: is_call || text_len > 0,
        text_len,
        usage: usage.map(RawUsage::usage),
        // counts come with events that a client wants anyway
        only_usage: false,
        done: event.kind == "message_stop",
        error: (event.kind == "error").then(|| match fault::of_event(data).kind() {
            Kind::ContentFilter => Kind::ContentFilter,
            _ => Kind::UpstreamBroken,
        }),
    }
}

/// The token counts of a whole answer, of which `body` may be only the end.
pub(super) fn usage_of(body: &[u8]) -> Option<Usage> {
    last_member(body, "\"usage\"").map(RawUsage::usage)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::{Stream, look, usage_of, whole};
    use crate::error::{GatewayError, Kind};
    use crate::generation::{Delta, Generation, StopReason, Tool, Usage};
    use crate::provider::Decode as _;

    fn asked() -> Generation {
        let tool = Tool {
            name: "a.b".into(),
            description: String::new(),
            parameters: json!({}),
            strict: None,
        };
        Generation { tools: vec![tool], ..Generation::default() }
    }

    fn decode(chunks: &[&[u8]]) -> Result<Vec<Delta>, GatewayError> {
        let (mut decoder, mut out) = (Stream::new(&asked()), Vec::new());
        for chunk in chunks {
            decoder.feed(Bytes::copy_from_slice(chunk), &mut out)?;
        }
        decoder.finish(&mut out)?;
        Ok(out)
    }

    /// As the API documents it, with a `ping`, thinking, text, a call in pieces and one without
    /// arguments.
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
    fn a_stream_however_it_arrives() {
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
    fn cut_streams_and_error_events_are_failures() {
        let text = stream();
        let said = text.find("event: message_delta").unwrap();
        for cut in 0..said {
            assert!(decode(&[&text.as_bytes()[..cut]]).is_err(), "cut at {cut}");
        }
        let overloaded = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
        for chunks in
            [vec![overloaded.as_bytes()], vec![&text.as_bytes()[..said], overloaded.as_bytes()]]
        {
            assert_eq!(decode(&chunks).unwrap_err().kind(), Kind::UpstreamStatus(529));
        }
        assert_eq!(decode(&[b"data: not json\n\n"]).unwrap_err().kind(), Kind::UpstreamBroken);
    }

    #[test]
    fn whole_answers() {
        let body = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use", "stop_sequence": null,
            "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Hi"},
                {"type": "tool_use", "id": "t1", "name": "a_b", "input": {"x": 1}}, {"type": "tool_use", "id": "t2", "name": "now", "input": {}}],
            "usage": {"input_tokens": 10, "output_tokens": 5}})
        .to_string();
        let usage = Usage { input: 10, output: 5, ..Usage::default() };
        assert_eq!(
            whole(&asked(), body.as_bytes()).unwrap(),
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
        assert_eq!(usage_of(body.as_bytes()), Some(usage));
        for wrong in ["", "[]", "{}"] {
            assert_eq!(
                whole(&asked(), wrong.as_bytes()).unwrap_err().kind(),
                Kind::UpstreamBroken,
                "{wrong}"
            );
        }
        let overloaded = br#"{"type":"error","error":{"type":"overloaded_error"}}"#;
        assert_eq!(whole(&asked(), overloaded).unwrap_err().kind(), Kind::UpstreamStatus(529));
    }

    #[test]
    fn looks_for_what_matters() {
        let seen: Vec<_> = stream()
            .split("\n\n")
            .filter_map(|event| Some(look(event.split_once("data: ")?.1.as_bytes())))
            .collect();
        assert_eq!(
            seen.iter().position(|seen| seen.content),
            Some(3),
            "thinking is the first content"
        );
        assert_eq!(seen.iter().filter(|seen| seen.usage.is_some()).count(), 2);
        assert!(seen.last().unwrap().done && !seen[0].done);
        assert_eq!(look(br#"{"type":"error","error":{}}"#).error, Some(Kind::UpstreamBroken));
        assert_eq!(look(b"nonsense").error, None);
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
            drop(whole(&asked(), &bytes));
            usage_of(&bytes);
        }
    }
}
