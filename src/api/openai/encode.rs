//! Deltas → OpenAI's chat answers, streamed (`chat.completion.chunk`) or whole (`chat.completion`).
//!
//! Field order and what is null follow OpenAI's own responses. Thinking is sent as
//! `reasoning_content`, as vLLM does; signed thinking also as `thinking_blocks`, as LiteLLM does,
//! so that a client can send it back.

use bytes::{BufMut as _, BytesMut};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::answer_parts::{IndexedCall, IndexedCalls, put_json};
use crate::generation::{Delta, Encode, StopReason, Usage};

/// The fields that identify a response.
#[derive(Clone, Debug)]
pub(super) struct OpenAiResponseMeta {
    /// `chatcmpl-…`
    pub(super) id: String,
    /// The model's name as the client sent it.
    pub(super) model: String,
    /// Unix time in seconds.
    pub(super) created: u64,
}

const fn finish_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::End | StopReason::Other => "stop",
        StopReason::Length => "length",
        StopReason::ToolCalls => "tool_calls",
        StopReason::ContentFilter => "content_filter",
    }
}

fn usage_json(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input, "completion_tokens": usage.output,
        "total_tokens": usage.input.saturating_add(usage.output),
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    })
}

/// Encodes a response as a stream of `chat.completion.chunk` events.
#[derive(Debug)]
pub(super) struct OpenAiStreamEncoder {
    /// The start of every chunk: `data: {"id":…,"object":…,"created":…,"model":…`
    head: Vec<u8>,
    include_usage: bool,
    has_started: bool,
    has_stopped: bool,
    calls: IndexedCalls,
    /// Thinking that the next signature covers.
    thinking: String,
    usage: Option<Usage>,
}

impl OpenAiStreamEncoder {
    /// Creates the encoder of one stream, which ends with a chunk of token counts if
    /// `include_usage`.
    pub(super) fn new(meta: &OpenAiResponseMeta, include_usage: bool) -> Self {
        let mut head = BytesMut::new();
        head.put_slice(b"data: {\"id\":");
        put_json(&mut head, &meta.id);
        head.put_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        put_json(&mut head, &meta.created);
        head.put_slice(b",\"model\":");
        put_json(&mut head, &meta.model);
        Self {
            head: head.to_vec(),
            include_usage,
            has_started: false,
            has_stopped: false,
            calls: IndexedCalls::default(),
            thinking: String::new(),
            usage: None,
        }
    }

    /// Writes a chunk with this delta, and before the first one the chunk with the role.
    fn write_chunk(
        &mut self,
        delta: &(impl Serialize + ?Sized),
        finish: Option<&str>,
        out: &mut BytesMut,
    ) {
        if !self.has_started {
            self.has_started = true;
            self.write_chunk(&json!({"role": "assistant", "content": ""}), None, out);
        }
        out.put_slice(&self.head);
        out.put_slice(b",\"choices\":[{\"index\":0,\"delta\":");
        put_json(out, delta);
        out.put_slice(b",\"logprobs\":null,\"finish_reason\":");
        put_json(out, &finish);
        out.put_slice(if self.include_usage { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" });
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
        self.calls.list[at].has_arguments |= !arguments.is_empty();
        if is_new {
            let call = &self.calls.list[at];
            let function = json!({"name": call.name, "arguments": arguments});
            let delta = json!({"tool_calls": [{"index": at, "id": call.id, "type": "function", "function": function}]});
            self.write_chunk(&delta, None, out);
        } else if !arguments.is_empty() {
            let delta =
                json!({"tool_calls": [{"index": at, "function": {"arguments": arguments}}]});
            self.write_chunk(&delta, None, out);
        }
    }

    /// Writes the last chunk of the choice, once. Calls that received no arguments get `{}` before.
    fn write_stop(&mut self, reason: StopReason, out: &mut BytesMut) {
        if std::mem::replace(&mut self.has_stopped, true) {
            return;
        }
        let without = self.calls.list.iter().enumerate().filter(|(_, call)| !call.has_arguments);
        let without: Vec<usize> = without.map(|(at, _)| at).collect();
        for at in without {
            self.write_chunk(
                &json!({"tool_calls": [{"index": at, "function": {"arguments": "{}"}}]}),
                None,
                out,
            );
        }
        self.write_chunk(&json!({}), Some(finish_reason(reason)), out);
    }
}

/// A chunk's delta with text or thinking: most of a stream.
#[derive(Serialize)]
struct TextDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
}

impl Encode for OpenAiStreamEncoder {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        match delta {
            Delta::Text(text) => {
                self.write_chunk(
                    &TextDelta { content: Some(text), reasoning_content: None },
                    None,
                    out,
                );
            }
            Delta::Reasoning(text) => {
                self.thinking.push_str(text);
                self.write_chunk(
                    &TextDelta { content: None, reasoning_content: Some(text) },
                    None,
                    out,
                );
            }
            Delta::ReasoningSignature(signature) => {
                let thinking = std::mem::take(&mut self.thinking);
                self.write_chunk(
                    &json!({ "thinking_blocks": [thinking_block(&thinking, signature)] }),
                    None,
                    out,
                );
            }
            Delta::ToolCall { index, id, name, arguments } => {
                self.write_call(*index, id.as_deref(), name.as_deref(), arguments, out);
            }
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Stop(reason) => self.write_stop(*reason, out),
        }
    }

    fn finish(&mut self, out: &mut BytesMut) {
        self.write_stop(StopReason::End, out);
        if self.include_usage {
            out.put_slice(&self.head);
            out.put_slice(b",\"choices\":[],\"usage\":");
            put_json(out, &usage_json(&self.usage.unwrap_or_default()));
            out.put_slice(b"}\n\n");
        }
        out.put_slice(b"data: [DONE]\n\n");
    }
}

fn thinking_block(thinking: &str, signature: &str) -> Value {
    json!({"type": "thinking", "thinking": thinking, "signature": signature})
}

/// Encodes a response as one `chat.completion`, written at the end.
#[derive(Debug)]
pub(super) struct OpenAiFullEncoder {
    meta: OpenAiResponseMeta,
    text: String,
    reasoning: String,
    /// The offset in `reasoning` from which the next signature covers it.
    unsigned: usize,
    blocks: Vec<Value>,
    calls: IndexedCalls,
    usage: Usage,
    stop: StopReason,
}

impl OpenAiFullEncoder {
    /// Creates the encoder of one response, which is empty so far.
    pub(super) fn new(meta: OpenAiResponseMeta) -> Self {
        Self {
            meta,
            text: String::new(),
            reasoning: String::new(),
            unsigned: 0,
            blocks: Vec::new(),
            calls: IndexedCalls::default(),
            usage: Usage::default(),
            stop: StopReason::End,
        }
    }

    fn message(&self) -> Value {
        let no_text = self.text.is_empty() && !self.calls.list.is_empty();
        let content = if no_text { Value::Null } else { json!(self.text) };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = json!(self.reasoning);
        }
        if !self.blocks.is_empty() {
            message["thinking_blocks"] = json!(self.blocks);
        }
        if !self.calls.list.is_empty() {
            let call = |call: &IndexedCall| {
                let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
                json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
            };
            message["tool_calls"] = self.calls.list.iter().map(call).collect();
        }
        message
    }
}

impl Encode for OpenAiFullEncoder {
    fn delta(&mut self, delta: &Delta, _out: &mut BytesMut) {
        match delta {
            Delta::Text(text) => self.text.push_str(text),
            Delta::Reasoning(text) => self.reasoning.push_str(text),
            Delta::ReasoningSignature(signature) => {
                self.blocks.push(thinking_block(&self.reasoning[self.unsigned..], signature));
                self.unsigned = self.reasoning.len();
            }
            Delta::ToolCall { index, id, name, arguments } => {
                let (at, _) = self.calls.get_or_insert(*index, id.as_deref(), name.as_deref());
                self.calls.list[at].arguments.push_str(arguments);
            }
            Delta::Usage(usage) => self.usage = *usage,
            Delta::Stop(reason) => self.stop = *reason,
        }
    }

    fn finish(&mut self, out: &mut BytesMut) {
        let choice = json!({
            "index": 0, "message": self.message(), "logprobs": null, "finish_reason": finish_reason(self.stop),
        });
        let answer = json!({
            "id": self.meta.id, "object": "chat.completion", "created": self.meta.created, "model": self.meta.model,
            "choices": [choice], "usage": usage_json(&self.usage),
        });
        put_json(out, &answer);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use serde_json::{Value, json};

    use super::{OpenAiFullEncoder, OpenAiResponseMeta, OpenAiStreamEncoder};
    use crate::generation::{Delta, Encode, StopReason, Usage};

    fn meta() -> OpenAiResponseMeta {
        OpenAiResponseMeta { id: "chatcmpl-1".into(), model: "m\"".into(), created: 7 }
    }

    fn text(text: &str) -> Delta {
        Delta::Text(text.into())
    }

    fn call(index: u32, id: Option<&str>, name: Option<&str>, arguments: &str) -> Delta {
        Delta::ToolCall {
            index,
            id: id.map(Into::into),
            name: name.map(Into::into),
            arguments: arguments.into(),
        }
    }

    fn usage() -> Delta {
        Delta::Usage(Usage { input: 10, output: 4, cached: 3, reasoning: 2 })
    }

    fn encode(encoder: &mut dyn Encode, deltas: &[Delta]) -> String {
        let mut out = BytesMut::new();
        deltas.iter().for_each(|delta| encoder.delta(delta, &mut out));
        encoder.finish(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    /// The events of a stream; the last is checked to be `[DONE]`.
    fn chunks(include_usage: bool, deltas: &[Delta]) -> Vec<Value> {
        let stream = encode(&mut OpenAiStreamEncoder::new(&meta(), include_usage), deltas);
        let stream = stream.strip_suffix("data: [DONE]\n\n").expect("ends with [DONE]");
        let event =
            |event: &str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        stream.split_terminator("\n\n").map(event).collect()
    }

    fn deltas_of(chunks: &[Value]) -> Vec<Value> {
        chunks.iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect()
    }

    #[test]
    fn the_bytes_of_a_plain_stream() {
        let stream = encode(
            &mut OpenAiStreamEncoder::new(&meta(), false),
            &[text("Hi \"é\"\n"), usage(), Delta::Stop(StopReason::Length)],
        );
        let head = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m\"","choices":[{"index":0,"delta":"#;
        let tail = r#","logprobs":null,"finish_reason":"#;
        assert_eq!(
            stream,
            [
                head,
                r#"{"role":"assistant","content":""}"#,
                tail,
                "null}]}\n\n",
                head,
                r#"{"content":"Hi \"é\"\n"}"#,
                tail,
                "null}]}\n\n",
                head,
                "{}",
                tail,
                "\"length\"}]}\n\ndata: [DONE]\n\n",
            ]
            .concat()
        );
    }

    #[test]
    fn counts_come_last_and_only_when_requested() {
        let deltas =
            [Delta::Usage(Usage::default()), text("a"), Delta::Stop(StopReason::End), usage()];
        assert!(chunks(false, &deltas).iter().all(|chunk| chunk.get("usage").is_none()));
        let all = chunks(true, &deltas);
        let (last, rest) = all.split_last().unwrap();
        assert!(rest.iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()));
        assert_eq!(last["choices"], json!([]));
        assert_eq!(
            last["usage"],
            json!({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14,
                "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2}})
        );
    }

    #[test]
    fn calls_run_from_zero_whatever_the_server_numbers() {
        let all = chunks(
            false,
            &[
                call(3, Some("a"), Some("f"), ""),
                call(3, None, None, "{\"x\""),
                call(3, None, None, ":1}"),
                call(3, Some("b"), Some("g"), ""),
                call(7, Some("c"), Some("h"), "{}"),
                call(7, Some("c"), None, " "),
                Delta::Stop(StopReason::ToolCalls),
            ],
        );
        let begin = |index: u32, id: &str, name: &str, arguments: &str| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]});
        let piece = |index: u32, arguments: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]});
        assert_eq!(
            deltas_of(&all)[1..],
            [
                begin(0, "a", "f", ""),
                piece(0, "{\"x\""),
                piece(0, ":1}"),
                begin(1, "b", "g", ""),
                begin(2, "c", "h", "{}"),
                piece(2, " "),
                piece(1, "{}"),
                json!({}),
            ]
        );
        assert_eq!(all.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn thinking_is_apart_from_the_answer_and_can_be_sent_back() {
        let deltas = [
            Delta::Reasoning("h".into()),
            Delta::Reasoning("m".into()),
            Delta::ReasoningSignature("sig".into()),
            text("Hi"),
            Delta::Stop(StopReason::Other),
        ];
        let block = json!({"type": "thinking", "thinking": "hm", "signature": "sig"});
        let all = chunks(false, &deltas);
        assert_eq!(
            deltas_of(&all)[1..],
            [
                json!({"reasoning_content": "h"}),
                json!({"reasoning_content": "m"}),
                json!({"thinking_blocks": [block]}),
                json!({"content": "Hi"}),
                json!({}),
            ]
        );
        let whole: Value =
            serde_json::from_str(&encode(&mut OpenAiFullEncoder::new(meta()), &deltas)).unwrap();
        let message = &whole["choices"][0]["message"];
        assert_eq!(
            (&message["reasoning_content"], &message["thinking_blocks"][0]),
            (&json!("hm"), &block)
        );
    }

    #[test]
    fn whole_answers() {
        let encoded = encode(
            &mut OpenAiFullEncoder::new(meta()),
            &[
                call(0, Some("a"), Some("f"), ""),
                call(1, Some("b"), Some("g"), "{\"x\":"),
                call(1, None, None, "1}"),
                Delta::Stop(StopReason::ToolCalls),
                usage(),
            ],
        );
        let whole: Value = serde_json::from_str(&encoded).unwrap();
        assert_eq!(
            whole["choices"][0],
            json!({"index": 0, "logprobs": null, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": null, "refusal": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}, {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{\"x\":1}"}},
            ]}})
        );
        assert_eq!(
            (&whole["object"], &whole["usage"]["total_tokens"]),
            (&json!("chat.completion"), &json!(14))
        );
        let empty: Value =
            serde_json::from_str(&encode(&mut OpenAiFullEncoder::new(meta()), &[])).unwrap();
        assert_eq!(empty["choices"][0]["message"]["content"], "");
    }

    #[test]
    fn a_response_without_text_still_has_a_first_and_a_last_chunk() {
        let all = chunks(false, &[]);
        assert_eq!(deltas_of(&all), [json!({"role": "assistant", "content": ""}), json!({})]);
        assert_eq!(all[1]["choices"][0]["finish_reason"], "stop");
    }
}
