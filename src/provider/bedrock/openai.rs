//! Bedrock's OpenAI-compatible endpoint (`bedrock_openai = true`): OpenAI's bodies, AWS's
//! credentials, nothing to translate (contract::providers §d1.22). It serves fewer models than
//! Converse.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Bedrock, fault};
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, Generation, Usage};
use crate::model::{Access, Guardrail, Model};
use crate::provider::openai::OpenAi;
use crate::provider::{
    ClockOffset, Decode, Dialect, EventInfo, Markers, NativeCall, Outbound, SigningContext,
    refuse_raw_text,
};

/// Dialect of Bedrock's OpenAI-compatible endpoint; it has no state.
pub(in crate::provider) struct BedrockOpenAi;

impl Dialect for BedrockOpenAi {
    fn encode(&self, generation: &Generation, model: &Model) -> Result<Outbound, GatewayError> {
        refuse_raw_text(generation, "Amazon Bedrock")?;
        let mut outbound = OpenAi.encode(generation, model)?;
        outbound.path = path(model);
        Ok(outbound)
    }

    fn native_path(&self, call: NativeCall, model: &Model) -> Option<Box<str>> {
        match call {
            NativeCall::OpenAiChat => Some(path(model)),
            NativeCall::OpenAiCompletions
            | NativeCall::OpenAiEmbeddings
            | NativeCall::AnthropicMessages
            | NativeCall::AnthropicCountTokens => None,
        }
    }

    fn authorize(
        &self,
        outbound: &mut Outbound,
        model: &Model,
        attempt: &SigningContext<'_>,
    ) -> Result<(), GatewayError> {
        // headers, which the signature covers; Converse has these in its body
        if let Access::Bedrock(access) = &model.access
            && let Some(guardrail) = &access.guardrail
        {
            insert_guardrail(&mut outbound.headers, guardrail)?;
        }
        Bedrock.authorize(outbound, model, attempt)
    }

    fn decode_response(
        &self,
        generation: &Generation,
        body: &[u8],
    ) -> Result<Vec<Delta>, GatewayError> {
        OpenAi.decode_response(generation, body)
    }

    fn stream_decoder(&self, generation: &Generation) -> Box<dyn Decode> {
        OpenAi.stream_decoder(generation)
    }

    fn inspect_event(&self, data: &[u8]) -> EventInfo {
        OpenAi.inspect_event(data)
    }

    fn markers(&self) -> &'static Markers {
        OpenAi.markers()
    }

    fn parse_usage(&self, body: &[u8]) -> Option<Usage> {
        OpenAi.parse_usage(body)
    }

    /// Builds the error: of AWS's own shape from AWS's front end, of OpenAI's from the model behind
    /// it.
    fn error_from_response(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> GatewayError {
        if fault::is_aws(headers, body) {
            fault::from_response(status, headers, body)
        } else {
            OpenAi.error_from_response(status, headers, body)
        }
    }

    fn clock_offset(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &Bytes,
        now: SystemTime,
    ) -> Option<ClockOffset> {
        Bedrock.clock_offset(status, headers, body, now)
    }
}

/// Inserts the guardrail as headers of this endpoint (AWS's user guide, "Include a guardrail in a
/// chat completion").
fn insert_guardrail(headers: &mut HeaderMap, guardrail: &Guardrail) -> Result<(), GatewayError> {
    const IDENTIFIER: HeaderName = HeaderName::from_static("x-amzn-bedrock-guardrailidentifier");
    const VERSION: HeaderName = HeaderName::from_static("x-amzn-bedrock-guardrailversion");
    const TRACE: HeaderName = HeaderName::from_static("x-amzn-bedrock-trace");
    let trace = guardrail.trace.as_deref().map(str::to_ascii_uppercase);
    let version = guardrail.version.as_deref();
    let values =
        [(IDENTIFIER, Some(&*guardrail.identifier)), (VERSION, version), (TRACE, trace.as_deref())];
    for (name, value) in values.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let value = HeaderValue::from_str(value).map_err(|_| {
            GatewayError::new(Kind::Internal, "The gateway could not address the model server")
                .internal("the guardrail holds characters that no header may")
        })?;
        headers.insert(name, value);
    }
    Ok(())
}

/// Returns the path of chat completions: below `/openai/v1` at Bedrock's runtime, and below the
/// endpoint's own path if it has one, such as `https://bedrock-mantle.us-east-1.api.aws/v1`.
fn path(model: &Model) -> Box<str> {
    let has_path = model.endpoints.first().is_some_and(|endpoint| !endpoint.base_path().is_empty());
    if has_path { "/chat/completions" } else { "/openai/v1/chat/completions" }.into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::BedrockOpenAi;
    use crate::model::{Access, EndpointUrl, Model, ProviderKind, TimeoutsPatch};
    use crate::provider::{Dialect as _, NativeCall};

    fn path(endpoint: &str) -> Option<Box<str>> {
        let model = Model {
            id: "m".into(),
            provider: ProviderKind::BedrockOpenAi,
            upstream_name: "openai.gpt-oss-20b-1:0".into(),
            family: std::sync::Arc::default(),
            endpoints: vec![EndpointUrl::parse(endpoint).unwrap()],
            api_key: None,
            access: Access::Key,
            timeouts: TimeoutsPatch::default(),
            replicas: crate::model::ReplicaSettings::default(),
            concurrency: None,
            priority: false,
            from_request: false,
        };
        BedrockOpenAi.native_path(NativeCall::OpenAiChat, &model)
    }

    #[test]
    fn paths_by_endpoint() {
        let runtime = path("https://bedrock-runtime.us-east-1.amazonaws.com");
        assert_eq!(runtime.as_deref(), Some("/openai/v1/chat/completions"));
        assert_eq!(
            path("https://bedrock-mantle.us-east-1.api.aws/v1").as_deref(),
            Some("/chat/completions")
        );
    }

    #[test]
    fn errors_of_the_front_end_and_of_the_model() {
        let fault = |headers: &HeaderMap, body: &'static str| {
            BedrockOpenAi.error_from_response(
                StatusCode::FORBIDDEN,
                headers,
                &Bytes::from_static(body.as_bytes()),
            )
        };
        let mut aws = HeaderMap::new();
        aws.insert("x-amzn-errortype", "UnrecognizedClientException".parse().unwrap());
        assert!(fault(&aws, r#"{"message":"no"}"#).operator().unwrap().contains("access key"));
        let model = fault(&HeaderMap::new(), r#"{"error":{"message":"no","type":"x"}}"#);
        assert!(model.operator().unwrap().contains("refused the key"));
    }
}
