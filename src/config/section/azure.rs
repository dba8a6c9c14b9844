//! What an Azure model has in addition to name, family and key: the api-version, the resource's
//! address.

use std::ops::Range;

use crate::config::section::provider_env::{EnvValue, ProviderEnv, record_value};
use crate::config::toml::diagnostic::Reported;
use crate::config::toml::document::path_text;
use crate::config::toml::provenance::{Origin, Setting};
use crate::config::toml::reader::Reader;
use crate::model::{ApiVersion, EndpointUrl, UrlRule};

/// Reads the version: the model's, else `AZURE_API_VERSION`, else v1.
pub(crate) fn api_version(
    reader: &mut Reader<'_>,
    name: &str,
    provider_env: &ProviderEnv,
) -> Result<ApiVersion, Reported> {
    let path = ["models", name, "api_version"];
    if let Some(entry) = reader.doc.get(&path) {
        let text = reader.string(&path)?;
        return ApiVersion::parse(&text).map_err(|_| reader.wrong(&path, &entry.span, entry.value));
    }
    record_value(reader, name, "api_version", &provider_env.api_version, |version| {
        format!("\"{version}\"")
    });
    match &provider_env.api_version {
        EnvValue::Set { value, .. } => Ok(value.clone()),
        EnvValue::Invalid => Err(Reported),
        EnvValue::Unset => {
            let version = ApiVersion::default();
            let setting = Setting { value: format!("\"{version}\""), origin: Origin::Default };
            reader.provenance.record(path_text(&path), setting);
            Ok(version)
        }
    }
}

/// Collects a fault when an address that parses is not the resource's root, with or without the v1
/// path that Azure's portal shows. Of what else is pasted, deployment and version would be ignored:
/// the hint is what to write instead.
pub(crate) fn check_root(
    reader: &mut Reader<'_>,
    path: &[&str],
    text: &str,
    span: &Range<usize>,
    version: Option<&ApiVersion>,
) {
    let Ok(root) = UrlRule::AzureResource.parse(text) else { return };
    let rest = EndpointUrl::parse(text)
        .ok()
        .map(|url| url.base_path()[root.base_path().len()..].to_owned());
    match (rest.as_deref(), version) {
        (Some("" | "/openai"), _) => {}
        (Some("/openai/v1"), Some(ApiVersion::Dated(date))) => {
            let message = format!(
                "ends in the v1 path, which takes no dated api_version, and that is \"{date}\""
            );
            let source = reader.provenance.source(&path_text(&["models", path[1], "api_version"]));
            reader.error(path, span, message).hint =
                Some(format!("write \"{root}\"; or api_version = \"v1\" ({source} has {date})"));
        }
        (Some("/openai/v1"), _) => {}
        _ => {
            let message = "expected the address of the resource alone";
            let version = pasted_version(text)
                .map_or_else(String::new, |date| format!(" and api_version = \"{date}\""));
            reader.error(path, span, message).hint = Some(format!(
                "write \"{root}\"{version}; the deployment is named in identifier = \"azure/…\""
            ));
        }
    }
}

/// Returns the version in the query of a pasted URL, if it is one: a fault shows it, and must show
/// nothing else of the query.
fn pasted_version(text: &str) -> Option<ApiVersion> {
    let (_, query) = text.split_once('?')?;
    let version = query.split('&').find_map(|pair| pair.strip_prefix("api-version="))?;
    ApiVersion::parse(version).ok()
}
