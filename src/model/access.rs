//! What a provider requires in addition to an address and a key: Azure's api-version, AWS's region
//! and credentials.

use std::fmt;
use std::sync::Arc;

use crate::model::{AwsChain, EndpointUrl, EndpointUrlError, EntraToken, RefreshableCredentials};
use crate::secret::Secret;

/// How requests to one model's server are authorized. `Default` is `api_key`, which is all that
/// OpenAI-compatible servers and Anthropic require.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// The model's `api_key`, if it has one.
    #[default]
    Key,
    /// Azure OpenAI.
    Azure(AzureAccess),
    /// Amazon Bedrock; the model's `api_key` is ignored.
    Bedrock(Box<BedrockAccess>),
}

impl Access {
    /// Returns the credentials that expire and are fetched again, or `None`.
    pub fn refreshable(&self) -> Option<RefreshableCredentials> {
        match self {
            Self::Azure(AzureAccess { entra: Some(entra), .. }) => {
                Some(RefreshableCredentials::Entra(Arc::clone(entra)))
            }
            Self::Bedrock(access) => access.credentials.refreshable(),
            Self::Key | Self::Azure(_) => None,
        }
    }
}

/// Api-version and credentials of an Azure model.
#[derive(Clone, Debug, Default)]
pub struct AzureAccess {
    /// Api-version, which decides the paths.
    pub version: ApiVersion,
    /// Entra ID token; without it the model's `api_key` is sent.
    pub entra: Option<Arc<EntraToken>>,
}

/// Azure's `api-version` parameter (contract::providers §d2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ApiVersion {
    /// The v1 paths: the deployment's name goes in the body.
    #[default]
    V1,
    /// The v1 paths, with `?api-version=preview`.
    Preview,
    /// A dated version, `2024-10-21` or `2025-02-01-preview`: the deployment's name goes in the
    /// path.
    Dated(Box<str>),
}

/// Error of a text that is not an api-version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no api-version: expected v1, preview or a date such as 2024-10-21 or 2025-02-01-preview"
)]
pub struct ApiVersionError(String);

impl ApiVersion {
    /// Parses `v1`, `preview`, `YYYY-MM-DD` or `YYYY-MM-DD-preview`; fails on anything else.
    pub fn parse(text: &str) -> Result<Self, ApiVersionError> {
        match text {
            "v1" => return Ok(Self::V1),
            "preview" => return Ok(Self::Preview),
            _ => {}
        }
        let date = text.strip_suffix("-preview").unwrap_or(text).as_bytes();
        let is_date = date.len() == 10
            && date
                .iter()
                .enumerate()
                .all(|(i, b)| if matches!(i, 4 | 7) { *b == b'-' } else { b.is_ascii_digit() });
        if is_date {
            Ok(Self::Dated(text.into()))
        } else {
            Err(ApiVersionError(text.chars().take(100).collect()))
        }
    }
}

/// Writes the version as the configuration file has it.
impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::Preview => "preview",
            Self::Dated(date) => date,
        })
    }
}

/// Region, credentials and guardrail of a Bedrock model.
#[derive(Clone, Debug)]
pub struct BedrockAccess {
    /// Region of the endpoint, also for cross-region profiles (contract::providers §d1.5):
    /// signatures cover it.
    pub region: Region,
    /// Credentials, shared between models.
    pub credentials: Arc<AwsCredentials>,
    /// `Host` header to send and sign when it is not the endpoint's own: for VPC endpoints behind a
    /// proxy (contract::providers §d1.1).
    pub signing_host: Option<http::HeaderValue>,
    /// Guardrail that is sent with every request.
    pub guardrail: Option<Guardrail>,
}

/// Credentials for Bedrock.
#[derive(Debug)]
pub enum AwsCredentials {
    /// Bedrock API key (`AWS_BEARER_TOKEN_BEDROCK`), sent as a bearer token; nothing is signed.
    ApiKey(Secret<String>),
    /// Access key to sign with.
    Keys(AwsKeys),
    /// Expiring access key from the credential chain.
    Chain(Arc<AwsChain>),
}

impl AwsCredentials {
    /// Returns the credential chain, or `None` for fixed credentials.
    pub fn refreshable(&self) -> Option<RefreshableCredentials> {
        match self {
            Self::Chain(chain) => Some(RefreshableCredentials::Aws(Arc::clone(chain))),
            Self::ApiKey(_) | Self::Keys(_) => None,
        }
    }
}

/// AWS access key, long-lived or temporary.
#[derive(Debug)]
pub struct AwsKeys {
    /// Id of the key (`AKIA…`, `ASIA…`): an identifier, not a secret.
    pub access_key_id: Box<str>,
    /// Secret that signs.
    pub secret_access_key: Secret<String>,
    /// Session token of a temporary key.
    pub session_token: Option<Secret<String>>,
}

/// Guardrail: the `guardrailConfig` of a Converse request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guardrail {
    /// Id or ARN.
    pub identifier: Box<str>,
    /// `DRAFT` or a number; optional in AWS's service model.
    pub version: Option<Box<str>>,
    /// Trace mode: `enabled`, `disabled` or `enabled_full`.
    pub trace: Option<Box<str>>,
}

/// Reason why a guardrail is invalid. It does not quote the value: the variable may hold any JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardrailError {
    /// Invalid identifier.
    #[error("a guardrail's identifier is its id (letters and digits) or its ARN")]
    Identifier,
    /// Invalid version.
    #[error("a guardrail's version is \"DRAFT\" or a number")]
    Version,
    /// Invalid trace mode.
    #[error("a guardrail's trace is \"enabled\", \"disabled\" or \"enabled_full\"")]
    Trace,
}

impl Guardrail {
    /// Checks the three parts against the patterns of AWS's service model of `bedrock-runtime`.
    pub fn parse(
        identifier: &str,
        version: Option<&str>,
        trace: Option<&str>,
    ) -> Result<Self, GuardrailError> {
        let is_id = !identifier.is_empty()
            && identifier.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let is_arn = arn_region(identifier).is_some() && identifier.contains(":guardrail/");
        if identifier.len() > 2048 || !(is_id || is_arn) {
            return Err(GuardrailError::Identifier);
        }
        let is_number = |version: &str| {
            (1..=8).contains(&version.len())
                && version.bytes().all(|b| b.is_ascii_digit())
                && !version.starts_with('0')
        };
        if version.is_some_and(|version| version != "DRAFT" && !is_number(version)) {
            return Err(GuardrailError::Version);
        }
        if trace.is_some_and(|trace| !matches!(trace, "enabled" | "disabled" | "enabled_full")) {
            return Err(GuardrailError::Trace);
        }
        Ok(Self {
            identifier: identifier.into(),
            version: version.map(Into::into),
            trace: trace.map(Into::into),
        })
    }
}

/// Name of an AWS region, safe in a host name: `eu-central-1`. It need not exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Region(Box<str>);

/// Error of a text that is not a region's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no AWS region: expected a name such as us-east-1")]
pub struct RegionError(String);

impl Region {
    /// Parses words of lower-case letters joined by `-` and followed by a number; fails on anything
    /// else.
    pub fn parse(text: &str) -> Result<Self, RegionError> {
        let error = || RegionError(text.chars().take(100).collect());
        let (name, number) = text.rsplit_once('-').ok_or_else(error)?;
        let is_word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
        let is_number =
            (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        let is_region =
            text.len() <= 40 && name.contains('-') && name.split('-').all(is_word) && is_number;
        if is_region { Ok(Self(text.into())) } else { Err(error()) }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns Bedrock's public endpoint in this region; China's partition has its own domain.
    pub fn bedrock_endpoint(&self) -> Result<EndpointUrl, EndpointUrlError> {
        let domain = if self.0.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        EndpointUrl::parse(&format!("https://bedrock-runtime.{self}.{domain}"))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Model of Bedrock, as it follows `bedrock/` in an identifier: a model id, an inference profile's
/// id, or an ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BedrockModel {
    /// Region in front of the id (`us-west-2/anthropic.claude-…`) or in the ARN. It applies when
    /// the model's `region` is not set; a different `region` is an error.
    pub region: Option<Region>,
    /// Id or ARN, not percent-encoded.
    pub id: Box<str>,
}

/// Reason why a text is not a Bedrock model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BedrockModelError {
    /// Starts with `arn:` but is not an ARN of Bedrock or SageMaker.
    #[error("`{0}` is no ARN of a model: expected arn:aws:bedrock:<region>:<account>:<kind>/<id>")]
    Arn(String),
    /// Contains characters that no id has.
    #[error("`{0}` is no Bedrock model id: expected letters, digits and - _ . : only")]
    Id(String),
}

impl BedrockModel {
    /// Parses the text. A leading `converse/` or `invoke/`, which chooses between two
    /// implementations of GitLab's gateway, is dropped (contract::ai_gateway_server §2.6).
    pub fn parse(text: &str) -> Result<Self, BedrockModelError> {
        let excerpt = || text.chars().take(200).collect::<String>();
        let rest =
            text.strip_prefix("converse/").or_else(|| text.strip_prefix("invoke/")).unwrap_or(text);
        let in_front =
            rest.split_once('/').and_then(|(first, id)| Some((Region::parse(first).ok()?, id)));
        let (region, id) = in_front.map_or((None, rest), |(region, id)| (Some(region), id));
        if id.starts_with("arn:") {
            let of_arn = arn_region(id).ok_or_else(|| BedrockModelError::Arn(excerpt()))?;
            return Ok(Self { region: Some(region.unwrap_or(of_arn)), id: id.into() });
        }
        let good =
            id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'));
        if id.is_empty() || id.len() > 2048 || !good || id.bytes().all(|b| b == b'.') {
            return Err(BedrockModelError::Id(excerpt()));
        }
        Ok(Self { region, id: id.into() })
    }

    /// Returns the region in front of the id, else the one in its ARN, which is served nowhere
    /// else.
    pub fn named_region(&self) -> Option<Region> {
        let of_arn = || Region::parse(self.id.strip_prefix("arn:")?.split(':').nth(2)?).ok();
        self.region.clone().or_else(of_arn)
    }
}

/// Returns the region of a model's ARN, or `None` for a text that is not one.
fn arn_region(arn: &str) -> Option<Region> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [_, partition, service, region, account, resource] = parts[..] else { return None };
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/');
    let is_model = partition.starts_with("aws")
        && matches!(service, "bedrock" | "sagemaker")
        && (account.is_empty()
            || (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())))
        && resource.split_once('/').is_some_and(|(kind, id)| !kind.is_empty() && !id.is_empty())
        && arn.len() <= 2048
        && arn.bytes().all(good);
    Region::parse(region).ok().filter(|_| is_model)
}

#[cfg(test)]
mod tests {
    use super::{
        ApiVersion, AwsCredentials, AwsKeys, BedrockModel, BedrockModelError, Guardrail,
        GuardrailError, Region,
    };
    use crate::secret::Secret;

    #[test]
    fn api_versions() {
        assert_eq!(ApiVersion::parse("v1"), Ok(ApiVersion::V1));
        assert_eq!(ApiVersion::parse("preview"), Ok(ApiVersion::Preview));
        for dated in ["2024-10-21", "2025-02-01-preview"] {
            assert_eq!(ApiVersion::parse(dated), Ok(ApiVersion::Dated(dated.into())));
        }
        for wrong in ["", "v2", "latest", "2024-1-1", "2024-10-21&x=1", "2024-10-21-beta"] {
            assert!(ApiVersion::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn regions_are_safe_in_host_names() {
        for name in ["us-east-1", "ap-northeast-1", "us-gov-west-1", "cn-north-1"] {
            assert_eq!(Region::parse(name).unwrap().as_str(), name);
        }
        for wrong in [
            "",
            "us-east",
            "useast1",
            "us-east-1.evil.example",
            "us-east-1/",
            "US-EAST-1",
            "-east-1",
            "a-1",
        ] {
            assert!(Region::parse(wrong).is_err(), "{wrong}");
        }
        let url = |name| Region::parse(name).unwrap().bedrock_endpoint().unwrap().to_string();
        assert_eq!(url("eu-central-1"), "https://bedrock-runtime.eu-central-1.amazonaws.com");
        assert_eq!(url("cn-north-1"), "https://bedrock-runtime.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn bedrock_models_as_admins_write_them() {
        let parse = |text| {
            BedrockModel::parse(text)
                .map(|m| (m.region.map(|r| r.as_str().to_owned()), m.id.into_string()))
        };
        let arn =
            "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/a1b2c3d4e5f6";
        assert_eq!(
            parse("eu.amazon.nova-micro-v1:0"),
            Ok((None, "eu.amazon.nova-micro-v1:0".into()))
        );
        assert_eq!(
            parse("us-west-2/meta.llama3"),
            Ok((Some("us-west-2".into()), "meta.llama3".into()))
        );
        assert_eq!(parse("converse/meta.llama3"), Ok((None, "meta.llama3".into())));
        assert_eq!(parse(arn), Ok((Some("eu-central-1".into()), arn.into())));
        let foundation = "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0";
        assert_eq!(parse(foundation), Ok((Some("us-east-1".into()), foundation.into())));
    }

    #[test]
    fn malformed_models_are_errors() {
        for wrong in [
            "arn:aws:bedrock",
            "arn:aws:s3:us-east-1:123456789012:x/y",
            "arn:aws:bedrock:nowhere:123456789012:x/y",
            "arn:aws:bedrock:us-east-1:12:x/y",
            "arn:aws:bedrock:us-east-1:123456789012:x",
            "arn:aws:bedrock:us-east-1:123456789012:x/y z",
        ] {
            assert!(
                matches!(BedrockModel::parse(wrong), Err(BedrockModelError::Arn(_))),
                "{wrong}"
            );
        }
        for wrong in ["", "a b", "a/b", "..", "a%3A0", "é"] {
            assert!(matches!(BedrockModel::parse(wrong), Err(BedrockModelError::Id(_))), "{wrong}");
        }
    }

    #[test]
    fn a_region_in_front_takes_precedence_over_the_arns() {
        let region = |text: &str| {
            BedrockModel::parse(text).unwrap().named_region().map(|region| region.to_string())
        };
        let arn = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/a1";
        assert_eq!(region(arn).as_deref(), Some("eu-central-1"));
        assert_eq!(region(&format!("us-west-2/{arn}")).as_deref(), Some("us-west-2"));
        assert_eq!(region("converse/eu.amazon.nova-micro-v1:0"), None);
    }

    #[test]
    fn guardrails_by_awss_patterns() {
        let arn = "arn:aws:bedrock:us-east-1:123456789012:guardrail/abc1";
        for identifier in ["abc123", arn] {
            assert_eq!(
                &*Guardrail::parse(identifier, Some("12"), Some("enabled")).unwrap().identifier,
                identifier
            );
        }
        assert_eq!(
            Guardrail::parse("a", Some("DRAFT"), None).unwrap().version.as_deref(),
            Some("DRAFT")
        );
        assert_eq!(Guardrail::parse("a", None, None).unwrap().version, None);
        for wrong in ["", "ABC", "a b", "arn:aws:bedrock:us-east-1:123456789012:model/abc1"] {
            assert_eq!(
                Guardrail::parse(wrong, None, None),
                Err(GuardrailError::Identifier),
                "{wrong}"
            );
        }
        for wrong in ["", "0", "draft", "1.0", "123456789"] {
            assert_eq!(
                Guardrail::parse("a", Some(wrong), None),
                Err(GuardrailError::Version),
                "{wrong}"
            );
        }
        assert_eq!(Guardrail::parse("a", Some("1"), Some("on")), Err(GuardrailError::Trace));
    }

    #[test]
    fn credentials_print_as_dots() {
        let keys = AwsKeys {
            access_key_id: "AKID".into(),
            secret_access_key: Secret::new("canary".into()),
            session_token: Some(Secret::new("canary".into())),
        };
        let text = format!(
            "{:?} {:?}",
            AwsCredentials::Keys(keys),
            AwsCredentials::ApiKey(Secret::new("canary".into()))
        );
        assert!(!text.contains("canary"), "{text}");
    }
}
