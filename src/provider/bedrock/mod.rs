//! Amazon Bedrock: Converse and ConverseStream, signed or with an API key.
//!
//! Source: contract::providers §d1; shapes from AWS's service model of `bedrock-runtime`
//! (botocore). `tests/provider_rigs.rs` runs it against a rig that recomputes the signatures and
//! validates the bodies.

mod fault;
mod openai;
mod request;
mod response;
mod sign;

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{
    ClockOffset, Decode, Dialect, EventInfo, NativeCall, Outbound, SigningContext, percent_encode,
};
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, Generation, Usage};
use crate::model::{Access, AwsCredentials, BedrockAccess, BedrockModel, Model};

pub(super) use openai::BedrockOpenAi;

/// Bedrock's dialect; it has no state.
pub(super) struct Bedrock;

impl Dialect for Bedrock {
    fn encode(&self, generation: &Generation, model: &Model) -> Result<Outbound, GatewayError> {
        let id = id_of(model)?;
        let body = request::converse_body(generation, &id, access(model)?.guardrail.as_ref())?;
        let (operation, accept) = if generation.stream {
            ("converse-stream", HeaderValue::from_static("application/vnd.amazon.eventstream"))
        } else {
            ("converse", HeaderValue::from_static("application/json"))
        };
        let body: Bytes = serde_json::Value::Object(body).to_string().into();
        Ok(outbound(&id, operation, accept, body))
    }

    fn encode_token_count(
        &self,
        generation: &Generation,
        model: &Model,
    ) -> Result<Option<Outbound>, GatewayError> {
        let id = id_of(model)?;
        let body = request::count_body(generation, &id)?;
        Ok(Some(outbound(&id, "count-tokens", HeaderValue::from_static("application/json"), body)))
    }

    fn parse_token_count(&self, body: &[u8]) -> Option<u64> {
        response::parse_token_count(body)
    }

    fn native_path(&self, _call: NativeCall, _model: &Model) -> Option<Box<str>> {
        None
    }

    fn authorize(
        &self,
        outbound: &mut Outbound,
        model: &Model,
        attempt: &SigningContext<'_>,
    ) -> Result<(), GatewayError> {
        let access = access(model)?;
        sign::remove_credentials(&mut outbound.headers);
        if let Some(host) = &access.signing_host {
            outbound.headers.insert(header::HOST, host.clone());
        }
        match &*access.credentials {
            AwsCredentials::ApiKey(key) => sign::insert_api_key(&mut outbound.headers, key),
            AwsCredentials::Keys(keys) => sign::sign(outbound, keys, &access.region, attempt),
            AwsCredentials::Chain(chain) => {
                sign::sign(outbound, &chain.current(attempt.now)?.value, &access.region, attempt)
            }
        }
    }

    fn decode_response(
        &self,
        generation: &Generation,
        body: &[u8],
    ) -> Result<Vec<Delta>, GatewayError> {
        response::decode_response(generation, body)
    }

    fn stream_decoder(&self, generation: &Generation) -> Box<dyn Decode> {
        Box::new(response::ConverseStreamDecoder::new(generation))
    }

    fn inspect_event(&self, _data: &[u8]) -> EventInfo {
        // Nothing passes through: no surface has Converse.
        EventInfo::default()
    }

    fn parse_usage(&self, body: &[u8]) -> Option<Usage> {
        response::parse_usage(body)
    }

    fn error_from_response(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> GatewayError {
        fault::from_response(status, headers, body)
    }

    fn clock_offset(
        &self,
        _status: StatusCode,
        headers: &HeaderMap,
        body: &Bytes,
        now: SystemTime,
    ) -> Option<ClockOffset> {
        fault::clock_offset(headers, body, now)
    }
}

/// Returns the id at Bedrock. Fails when the identifier is not one of Bedrock's, or names another
/// region than the model's.
fn id_of(model: &Model) -> Result<Box<str>, GatewayError> {
    let named = BedrockModel::parse(&model.upstream_name).map_err(|error| {
        GatewayError::new(Kind::UnknownModel, "The model's identifier is not one of Bedrock's")
            .internal(error.to_string())
    })?;
    let access = access(model)?;
    if let Some(region) = named.region.filter(|region| *region != access.region) {
        let text =
            format!("the identifier names {region}, but the model's region is {}", access.region);
        return Err(
            GatewayError::new(Kind::Internal, "The model's region is set wrongly").internal(text)
        );
    }
    Ok(named.id)
}

fn outbound(id: &str, operation: &str, accept: HeaderValue, body: Bytes) -> Outbound {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, accept);
    let path = format!("/model/{}/{operation}", percent_encode(id));
    Outbound { method: Method::POST, path: path.into(), headers, body: body.into() }
}

/// Returns the model's region and credentials. Fails when it has none, though configuration sets
/// them for every Bedrock model.
fn access(model: &Model) -> Result<&BedrockAccess, GatewayError> {
    match &model.access {
        Access::Bedrock(access) => Ok(access),
        Access::Key | Access::Azure(_) => Err(GatewayError::new(
            Kind::Internal,
            "The gateway has no AWS region or credentials for this model",
        )
        .internal(
            "set the model's region and credentials, or AWS_REGION and AWS_ACCESS_KEY_ID or AWS_BEARER_TOKEN_BEDROCK",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::Bedrock;
    use crate::error::Kind;
    use crate::generation::{Generation, Message, Role};
    use crate::model::{
        Access, AwsCredentials, BedrockAccess, EndpointUrl, Model, ProviderKind, Region,
        TimeoutsPatch,
    };
    use crate::provider::{Dialect as _, SigningContext};
    use crate::secret::Secret;

    fn model(name: &str) -> Model {
        let access = BedrockAccess {
            region: Region::parse("eu-central-1").unwrap(),
            credentials: Arc::new(AwsCredentials::ApiKey(Secret::new("canary".into()))),
            signing_host: Some("vpce-1.example".parse().unwrap()),
            guardrail: None,
        };
        Model {
            id: "m".into(),
            provider: ProviderKind::Bedrock,
            upstream_name: name.into(),
            family: std::sync::Arc::default(),
            endpoints: vec![EndpointUrl::parse("https://h").unwrap()],
            api_key: Some(Secret::new("the form's, not AWS's".into())),
            access: Access::Bedrock(Box::new(access)),
            timeouts: TimeoutsPatch::default(),
            replicas: crate::model::ReplicaSettings::default(),
            concurrency: None,
            priority: false,
            from_request: false,
        }
    }

    fn request(stream: bool) -> Generation {
        Generation {
            messages: vec![Message::text(Role::User, "hi")],
            stream,
            ..Generation::default()
        }
    }

    #[test]
    fn paths_hosts_and_the_api_key() {
        let model = model("converse/eu.amazon.nova-micro-v1:0");
        let whole = Bedrock.encode(&request(false), &model).unwrap();
        assert_eq!(&*whole.path, "/model/eu.amazon.nova-micro-v1%3A0/converse");
        let mut streamed = Bedrock.encode(&request(true), &model).unwrap();
        assert_eq!(&*streamed.path, "/model/eu.amazon.nova-micro-v1%3A0/converse-stream");
        assert_eq!(streamed.headers["accept"], "application/vnd.amazon.eventstream");
        let attempt = SigningContext { endpoint: &model.endpoints[0], now: SystemTime::UNIX_EPOCH };
        Bedrock.authorize(&mut streamed, &model, &attempt).unwrap();
        assert_eq!(streamed.headers["authorization"], "Bearer canary");
        assert_eq!(streamed.headers["host"], "vpce-1.example");
        assert!(!streamed.headers.contains_key("x-amz-date"));
        assert!(!format!("{streamed:?}").contains("canary"));
    }

    #[test]
    fn wrong_settings_are_named() {
        let error = |model: &Model| Bedrock.encode(&request(false), model).unwrap_err();
        assert_eq!(error(&model("arn:aws:bedrock:nowhere")).kind(), Kind::UnknownModel);
        let other_region = error(&model("us-west-2/meta.llama3"));
        assert!(other_region.operator().unwrap().contains("names us-west-2"), "{other_region:?}");
        let mut without = model("m");
        without.access = Access::Key;
        assert!(error(&without).operator().unwrap().contains("AWS_REGION"));
    }
}
