//! `health_check`, `load` and `affinity` of a model: how its replicas are checked and chosen.

use crate::config::toml::reader::Reader;
use crate::config::toml::values::quoted_value;
use crate::model::{HealthCheck, ProviderKind, ReplicaSettings};

/// Reads the settings of the replicas of one model, which has `endpoints` of them. A wrong one is
/// left out.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    name: &str,
    provider: ProviderKind,
    endpoints: usize,
) -> ReplicaSettings {
    let path = |key| ["models", name, key];
    ReplicaSettings {
        health_check: health_check(reader, &path("health_check"), provider, endpoints),
        reports_load: reader.optional_keyword(&path("load")) == Ok(Some("vllm")),
        affinity: reader.boolean(&path("affinity")).unwrap_or(false),
    }
}

/// Reads the health check. Where none is configured, a server that has a list of models is checked
/// by it, if the model has another endpoint to use instead.
fn health_check(
    reader: &mut Reader<'_>,
    path: &[&str],
    provider: ProviderKind,
    endpoints: usize,
) -> Option<HealthCheck> {
    let Some(entry) = reader.doc.get(path) else {
        let is_checked = provider.profile().checks_health && endpoints > 1;
        return is_checked.then_some(HealthCheck::Models);
    };
    let text = reader.optional_string(path).ok()??;
    match text.as_str() {
        "off" => None,
        path if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) => {
            Some(HealthCheck::Path(path.into()))
        }
        _ => {
            let fault =
                reader.error(path, &entry.span, "expected a path like \"/health\", or \"off\"");
            fault.found = Some(quoted_value(entry.value));
            None
        }
    }
}
