//! The tree → [`Config`], collecting every fault. Each section has its own file in `section`.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::config::Config;
use super::watch::Watched;
use crate::config::section::features::Routing;
use crate::config::section::telemetry::Telemetry;
use crate::config::section::{
    auth, chat, cloud, docs, egress, families, features, limits, models, prompts, provider_env,
    resilience, server, telemetry, timeouts, tls, user_tokens,
};
use crate::config::toml::diagnostic::{Fault, Faults, Reported, Severity};
use crate::config::toml::document::{Document, path_text};
use crate::config::toml::environment::Environment;
use crate::config::toml::key::{Key, Support};
use crate::config::toml::provenance::{Origin, Provenance, Setting};
use crate::config::toml::reader::Reader;
use crate::config::toml::{key_paths, suggest, variables};
use crate::model::{Families, Timeouts};
use crate::upstream::ClientTls;

/// Checks a text as the content of the file at `path`. Fails with all faults when there is an error
/// among them.
pub(super) fn check(text: &str, path: &Path, env: &Environment) -> Result<Config, Faults> {
    let doc = Document::parse(text, path.to_string_lossy().into()).map_err(Faults::new)?;
    let mut reader = Reader::new(&doc, env, path);
    reader.provenance.set_file(Arc::clone(doc.file()));
    walk(&mut reader, doc.root(), &mut Vec::new());
    reader.faults.extend(variables::warnings(env));
    let config = read(&mut reader);
    let Reader { mut faults, provenance, .. } = reader;
    match config {
        Ok(config) if faults.iter().all(|fault| fault.severity == Severity::Warning) => {
            faults.sort_by_key(Fault::order);
            Ok(Config { warnings: faults, provenance, ..config })
        }
        _ => Err(Faults::new(faults)),
    }
}

/// Returns `admin.listen`, even when the file has other faults.
pub(super) fn admin_address(text: &str, path: &Path, env: &Environment) -> Option<SocketAddr> {
    let (doc, _) = Document::parse_leniently(text, path.to_string_lossy().into());
    Reader::new(&doc, env, path).address(&["admin", "listen"]).ok()
}

/// Returns the file and what it names that is read again when it changes, even when the file has
/// faults.
pub(super) fn watched(text: &str, path: &Path, env: &Environment) -> Watched {
    let (doc, _) = Document::parse_leniently(text, path.to_string_lossy().into());
    let mut reader = Reader::new(&doc, env, path);
    let mut files = vec![path.to_owned()];
    files.extend(tls::files(&mut reader));
    files.extend(egress::files(&mut reader));
    Watched { files, tree: prompts::directory(&mut reader) }
}

/// Returns the certificate authorities that are named, even when the file has other faults.
pub(super) fn authorities_of(text: &str, path: &Path, env: &Environment) -> ClientTls {
    let (doc, _) = Document::parse_leniently(text, path.to_string_lossy().into());
    ClientTls::new(egress::authorities(&mut Reader::new(&doc, env, path)), None)
}

/// Collects a fault for each unknown key and a warning for each that this version does not act on,
/// and records the line of every other.
fn walk<'d>(reader: &mut Reader<'d>, table: &'d DeTable<'d>, path: &mut Vec<&'d str>) {
    for (name, value) in table {
        path.push(name.get_ref());
        let key = key_paths::find(path);
        let is_table = !key_paths::children(path).is_empty();
        match (key, value.get_ref()) {
            (None, _) if !is_table => unknown(reader, path, &name.span()),
            (_, DeValue::Table(inner)) if is_table => walk(reader, inner, path),
            (None, DeValue::Array(_)) => {
                let header = path_text(path);
                let hint = format!("write [{header}], not [[{header}]]");
                reader.error(path, &name.span(), "expected one table").hint = Some(hint);
            }
            (None, value) => {
                // only the type is shown: what was written in place of [auth] may be a key
                let found = format!("a value of type {}", value.type_str());
                reader.error(path, &name.span(), "expected a table of keys").found = Some(found);
            }
            (Some(_), _) => {}
        }
        if let Some(key) = key {
            record(reader, path, key, &name.span(), &value.span());
        }
        path.pop();
    }
}

/// Collects the fault that a key is unknown, with the nearest known one.
fn unknown(reader: &mut Reader<'_>, path: &[&str], span: &Range<usize>) {
    let Some((name, table)) = path.split_last() else { return };
    let known = key_paths::children(table);
    let hint = if let Some(meant) = suggest::nearest(name, known.iter().copied()) {
        format!("did you mean {meant}?")
    } else if let Some(key) = suggest::elsewhere(name) {
        format!("there is {key}")
    } else if *table == ["features"] {
        "features are named as in GitLab's API; see config/reference.toml".to_owned()
    } else {
        format!("known here: {}", known.join(", "))
    };
    reader.error(path, span, "unknown key").hint = Some(hint);
}

/// Records the line of a key's value, and warns when this version does not act on the key.
fn record(
    reader: &mut Reader<'_>,
    path: &[&str],
    key: &Key,
    name: &Range<usize>,
    value: &Range<usize>,
) {
    match key.support {
        Support::NotYet => {
            reader.warning(path, name, "accepted, but this version does not act on it");
        }
        Support::Full | Support::Only(_) => {}
    }
    let origin = Origin::Line(reader.doc.line(name.start));
    let setting = Setting { value: reader.doc.written(value), origin };
    reader.provenance.record(path_text(path), setting);
}

/// Reads every section before it gives up, so that every fault is found. The warnings and origins
/// of the result are still in the reader.
fn read(reader: &mut Reader<'_>) -> Result<Config, Reported> {
    let server = server::read(reader);
    let tls = tls::read(reader);
    let auth = auth::read(reader, server.as_ref().ok().map(|server| server.listen));
    let user_tokens = user_tokens::read(reader);
    let docs = docs::read(reader);
    let families = families::read(reader);
    let queue = server.as_ref().map(|server| (server.queue, server.queue_wait));
    let routing = routing(reader, families.clone(), queue.unwrap_or_default());
    let prompts = prompts::read(reader, &families);
    if let (Ok(auth), Ok(Routing { table, .. })) = (&auth, &routing)
        && table.cloud().is_some()
    {
        cloud::warn_if_unusable(reader, auth);
    }
    let (outward, resilience) = (egress::read(reader), resilience::read(reader));
    let (limits, shared) = (limits::read(reader), limits::shared(reader));
    let (chat, telemetry) = (chat::read(reader), telemetry::read(reader));
    let Routing { table, models, request_models } = routing?;
    let Telemetry { log, log_prompts } = telemetry?;
    Ok(Config {
        server: server?,
        tls: tls?,
        outward: Arc::new(outward?),
        resilience: resilience?,
        table,
        models,
        request_models,
        prompts: prompts?,
        auth: auth?,
        user_tokens: user_tokens?,
        limits: limits?,
        shared: shared?,
        docs: docs?,
        chat: chat?,
        log,
        log_prompts,
        warnings: Vec::new(),
        provenance: Provenance::default(),
    })
}

/// Reads the models and the features that they answer. `queue` is that of `[limits]`.
fn routing(
    reader: &mut Reader<'_>,
    families: Families,
    queue: (usize, Duration),
) -> Result<Routing, Reported> {
    let base = Timeouts::DEFAULT.patched(&timeouts::read(reader, &["timeouts"]));
    let provider_env = provider_env::read(reader);
    let common = models::Common { provider_env: &provider_env, families: &families, queue };
    let models = models::read(reader, &common);
    let cloud = cloud::read(reader).ok();
    let mut routing = features::read(reader, models, cloud, base)?;
    routing.table.set_providers(provider_env.defaults());
    routing.table.set_families(families);
    Ok(routing)
}
