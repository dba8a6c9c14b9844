//! What the operator gives to models that requests bring: Bedrock's region, address and
//! credentials, Azure's api-version. A request can name none of them.

use std::sync::Arc;

use crate::error::{GatewayError, Kind};
use crate::model::{
    ApiVersion, AwsCredentials, BedrockAccess, BedrockModel, EndpointUrl, Guardrail, Region,
};

/// Api-version of Azure models that requests bring when `AZURE_API_VERSION` is not set
/// (contract::ai_gateway_server §2.5).
const API_VERSION: &str = "2025-02-01-preview";

/// Settings for models that requests bring; one per configuration.
#[derive(Clone, Debug)]
pub struct ProviderDefaults {
    /// `AWS_REGION` or `AWS_REGION_NAME`; a region in the identifier takes precedence.
    pub region: Option<Region>,
    /// `AWS_BEDROCK_RUNTIME_ENDPOINT`; `None` is the region's public address.
    pub endpoint: Option<EndpointUrl>,
    /// Credentials from the environment, else the credential chain.
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
    /// Returns the endpoint and the credentials for a request's Bedrock model. Fails with a 422
    /// when the operator has configured no region or no credentials.
    pub fn bedrock(
        &self,
        model: &BedrockModel,
    ) -> Result<(EndpointUrl, BedrockAccess), GatewayError> {
        let region = model.named_region().or_else(|| self.region.clone());
        let (Some(region), Some(credentials)) = (&region, &self.credentials) else {
            return Err(missing(region.is_none(), self.credentials.is_none()));
        };
        if let AwsCredentials::Chain(chain) = &**credentials {
            chain.set_region(region);
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

/// Builds the 422, which an administrator reads under GitLab's "Test connection".
fn missing(region: bool, credentials: bool) -> GatewayError {
    const REGION: (&str, &str) = ("AWS region", "AWS_REGION");
    const CREDENTIALS: (&str, &str) = (
        "AWS credentials",
        "AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    );
    let missing = [region.then_some(REGION), credentials.then_some(CREDENTIALS)];
    let (what, set): (Vec<&str>, Vec<&str>) = missing.into_iter().flatten().unzip();
    let text = format!(
        "The request names a Bedrock model, but this gateway has no {}: set {} in its environment",
        what.join(" and no "),
        set.join("; and "),
    );
    GatewayError::new(Kind::NoModel, text)
}
