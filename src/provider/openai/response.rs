//! A model server's response → deltas; and the inspection of events that pass through.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fault;
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, StopReason, Usage};
use crate::provider::{Decode, EventInfo, excerpt, unreadable_response};
use crate::wire::{SseFrames, event_data, find_last_member};

/// Maximum size of one event of a stream in bytes; large tool arguments arrive in fragments.
const MAX_EVENT: usize = 4 << 20;

#[derive(Deserialize)]
struct RawUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
}

#[derive(Default, Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

impl RawUsage {
    fn into_usage(self) -> Usage {
        Usage {
            input: self.prompt_tokens,
            output: self.completion_tokens,
            cached: self.prompt_tokens_details.and_then(|d| d.cached_tokens).unwrap_or(0),
            reasoning: self.completion_tokens_details.and_then(|d| d.reasoning_tokens).unwrap_or(0),
        }
    }
}

/// Chunk of a stream or unstreamed response: they differ only in `delta`, `message` or `text`.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    usage: Option<RawUsage>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, alias = "message")]
    delta: Option<MessageDelta<'a>>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct MessageDelta<'a> {
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "reasoning")]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<ToolCallDelta<'a>>>,
}

#[derive(Deserialize)]
struct ToolCallDelta<'a> {
    index: Option<u32>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function: Option<FunctionDelta<'a>>,
}

#[derive(Deserialize)]
struct FunctionDelta<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arguments: Option<Cow<'a, str>>,
}

fn unreadable(what: &str, error: &dyn std::fmt::Display) -> GatewayError {
    unreadable_response(&format!("{what} is not OpenAI's chat format"), error)
}

/// Builds the error of a response with status 200.
fn error_of_event(error: &RawValue, body: &[u8]) -> GatewayError {
    GatewayError::new(fault::kind_of_event_error(error), "The model server failed while answering")
        .internal(format!("an error in an answer with status 200: {}", excerpt(body)))
}

/// Decodes an unstreamed response. Fails on an error and on a response without choices.
pub(super) fn decode_response(body: &[u8]) -> Result<Vec<Delta>, GatewayError> {
    let chunk: Chunk<'_> =
        serde_json::from_slice(body).map_err(|error| unreadable("the answer", &error))?;
    if let Some(error) = chunk.error {
        return Err(error_of_event(error, body));
    }
    if chunk.choices.is_empty() {
        return Err(unreadable("the answer", &"no choices"));
    }
    let mut out = Vec::new();
    push_deltas(chunk, &mut out);
    Ok(out)
}

fn push_deltas(chunk: Chunk<'_>, out: &mut Vec<Delta>) {
    // One choice is requested; further choices of a server that returns more are not mixed in.
    if let Some(choice) = chunk.choices.into_iter().next() {
        let content = choice.delta.unwrap_or(MessageDelta {
            content: None,
            reasoning_content: None,
            tool_calls: None,
        });
        let text = content.content.or(choice.text);
        out.extend(
            content
                .reasoning_content
                .filter(|t| !t.is_empty())
                .map(|t| Delta::Reasoning(t.into_owned())),
        );
        out.extend(text.filter(|t| !t.is_empty()).map(|t| Delta::Text(t.into_owned())));
        for (position, call) in content.tool_calls.unwrap_or_default().into_iter().enumerate() {
            let (name, arguments) = call.function.map_or((None, None), |f| (f.name, f.arguments));
            out.push(Delta::ToolCall {
                index: call.index.unwrap_or_else(|| u32::try_from(position).unwrap_or(u32::MAX)),
                id: call.id.map(Cow::into_owned),
                name: name.map(Cow::into_owned),
                arguments: arguments.map(Cow::into_owned).unwrap_or_default(),
            });
        }
        out.extend(choice.finish_reason.map(|reason| Delta::Stop(stop_reason(&reason))));
    }
    out.extend(chunk.usage.map(|usage| Delta::Usage(usage.into_usage())));
}

fn stop_reason(reason: &str) -> StopReason {
    match reason {
        "stop" | "eos_token" => StopReason::End,
        "length" => StopReason::Length,
        "tool_calls" | "function_call" => StopReason::ToolCalls,
        "content_filter" => StopReason::ContentFilter,
        _ => StopReason::Other,
    }
}

/// Decoder of a stream of chunks.
pub(super) struct ChatStreamDecoder {
    frames: SseFrames,
    stopped: bool,
    done: bool,
}

impl ChatStreamDecoder {
    pub(super) fn new() -> Self {
        Self { frames: SseFrames::new(MAX_EVENT), stopped: false, done: false }
    }

    fn event(&mut self, event: &[u8], out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        let Some(data) = event_data(event) else {
            return Ok(());
        };
        if data.trim_ascii() == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk: Chunk<'_> =
            serde_json::from_slice(&data).map_err(|error| unreadable("an event", &error))?;
        if let Some(error) = chunk.error {
            return Err(error_of_event(error, &data));
        }
        let before = out.len();
        push_deltas(chunk, out);
        self.stopped |= out[before..].iter().any(|delta| matches!(delta, Delta::Stop(_)));
        Ok(())
    }
}

impl Decode for ChatStreamDecoder {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        self.frames.feed(chunk);
        loop {
            let event =
                self.frames.next_event().map_err(|error| unreadable("the stream", &error))?;
            let Some(event) = event else { return Ok(()) };
            self.event(&event, out)?;
        }
    }

    fn finish(&mut self, out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        // a last event without its blank line is complete too
        let rest = self.frames.take_rest();
        if !rest.trim_ascii().is_empty() {
            self.event(&rest, out)?;
        }
        if self.done || self.stopped {
            return Ok(());
        }
        Err(GatewayError::new(
            Kind::UpstreamBroken,
            "The model server closed the stream before the end",
        )
        .internal("the stream ended without finish_reason and without [DONE]"))
    }
}

/// Parses the data of one event that passes through; one that does not parse has no content. The
/// common chunk is parsed only until the first content: afterwards only events with a marker are
/// (see [`Markers`](crate::provider::Markers)).
pub(super) fn inspect_event(data: &[u8]) -> EventInfo {
    if data.trim_ascii() == b"[DONE]" {
        return EventInfo { done: true, ..EventInfo::default() };
    }
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
        return EventInfo::default();
    };
    let length = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| text.len());
    let arguments = |call: &ToolCallDelta<'_>| {
        call.function.as_ref().map_or(0, |function| length(&function.arguments))
    };
    let (mut text_len, mut has_call) = (0, false);
    for choice in &chunk.choices {
        text_len += length(&choice.text);
        let Some(delta) = &choice.delta else { continue };
        text_len += length(&delta.content) + length(&delta.reasoning_content);
        text_len += delta.tool_calls.iter().flatten().map(arguments).sum::<usize>();
        has_call |= delta.tool_calls.is_some();
    }
    let usage = chunk.usage.map(RawUsage::into_usage);
    EventInfo {
        content: has_call || text_len > 0,
        text_len,
        only_usage: chunk.choices.is_empty() && usage.is_some(),
        usage,
        done: false,
        error: chunk.error.map(fault::kind_of_event_error),
    }
}

/// Parses the token counts of an unstreamed response; `body` may be only its end.
pub(super) fn parse_usage(body: &[u8]) -> Option<Usage> {
    find_last_member(body, "\"usage\"").map(RawUsage::into_usage)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{ChatStreamDecoder, decode_response, inspect_event, parse_usage};
    use crate::error::Kind;
    use crate::generation::{Delta, StopReason, Usage};
    use crate::provider::Decode as _;

    fn stream(chunks: &[&'static str]) -> Result<Vec<Delta>, String> {
        let (mut decoder, mut out) = (ChatStreamDecoder::new(), Vec::new());
        let feed = |decoder: &mut ChatStreamDecoder, out: &mut Vec<Delta>| {
            chunks
                .iter()
                .try_for_each(|chunk| decoder.feed(Bytes::from_static(chunk.as_bytes()), out))?;
            decoder.finish(out)
        };
        feed(&mut decoder, &mut out).map_err(|e| e.public().to_owned())?;
        Ok(out)
    }

    #[test]
    fn vllm_stream_with_content_in_its_last_chunk() {
        let out = stream(&[
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n",
            "\ndata: {\"choices\":[{\"delta\":{\"content\":\"!\"},\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}}\n\ndata: [DONE]\n\n",
        ]);
        let usage = Usage { input: 7, output: 2, ..Usage::default() };
        let text = |t: &str| Delta::Text(t.into());
        assert_eq!(
            out.unwrap(),
            [text("Hi"), text("!"), Delta::Stop(StopReason::End), Delta::Usage(usage)]
        );
    }

    #[test]
    fn raw_completions_have_text() {
        let out = stream(&[
            "data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"text\":\"b\",\"finish_reason\":\"length\"}]}\n\n",
            "data: [DONE]\n\n",
        ]);
        let text = |t: &str| Delta::Text(t.into());
        assert_eq!(out.unwrap(), [text("a"), text("b"), Delta::Stop(StopReason::Length)]);
    }

    #[test]
    fn a_truncated_stream_and_an_error_inside_are_failures() {
        assert!(stream(&["data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n"]).is_err());
        assert!(stream(&["data: {\"error\":{\"message\":\"boom\",\"code\":500}}\n\n"]).is_err());
        assert!(stream(&["data: not json\n\n"]).is_err());
    }

    #[test]
    fn unstreamed_responses_with_tools() {
        let out = decode_response(br#"{"choices":[{"message":{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#).unwrap();
        assert!(
            matches!(&out[0], Delta::ToolCall { index: 0, id: Some(id), name: Some(name), arguments } if id == "c1" && name == "f" && arguments == "{}")
        );
        assert!(decode_response(br#"{"choices":[]}"#).is_err());
        assert!(
            decode_response(
                br#"{"error":null,"choices":[{"message":{"content":"an \"error\""}}]}"#
            )
            .is_ok()
        );
        let filtered = decode_response(
            br#"{"choices":[{"message":{"content":"a"}}],"error":{"code":"content_filter"}}"#,
        );
        assert_eq!(filtered.unwrap_err().kind(), Kind::ContentFilter);
    }

    #[test]
    fn events_are_inspected_for_content_usage_errors_and_the_end() {
        assert!(
            !inspect_event(br#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#).content
        );
        assert!(inspect_event(br#"{"choices":[{"delta":{"content":"a"}}]}"#).content);
        assert!(inspect_event(br#"{"choices":[{"text":"a"}]}"#).content);
        assert!(
            inspect_event(br#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#)
                .only_usage
        );
        assert!(inspect_event(b" [DONE]").done);
        assert_eq!(inspect_event(br#"{"error":{"code":500}}"#).error, Some(Kind::UpstreamBroken));
        assert_eq!(inspect_event(br#"{"error":"text"}"#).error, Some(Kind::UpstreamBroken));
        assert_eq!(inspect_event(br#"{"error":null,"choices":[]}"#).error, None);
        assert_eq!(
            inspect_event(br#"{"error":{"code":"content_filter"}}"#).error,
            Some(Kind::ContentFilter)
        );
        // Azure opens with an empty chunk that is not usage
        assert!(!inspect_event(br#"{"choices":[],"prompt_filter_results":[]}"#).only_usage);
    }

    #[test]
    fn finds_usage_from_the_end() {
        let body = br#"{"choices":[{"message":{"content":"say \"usage\": 1"}}],"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2}},"id":"x"}"#;
        assert_eq!(parse_usage(body), Some(Usage { input: 3, output: 4, cached: 2, reasoning: 0 }));
        assert_eq!(parse_usage(br#"{"usage":null}"#), None);
        assert_eq!(parse_usage(b"[1]"), None);
    }
}
