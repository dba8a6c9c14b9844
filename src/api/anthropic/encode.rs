//! Deltas → Anthropic's answers, streamed (`message_start` … `message_stop`) or whole (`message`).
//!
//! Content stands in blocks, one after the other: a block ends when words of another kind come. Thinking that no
//! provider signed has an empty signature.

use bytes::{BufMut as _, BytesMut};
use serde_json::{Map, Value, json};

use crate::api::answer_parts::{Calls, put};
use crate::generation::{Delta, Encode, StopReason, Usage};

/// What names an answer.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    /// `msg_…`
    pub(super) id: String,
    /// The model as the client named it.
    pub(super) model: String,
}

/// Which text stopped an answer is known to Anthropic's own servers only, so that is an `end_turn`. Some servers
/// say `stop` after a call that was demanded: clients run it only if they are told that it is one.
const fn stop_reason(reason: StopReason, has_calls: bool) -> &'static str {
    match reason {
        StopReason::End | StopReason::Other if has_calls => "tool_use",
        StopReason::End | StopReason::Other => "end_turn",
        StopReason::Length => "max_tokens",
        StopReason::ToolCalls => "tool_use",
        StopReason::ContentFilter => "refusal",
    }
}

/// Anthropic counts what came from the cache apart from `input_tokens`.
fn usage_json(usage: &Usage) -> Value {
    let mut value = json!({
        "input_tokens": usage.input.saturating_sub(usage.cached), "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached, "output_tokens": usage.output,
    });
    if usage.reasoning > 0 {
        value["output_tokens_details"] = json!({"thinking_tokens": usage.reasoning});
    }
    value
}

/// A message that says nothing yet.
fn message(naming: &Naming, content: &[Value], stop_reason: Option<&str>, usage: &Usage) -> Value {
    json!({
        "id": naming.id, "type": "message", "role": "assistant", "model": naming.model, "content": content,
        "stop_reason": stop_reason, "stop_sequence": null, "usage": usage_json(usage),
    })
}

fn event(name: &str, body: &Value, out: &mut BytesMut) {
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\ndata: ");
    put(out, body);
    out.put_slice(b"\n\n");
}

/// The block that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    /// A call, by its place among the calls.
    Call(usize),
}

/// Writes a stream of events.
#[derive(Debug)]
pub(super) struct Events {
    naming: Naming,
    begun: bool,
    open: Option<Open>,
    /// How many blocks there are, the open one included.
    blocks: usize,
    calls: Calls,
    /// The block of each call.
    call_blocks: Vec<usize>,
    usage: Usage,
    stop: StopReason,
}

impl Events {
    /// A stream with nothing in it yet.
    pub(super) fn new(naming: Naming) -> Self {
        Self {
            naming,
            begun: false,
            open: None,
            blocks: 0,
            calls: Calls::default(),
            call_blocks: Vec::new(),
            usage: Usage::default(),
            stop: StopReason::End,
        }
    }

    fn begin(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.begun, true) {
            let message = message(&self.naming, &[], None, &self.usage);
            event("message_start", &json!({"type": "message_start", "message": message}), out);
        }
    }

    /// Makes `wanted` the open block; `start` is what it begins with.
    fn open(&mut self, wanted: Open, start: &Value, out: &mut BytesMut) {
        if self.open == Some(wanted) {
            return;
        }
        self.begin(out);
        self.close(out);
        let body = json!({"type": "content_block_start", "index": self.blocks, "content_block": start});
        event("content_block_start", &body, out);
        self.open = Some(wanted);
        self.blocks += 1;
    }

    fn close(&mut self, out: &mut BytesMut) {
        let Some(open) = self.open.take() else { return };
        let index = self.blocks.saturating_sub(1);
        if let Open::Call(at) = open
            && !self.calls.0[at].has_arguments
        {
            piece(index, "input_json_delta", "partial_json", "{}", out);
        }
        event("content_block_stop", &json!({"type": "content_block_stop", "index": index}), out);
    }

    fn text(&mut self, kind: &str, field: &str, text: &str, out: &mut BytesMut) {
        piece(self.blocks.saturating_sub(1), kind, field, text, out);
    }

    fn call(&mut self, index: u32, id: Option<&str>, name: Option<&str>, arguments: &str, out: &mut BytesMut) {
        let (at, is_new) = self.calls.place(index, id, name);
        if is_new {
            let call = &self.calls.0[at];
            let start = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
            self.open(Open::Call(at), &start, out);
            self.call_blocks.push(self.blocks.saturating_sub(1));
        }
        if !arguments.is_empty() {
            self.calls.0[at].has_arguments = true;
            piece(self.call_blocks[at], "input_json_delta", "partial_json", arguments, out);
        }
    }
}

/// A piece of a block. Most of a stream is this, so it is written without a tree.
fn piece(index: usize, kind: &str, field: &str, text: &str, out: &mut BytesMut) {
    out.put_slice(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
    put(out, &index);
    for part in [",\"delta\":{\"type\":\"", kind, "\",\"", field, "\":"] {
        out.put_slice(part.as_bytes());
    }
    put(out, text);
    out.put_slice(b"}}\n\n");
}

impl Encode for Events {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        let thinking = || json!({"type": "thinking", "thinking": "", "signature": ""});
        match delta {
            Delta::Text(text) => {
                self.open(Open::Text, &json!({"type": "text", "text": ""}), out);
                self.text("text_delta", "text", text, out);
            }
            Delta::Reasoning(text) => {
                self.open(Open::Thinking, &thinking(), out);
                self.text("thinking_delta", "thinking", text, out);
            }
            Delta::ReasoningSignature(signature) => {
                self.open(Open::Thinking, &thinking(), out);
                self.text("signature_delta", "signature", signature, out);
                // a signature covers what stands before it: more thinking is another block
                self.close(out);
            }
            Delta::ToolCall { index, id, name, arguments } => {
                self.call(*index, id.as_deref(), name.as_deref(), arguments, out);
            }
            Delta::Usage(usage) => self.usage = *usage,
            Delta::Stop(reason) => self.stop = *reason,
        }
    }

    fn finish(&mut self, out: &mut BytesMut) {
        self.begin(out);
        self.close(out);
        let reason = stop_reason(self.stop, !self.calls.0.is_empty());
        let delta = json!({"stop_reason": reason, "stop_sequence": null});
        let body = json!({"type": "message_delta", "delta": delta, "usage": usage_json(&self.usage)});
        event("message_delta", &body, out);
        event("message_stop", &json!({"type": "message_stop"}), out);
    }
}

#[derive(Debug)]
enum Block {
    Text(String),
    Thinking { text: String, signature: String },
    Call(usize),
}

/// Writes one whole `message`, at the end.
#[derive(Debug)]
pub(super) struct Whole {
    naming: Naming,
    blocks: Vec<Block>,
    calls: Calls,
    usage: Usage,
    stop: StopReason,
}

impl Whole {
    /// An answer that says nothing yet.
    pub(super) fn new(naming: Naming) -> Self {
        let (blocks, calls) = (Vec::new(), Calls::default());
        Self { naming, blocks, calls, usage: Usage::default(), stop: StopReason::End }
    }

    /// Adds to the thinking that is not signed yet.
    fn think(&mut self, more: &str, signed: &str) {
        if let Some(Block::Thinking { text, signature }) = self.blocks.last_mut()
            && signature.is_empty()
        {
            text.push_str(more);
            signature.push_str(signed);
            return;
        }
        self.blocks.push(Block::Thinking { text: more.to_owned(), signature: signed.to_owned() });
    }

    fn content(&self, block: &Block) -> Value {
        match block {
            Block::Text(text) => json!({"type": "text", "text": text}),
            Block::Thinking { text, signature } => {
                json!({"type": "thinking", "thinking": text, "signature": signature})
            }
            Block::Call(at) => {
                let call = &self.calls.0[*at];
                json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input(&call.arguments)})
            }
        }
    }
}

/// The arguments as the object that Anthropic has. What a model wrote instead of JSON is kept as it is: the tool is
/// to refuse it where the client can see why.
fn input(arguments: &str) -> Value {
    if arguments.trim().is_empty() {
        return Value::Object(Map::new());
    }
    match serde_json::from_str(arguments) {
        Ok(Value::Object(map)) => Value::Object(map),
        _ => json!({ "unparsed_arguments": arguments }),
    }
}

impl Encode for Whole {
    fn delta(&mut self, delta: &Delta, _out: &mut BytesMut) {
        match delta {
            Delta::Text(text) => match self.blocks.last_mut() {
                Some(Block::Text(words)) => words.push_str(text),
                _ => self.blocks.push(Block::Text(text.clone())),
            },
            Delta::Reasoning(text) => self.think(text, ""),
            Delta::ReasoningSignature(signature) => self.think("", signature),
            Delta::ToolCall { index, id, name, arguments } => {
                let (at, is_new) = self.calls.place(*index, id.as_deref(), name.as_deref());
                self.calls.0[at].arguments.push_str(arguments);
                if is_new {
                    self.blocks.push(Block::Call(at));
                }
            }
            Delta::Usage(usage) => self.usage = *usage,
            Delta::Stop(reason) => self.stop = *reason,
        }
    }

    fn finish(&mut self, out: &mut BytesMut) {
        let content: Vec<Value> = self.blocks.iter().map(|block| self.content(block)).collect();
        let reason = stop_reason(self.stop, !self.calls.0.is_empty());
        put(out, &message(&self.naming, &content, Some(reason), &self.usage));
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use serde_json::{Value, json};

    use super::{Events, Naming, Whole};
    use crate::generation::{Delta, Encode, StopReason, Usage};

    fn naming() -> Naming {
        Naming { id: "msg_1".into(), model: "m".into() }
    }

    fn call(index: u32, id: Option<&str>, name: Option<&str>, arguments: &str) -> Delta {
        Delta::ToolCall { index, id: id.map(Into::into), name: name.map(Into::into), arguments: arguments.into() }
    }

    fn written(encoder: &mut dyn Encode, deltas: &[Delta]) -> String {
        let mut out = BytesMut::new();
        deltas.iter().for_each(|delta| encoder.delta(delta, &mut out));
        encoder.finish(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    /// The events of a stream; each one's name is checked to be its type.
    fn events(deltas: &[Delta]) -> Vec<Value> {
        let stream = written(&mut Events::new(naming()), deltas);
        let event = |event: &str| {
            let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["type"], name);
            data
        };
        stream.split_terminator("\n\n").map(event).collect()
    }

    fn whole(deltas: &[Delta]) -> Value {
        serde_json::from_str(&written(&mut Whole::new(naming()), deltas)).unwrap()
    }

    /// Everything an answer can have.
    fn everything() -> Vec<Delta> {
        vec![
            Delta::Usage(Usage { input: 10, cached: 3, ..Usage::default() }),
            Delta::Reasoning("h".into()),
            Delta::Reasoning("m".into()),
            Delta::ReasoningSignature("sig".into()),
            Delta::Reasoning("more".into()),
            Delta::Text("Hi \"é\"".into()),
            Delta::Text("\n".into()),
            call(3, Some("a"), Some("f"), "{\"x\""),
            call(3, None, None, ":1}"),
            call(4, Some("b"), Some("g"), ""),
            Delta::Stop(StopReason::ToolCalls),
            Delta::Usage(Usage { input: 10, cached: 3, output: 9, reasoning: 2 }),
        ]
    }

    #[test]
    fn a_stream_of_blocks() {
        let start =
            |index: u32, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
        let piece = |index: u32, kind: &str, field: &str, text: &str| json!({"type": "content_block_delta", "index": index, "delta": {"type": kind, field: text}});
        let stop = |index: u32| json!({"type": "content_block_stop", "index": index});
        let thinking = json!({"type": "thinking", "thinking": "", "signature": ""});
        let tool = |id: &str, name: &str| json!({"type": "tool_use", "id": id, "name": name, "input": {}});
        let usage = |output: u32| json!({"input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 3, "output_tokens": output});
        let mut last = usage(9);
        last["output_tokens_details"] = json!({"thinking_tokens": 2});
        let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage(0)});
        assert_eq!(
            events(&everything()),
            [
                json!({"type": "message_start", "message": message}),
                start(0, thinking.clone()),
                piece(0, "thinking_delta", "thinking", "h"),
                piece(0, "thinking_delta", "thinking", "m"),
                piece(0, "signature_delta", "signature", "sig"),
                stop(0),
                start(1, thinking),
                piece(1, "thinking_delta", "thinking", "more"),
                stop(1),
                start(2, json!({"type": "text", "text": ""})),
                piece(2, "text_delta", "text", "Hi \"é\""),
                piece(2, "text_delta", "text", "\n"),
                stop(2),
                start(3, tool("a", "f")),
                piece(3, "input_json_delta", "partial_json", "{\"x\""),
                piece(3, "input_json_delta", "partial_json", ":1}"),
                stop(3),
                start(4, tool("b", "g")),
                piece(4, "input_json_delta", "partial_json", "{}"),
                stop(4),
                json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": last}),
                json!({"type": "message_stop"}),
            ]
        );
    }

    #[test]
    fn a_whole_message() {
        let message = whole(&everything());
        assert_eq!(
            message["content"],
            json!([
                {"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "thinking", "thinking": "more", "signature": ""},
                {"type": "text", "text": "Hi \"é\"\n"}, {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "g", "input": {}},
            ])
        );
        assert_eq!((&message["stop_reason"], &message["usage"]["input_tokens"]), (&json!("tool_use"), &json!(7)));
        let broken = whole(&[call(0, Some("a"), Some("f"), "{\"x"), Delta::Stop(StopReason::Length)]);
        assert_eq!(broken["content"][0]["input"], json!({"unparsed_arguments": "{\"x"}));
    }

    #[test]
    fn nothing_said_is_an_answer_too() {
        let kinds: Vec<Value> = events(&[]).iter().map(|event| event["type"].clone()).collect();
        assert_eq!(kinds, ["message_start", "message_delta", "message_stop"]);
        assert_eq!((&whole(&[])["content"], &whole(&[])["stop_reason"]), (&json!([]), &json!("end_turn")));
    }

    #[test]
    fn reasons() {
        let of = |deltas: &[Delta]| whole(deltas)["stop_reason"].as_str().unwrap().to_owned();
        for (reason, said) in [
            (StopReason::End, "end_turn"),
            (StopReason::Other, "end_turn"),
            (StopReason::Length, "max_tokens"),
            (StopReason::ToolCalls, "tool_use"),
            (StopReason::ContentFilter, "refusal"),
        ] {
            assert_eq!(of(&[Delta::Stop(reason)]), said);
        }
        // a demanded call ends with `stop` on vLLM
        assert_eq!(of(&[call(0, Some("a"), Some("f"), "{}"), Delta::Stop(StopReason::End)]), "tool_use");
    }
}
