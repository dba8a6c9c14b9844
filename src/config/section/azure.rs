//! What an Azure model says besides name, family and key: the api-version, the resource's address.

use std::ops::Range;

use crate::config::config::{Origin, Setting};
use crate::config::section::provider_env::{Inherited, Said, note_said};
use crate::config::toml::document::path_text;
use crate::config::toml::reader::Reader;
use crate::model::{ApiVersion, EndpointUrl, UrlRule};

/// The version: the model's, else `AZURE_API_VERSION`, else v1. `None` leaves a fault.
pub(crate) fn api_version(
    reader: &mut Reader<'_>,
    name: &str,
    inherited: &Inherited,
) -> Option<ApiVersion> {
    let path = ["models", name, "api_version"];
    if let Some(entry) = reader.doc.get(&path) {
        let version = ApiVersion::parse(&reader.text(&path)?).ok();
        if version.is_none() {
            reader.wrong(&path, &entry.span, entry.value);
        }
        return version;
    }
    note_said(reader, name, "api_version", &inherited.api_version, |version| {
        format!("\"{version}\"")
    });
    match &inherited.api_version {
        Said::Value(version, _) => Some(version.clone()),
        Said::Wrong => None,
        Said::Nothing => {
            let version = ApiVersion::default();
            let setting = Setting { value: format!("\"{version}\""), origin: Origin::Default };
            reader.provenance.note(path_text(&path), setting);
            Some(version)
        }
    }
}

/// Whether an address that parses is the resource's root, with or without the v1 path that Azure's
/// portal shows. Of what else is pasted, deployment and version would be ignored: the fault says
/// what to write.
pub(crate) fn check_root(
    reader: &mut Reader<'_>,
    path: &[&str],
    text: &str,
    span: &Range<usize>,
    version: Option<&ApiVersion>,
) {
    let Ok(root) = UrlRule::AzureResource.parse(text) else { return };
    let rest = EndpointUrl::parse(text).ok().map(|url| url.base()[root.base().len()..].to_owned());
    match (rest.as_deref(), version) {
        (Some("" | "/openai"), _) => {}
        (Some("/openai/v1"), Some(ApiVersion::Dated(date))) => {
            let message = format!(
                "ends in the v1 path, which takes no dated api_version, and that is \"{date}\""
            );
            let source = reader.provenance.source(&path_text(&["models", path[1], "api_version"]));
            reader.error(path, span, message).hint =
                Some(format!("write \"{root}\"; or api_version = \"v1\" ({source} says {date})"));
        }
        (Some("/openai/v1"), _) => {}
        _ => {
            let message = "expected the address of the resource alone";
            let said = pasted_version(text)
                .map_or_else(String::new, |date| format!(" and api_version = \"{date}\""));
            reader.error(path, span, message).hint = Some(format!(
                "write \"{root}\"{said}; the deployment is named in identifier = \"azure/…\""
            ));
        }
    }
}

/// The version in a pasted URL, if it is one: shown, so nothing else may be.
fn pasted_version(text: &str) -> Option<ApiVersion> {
    let (_, query) = text.split_once('?')?;
    let said = query.split('&').find_map(|pair| pair.strip_prefix("api-version="))?;
    ApiVersion::parse(said).ok()
}
