//! `[docs]`: the index of GitLab's documentation, read and checked, and the target of its links.

use std::sync::Arc;

use crate::config::toml::diagnostic::{Reported, quoted};
use crate::config::toml::environment::read_at_most;
use crate::config::toml::reader::Reader;
use crate::docs::{Index, Settings};
use crate::model::EndpointUrl;

const INDEX: &[&str] = &["docs", "index"];
const BASE_URL: &[&str] = &["docs", "base_url"];
/// Longest index, in bytes. GitLab's whole documentation comes to some 40 MiB.
const MAX_INDEX: u64 = 1 << 30;

/// Reads the settings of documentation search.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Settings, Reported> {
    let index = index(reader);
    let base_url = reader.string(BASE_URL)?;
    if let Err(why) = EndpointUrl::parse(&base_url) {
        let message = format!("expected a URL like \"https://docs.gitlab.com\": {why}");
        let fault = reader.fault_of("docs.base_url", message).found(quoted(&base_url));
        return Err(reader.report(fault));
    }
    Ok(Settings { index: index?, base_url: base_url.trim_end_matches('/').into() })
}

/// Reads the index, or returns `None` when none is configured.
fn index(reader: &mut Reader<'_>) -> Result<Option<Arc<Index>>, Reported> {
    let Some(entry) = reader.doc.get(INDEX) else { return Ok(None) };
    let Some(path) = reader.optional_string(INDEX)? else { return Ok(None) };
    let file = reader.base.join(path);
    let shown = file.display();
    let bytes = read_at_most(&file, MAX_INDEX).map_err(|why| format!("cannot read {shown}: {why}"));
    let index = bytes
        .and_then(|bytes| Index::parse(bytes.into()).map_err(|why| format!("{shown} is {why}")));
    match index {
        Ok(index) => Ok(Some(Arc::new(index))),
        Err(why) => Err(reader.report(reader.fault_at(INDEX, &entry.span, why))),
    }
}
