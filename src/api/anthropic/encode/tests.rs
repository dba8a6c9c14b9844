//! Blocks are written one after the other, in whatever order a model sends their fragments.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::{AnthropicFullEncoder, AnthropicResponseMeta, AnthropicStreamEncoder};
use crate::generation::{Delta, Encode, StopReason, Usage};

fn meta() -> AnthropicResponseMeta {
    AnthropicResponseMeta { id: "msg_1".into(), model: "m".into() }
}

fn call(index: u32, id: Option<&str>, name: Option<&str>, arguments: &str) -> Delta {
    Delta::ToolCall {
        index,
        id: id.map(Into::into),
        name: name.map(Into::into),
        arguments: arguments.into(),
    }
}

fn encode(encoder: &mut dyn Encode, deltas: &[Delta]) -> String {
    let mut out = BytesMut::new();
    deltas.iter().for_each(|delta| encoder.delta(delta, &mut out));
    encoder.finish(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// Returns the events of a stream, after a check that each one's name is its type.
fn events(deltas: &[Delta]) -> Vec<Value> {
    let stream = encode(&mut AnthropicStreamEncoder::new(meta()), deltas);
    let event = |event: &str| {
        let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name);
        data
    };
    stream.split_terminator("\n\n").map(event).collect()
}

fn full(deltas: &[Delta]) -> Value {
    serde_json::from_str(&encode(&mut AnthropicFullEncoder::new(meta()), deltas)).unwrap()
}

/// Returns everything that a response can have.
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
    let start = |index: u32, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let piece = |index: u32, kind: &str, field: &str, text: &str| json!({"type": "content_block_delta", "index": index, "delta": {"type": kind, field: text}});
    let stop = |index: u32| json!({"type": "content_block_stop", "index": index});
    let thinking = json!({"type": "thinking", "thinking": "", "signature": ""});
    let tool =
        |id: &str, name: &str| json!({"type": "tool_use", "id": id, "name": name, "input": {}});
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

/// Returns the content of each block; fails the test if two blocks are open at once.
fn blocks(deltas: &[Delta]) -> Vec<String> {
    let (mut open, mut blocks) = (None, Vec::new());
    for event in events(deltas) {
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!((open, index), (None, Some(blocks.len() as u64)));
                open = index;
                blocks.push(event["content_block"]["name"].as_str().unwrap_or_default().to_owned());
            }
            "content_block_stop" => assert_eq!(open.take(), index),
            "content_block_delta" => {
                assert_eq!(open, index);
                let delta = &event["delta"];
                let text = ["partial_json", "text", "thinking"]
                    .iter()
                    .find_map(|field| delta[*field].as_str());
                blocks.last_mut().unwrap().push_str(text.unwrap());
            }
            _ => assert_eq!(open, None),
        }
    }
    blocks
}

#[test]
fn calls_whose_pieces_are_mixed_are_blocks_one_after_the_other() {
    let text = |text: &str| Delta::Text(text.into());
    let mixed = [
        call(0, Some("a"), Some("f"), ""),
        call(1, Some("b"), Some("g"), "{\"s\":\"}"),
        call(0, None, None, "{\"x\":"),
        text("so "),
        call(2, Some("c"), Some("h"), ""),
        call(1, None, None, "\\\"{\"}"),
        call(0, None, None, "[1]}"),
        text("it is"),
        call(2, None, None, "{}"),
    ];
    assert_eq!(blocks(&mixed), ["f{\"x\":[1]}", "g{\"s\":\"}\\\"{\"}", "so ", "h{}", "it is"]);
    // the end of the stream ends incomplete calls, too
    assert_eq!(blocks(&mixed[..5]), ["f{\"x\":", "g{\"s\":\"}", "so ", "h{}"]);
    // white space after a call is ignored
    let late = [
        call(0, Some("a"), Some("f"), "{}"),
        call(1, Some("b"), Some("g"), "{}"),
        call(0, None, None, "\n"),
    ];
    assert_eq!(blocks(&late), ["f{}", "g{}"]);
}

#[test]
fn a_complete_call_buffers_nothing() {
    let mut encoder = AnthropicStreamEncoder::new(meta());
    let mut write = |delta: Delta| {
        let mut out = BytesMut::new();
        encoder.delta(&delta, &mut out);
        (out.is_empty(), encoder.buffered_bytes())
    };
    assert_eq!(write(call(0, Some("a"), Some("f"), "{\"x\":{}")), (false, 0));
    assert_eq!(write(call(1, Some("b"), Some("g"), "1234")), (true, super::DELTA_OVERHEAD + 4));
    assert_eq!(write(call(0, None, None, "}")), (false, 0));
    assert_eq!(write(call(1, None, None, "5")), (false, 0));
    assert_eq!(write(call(2, Some("c"), Some("h"), "{}")), (true, super::DELTA_OVERHEAD + 2));
}

#[test]
fn a_full_message() {
    let message = full(&everything());
    assert_eq!(
        message["content"],
        json!([
            {"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "thinking", "thinking": "more", "signature": ""},
            {"type": "text", "text": "Hi \"é\"\n"}, {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
            {"type": "tool_use", "id": "b", "name": "g", "input": {}},
        ])
    );
    assert_eq!(
        (&message["stop_reason"], &message["usage"]["input_tokens"]),
        (&json!("tool_use"), &json!(7))
    );
    let broken = full(&[call(0, Some("a"), Some("f"), "{\"x"), Delta::Stop(StopReason::Length)]);
    assert_eq!(broken["content"][0]["input"], json!({"unparsed_arguments": "{\"x"}));
}

#[test]
fn an_empty_response_is_valid_too() {
    let kinds: Vec<Value> = events(&[]).iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds, ["message_start", "message_delta", "message_stop"]);
    assert_eq!(
        (&full(&[])["content"], &full(&[])["stop_reason"]),
        (&json!([]), &json!("end_turn"))
    );
}

#[test]
fn stop_reasons() {
    let of = |deltas: &[Delta]| full(deltas)["stop_reason"].as_str().unwrap().to_owned();
    for (reason, expected) in [
        (StopReason::End, "end_turn"),
        (StopReason::Other, "end_turn"),
        (StopReason::Length, "max_tokens"),
        (StopReason::ToolCalls, "tool_use"),
        (StopReason::ContentFilter, "refusal"),
    ] {
        assert_eq!(of(&[Delta::Stop(reason)]), expected);
    }
    // a call that the request required ends with `stop` on vLLM
    assert_eq!(
        of(&[call(0, Some("a"), Some("f"), "{}"), Delta::Stop(StopReason::End)]),
        "tool_use"
    );
}
