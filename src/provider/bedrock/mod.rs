//! Amazon Bedrock: Converse and ConverseStream, signed or with an API key.
//!
//! Source: providers.md d1; shapes from AWS's service model of `bedrock-runtime` (botocore). The rig
//! `rigs/bedrock` recomputes the signatures and validates the bodies.

mod fault;
mod openai;
mod request;
mod response;
mod sign;

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{Attempt, ClockOffset, Decode, Dialect, Native, Outbound, Seen, encoded_once};
use crate::error::{GatewayError, Kind};
use crate::generation::{Delta, Generation, Usage};
use crate::route::{Access, AwsCredentials, BedrockAccess, BedrockModel, Model};

pub(super) use openai::BedrockOpenAi;

/// The dialect; it has no state.
pub(super) struct Bedrock;

impl Dialect for Bedrock {
    fn encode(&self, generation: &Generation, model: &Model) -> Result<Outbound, GatewayError> {
        let named = BedrockModel::parse(&model.upstream_name).map_err(|error| {
            GatewayError::new(Kind::UnknownModel, "The model's identifier is not one of Bedrock's")
                .internal(error.to_string())
        })?;
        let access = access(model)?;
        let body = request::converse_body(generation, &named.id, access.guardrail.as_ref())?;
        let (operation, accept) = if generation.stream {
            ("converse-stream", HeaderValue::from_static("application/vnd.amazon.eventstream"))
        } else {
            ("converse", HeaderValue::from_static("application/json"))
        };
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, accept);
        let path = format!("/model/{}/{operation}", encoded_once(&named.id));
        Ok(Outbound { path: path.into(), headers, body: body.into() })
    }

    fn native(&self, _call: Native, _model: &Model) -> Option<Box<str>> {
        None
    }

    fn authorize(&self, outbound: &mut Outbound, model: &Model, attempt: &Attempt<'_>) -> Result<(), GatewayError> {
        let access = access(model)?;
        sign::forget(&mut outbound.headers);
        if let Some(host) = &access.signing_host {
            outbound.headers.insert(header::HOST, host.clone());
        }
        match &*access.credentials {
            AwsCredentials::ApiKey(key) => sign::bearer(&mut outbound.headers, key),
            AwsCredentials::Keys(keys) => sign::sign(outbound, keys, &access.region, attempt),
        }
    }

    fn answer(&self, asked: &Generation, body: &[u8]) -> Result<Vec<Delta>, GatewayError> {
        response::whole(asked, body)
    }

    fn decoder(&self, asked: &Generation) -> Box<dyn Decode> {
        Box::new(response::Stream::new(asked))
    }

    fn look(&self, _data: &[u8]) -> Seen {
        // Nothing is passed through: no surface speaks Converse.
        Seen::default()
    }

    fn usage_of(&self, body: &[u8]) -> Option<Usage> {
        response::usage_of(body)
    }

    fn fault(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> GatewayError {
        fault::of(status, headers, body)
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

/// The model's region and credentials, which configuration gives every Bedrock model.
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
