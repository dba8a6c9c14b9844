//! Azure OpenAI: OpenAI's API with a deployment in the path, a key header of its own and errors of
//! its own.
//!
//! Source: contract::providers §d2; `tests/provider_rigs.rs` runs it against a rig.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use super::openai::OpenAi;
use super::{
    Decode, Dialect, EventInfo, Markers, NativeCall, Outbound, SigningContext, excerpt,
    is_filter_code, percent_encode, retry_after,
};
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, Generation, Usage};
use crate::model::{Access, ApiVersion, AzureAccess, Model};

const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Azure's dialect; it has no state.
pub(super) struct Azure;

impl Dialect for Azure {
    fn encode(&self, generation: &Generation, model: &Model) -> Result<Outbound, GatewayError> {
        let mut outbound = OpenAi.encode(generation, model)?;
        outbound.path = operation_path(
            model,
            if generation.raw_prompt.is_some() { "completions" } else { "chat/completions" },
        );
        Ok(outbound)
    }

    fn native_path(&self, call: NativeCall, model: &Model) -> Option<Box<str>> {
        match call {
            NativeCall::OpenAiChat => Some(operation_path(model, "chat/completions")),
            NativeCall::OpenAiCompletions => Some(operation_path(model, "completions")),
            NativeCall::OpenAiEmbeddings => Some(operation_path(model, "embeddings")),
            NativeCall::AnthropicMessages | NativeCall::AnthropicCountTokens => None,
        }
    }

    fn authorize(
        &self,
        outbound: &mut Outbound,
        model: &Model,
        attempt: &SigningContext<'_>,
    ) -> Result<(), GatewayError> {
        // never both headers, and never the client's (contract::providers §d2.3)
        outbound.headers.remove(header::AUTHORIZATION);
        outbound.headers.remove(API_KEY);
        let (name, value) = match (&model.access, &model.api_key) {
            (Access::Azure(AzureAccess { entra: Some(entra), .. }), _) => {
                let token = entra.current(attempt.now)?;
                (
                    header::AUTHORIZATION,
                    HeaderValue::try_from(format!("Bearer {}", token.value.expose())),
                )
            }
            (_, Some(key)) => (API_KEY, HeaderValue::try_from(key.expose().as_str())),
            (_, None) => return Ok(()),
        };
        let mut value = value.map_err(|_| {
            GatewayError::new(Kind::Internal, "The gateway could not address the model server")
                .internal("the Azure api_key or token holds characters that no header may")
        })?;
        value.set_sensitive(true);
        outbound.headers.insert(name, value);
        Ok(())
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

    fn error_from_response(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> GatewayError {
        error_from_response(status, headers, body)
    }
}

/// Returns the path of an operation below the resource's root, to which an Azure endpoint is
/// reduced when it is parsed (`UrlRule::AzureResource`).
fn operation_path(model: &Model, operation: &str) -> Box<str> {
    let version = match &model.access {
        Access::Azure(access) => &access.version,
        Access::Key | Access::Bedrock(_) => &ApiVersion::V1,
    };
    match version {
        ApiVersion::V1 => format!("/openai/v1/{operation}"),
        ApiVersion::Preview => format!("/openai/v1/{operation}?api-version=preview"),
        ApiVersion::Dated(date) => {
            let deployment = percent_encode(&model.upstream_name);
            format!("/openai/deployments/{deployment}/{operation}?api-version={date}")
        }
    }
    .into()
}

#[derive(Deserialize)]
struct Body {
    error: Inner,
}

#[derive(Deserialize)]
struct Inner {
    /// A name or a number, as text or as a number.
    #[serde(default)]
    code: Value,
    message: Option<String>,
}

fn error_from_response(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> GatewayError {
    let inner = serde_json::from_slice::<Body>(body).ok().map(|body| body.error);
    let code = inner.as_ref().and_then(|inner| inner.code.as_str()).unwrap_or_default();
    let message = inner.as_ref().and_then(|inner| inner.message.as_deref());
    let public = match message {
        Some(message) if matches!(status.as_u16(), 400 | 413 | 422) => message.to_owned(),
        _ => format!("The model server answered {status}"),
    };
    let text = message.map_or_else(|| excerpt(body), str::to_owned);
    // the client is at fault: neither retried nor counted as a failure of the endpoint
    // (contract::providers §d2.4)
    let kind = if is_filter_code(code) {
        Kind::ContentFilter
    } else {
        Kind::UpstreamStatus(status.as_u16())
    };
    // some codes repeat the status
    let code_suffix =
        if code.is_empty() || code == status.as_str() { String::new() } else { format!(" {code}") };
    GatewayError::new(kind, public)
        .internal(format!(
            "{}; Azure returned {status}{code_suffix}: {text}",
            hint(status.as_u16(), code)
        ))
        .retry_after(retry_after(headers))
        .upstream_body(body.clone())
}

fn hint(status: u16, code: &str) -> &'static str {
    match (status, code) {
        (_, "content_filter") => {
            "Azure's content filter refused the prompt: change the prompt or the filter's policy"
        }
        (401, _) => {
            "Azure refused the key, or the token's audience: check the model's api_key and that it belongs to this resource, or entra.scope and the identity's role"
        }
        (403, _) => {
            "Azure forbids it: the resource may only take calls from its own network, or the key's role is too small"
        }
        (404, "DeploymentNotFound") => {
            "no deployment of this name: the identifier is azure/<deployment>, not the model's name; a new one takes up to 5 minutes"
        }
        (404, _) => {
            "Azure has no such path: check the endpoint, the api_version and the deployment's name"
        }
        (429, _) => {
            "the deployment's limit of tokens or requests per minute is reached: raise it in Azure"
        }
        (500..=599, _) => "Azure has a problem of its own",
        _ => "Azure refused the request",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::{Azure, error_from_response};
    use crate::error::{GatewayError, Kind, RetryScope};
    use crate::generation::{Delta, Generation, Message, Role, StopReason};
    use crate::model::{
        Access, ApiVersion, AzureAccess, EndpointUrl, EntraIdentity, EntraToken, Model,
        ProviderKind,
    };
    use crate::provider::{Dialect as _, NativeCall, SigningContext};
    use crate::secret::Secret;

    fn model(version: &str) -> Model {
        Model {
            id: "gpt".into(),
            provider: ProviderKind::Azure,
            upstream_name: "gpt 4o".into(),
            family: std::sync::Arc::default(),
            endpoints: vec![EndpointUrl::parse("https://acme.openai.azure.com").unwrap()],
            api_key: Some(Secret::new("canary".into())),
            access: Access::Azure(AzureAccess {
                version: ApiVersion::parse(version).unwrap(),
                entra: None,
            }),
            timeouts: crate::model::TimeoutsPatch::default(),
            replicas: crate::model::ReplicaSettings::default(),
            concurrency: None,
            priority: false,
            from_request: false,
        }
    }

    #[test]
    fn paths_by_version() {
        let path = |version| Azure.native_path(NativeCall::OpenAiChat, &model(version)).unwrap();
        assert_eq!(&*path("v1"), "/openai/v1/chat/completions");
        assert_eq!(&*path("preview"), "/openai/v1/chat/completions?api-version=preview");
        assert_eq!(
            &*path("2024-10-21"),
            "/openai/deployments/gpt%204o/chat/completions?api-version=2024-10-21"
        );
        let request =
            Generation { messages: vec![Message::text(Role::User, "hi")], ..Generation::default() };
        let outbound = Azure.encode(&request, &model("v1")).unwrap();
        assert_eq!(&*outbound.path, "/openai/v1/chat/completions");
        assert!(String::from_utf8_lossy(&outbound.body.to_bytes()).contains(r#""model":"gpt 4o""#));
        let raw = Azure
            .encode(&Generation { raw_prompt: Some("a".into()), ..request }, &model("v1"))
            .unwrap();
        assert_eq!(&*raw.path, "/openai/v1/completions");
    }

    #[test]
    fn the_key_goes_in_its_own_header_and_alone() {
        let model = model("v1");
        let mut outbound = Azure.encode(&Generation::default(), &model).unwrap();
        outbound.headers.insert("authorization", "Bearer client".parse().unwrap());
        let attempt = SigningContext {
            endpoint: &model.endpoints[0],
            now: std::time::SystemTime::UNIX_EPOCH,
        };
        Azure.authorize(&mut outbound, &model, &attempt).unwrap();
        assert_eq!(outbound.headers["api-key"], "canary");
        assert!(!outbound.headers.contains_key("authorization"));
        assert!(!format!("{outbound:?}").contains("canary"));
    }

    #[test]
    fn without_a_token_nothing_goes_out_not_even_the_key() {
        let tenant = EndpointUrl::parse("https://login.microsoftonline.com/t").unwrap();
        let identity =
            EntraIdentity::Workload { tenant, client_id: "c".into(), token_file: "t".into() };
        let entra = Some(Arc::new(EntraToken::new(identity, "s")));
        let with_token = Model {
            access: Access::Azure(AzureAccess { entra, ..AzureAccess::default() }),
            ..model("v1")
        };
        let mut outbound = Azure.encode(&Generation::default(), &with_token).unwrap();
        let attempt = SigningContext {
            endpoint: &with_token.endpoints[0],
            now: std::time::SystemTime::UNIX_EPOCH,
        };
        let error = Azure.authorize(&mut outbound, &with_token, &attempt).unwrap_err();
        assert_eq!(error.kind(), Kind::NoCredentials);
        assert!(!outbound.headers.contains_key("api-key"));
    }

    fn refused(
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: &'static str,
    ) -> GatewayError {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        error_from_response(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            &Bytes::from_static(body.as_bytes()),
        )
    }

    #[test]
    fn refusals_and_their_hints() {
        let filtered = refused(
            400,
            &[],
            r#"{"error":{"code":"content_filter","param":"prompt","message":"The response was filtered","status":400}}"#,
        );
        assert_eq!(filtered.kind(), Kind::ContentFilter);
        assert!(
            filtered.kind().row().retry_scope == RetryScope::Never
                && filtered.public() == "The response was filtered"
        );
        for (status, body, hint) in [
            (401, r#"{"error":{"code":"401","message":"Access denied"}}"#, "api_key"),
            (404, r#"{"error":{"code":"DeploymentNotFound","message":"none"}}"#, "5 minutes"),
            (404, r#"{"error":{"code":"404","message":"Resource not found"}}"#, "api_version"),
            (429, r#"{"error":{"code":429,"message":"limit"}}"#, "per minute"),
            (503, "<html>", "problem of its own"),
        ] {
            let error = refused(status, &[], body);
            assert!(error.operator().unwrap().contains(hint), "{error:?}");
        }
        let text = |body: &'static str| refused(401, &[], body).operator().unwrap().to_owned();
        let once = text(r#"{"error":{"code":"401","message":"Access denied"}}"#);
        assert!(once.ends_with("Azure returned 401 Unauthorized: Access denied"), "{once}");
        let named = text(r#"{"error":{"code":"PermissionDenied","message":"no"}}"#);
        assert!(named.ends_with("Azure returned 401 Unauthorized PermissionDenied: no"), "{named}");
    }

    #[test]
    fn milliseconds_are_preferred_and_rounded_up() {
        let error = refused(429, &[("retry-after", "60"), ("retry-after-ms", "1500")], "{}");
        let response = crate::error::render(&error, crate::error::Shape::OpenAi, "r");
        assert_eq!(response.headers()["retry-after"], "2");
    }

    #[test]
    fn chunks_without_choices_are_neither_content_nor_the_end() {
        let mut decoder = Azure.stream_decoder(&Generation::default());
        let mut out = Vec::new();
        let stream = "data: {\"choices\":[],\"created\":0,\"id\":\"\",\"prompt_filter_results\":[{\"prompt_index\":0}]}\n\n\
            data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"content_filter_results\":{}}]}\n\n\
            data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n\
            data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"content_filter\"}]}\n\ndata: [DONE]\n\n";
        decoder.feed(Bytes::from_static(stream.as_bytes()), &mut out).unwrap();
        decoder.finish(&mut out).unwrap();
        assert_eq!(out, [Delta::Text("Hi".into()), Delta::Stop(StopReason::ContentFilter)]);
        let event = Azure.inspect_event(br#"{"choices":[],"prompt_filter_results":[]}"#);
        assert!(!event.content && !event.only_usage && !event.done);
    }
}
