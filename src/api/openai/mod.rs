//! OpenAI's API towards clients: bodies pass through byte for byte. Only the top level is looked
//! at, and only what must change is changed: the model's name, and `include_usage` where we need
//! the token counts. Chat with a model whose server speaks otherwise is translated.

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

use super::peek::{Peek, missing, value};
use super::{Answer, Context, Routed, body};
use crate::error::{BodyFault, GatewayError};
use crate::model::Model;
use crate::provider::{Native, Outbound, dialect};
use crate::relay::Passed;
use crate::route::{Ask, Route};
use crate::wire::{Edits, place_of};

/// Which of the three calls.
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
    /// The same, where the model's server speaks it.
    const fn native(self) -> Native {
        match self {
            Self::Chat => Native::OpenAiChat,
            Self::Completions => Native::OpenAiCompletions,
            Self::Embeddings => Native::OpenAiEmbeddings,
        }
    }

    const fn streams(self) -> bool {
        match self {
            Self::Chat | Self::Completions => true,
            Self::Embeddings => false,
        }
    }
}

/// Forwards a call to the model that its `model` names, or to what `otherwise` asks for when no
/// model of the file has that name.
pub(super) async fn forward(
    mut context: Context<'_>,
    call: OpenAiCall,
    otherwise: Option<Ask>,
    incoming: Incoming,
) -> Answer {
    let bytes = context.body(incoming).await?;
    let peek: Peek<'_> = body::parse(&bytes)?;
    context.facts.stream = call.streams() && peek.stream()?;
    let mut route = match context.route_named(&peek.model()?, otherwise, &bytes).await? {
        Routed::Model(route) => route,
        Routed::Answered(response) => return Ok(response),
    };
    loop {
        match ask(&mut context, call, &route, &peek, &bytes).await {
            // vectors of another model would not fit those that are stored
            Err(error) if call != OpenAiCall::Embeddings => {
                route = context.instead(&route, error)?
            }
            answer => return answer,
        }
    }
}

/// Asks one model: in the client's own words, or translated.
async fn ask(
    context: &mut Context<'_>,
    call: OpenAiCall,
    route: &Route,
    peek: &Peek<'_>,
    body: &Bytes,
) -> Answer {
    let native = dialect(route.model.provider).native(call.native(), &route.model);
    let path = match (native, call) {
        (Some(path), _) => path,
        (None, OpenAiCall::Chat) => return chat::translated(context, route, body).await,
        (None, OpenAiCall::Completions | OpenAiCall::Embeddings) => {
            return Err(not_translated(&route.model));
        }
    };
    let stream = context.facts.stream;
    let mut edits = Edits::default();
    peek.rename(body, &route.model, &mut edits)?;
    let hide_usage = stream && ask_for_usage(body, peek.stream_options, &mut edits)?;
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let outbound = Outbound { method: Method::POST, path, headers, body: edits.apply(body) };
    context
        .relay
        .pass(context.call(route), Passed { outbound, stream, hide_usage }, context.facts)
        .await
}

/// Makes the stream report its token counts; true when the client had not asked for them itself.
fn ask_for_usage(
    body: &Bytes,
    options: Option<&RawValue>,
    edits: &mut Edits,
) -> Result<bool, GatewayError> {
    const MEMBER: &str = r#""stream_options":{"include_usage":true}"#;
    let Some(raw) = options else {
        edits.add_member(body, MEMBER);
        return Ok(true);
    };
    let mut options: Map<String, Value> = value("stream_options", Some(raw))?.unwrap_or_default();
    if options.get("include_usage") == Some(&Value::Bool(true)) {
        return Ok(false);
    }
    options.insert("include_usage".into(), Value::Bool(true));
    let range = place_of(body, raw).ok_or_else(|| missing("stream_options"))?;
    edits.replace(range, Value::Object(options).to_string());
    Ok(true)
}

fn not_translated(model: &Model) -> GatewayError {
    let kind = model.provider.label();
    let text =
        format!("The model `{}` is a {kind} model: it answers /v1/chat/completions only", model.id);
    GatewayError::invalid(vec![BodyFault::at("model", "value_error", text)])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::ask_for_usage;
    use crate::api::peek::Peek;
    use crate::wire::Edits;

    fn asked(body: &'static str) -> (bool, String) {
        let bytes = Bytes::from_static(body.as_bytes());
        let peek: Peek<'_> = serde_json::from_slice(&bytes).unwrap();
        let mut edits = Edits::default();
        let hide = ask_for_usage(&bytes, peek.stream_options, &mut edits).unwrap();
        (hide, String::from_utf8(edits.apply(&bytes).to_bytes().to_vec()).unwrap())
    }

    #[test]
    fn usage_is_asked_for_once() {
        let same = r#"{"stream_options":{"include_usage":true},"x":1}"#;
        assert_eq!(asked(same), (false, same.into()));
        assert_eq!(
            asked(r#"{"x":1}"#),
            (true, r#"{"stream_options":{"include_usage":true},"x":1}"#.into())
        );
        assert_eq!(
            asked(r#"{"stream_options":{"a":1}}"#),
            (true, r#"{"stream_options":{"a":1,"include_usage":true}}"#.into())
        );
        assert!(asked(r#"{"stream_options":null,"x":1}"#).0);
    }
}
