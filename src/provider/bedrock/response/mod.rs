//! Converse's response and ConverseStream's events → deltas.

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fault;
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, Generation, StopReason, Usage};
use crate::provider::pending_tool_calls::PendingToolCalls;
use crate::provider::tool_names::ToolNames;
use crate::provider::{Decode, unreadable_response};
use crate::wire::{EventStreamFrames, FrameKind};

/// Maximum size of a frame in bytes, larger than any that Bedrock sends
/// (contract::providers §d1.12).
const MAX_FRAME: usize = 16 << 20;
/// Maximum size of a 200 that is not an event stream, which is buffered and parsed as an error.
const MAX_UNFRAMED: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConverseResponse<'a> {
    #[serde(borrow)]
    output: ResponseOutput<'a>,
    stop_reason: Option<String>,
    usage: Option<RawUsage>,
}

#[derive(Deserialize)]
struct ResponseOutput<'a> {
    #[serde(borrow)]
    message: ResponseMessage<'a>,
}

#[derive(Deserialize)]
struct ResponseMessage<'a> {
    #[serde(borrow, default)]
    content: Vec<ContentBlock<'a>>,
}

/// Content block, a union: one field is present. Kinds that no surface has a format for (images,
/// sources of citations) are all absent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContentBlock<'a> {
    text: Option<String>,
    #[serde(borrow)]
    tool_use: Option<ToolUse<'a>>,
    reasoning_content: Option<ReasoningContent>,
    citations_content: Option<CitationsContent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse<'a> {
    tool_use_id: String,
    name: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReasoningContent {
    reasoning_text: Option<ReasoningText>,
}

#[derive(Deserialize)]
struct ReasoningText {
    #[serde(default)]
    text: String,
    signature: Option<String>,
}

/// Text with citations; the text is part of the response's.
#[derive(Deserialize)]
struct CitationsContent {
    #[serde(default)]
    content: Vec<CitedText>,
}

#[derive(Deserialize)]
struct CitedText {
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawUsage {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    cache_read_input_tokens: u64,
    #[serde(default)]
    cache_write_input_tokens: u64,
}

impl RawUsage {
    /// Converts the counts. AWS counts tokens that were read from the cache or written to it
    /// separately from `inputTokens`; `Usage::input` is everything that was read.
    const fn to_usage(&self) -> Usage {
        let cache = self.cache_read_input_tokens.saturating_add(self.cache_write_input_tokens);
        Usage {
            input: self.input_tokens.saturating_add(cache),
            output: self.output_tokens,
            cached: self.cache_read_input_tokens,
            reasoning: 0,
        }
    }
}

fn stop_reason(reason: &str) -> StopReason {
    match reason {
        "end_turn" | "stop_sequence" => StopReason::End,
        "tool_use" => StopReason::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
        "content_filtered" | "guardrail_intervened" => StopReason::ContentFilter,
        // malformed_model_output, malformed_tool_use, and reasons of later versions
        _ => StopReason::Other,
    }
}

/// Decodes an unstreamed response. Fails on an error and on a body that is not Converse's.
pub(super) fn decode_response(
    generation: &Generation,
    body: &[u8],
) -> Result<Vec<Delta>, GatewayError> {
    let response: ConverseResponse<'_> = serde_json::from_slice(body).map_err(|error| {
        // an error that should have had another status (contract::providers §d1.14)
        if fault::is_aws(&HeaderMap::new(), body) {
            return fault::from_unframed_body(body);
        }
        unreadable_response("the answer is not Converse's", &error)
    })?;
    let (mut out, mut calls) = (Vec::new(), PendingToolCalls::new(ToolNames::of(generation)));
    for block in response.output.message.content {
        out.extend(block.text.filter(|text| !text.is_empty()).map(Delta::Text));
        let cited = block.citations_content.map(|cited| cited.content).unwrap_or_default();
        out.extend(
            cited
                .into_iter()
                .filter_map(|part| part.text)
                .filter(|text| !text.is_empty())
                .map(Delta::Text),
        );
        if let Some(reasoning) = block.reasoning_content.and_then(|content| content.reasoning_text)
        {
            out.push(Delta::Reasoning(reasoning.text));
            out.extend(reasoning.signature.map(Delta::ReasoningSignature));
        }
        if let Some(call) = block.tool_use {
            let input = call.input.map(RawValue::get);
            out.push(calls.complete(call.tool_use_id, call.name, input));
        }
    }
    out.push(Delta::Stop(stop_reason(response.stop_reason.as_deref().unwrap_or_default())));
    out.extend(response.usage.map(|usage| Delta::Usage(usage.to_usage())));
    Ok(out)
}

/// Parses the response of `count-tokens`.
pub(super) fn parse_token_count(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct CountsOnly {
        input_tokens: u64,
    }
    serde_json::from_slice::<CountsOnly>(body).ok().map(|counts| counts.input_tokens)
}

/// Parses the token counts of an unstreamed response.
pub(super) fn parse_usage(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct CountsOnly {
        usage: RawUsage,
    }
    serde_json::from_slice::<CountsOnly>(body).ok().map(|counts| counts.usage.to_usage())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStartEvent {
    #[serde(default)]
    content_block_index: u64,
    start: Option<BlockStart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStart {
    tool_use: Option<ToolUseStart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUseStart {
    tool_use_id: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockDeltaEvent {
    #[serde(default)]
    content_block_index: u64,
    delta: Option<ContentDelta>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContentDelta {
    text: Option<String>,
    tool_use: Option<ToolUseDelta>,
    reasoning_content: Option<ReasoningDelta>,
}

#[derive(Deserialize)]
struct ToolUseDelta {
    #[serde(default)]
    input: String,
}

#[derive(Deserialize)]
struct ReasoningDelta {
    text: Option<String>,
    signature: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStopEvent {
    #[serde(default)]
    content_block_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageStopEvent {
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct MetadataEvent {
    usage: Option<RawUsage>,
}

/// Decodes a stream.
pub(super) struct ConverseStreamDecoder {
    frames: EventStreamFrames,
    calls: PendingToolCalls,
    has_started: bool,
    stopped: bool,
    /// The body when it turned out to be no event stream.
    unframed: Option<Vec<u8>>,
}

impl ConverseStreamDecoder {
    pub(super) fn new(generation: &Generation) -> Self {
        Self {
            frames: EventStreamFrames::new(MAX_FRAME),
            calls: PendingToolCalls::new(ToolNames::of(generation)),
            has_started: false,
            stopped: false,
            unframed: None,
        }
    }

    fn event(
        &mut self,
        name: &str,
        payload: &[u8],
        out: &mut Vec<Delta>,
    ) -> Result<(), GatewayError> {
        match name {
            "contentBlockDelta" => self.push_delta(parse(name, payload)?, out),
            "contentBlockStart" => {
                let start: BlockStartEvent = parse(name, payload)?;
                if let Some(call) = start.start.and_then(|start| start.tool_use) {
                    out.push(self.calls.start(
                        start.content_block_index,
                        call.tool_use_id,
                        call.name,
                    )?);
                }
            }
            "contentBlockStop" => {
                let stop: BlockStopEvent = parse(name, payload)?;
                out.extend(self.calls.stop(stop.content_block_index));
            }
            "messageStop" => {
                let stop: MessageStopEvent = parse(name, payload)?;
                self.stopped = true;
                out.push(Delta::Stop(stop_reason(stop.stop_reason.as_deref().unwrap_or_default())));
            }
            // follows messageStop (contract::providers §d1.16)
            "metadata" => {
                let metadata: MetadataEvent = parse(name, payload)?;
                out.extend(metadata.usage.map(|usage| Delta::Usage(usage.to_usage())));
            }
            // messageStart, and events of later versions
            _ => {}
        }
        Ok(())
    }

    fn push_delta(&mut self, event: BlockDeltaEvent, out: &mut Vec<Delta>) {
        let Some(delta) = event.delta else { return };
        out.extend(delta.text.filter(|text| !text.is_empty()).map(Delta::Text));
        if let Some(reasoning) = delta.reasoning_content {
            out.extend(reasoning.text.filter(|text| !text.is_empty()).map(Delta::Reasoning));
            out.extend(
                reasoning.signature.filter(|text| !text.is_empty()).map(Delta::ReasoningSignature),
            );
        }
        out.extend(
            delta
                .tool_use
                .and_then(|tool| self.calls.push_arguments(event.content_block_index, tool.input)),
        );
    }
}

fn parse<'a, T: Deserialize<'a>>(name: &str, payload: &'a [u8]) -> Result<T, GatewayError> {
    serde_json::from_slice(payload)
        .map_err(|error| unreadable_response(&format!("a {name} event"), &error))
}

impl Decode for ConverseStreamDecoder {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        let Some(first) = chunk.first() else { return Ok(()) };
        // A frame within the limit starts with 0 or 1; a text does not, and is not decoded as
        // frames (contract::providers §d1.14).
        if !self.has_started && *first > 1 {
            self.unframed = Some(Vec::new());
        }
        self.has_started = true;
        if let Some(body) = &mut self.unframed {
            let free = MAX_UNFRAMED - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(free)]);
            return if body.len() < MAX_UNFRAMED {
                Ok(())
            } else {
                Err(fault::from_unframed_body(body))
            };
        }
        self.frames.feed(&chunk);
        while let Some(frame) =
            self.frames.next_frame().map_err(|error| unreadable_response("the stream", &error))?
        {
            match frame.kind() {
                FrameKind::Event => self.event(frame.name(), frame.payload(), out)?,
                FrameKind::Exception | FrameKind::Error => return Err(fault::from_frame(&frame)),
            }
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        let truncated = |reason: String| {
            GatewayError::new(
                Kind::UpstreamBroken,
                "The model server closed the stream before the end",
            )
            .internal(reason)
        };
        if let Some(body) = &self.unframed {
            return Err(fault::from_unframed_body(body));
        }
        if !self.frames.pending().is_empty() {
            return Err(truncated(format!(
                "the stream ended inside a frame, {} bytes into it",
                self.frames.pending().len()
            )));
        }
        if !self.stopped {
            return Err(truncated("the stream ended without messageStop".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
