//! Deltas → Anthropic's answers, streamed (`message_start` … `message_stop`) or whole (`message`).
//!
//! Content is a sequence of blocks: a block ends when content of another kind arrives. A call's
//! block ends with its arguments: what a model sends before that, mostly fragments of another call,
//! is buffered. Thinking that no provider signed has an empty signature.

use bytes::{BufMut as _, BytesMut};
use serde_json::{Map, Value, json};

use crate::api::answer_parts::{IndexedCalls, put_json};
use crate::generation::{Delta, Encode, StopReason, Usage};

/// The fields that identify a response.
#[derive(Clone, Debug)]
pub(super) struct AnthropicResponseMeta {
    /// `msg_…`
    pub(super) id: String,
    /// The model's name as the client sent it.
    pub(super) model: String,
}

/// Returns `stop_reason`. Only Anthropic's own servers report which stop sequence ended a response,
/// so that is an `end_turn`. Some servers send `stop` after a call that the request required:
/// clients run the call only if the reason is `tool_use`.
const fn stop_reason(reason: StopReason, has_calls: bool) -> &'static str {
    match reason {
        StopReason::End | StopReason::Other if has_calls => "tool_use",
        StopReason::End | StopReason::Other => "end_turn",
        StopReason::Length => "max_tokens",
        StopReason::ToolCalls => "tool_use",
        StopReason::ContentFilter => "refusal",
    }
}

/// Returns `usage`. Anthropic's `input_tokens` do not include those read from the cache.
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

/// Returns a `message` object.
fn message(
    meta: &AnthropicResponseMeta,
    content: &[Value],
    stop_reason: Option<&str>,
    usage: &Usage,
) -> Value {
    json!({
        "id": meta.id, "type": "message", "role": "assistant", "model": meta.model, "content": content,
        "stop_reason": stop_reason, "stop_sequence": null, "usage": usage_json(usage),
    })
}

fn write_event(name: &str, body: &Value, out: &mut BytesMut) {
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\ndata: ");
    put_json(out, body);
    out.put_slice(b"\n\n");
}

/// What a buffered delta takes in addition to its text, in bytes.
const DELTA_OVERHEAD: usize = 256;

/// The block that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpenBlock {
    Text,
    Thinking,
    /// A call, by its index among the calls.
    Call(usize),
}

/// Encodes a response as a stream of events.
#[derive(Debug)]
pub(super) struct AnthropicStreamEncoder {
    meta: AnthropicResponseMeta,
    has_started: bool,
    open: Option<OpenBlock>,
    /// The number of blocks, including the open one.
    blocks: usize,
    calls: IndexedCalls,
    /// Deltas received while the open call was incomplete.
    buffered: Vec<Delta>,
    buffered_bytes: usize,
    /// Whether arguments were dropped: a call continued after its block had been closed.
    is_lossy: bool,
    usage: Usage,
    stop: StopReason,
}

impl AnthropicStreamEncoder {
    /// Creates the encoder of one stream, which is empty so far.
    pub(super) fn new(meta: AnthropicResponseMeta) -> Self {
        Self {
            meta,
            has_started: false,
            open: None,
            blocks: 0,
            calls: IndexedCalls::default(),
            buffered: Vec::new(),
            buffered_bytes: 0,
            is_lossy: false,
            usage: Usage::default(),
            stop: StopReason::End,
        }
    }

    /// Writes `message_start`, once.
    fn start(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.has_started, true) {
            let message = message(&self.meta, &[], None, &self.usage);
            write_event(
                "message_start",
                &json!({"type": "message_start", "message": message}),
                out,
            );
        }
    }

    /// Makes `block` the open one, whose initial content is `start`, unless it is open already.
    fn open_block(&mut self, block: OpenBlock, start: &Value, out: &mut BytesMut) {
        if self.open == Some(block) {
            return;
        }
        self.start(out);
        self.close_block(out);
        let body =
            json!({"type": "content_block_start", "index": self.blocks, "content_block": start});
        write_event("content_block_start", &body, out);
        self.open = Some(block);
        self.blocks += 1;
    }

    /// Closes the open block, if there is one.
    fn close_block(&mut self, out: &mut BytesMut) {
        let Some(open) = self.open.take() else { return };
        let index = self.blocks.saturating_sub(1);
        if let OpenBlock::Call(at) = open
            && !self.calls.list[at].has_arguments
        {
            write_block_delta(index, "input_json_delta", "partial_json", "{}", out);
        }
        write_event(
            "content_block_stop",
            &json!({"type": "content_block_stop", "index": index}),
            out,
        );
    }

    /// Writes a delta of the open block.
    fn write_delta(&mut self, kind: &str, field: &str, text: &str, out: &mut BytesMut) {
        write_block_delta(self.blocks.saturating_sub(1), kind, field, text, out);
    }

    fn write_call(
        &mut self,
        index: u32,
        id: Option<&str>,
        name: Option<&str>,
        arguments: &str,
        out: &mut BytesMut,
    ) {
        let (at, is_new) = self.calls.get_or_insert(index, id, name);
        if is_new {
            let call = &self.calls.list[at];
            let start = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
            self.open_block(OpenBlock::Call(at), &start, out);
        }
        if self.open != Some(OpenBlock::Call(at)) {
            self.is_lossy |= !arguments.trim().is_empty();
        } else if !arguments.is_empty() {
            let call = &mut self.calls.list[at];
            call.has_arguments = true;
            call.scanner.feed(arguments);
            self.write_delta("input_json_delta", "partial_json", arguments, out);
        }
    }

    /// Returns the index of the open call if its arguments are incomplete.
    fn incomplete_call(&self) -> Option<usize> {
        match self.open {
            Some(OpenBlock::Call(at)) if !self.calls.list[at].scanner.is_complete() => Some(at),
            _ => None,
        }
    }

    /// Returns whether this delta is for a block that cannot be opened yet.
    fn is_blocked(&self, delta: &Delta) -> bool {
        let Some(open) = self.incomplete_call() else { return false };
        match delta {
            Delta::ToolCall { index, id, .. } => {
                self.calls.find(*index, id.as_deref()) != Some(open)
            }
            Delta::Text(_) | Delta::Reasoning(_) | Delta::ReasoningSignature(_) => true,
            Delta::Usage(_) | Delta::Stop(_) => false,
        }
    }

    /// Closes the open call and writes the buffered deltas, some of which may be buffered again.
    fn flush(&mut self, out: &mut BytesMut) {
        self.close_block(out);
        self.buffered_bytes = 0;
        std::mem::take(&mut self.buffered).iter().for_each(|delta| self.write(delta, out));
    }

    /// Writes a delta, or buffers it.
    fn write(&mut self, delta: &Delta, out: &mut BytesMut) {
        if self.is_blocked(delta) {
            self.buffered_bytes += DELTA_OVERHEAD + delta.text_len();
            self.buffered.push(delta.clone());
            return;
        }
        let thinking = || json!({"type": "thinking", "thinking": "", "signature": ""});
        match delta {
            Delta::Text(text) => {
                self.open_block(OpenBlock::Text, &json!({"type": "text", "text": ""}), out);
                self.write_delta("text_delta", "text", text, out);
            }
            Delta::Reasoning(text) => {
                self.open_block(OpenBlock::Thinking, &thinking(), out);
                self.write_delta("thinking_delta", "thinking", text, out);
            }
            Delta::ReasoningSignature(signature) => {
                self.open_block(OpenBlock::Thinking, &thinking(), out);
                self.write_delta("signature_delta", "signature", signature, out);
                // a signature covers what precedes it: more thinking is another block
                self.close_block(out);
            }
            Delta::ToolCall { index, id, name, arguments } => {
                self.write_call(*index, id.as_deref(), name.as_deref(), arguments, out);
            }
            Delta::Usage(usage) => self.usage = *usage,
            Delta::Stop(reason) => self.stop = *reason,
        }
    }
}

/// Writes a delta of a block. Most of a stream is this, so it is written without a JSON tree.
fn write_block_delta(index: usize, kind: &str, field: &str, text: &str, out: &mut BytesMut) {
    out.put_slice(
        b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
    );
    put_json(out, &index);
    for part in [",\"delta\":{\"type\":\"", kind, "\",\"", field, "\":"] {
        out.put_slice(part.as_bytes());
    }
    put_json(out, text);
    out.put_slice(b"}}\n\n");
}

impl Encode for AnthropicStreamEncoder {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        self.write(delta, out);
        while !self.buffered.is_empty() && self.incomplete_call().is_none() {
            self.flush(out);
        }
    }

    fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    fn failure(&self) -> Option<&str> {
        self.is_lossy
            .then_some("a call continued after its arguments were complete: the rest is lost")
    }

    fn finish(&mut self, out: &mut BytesMut) {
        self.start(out);
        while !self.buffered.is_empty() {
            self.flush(out);
        }
        self.close_block(out);
        let reason = stop_reason(self.stop, !self.calls.list.is_empty());
        let delta = json!({"stop_reason": reason, "stop_sequence": null});
        let body =
            json!({"type": "message_delta", "delta": delta, "usage": usage_json(&self.usage)});
        write_event("message_delta", &body, out);
        write_event("message_stop", &json!({"type": "message_stop"}), out);
    }
}

#[derive(Debug)]
enum Block {
    Text(String),
    Thinking { text: String, signature: String },
    Call(usize),
}

/// Encodes a response as one `message`, written at the end.
#[derive(Debug)]
pub(super) struct AnthropicFullEncoder {
    meta: AnthropicResponseMeta,
    blocks: Vec<Block>,
    calls: IndexedCalls,
    usage: Usage,
    stop: StopReason,
}

impl AnthropicFullEncoder {
    /// Creates the encoder of one response, which is empty so far.
    pub(super) fn new(meta: AnthropicResponseMeta) -> Self {
        let (blocks, calls) = (Vec::new(), IndexedCalls::default());
        Self { meta, blocks, calls, usage: Usage::default(), stop: StopReason::End }
    }

    /// Appends thinking, or the signature of it, to the last block if that is unsigned thinking,
    /// else to a new block.
    fn push_thinking(&mut self, more: &str, signed: &str) {
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
                let call = &self.calls.list[*at];
                json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input_object(&call.arguments)})
            }
        }
    }
}

/// Returns the arguments as the object that Anthropic's API has. What is not a JSON object is kept
/// as text in one: the client's tool then rejects it where the reason can be seen.
fn input_object(arguments: &str) -> Value {
    if arguments.trim().is_empty() {
        return Value::Object(Map::new());
    }
    match serde_json::from_str(arguments) {
        Ok(Value::Object(map)) => Value::Object(map),
        _ => json!({ "unparsed_arguments": arguments }),
    }
}

impl Encode for AnthropicFullEncoder {
    fn delta(&mut self, delta: &Delta, _out: &mut BytesMut) {
        match delta {
            Delta::Text(text) => match self.blocks.last_mut() {
                Some(Block::Text(last)) => last.push_str(text),
                _ => self.blocks.push(Block::Text(text.clone())),
            },
            Delta::Reasoning(text) => self.push_thinking(text, ""),
            Delta::ReasoningSignature(signature) => self.push_thinking("", signature),
            Delta::ToolCall { index, id, name, arguments } => {
                let (at, is_new) = self.calls.get_or_insert(*index, id.as_deref(), name.as_deref());
                self.calls.list[at].arguments.push_str(arguments);
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
        let reason = stop_reason(self.stop, !self.calls.list.is_empty());
        put_json(out, &message(&self.meta, &content, Some(reason), &self.usage));
    }
}

#[cfg(test)]
mod tests;
