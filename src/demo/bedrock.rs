//! The demo's responses in Bedrock's formats: Converse's JSON, and ConverseStream's binary frames,
//! written by AWS's own encoder.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use serde_json::{Value, json};

use super::shapes::{Reply, StreamEvent};

/// Returns a response as one JSON value.
pub(super) fn full(reply: &Reply) -> Value {
    json!({
        "output": { "message": { "role": "assistant", "content": [{ "text": reply.text() }] } },
        "stopReason": stop_reason(reply), "usage": usage(reply), "metrics": { "latencyMs": 1 }
    })
}

/// Returns a response as the frames of a stream.
pub(super) fn frames(reply: &Reply) -> Vec<StreamEvent> {
    let mut frames =
        vec![StreamEvent::paced(frame("messageStart", &json!({ "role": "assistant" })))];
    frames.extend(reply.tokens().into_iter().map(|token| {
        let delta = json!({ "contentBlockIndex": 0, "delta": { "text": token } });
        StreamEvent::paced(frame("contentBlockDelta", &delta))
    }));
    let last = [
        ("contentBlockStop", json!({ "contentBlockIndex": 0 })),
        ("messageStop", json!({ "stopReason": stop_reason(reply) })),
        ("metadata", json!({ "usage": usage(reply), "metrics": { "latencyMs": 1 } })),
    ];
    let last = last.iter().map(|(event, payload)| StreamEvent::immediate(frame(event, payload)));
    frames.extend(last);
    frames
}

fn frame(event: &str, payload: &Value) -> Bytes {
    let header = |name: &'static str, value: &str| {
        Header::new(name, HeaderValue::String(value.to_owned().into()))
    };
    let headers = vec![
        header(":event-type", event),
        header(":content-type", "application/json"),
        header(":message-type", "event"),
    ];
    let mut bytes = Vec::new();
    // three short headers and a short payload fit into any frame
    let written =
        write_message_to(&Message::new_from_parts(headers, payload.to_string()), &mut bytes);
    debug_assert!(written.is_ok(), "{written:?}");
    bytes.into()
}

fn stop_reason(reply: &Reply) -> &'static str {
    if reply.is_truncated() { "max_tokens" } else { "end_turn" }
}

fn usage(reply: &Reply) -> Value {
    let (input, output) = (reply.prompt_tokens, reply.tokens().len());
    json!({ "inputTokens": input, "outputTokens": output, "totalTokens": input + output })
}
