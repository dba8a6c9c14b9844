//! Deltas → Anthropic's answers, streamed (`message_start` … `message_stop`) or whole (`message`).
//!
//! Content stands in blocks, one after the other: a block ends when words of another kind come. A
//! call's ends with its arguments: what a model says before that, of another call mostly, is held
//! back. Thinking that no provider signed has an empty signature.

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

/// Which text stopped an answer is known to Anthropic's own servers only, so that is an `end_turn`.
/// Some servers say `stop` after a call that was demanded: clients run it only if they are told
/// that it is one.
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

/// What a delta takes that is held back, besides its text.
const HELD: usize = 256;

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
    /// What was said while the open call was not complete.
    held: Vec<Delta>,
    held_bytes: usize,
    /// A call went on after its arguments had ended.
    is_lossy: bool,
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
            held: Vec::new(),
            held_bytes: 0,
            is_lossy: false,
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
        let body =
            json!({"type": "content_block_start", "index": self.blocks, "content_block": start});
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

    fn call(
        &mut self,
        index: u32,
        id: Option<&str>,
        name: Option<&str>,
        arguments: &str,
        out: &mut BytesMut,
    ) {
        let (at, is_new) = self.calls.place(index, id, name);
        if is_new {
            let call = &self.calls.0[at];
            let start = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
            self.open(Open::Call(at), &start, out);
        }
        if self.open != Some(Open::Call(at)) {
            self.is_lossy |= !arguments.trim().is_empty();
        } else if !arguments.is_empty() {
            let call = &mut self.calls.0[at];
            call.has_arguments = true;
            call.progress.read(arguments);
            self.text("input_json_delta", "partial_json", arguments, out);
        }
    }

    /// The open call, as long as its arguments are not all there.
    fn unfinished(&self) -> Option<usize> {
        match self.open {
            Some(Open::Call(at)) if !self.calls.0[at].progress.has_ended() => Some(at),
            _ => None,
        }
    }

    /// Whether this is for a block that cannot begin yet.
    fn must_wait(&self, delta: &Delta) -> bool {
        let Some(open) = self.unfinished() else { return false };
        match delta {
            Delta::ToolCall { index, id, .. } => {
                self.calls.find(*index, id.as_deref()) != Some(open)
            }
            Delta::Text(_) | Delta::Reasoning(_) | Delta::ReasoningSignature(_) => true,
            Delta::Usage(_) | Delta::Stop(_) => false,
        }
    }

    /// Ends the open call, and says what was held back meanwhile; some of it may have to wait
    /// again.
    fn release(&mut self, out: &mut BytesMut) {
        self.close(out);
        self.held_bytes = 0;
        std::mem::take(&mut self.held).iter().for_each(|delta| self.say(delta, out));
    }

    fn say(&mut self, delta: &Delta, out: &mut BytesMut) {
        if self.must_wait(delta) {
            self.held_bytes += HELD + delta.text_len();
            self.held.push(delta.clone());
            return;
        }
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
}

/// A piece of a block. Most of a stream is this, so it is written without a tree.
fn piece(index: usize, kind: &str, field: &str, text: &str, out: &mut BytesMut) {
    out.put_slice(
        b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
    );
    put(out, &index);
    for part in [",\"delta\":{\"type\":\"", kind, "\",\"", field, "\":"] {
        out.put_slice(part.as_bytes());
    }
    put(out, text);
    out.put_slice(b"}}\n\n");
}

impl Encode for Events {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        self.say(delta, out);
        while !self.held.is_empty() && self.unfinished().is_none() {
            self.release(out);
        }
    }

    fn held(&self) -> usize {
        self.held_bytes
    }

    fn fault(&self) -> Option<&str> {
        self.is_lossy.then_some("a call went on after its arguments had ended, which was left out")
    }

    fn finish(&mut self, out: &mut BytesMut) {
        self.begin(out);
        while !self.held.is_empty() {
            self.release(out);
        }
        self.close(out);
        let reason = stop_reason(self.stop, !self.calls.0.is_empty());
        let delta = json!({"stop_reason": reason, "stop_sequence": null});
        let body =
            json!({"type": "message_delta", "delta": delta, "usage": usage_json(&self.usage)});
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

/// The arguments as the object that Anthropic has. What a model wrote instead of JSON is kept as it
/// is: the tool is to refuse it where the client can see why.
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
mod tests;
