//! The model that GitLab names in a request: `model_metadata`, or the flat `model_*` fields of
//! older calls, validated. Source: contract::gitlab_client §4, contract::ai_gateway_server §2.1,
//! §2.3.

use std::borrow::Cow;

use serde::Deserialize;

use crate::error::BodyFault;
use crate::model::{BedrockModel, CredentialKind, EndpointUrl, Identifier, ProviderKind};
use crate::secret::Secret;

/// Fields as sent. Unknown fields are ignored, and so is `provider`: the identifier's prefix
/// decides (GitLab sends `openai` for every self-hosted model, Bedrock included).
#[derive(Debug, Default, Deserialize)]
pub struct RawModelMetadata<'a> {
    /// Family of the model, despite the field's name.
    #[serde(borrow, default)]
    pub name: Option<Cow<'a, str>>,
    /// Base URL of the model server.
    #[serde(borrow, default)]
    pub endpoint: Option<Cow<'a, str>>,
    /// Key of the model server.
    #[serde(borrow, default)]
    pub api_key: Option<Cow<'a, str>>,
    /// Identifier `prefix/model`; may be empty.
    #[serde(borrow, default)]
    pub identifier: Option<Cow<'a, str>>,
}

/// Model that a request named, validated.
#[derive(Debug)]
pub struct ModelMetadata {
    /// Provider, and name of the model at its server.
    pub identifier: Identifier,
    /// Name of the family as sent; an unknown one is treated as `general`
    /// (contract::gitlab_client §5.2).
    pub family: Box<str>,
    /// Server of the model.
    pub target: Target,
}

/// Server of a model that a request named.
#[derive(Debug)]
pub enum Target {
    /// Server at an address of the request, which is checked after resolution.
    Endpoint {
        /// Base URL of the model server.
        url: EndpointUrl,
        /// Key of the model server; never logged, never echoed.
        api_key: Option<Secret<String>>,
    },
    /// The operator's Bedrock, with the operator's credentials. GitLab's form requires an endpoint
    /// for every model, so the request has one here too: a dummy, which like the key is ignored
    /// (contract::ai_gateway_server §2.6).
    Bedrock(BedrockModel),
}

const MAX_ENDPOINT: usize = 255;
const MAX_API_KEY: usize = 2000;

impl ModelMetadata {
    /// Validates the older form as [`Self::parse`] does the current one: its fields are
    /// `model_endpoint`, `model_api_key` and so on.
    pub fn parse_flat(
        raw: &RawModelMetadata<'_>,
        prefix: &[&'static str],
    ) -> Result<Option<Self>, BodyFault> {
        Self::parse(raw, prefix).map_err(|mut fault| {
            if let Some(field) = fault.loc.last_mut() {
                *field = format!("model_{field}").into();
            }
            fault
        })
    }

    /// Validates the fields. Returns `Ok(None)` when they name no self-hosted model: GitLab's
    /// "vendored" form, a missing endpoint, no field at all. `prefix` is the path of the fields in
    /// the body, for the `loc` of a fault.
    pub fn parse(
        raw: &RawModelMetadata<'_>,
        prefix: &[&'static str],
    ) -> Result<Option<Self>, BodyFault> {
        let fault = |field: &'static str, msg: String| {
            let loc = std::iter::once("body")
                .chain(prefix.iter().copied())
                .chain([field])
                .map(Cow::Borrowed)
                .collect();
            BodyFault { loc, msg, kind: "value_error" }
        };
        let name = raw.name.as_deref().unwrap_or_default();
        let text = match raw.identifier.as_deref().map(str::trim) {
            // an empty identifier means the family's own name on an OpenAI-compatible server
            None | Some("") => name,
            Some(text) => text,
        };
        let endpoint = raw.endpoint.as_deref().filter(|text| !text.trim().is_empty());
        let is_aws = |provider: ProviderKind| provider.credentials() == CredentialKind::Aws;
        let prefix =
            || text.split_once('/').and_then(|(prefix, _)| ProviderKind::of_prefix(prefix));
        let identifier = match (Identifier::parse(text), endpoint) {
            (Ok(identifier), _) if is_aws(identifier.provider) => identifier,
            (Err(error), None) if prefix().is_some_and(is_aws) => {
                return Err(fault("identifier", error.to_string()));
            }
            (_, None) => return Ok(None),
            (parsed, Some(_)) => parsed.map_err(|error| fault("identifier", error.to_string()))?,
        };
        let target = if is_aws(identifier.provider) {
            let model = BedrockModel::parse(&identifier.model);
            Target::Bedrock(model.map_err(|error| fault("identifier", error.to_string()))?)
        } else {
            let endpoint = endpoint.unwrap_or_default();
            if endpoint.len() > MAX_ENDPOINT {
                return Err(fault("endpoint", format!("at most {MAX_ENDPOINT} characters")));
            }
            if raw.api_key.as_deref().is_some_and(|key| key.len() > MAX_API_KEY) {
                return Err(fault("api_key", format!("at most {MAX_API_KEY} characters")));
            }
            let url = identifier
                .provider
                .profile()
                .url
                .parse(endpoint)
                .map_err(|error| fault("endpoint", error.to_string()))?;
            let api_key = raw
                .api_key
                .as_deref()
                .filter(|key| !key.is_empty())
                .map(|key| Secret::new(key.to_owned()));
            Target::Endpoint { url, api_key }
        };
        Ok(Some(Self { identifier, family: name.into(), target }))
    }
}

#[cfg(test)]
mod tests {
    use super::{ModelMetadata, RawModelMetadata, Target};
    use crate::model::ProviderKind;

    fn check(json: &str) -> Result<Option<ModelMetadata>, String> {
        let raw: RawModelMetadata<'_> = serde_json::from_str(json).unwrap();
        ModelMetadata::parse(&raw, &["model_metadata"])
            .map_err(|fault| format!("{}: {}", fault.loc.join("."), fault.msg))
    }

    #[test]
    fn self_hosted_form() {
        let m = check(
            r#"{"provider":"openai","name":"mistral","endpoint":"http://vllm:8000/v1/","api_key":"t","identifier":"custom_openai/M"}"#,
        );
        let m = m.unwrap().unwrap();
        assert_eq!(
            (m.identifier.provider, &*m.identifier.model, &*m.family),
            (ProviderKind::OpenAi, "M", "mistral")
        );
        let Target::Endpoint { url, api_key } = m.target else { panic!("no endpoint") };
        assert_eq!(
            (url.to_string().as_str(), api_key.unwrap().expose().as_str()),
            ("http://vllm:8000/v1", "t")
        );
    }

    #[test]
    fn bedrock_models_need_no_endpoint_and_ignore_one() {
        for dummy in [
            "",
            r#""endpoint":"http://bedrockselfhostedmodel.com/v1","api_key":"k","#,
            r#""endpoint":"-","#,
        ] {
            let m = check(&format!(
                r#"{{{dummy}"name":"claude_3","identifier":"bedrock/us-west-2/eu.x-v1:0"}}"#
            ));
            let m = m.unwrap().unwrap();
            assert_eq!((&*m.identifier.model, &*m.family), ("us-west-2/eu.x-v1:0", "claude_3"));
            assert!(matches!(m.target, Target::Bedrock(model) if &*model.id == "eu.x-v1:0"));
        }
        for wrong in ["bedrock/", "bedrock/a b", "bedrock/arn:aws:s3:::x"] {
            let text =
                check(&format!(r#"{{"name":"claude_3","identifier":"{wrong}"}}"#)).unwrap_err();
            assert!(text.starts_with("body.model_metadata.identifier: "), "{wrong}: {text}");
        }
    }

    #[test]
    fn azure_endpoints_are_accepted_in_every_form_that_admins_paste() {
        let full = "https://acme.openai.azure.com/openai/deployments/x/chat/completions?api-version=2024-10-21";
        let m = check(&format!(r#"{{"name":"gpt","endpoint":"{full}","identifier":"azure/gpt"}}"#))
            .unwrap()
            .unwrap();
        let Target::Endpoint { url, .. } = m.target else { panic!("no endpoint") };
        assert_eq!(url.to_string(), "https://acme.openai.azure.com");
    }

    #[test]
    fn an_empty_identifier_means_the_family() {
        let m = check(r#"{"name":"codestral","endpoint":"http://h/v1","identifier":""}"#)
            .unwrap()
            .unwrap();
        assert_eq!(&*m.identifier.model, "codestral");
    }

    #[test]
    fn vendored_forms_name_no_model() {
        assert!(
            check(r#"{"provider":"gitlab","feature_setting":"duo_chat","identifier":null}"#)
                .unwrap()
                .is_none()
        );
        assert!(check("{}").unwrap().is_none());
    }

    #[test]
    fn faults_have_the_path_of_the_field() {
        let text = check(r#"{"name":"gpt","endpoint":"not a url","identifier":"x"}"#).unwrap_err();
        assert_eq!(
            text,
            "body.model_metadata.endpoint: an endpoint starts with http:// or https://"
        );
    }
}
