//! OpenAI's API towards clients: bodies pass through byte for byte. Only the top level is
//! inspected, and only what must change is changed: the model's name, and `include_usage` where we
//! need the token counts. Chat with a model whose server has another API is translated.

mod chat;
mod encode;
pub(super) mod models;
mod translate_messages;
mod translate_request;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use hyper::body::Incoming;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::peek::{Peek, missing, parse_field};
use super::{Answer, Context, Routed, body};
use crate::error::{BodyFault, GatewayError};
use crate::model::Model;
use crate::provider::{NativeCall, Outbound, dialect};
use crate::relay::PassthroughCall;
use crate::route::{Route, RouteQuery};
use crate::wire::{Edits, span_of};

/// The calls of this API that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenAiCall {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
}

impl OpenAiCall {
    /// Returns the call's name for the dialects: a model's server may have it natively.
    const fn native(self) -> NativeCall {
        match self {
            Self::Chat => NativeCall::OpenAiChat,
            Self::Completions => NativeCall::OpenAiCompletions,
            Self::Embeddings => NativeCall::OpenAiEmbeddings,
        }
    }

    const fn can_stream(self) -> bool {
        match self {
            Self::Chat | Self::Completions => true,
            Self::Embeddings => false,
        }
    }
}

/// Sends a call to the model that its `model` names, or to the model of `default_query` if none of
/// that name is configured, then to its fallbacks.
pub(super) async fn forward(
    mut context: Context<'_>,
    call: OpenAiCall,
    default_query: Option<RouteQuery>,
    incoming: Incoming,
) -> Answer {
    let bytes = context.body(incoming).await?;
    let peek: Peek<'_> = body::parse(&bytes)?;
    context.facts.stream = call.can_stream() && peek.stream()?;
    let mut route = match context.route_named(&peek.model()?, default_query, &bytes).await? {
        Routed::Model(route) => route,
        Routed::Answered(response) => return Ok(response),
    };
    loop {
        match try_model(&mut context, call, &route, &peek, &bytes).await {
            // another model's vectors are not comparable with those that are stored
            Err(error) if call != OpenAiCall::Embeddings => {
                route = context.next_fallback(&route, error)?
            }
            answer => return answer,
        }
    }
}

/// Calls one model: passes the body through if its server has this API, else translates it.
async fn try_model(
    context: &mut Context<'_>,
    call: OpenAiCall,
    route: &Route,
    peek: &Peek<'_>,
    body: &Bytes,
) -> Answer {
    let native = dialect(route.model.provider).native_path(call.native(), &route.model);
    let path = match (native, call) {
        (Some(path), _) => path,
        (None, OpenAiCall::Chat) => return chat::call_translated(context, route, body).await,
        (None, OpenAiCall::Completions | OpenAiCall::Embeddings) => {
            return Err(translation_unsupported(&route.model));
        }
    };
    let stream = context.facts.stream;
    let mut edits = Edits::default();
    peek.replace_model(body, &route.model, &mut edits)?;
    let hide_usage = stream && request_usage(body, peek.stream_options, &mut edits)?;
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let outbound = Outbound { method: Method::POST, path, headers, body: edits.apply(body) };
    context
        .relay
        .forward(
            context.call(route),
            PassthroughCall { outbound, stream, hide_usage },
            context.facts,
        )
        .await
}

/// Requests token counts from the stream. Returns true if the client did not request them itself,
/// so that they have to be hidden from it.
fn request_usage(
    body: &Bytes,
    options: Option<&RawValue>,
    edits: &mut Edits,
) -> Result<bool, GatewayError> {
    const MEMBER: &str = r#""stream_options":{"include_usage":true}"#;
    let Some(raw) = options else {
        edits.add_member(body, MEMBER);
        return Ok(true);
    };
    let mut options: Map<String, Value> =
        parse_field("stream_options", Some(raw))?.unwrap_or_default();
    if options.get("include_usage") == Some(&Value::Bool(true)) {
        return Ok(false);
    }
    options.insert("include_usage".into(), Value::Bool(true));
    let span = span_of(body, raw).ok_or_else(|| missing("stream_options"))?;
    edits.replace(span, Value::Object(options).to_string());
    Ok(true)
}

fn translation_unsupported(model: &Model) -> GatewayError {
    let kind = model.provider.label();
    let text =
        format!("The model `{}` is a {kind} model: it answers /v1/chat/completions only", model.id);
    GatewayError::invalid(vec![BodyFault::at("model", "value_error", text)])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::request_usage;
    use crate::api::peek::Peek;
    use crate::wire::Edits;

    fn with_usage(body: &'static str) -> (bool, String) {
        let bytes = Bytes::from_static(body.as_bytes());
        let peek: Peek<'_> = serde_json::from_slice(&bytes).unwrap();
        let mut edits = Edits::default();
        let hide = request_usage(&bytes, peek.stream_options, &mut edits).unwrap();
        (hide, String::from_utf8(edits.apply(&bytes).to_bytes().to_vec()).unwrap())
    }

    #[test]
    fn usage_is_requested_once() {
        let same = r#"{"stream_options":{"include_usage":true},"x":1}"#;
        assert_eq!(with_usage(same), (false, same.into()));
        assert_eq!(
            with_usage(r#"{"x":1}"#),
            (true, r#"{"stream_options":{"include_usage":true},"x":1}"#.into())
        );
        assert_eq!(
            with_usage(r#"{"stream_options":{"a":1}}"#),
            (true, r#"{"stream_options":{"a":1,"include_usage":true}}"#.into())
        );
        assert!(with_usage(r#"{"stream_options":null,"x":1}"#).0);
    }
}
