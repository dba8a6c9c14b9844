//! Converse's answer and ConverseStream's events → deltas.

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fault;
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, Generation, StopReason, Usage};
use crate::provider::pending_tool_calls::OpenCalls;
use crate::provider::tool_names::ToolNames;
use crate::provider::{Decode, unreadable};
use crate::wire::{EventStreamFrames, FrameKind};

/// Longer than any frame Bedrock sends (providers.md d1.12).
const MAX_FRAME: usize = 16 << 20;
/// How much of a 200 that is no event stream is kept to be read as an error.
const MAX_UNFRAMED: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'a> {
    #[serde(borrow)]
    output: Output<'a>,
    stop_reason: Option<String>,
    usage: Option<RawUsage>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    message: Message<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Vec<Block<'a>>,
}

/// A union: one field is there. Kinds that no surface can show (images, citations' sources) are all
/// absent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block<'a> {
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

/// Text with citations beside it; the text is the answer's.
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
    /// AWS counts what the cache held or took apart from `inputTokens`; ours is everything read.
    const fn usage(&self) -> Usage {
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
        // malformed_model_output, malformed_tool_use, and what AWS adds next
        _ => StopReason::Other,
    }
}

/// A whole answer.
pub(super) fn whole(asked: &Generation, body: &[u8]) -> Result<Vec<Delta>, GatewayError> {
    let answer: Whole<'_> = serde_json::from_slice(body).map_err(|error| {
        // an error that should have had another status (providers.md d1.14)
        if fault::is_aws(&HeaderMap::new(), body) {
            return fault::of_unframed(body);
        }
        unreadable("the answer is not Converse's", &error)
    })?;
    let (mut out, mut calls) = (Vec::new(), OpenCalls::new(ToolNames::of(asked)));
    for block in answer.output.message.content {
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
            out.push(calls.whole(call.tool_use_id, call.name, input));
        }
    }
    out.push(Delta::Stop(stop_reason(answer.stop_reason.as_deref().unwrap_or_default())));
    out.extend(answer.usage.map(|usage| Delta::Usage(usage.usage())));
    Ok(out)
}

/// The answer of `count-tokens`.
pub(super) fn counted(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Only {
        input_tokens: u64,
    }
    serde_json::from_slice::<Only>(body).ok().map(|only| only.input_tokens)
}

/// The token counts of a whole answer.
pub(super) fn usage_of(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Only {
        usage: RawUsage,
    }
    serde_json::from_slice::<Only>(body).ok().map(|only| only.usage.usage())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStart {
    #[serde(default)]
    content_block_index: u64,
    start: Option<Start>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    tool_use: Option<ToolStart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolStart {
    tool_use_id: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockDelta {
    #[serde(default)]
    content_block_index: u64,
    delta: Option<Piece>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece {
    text: Option<String>,
    tool_use: Option<ToolPiece>,
    reasoning_content: Option<ReasoningPiece>,
}

#[derive(Deserialize)]
struct ToolPiece {
    #[serde(default)]
    input: String,
}

#[derive(Deserialize)]
struct ReasoningPiece {
    text: Option<String>,
    signature: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStop {
    #[serde(default)]
    content_block_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageStop {
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    usage: Option<RawUsage>,
}

/// Decodes a stream.
pub(super) struct Stream {
    frames: EventStreamFrames,
    calls: OpenCalls,
    begun: bool,
    stopped: bool,
    /// The body when it turned out to be no event stream.
    unframed: Option<Vec<u8>>,
}

impl Stream {
    pub(super) fn new(asked: &Generation) -> Self {
        Self {
            frames: EventStreamFrames::new(MAX_FRAME),
            calls: OpenCalls::new(ToolNames::of(asked)),
            begun: false,
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
            "contentBlockDelta" => self.piece(parse(name, payload)?, out),
            "contentBlockStart" => {
                let start: BlockStart = parse(name, payload)?;
                if let Some(call) = start.start.and_then(|start| start.tool_use) {
                    out.push(self.calls.start(
                        start.content_block_index,
                        call.tool_use_id,
                        call.name,
                    )?);
                }
            }
            "contentBlockStop" => {
                let stop: BlockStop = parse(name, payload)?;
                out.extend(self.calls.stop(stop.content_block_index));
            }
            "messageStop" => {
                let stop: MessageStop = parse(name, payload)?;
                self.stopped = true;
                out.push(Delta::Stop(stop_reason(stop.stop_reason.as_deref().unwrap_or_default())));
            }
            // comes after messageStop (providers.md d1.16)
            "metadata" => {
                let metadata: Metadata = parse(name, payload)?;
                out.extend(metadata.usage.map(|usage| Delta::Usage(usage.usage())));
            }
            // messageStart, and what AWS adds next
            _ => {}
        }
        Ok(())
    }

    fn piece(&mut self, piece: BlockDelta, out: &mut Vec<Delta>) {
        let Some(delta) = piece.delta else { return };
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
                .and_then(|tool| self.calls.arguments(piece.content_block_index, tool.input)),
        );
    }
}

fn parse<'a, T: Deserialize<'a>>(name: &str, payload: &'a [u8]) -> Result<T, GatewayError> {
    serde_json::from_slice(payload).map_err(|error| unreadable(&format!("a {name} event"), &error))
}

impl Decode for Stream {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        let Some(first) = chunk.first() else { return Ok(()) };
        // A frame within the limit starts with 0 or 1, a text does not: it is not for the decoder
        // (d1.14).
        if !self.begun && *first > 1 {
            self.unframed = Some(Vec::new());
        }
        self.begun = true;
        if let Some(body) = &mut self.unframed {
            let room = MAX_UNFRAMED - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            return if body.len() < MAX_UNFRAMED { Ok(()) } else { Err(fault::of_unframed(body)) };
        }
        self.frames.feed(&chunk);
        while let Some(frame) =
            self.frames.next_frame().map_err(|error| unreadable("the stream", &error))?
        {
            match frame.kind() {
                FrameKind::Event => self.event(frame.name(), frame.payload(), out)?,
                FrameKind::Exception | FrameKind::Error => return Err(fault::of_frame(&frame)),
            }
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut Vec<Delta>) -> Result<(), GatewayError> {
        let early = |why: String| {
            GatewayError::new(
                Kind::UpstreamBroken,
                "The model server closed the stream before the end",
            )
            .internal(why)
        };
        if let Some(body) = &self.unframed {
            return Err(fault::of_unframed(body));
        }
        if !self.frames.pending().is_empty() {
            return Err(early(format!(
                "the stream ended inside a frame, {} bytes into it",
                self.frames.pending().len()
            )));
        }
        if !self.stopped {
            return Err(early("the stream ended without messageStop".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
