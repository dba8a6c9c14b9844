//! `[docs]`: the index of GitLab's documentation, read and checked, and where its links lead.

use std::sync::Arc;

use crate::config::load;
use crate::config::toml::diagnostic::quoted;
use crate::config::toml::reader::Reader;
use crate::docs::{Index, Settings};
use crate::model::EndpointUrl;

const INDEX: &[&str] = &["docs", "index"];
const BASE_URL: &[&str] = &["docs", "base_url"];
/// GitLab's whole documentation comes to some 40 MiB.
const MAX_INDEX: u64 = 1 << 30;

/// The settings; `None` when a fault was noted.
pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Settings> {
    let index = index(reader);
    let said = reader.text(BASE_URL)?;
    if let Err(why) = EndpointUrl::parse(&said) {
        let message = format!("expected a URL like \"https://docs.gitlab.com\": {why}");
        let fault = reader.fault_of("docs.base_url", message).said(quoted(&said));
        reader.faults.push(fault);
        return None;
    }
    Some(Settings { index: index?, base_url: said.trim_end_matches('/').into() })
}

/// `Some(None)` when none is named.
fn index(reader: &mut Reader<'_>) -> Option<Option<Arc<Index>>> {
    let Some(entry) = reader.doc.get(INDEX) else { return Some(None) };
    let named = reader.text(INDEX)?;
    let file = reader.base.join(named);
    let shown = file.display();
    let bytes =
        load::read_at_most(&file, MAX_INDEX).map_err(|why| format!("cannot read {shown}: {why}"));
    let index = bytes
        .and_then(|bytes| Index::parse(bytes.into()).map_err(|why| format!("{shown} is {why}")));
    index
        .map(|index| Some(Arc::new(index)))
        .map_err(|why| _ = reader.error(INDEX, &entry.span, why))
        .ok()
}
