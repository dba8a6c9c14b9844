//! The demo's answers in Bedrock's words: Converse's JSON, and ConverseStream's binary frames by
//! AWS's own encoder.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use serde_json::{Value, json};

use super::shapes::Reply;

/// One JSON value.
pub(super) fn whole(reply: &Reply) -> Value {
    json!({
        "output": { "message": { "role": "assistant", "content": [{ "text": reply.text() }] } },
        "stopReason": stop_reason(reply), "usage": usage(reply), "metrics": { "latencyMs": 1 }
    })
}

/// As frames. The flag says whether the model thinks before this one.
pub(super) fn frames(reply: &Reply) -> Vec<(bool, Bytes)> {
    let mut frames = vec![(true, frame("messageStart", &json!({ "role": "assistant" })))];
    frames.extend(reply.words().into_iter().map(|word| {
        let delta = json!({ "contentBlockIndex": 0, "delta": { "text": word } });
        (true, frame("contentBlockDelta", &delta))
    }));
    frames.push((false, frame("contentBlockStop", &json!({ "contentBlockIndex": 0 }))));
    frames.push((false, frame("messageStop", &json!({ "stopReason": stop_reason(reply) }))));
    frames.push((
        false,
        frame("metadata", &json!({ "usage": usage(reply), "metrics": { "latencyMs": 1 } })),
    ));
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
    // three short headers and a payload of words fit into any frame
    let written =
        write_message_to(&Message::new_from_parts(headers, payload.to_string()), &mut bytes);
    debug_assert!(written.is_ok(), "{written:?}");
    bytes.into()
}

fn stop_reason(reply: &Reply) -> &'static str {
    if reply.is_cut() { "max_tokens" } else { "end_turn" }
}

fn usage(reply: &Reply) -> Value {
    let (input, output) = (reply.prompt_tokens, reply.words().len());
    json!({ "inputTokens": input, "outputTokens": output, "totalTokens": input + output })
}
