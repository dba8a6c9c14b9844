//! What the operator gives to models that requests bring: Bedrock's region, address and
//! credentials, Azure's api-version. A request can name none of them.

use std::sync::Arc;

use crate::error::{GatewayError, Kind};
use crate::model::{
    ApiVersion, AwsCredentials, BedrockAccess, BedrockModel, EndpointUrl, Guardrail, Region,
};

/// Azure's version for models that requests bring when nobody says one (ai-gateway-server.md §2.5).
const API_VERSION: &str = "2025-02-01-preview";

/// One per configuration.
#[derive(Clone, Debug)]
pub struct ProviderDefaults {
    /// `AWS_REGION`, `AWS_REGION_NAME`; a region in the identifier wins.
    pub region: Option<Region>,
    /// `AWS_BEDROCK_RUNTIME_ENDPOINT`; the region's public address without it.
    pub endpoint: Option<EndpointUrl>,
    /// The environment's, else the chain's.
    pub credentials: Option<Arc<AwsCredentials>>,
    /// `AIGW_BEDROCK_GUARDRAIL_CONFIG`.
    pub guardrail: Option<Guardrail>,
    /// `AZURE_API_VERSION`.
    pub api_version: ApiVersion,
}

impl Default for ProviderDefaults {
    fn default() -> Self {
        let api_version = ApiVersion::Dated(API_VERSION.into());
        Self { region: None, endpoint: None, credentials: None, guardrail: None, api_version }
    }
}

impl ProviderDefaults {
    /// Where and as whom a request's Bedrock model is asked. 422 when the operator has not said.
    pub fn bedrock(
        &self,
        model: &BedrockModel,
    ) -> Result<(EndpointUrl, BedrockAccess), GatewayError> {
        let region = model.named_region().or_else(|| self.region.clone());
        let (Some(region), Some(credentials)) = (&region, &self.credentials) else {
            return Err(lacks(region.is_none(), self.credentials.is_none()));
        };
        if let AwsCredentials::Chain(chain) = &**credentials {
            chain.near(region);
        }
        let endpoint = self.endpoint.clone().map_or_else(|| region.bedrock_endpoint(), Ok);
        let endpoint = endpoint.map_err(|error| {
            GatewayError::new(Kind::Internal, "The gateway could not address the model server")
                .internal(error.to_string())
        })?;
        let access = BedrockAccess {
            region: region.clone(),
            credentials: Arc::clone(credentials),
            signing_host: None,
            guardrail: self.guardrail.clone(),
        };
        Ok((endpoint, access))
    }
}

/// An administrator reads this under GitLab's "Test connection".
fn lacks(region: bool, credentials: bool) -> GatewayError {
    const REGION: (&str, &str) = ("AWS region", "AWS_REGION");
    const CREDENTIALS: (&str, &str) = (
        "AWS credentials",
        "AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    );
    let lacking = [region.then_some(REGION), credentials.then_some(CREDENTIALS)];
    let (what, set): (Vec<&str>, Vec<&str>) = lacking.into_iter().flatten().unzip();
    let text = format!(
        "The request names a Bedrock model, but this gateway has no {}: set {} in its environment",
        what.join(" and no "),
        set.join("; and "),
    );
    GatewayError::new(Kind::NoModel, text)
}
