//! Responses and streams of Bedrock, framed by AWS's encoder, and malformed ones.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use serde_json::json;

use super::{ConverseStreamDecoder, decode_response, parse_usage};
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, Generation, StopReason, Tool, Usage};
use crate::provider::Decode as _;

fn frame(kind: &str, type_header: &str, name: &str, payload: &serde_json::Value) -> Vec<u8> {
    let header = |name: &str, value: &str| {
        Header::new(name.to_owned(), HeaderValue::String(value.to_owned().into()))
    };
    let headers = vec![header(":message-type", kind), header(type_header, name)];
    let mut bytes = Vec::new();
    write_message_to(&Message::new_from_parts(headers, payload.to_string()), &mut bytes).unwrap();
    bytes
}

fn event(name: &str, payload: &serde_json::Value) -> Vec<u8> {
    frame("event", ":event-type", name, payload)
}

fn decode(chunks: &[&[u8]]) -> Result<Vec<Delta>, GatewayError> {
    let request = Generation {
        tools: vec![Tool {
            name: "get.weather".into(),
            description: String::new(),
            parameters: json!({}),
            strict: None,
        }],
        ..Generation::default()
    };
    let (mut decoder, mut out) = (ConverseStreamDecoder::new(&request), Vec::new());
    for chunk in chunks {
        decoder.feed(Bytes::copy_from_slice(chunk), &mut out)?;
    }
    decoder.finish(&mut out)?;
    Ok(out)
}

fn a_stream_with_calls() -> Vec<u8> {
    [
        event("messageStart", &json!({"role": "assistant"})),
        event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}, "p": "abc"})),
        event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "sig"}}})),
        event("contentBlockStop", &json!({"contentBlockIndex": 0})),
        event("contentBlockDelta", &json!({"contentBlockIndex": 1, "delta": {"text": "Hi"}})),
        event("contentBlockStop", &json!({"contentBlockIndex": 1})),
        event("contentBlockStart", &json!({"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "get_weather"}}})),
        event("contentBlockDelta", &json!({"contentBlockIndex": 2, "delta": {"toolUse": {"input": ""}}})),
        event("contentBlockDelta", &json!({"contentBlockIndex": 2, "delta": {"toolUse": {"input": "{\"ci"}}})),
        event("contentBlockDelta", &json!({"contentBlockIndex": 2, "delta": {"toolUse": {"input": "ty\":1}"}}})),
        event("contentBlockStop", &json!({"contentBlockIndex": 2})),
        event("contentBlockStart", &json!({"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "t2", "name": "now"}}})),
        event("contentBlockStop", &json!({"contentBlockIndex": 3})),
        event("aNewEvent", &json!({"x": 1})),
        event("messageStop", &json!({"stopReason": "tool_use"})),
        event("metadata", &json!({"metrics": {"latencyMs": 3}, "usage": {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 1}})),
    ]
    .concat()
}

fn call(index: u32, id: Option<&str>, name: Option<&str>, arguments: &str) -> Delta {
    Delta::ToolCall {
        index,
        id: id.map(Into::into),
        name: name.map(Into::into),
        arguments: arguments.into(),
    }
}

#[test]
fn calls_have_a_running_index_of_our_own_and_usage_comes_last() {
    let bytes = a_stream_with_calls();
    let expected = [
        Delta::Reasoning("hm".into()),
        Delta::ReasoningSignature("sig".into()),
        Delta::Text("Hi".into()),
        call(0, Some("t1"), Some("get.weather"), ""),
        call(0, None, None, "{\"ci"),
        call(0, None, None, "ty\":1}"),
        call(1, Some("t2"), Some("now"), ""),
        call(1, None, None, "{}"),
        Delta::Stop(StopReason::ToolCalls),
        Delta::Usage(Usage { input: 16, output: 5, cached: 3, reasoning: 0 }),
    ];
    assert_eq!(decode(&[&bytes]).unwrap(), expected);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode(&single).unwrap(), expected);
}

#[test]
fn a_truncated_stream_is_a_failure_wherever_it_ends() {
    let bytes = a_stream_with_calls();
    // the last frame is `metadata`: a stream that ends before it lacks nothing but the counts
    let stop = event("messageStop", &json!({"stopReason": "tool_use"}));
    let end = bytes.windows(stop.len()).position(|window| window == stop).unwrap() + stop.len();
    for cut in 0..bytes.len() {
        assert_eq!(decode(&[&bytes[..cut]]).is_ok(), cut == end, "cut at {cut}");
    }
    let error = decode(&[&bytes[..bytes.len() - 5]]).unwrap_err();
    assert!(error.operator().unwrap().contains("inside a frame"), "{error:?}");
    assert_eq!(decode(&[]).unwrap_err().kind(), Kind::UpstreamBroken);
}

#[test]
fn exceptions_before_and_after_the_first_token() {
    let text =
        event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "Hi"}}));
    for (name, status) in [
        ("internalServerException", 500),
        ("modelStreamErrorException", 424),
        ("validationException", 400),
        ("throttlingException", 429),
        ("serviceUnavailableException", 503),
        ("modelTimeoutException", 408),
        ("brandNewException", 500),
    ] {
        // the status inside is ignored (contract::providers §d1.15)
        let payload = json!({"message": "Too many tokens", "originalStatusCode": 418});
        let exception = frame("exception", ":exception-type", name, &payload);
        for chunks in [vec![exception.as_slice()], vec![text.as_slice(), exception.as_slice()]] {
            let error = decode(&chunks).unwrap_err();
            assert_eq!(error.kind(), Kind::UpstreamStatus(status), "{name}");
            assert!(error.operator().unwrap().contains("Too many tokens"), "{error:?}");
        }
    }
    let error = decode(&[&frame("error", ":error-code", "503", &json!(""))]).unwrap_err();
    assert_eq!(error.kind(), Kind::UpstreamStatus(503));
}

#[test]
fn a_200_that_is_json_or_a_page_never_reaches_the_frame_decoder() {
    let error = decode(&[b"{\"__type\":\"Unknown", b"OperationException\"}"]).unwrap_err();
    assert_eq!(error.kind(), Kind::UpstreamStatus(404));
    let error = decode(&[b"<html>", &[b'y'; 100]]).unwrap_err();
    assert!(error.operator().unwrap().contains("<html>yyy"), "{error:?}");
    let page = vec![b'y'; 1 << 20];
    assert_eq!(decode(&[&page, &page]).unwrap_err().kind(), Kind::UpstreamBroken);
}

#[test]
fn corrupt_and_oversized_frames() {
    let mut bytes = a_stream_with_calls();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_eq!(decode(&[&bytes]).unwrap_err().kind(), Kind::UpstreamBroken);
    let twenty_megabytes = [&[1, 0x31, 0x2d, 0][..], &[0; 8]].concat();
    let error = decode(&[&twenty_megabytes]).unwrap_err();
    assert!(error.operator().unwrap().contains("more than 16777216"), "{error:?}");
    let bad_json = event("contentBlockDelta", &json!([1]));
    assert_eq!(decode(&[&bad_json]).unwrap_err().kind(), Kind::UpstreamBroken);
}

#[test]
fn open_blocks_are_bounded() {
    let start = |i: u64| {
        event(
            "contentBlockStart",
            &json!({"contentBlockIndex": i, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}}),
        )
    };
    let bytes: Vec<u8> = (0..1000).flat_map(start).collect();
    assert!(decode(&[&bytes]).unwrap_err().operator().unwrap().contains("too many"));
}

#[test]
fn unstreamed_responses() {
    let body = json!({
        "metrics": {"latencyMs": 321}, "stopReason": "tool_use",
        "output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}, {"text": "Hi"}, {"image": {"format": "png"}},
            {"toolUse": {"toolUseId": "t1", "name": "get_weather", "input": {"city": "Paris"}}}, {"toolUse": {"toolUseId": "t2", "name": "now"}},
        ]}},
        "usage": {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17},
    })
    .to_string();
    let out = decode_response(&Generation::default(), body.as_bytes()).unwrap();
    let usage = Usage { input: 12, output: 5, ..Usage::default() };
    assert_eq!(
        out,
        [
            Delta::Reasoning("hm".into()),
            Delta::ReasoningSignature("s".into()),
            Delta::Text("Hi".into()),
            call(0, Some("t1"), Some("get_weather"), "{\"city\":\"Paris\"}"),
            call(1, Some("t2"), Some("now"), "{}"),
            Delta::Stop(StopReason::ToolCalls),
            Delta::Usage(usage),
        ]
    );
    assert_eq!(parse_usage(body.as_bytes()), Some(usage));
    for wrong in ["", "[]", "{}", "{\"output\":null}"] {
        assert_eq!(
            decode_response(&Generation::default(), wrong.as_bytes()).unwrap_err().kind(),
            Kind::UpstreamBroken,
            "{wrong}"
        );
    }
}

#[test]
fn a_whole_200_that_is_an_error() {
    let error = decode_response(
        &Generation::default(),
        br#"{"Output":{"__type":"UnknownOperationException"},"Version":"1.0"}"#,
    );
    assert_eq!(error.unwrap_err().kind(), Kind::UpstreamStatus(404));
}

#[test]
fn unknown_stop_reasons_do_not_fail() {
    let reason = |text: &str| {
        let body = json!({"output": {"message": {"content": []}}, "stopReason": text}).to_string();
        decode_response(&Generation::default(), body.as_bytes()).unwrap()[0].clone()
    };
    for (text, expected) in [
        ("end_turn", StopReason::End),
        ("stop_sequence", StopReason::End),
        ("max_tokens", StopReason::Length),
        ("model_context_window_exceeded", StopReason::Length),
        ("content_filtered", StopReason::ContentFilter),
        ("guardrail_intervened", StopReason::ContentFilter),
        ("malformed_tool_use", StopReason::Other),
        ("novel", StopReason::Other),
    ] {
        assert_eq!(reason(text), Delta::Stop(expected), "{text}");
    }
}

#[test]
fn arbitrary_bytes_never_panic() {
    let mut random = fastrand::Rng::with_seed(11);
    let good = a_stream_with_calls();
    for _ in 0..3000 {
        let mut bytes = good.clone();
        bytes.truncate(random.usize(..bytes.len()));
        for _ in 0..random.usize(0..4) {
            let at = random.usize(..=bytes.len().saturating_sub(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.u8(..);
            }
        }
        let size = random.usize(1..200);
        let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
        drop(decode(&chunks));
        drop(decode_response(&Generation::default(), &bytes));
    }
}
