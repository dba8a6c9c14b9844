//! How a model's replicas are looked after and chosen between: `health_check`, `load` and
//! `affinity` of `[models.…]`.

use crate::config::toml::reader::{Reader, said};
use crate::model::{HealthCheck, ProviderKind, Replicas};

/// What the model says. `endpoints`: how many it has.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    name: &str,
    provider: ProviderKind,
    endpoints: usize,
) -> Replicas {
    let path = |key| ["models", name, key];
    Replicas {
        health_check: health_check(reader, &path("health_check"), provider, endpoints),
        tell_load: reader.word(&path("load")) == Some("vllm"),
        affinity: reader.boolean(&path("affinity")).unwrap_or(false),
    }
}

/// Where nothing is said, a server that has a list of models is asked for it, if there is another
/// to turn to.
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
    let text = reader.text(path)?;
    match text.as_str() {
        "off" => None,
        path if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) => {
            Some(HealthCheck::Path(path.into()))
        }
        _ => {
            let fault =
                reader.error(path, &entry.span, "expected a path like \"/health\", or \"off\"");
            fault.said = Some(said(entry.value));
            None
        }
    }
}
