//! Failures in the format of GitLab's chat: one event of its JSON lines
//! (contract::gitlab_client §7.2, §11.1).

use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::{GatewayError, Kind, text};
use crate::wire::write_json_line;

/// `timeouts.chat_surface`: what a user of GitLab's chat sees of an expired timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiryAs {
    /// GitLab's message for any failure; the reason is in its log.
    #[default]
    Event,
    /// The message of A1000 and its code, as the model's answer.
    Answer,
}

/// The phrase on which GitLab asks the user to start a new conversation (A1005).
const LITERAL: &str = "prompt is too long";
/// Phrases in model servers' errors when a conversation exceeds the context window: OpenAI and
/// vLLM, llama.cpp, Anthropic and Bedrock, SGLang and TGI. In lower case.
const TOO_LONG: [&str; 7] = [
    "context length",
    "context_length",
    "context size",
    "context window",
    LITERAL,
    "input is too long",
    "input tokens exceed",
];

/// Renders an error as one line of the stream.
pub(super) fn of(error: &GatewayError, expiry_as: ExpiryAs) -> Bytes {
    let mut out = BytesMut::new();
    if matches!(error.kind(), Kind::Expired(_)) && expiry_as == ExpiryAs::Answer {
        // the empty line separates it from the text sent before
        let text = format!("\n\n{}", text(error));
        write_json_line(
            &json!({"type": "final_answer_delta", "data": {"text": text, "finish_reason": null}}),
            &mut out,
        );
    } else if is_too_long(error) && !error.public().contains(LITERAL) {
        chat_error(&format!("{LITERAL}: {}", error.public()), false, &mut out);
    } else {
        chat_error(error.public(), is_overload(error.kind()), &mut out);
    }
    out.freeze()
}

/// Appends an `error` event. `retryable` makes GitLab retry up to twice, without a delay: only for
/// failures that may be over by then.
pub fn chat_error(message: &str, retryable: bool, out: &mut BytesMut) {
    write_json_line(
        &json!({"type": "error", "data": {"message": message, "retryable": retryable}}),
        out,
    );
}

const fn is_overload(kind: Kind) -> bool {
    matches!(kind, Kind::Overloaded | Kind::Draining | Kind::UpstreamStatus(429 | 503 | 529))
}

fn is_too_long(error: &GatewayError) -> bool {
    let is_rejected = matches!(error.kind(), Kind::UpstreamStatus(400 | 413 | 422));
    let messages = [Some(error.public()), error.operator()];
    let mut messages = messages.into_iter().flatten().map(str::to_ascii_lowercase);
    is_rejected && messages.any(|text| TOO_LONG.iter().any(|phrase| text.contains(phrase)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::{ExpiryAs, of};
    use crate::error::{GatewayError, Kind, Phase, Shape, render};

    fn event(error: &GatewayError, expiry_as: ExpiryAs) -> Value {
        let line = of(error, expiry_as);
        serde_json::from_slice(line.strip_suffix(b"\n").unwrap()).unwrap()
    }

    fn failure(kind: Kind, public: &'static str) -> Value {
        event(&GatewayError::new(kind, public), ExpiryAs::Event)["data"].clone()
    }

    #[test]
    fn an_expiry_is_an_event_or_an_answer() {
        let error = GatewayError::expired(Phase::Idle, Duration::from_secs(60), "sonnet");
        let expected = json!({"type": "error", "data": {"message": "A1000: sonnet did not answer within 60 s (idle)", "retryable": false}});
        assert_eq!(event(&error, ExpiryAs::Event), expected);
        let answer = event(&error, ExpiryAs::Answer);
        assert_eq!(answer["type"], "final_answer_delta");
        assert_eq!(
            answer["data"]["text"],
            "\n\nI'm sorry, I couldn't respond in time. Please try again. (A1000)"
        );
    }

    #[test]
    fn only_overload_is_retryable() {
        let busy = [429, 503, 529].map(Kind::UpstreamStatus);
        for kind in busy.into_iter().chain([Kind::Overloaded, Kind::Draining]) {
            assert_eq!(failure(kind, "x")["retryable"], true, "{kind:?}");
        }
        for kind in [
            Kind::UpstreamStatus(500),
            Kind::UpstreamStatus(401),
            Kind::UpstreamBroken,
            Kind::UpstreamConnect,
        ] {
            assert_eq!(failure(kind, "x"), json!({"message": "x", "retryable": false}), "{kind:?}");
        }
    }

    #[test]
    fn a_full_context_has_the_phrase_that_gitlab_matches() {
        let messages = [
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
            "the request exceeds the available context size, try increasing it",
            "Input is too long for requested model.",
            "prompt is too long: 210000 tokens > 200000 maximum",
        ];
        for text in messages {
            let message = failure(Kind::UpstreamStatus(400), text)["message"].clone();
            assert!(message.as_str().unwrap().starts_with("prompt is too long"), "{message}");
        }
        assert_eq!(
            failure(Kind::UpstreamStatus(400), "temperature must be positive")["message"],
            "temperature must be positive"
        );
        let internal =
            GatewayError::new(Kind::UpstreamStatus(413), "x").internal("context_length_exceeded");
        assert_eq!(event(&internal, ExpiryAs::Event)["data"]["message"], "prompt is too long: x");
    }

    #[test]
    fn it_is_a_200_before_the_head_too() {
        let error = GatewayError::new(Kind::UpstreamStatus(500), "The model server answered 500");
        let response = render(&error, Shape::GitlabChat(ExpiryAs::Event), "r");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson; charset=utf-8");
        assert_eq!(response.headers()["x-weir-error"], "upstream_status");
    }
}
