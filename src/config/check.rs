//! The tree → [`Config`], collecting every fault. Sections that have rules of their own are in
//! `models` and `features`.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::load::Environment;
use super::watch::Watched;
use crate::auth::{Rates, Settings as AuthSettings, TokenSettings};
use crate::config::config::{Config, Origin, Setting};
use crate::config::section::auth;
use crate::config::section::cloud;
use crate::config::section::docs;
use crate::config::section::egress;
use crate::config::section::families;
use crate::config::section::features;
use crate::config::section::models;
use crate::config::section::prompts;
use crate::config::section::provider_env;
use crate::config::section::resilience;
use crate::config::section::tls;
use crate::config::section::user_tokens;
use crate::config::toml::diagnostic::{Fault, Faults, Severity};
use crate::config::toml::document::{Document, path_text};
use crate::config::toml::keys::{self, Acts};
use crate::config::toml::reader::Reader;
use crate::config::toml::suggest;
use crate::config::toml::variables;
use crate::error::ExpiryAs;
use crate::model::{Budget, BudgetPatch};
use crate::prompt::Registry;
use crate::snapshot::ToolUse;
use crate::telemetry::{Format, Level};
use crate::upstream::{ClientTls, Outward, RedisUrl, Resilience};
use crate::{server, snapshot};

/// Checks a text that stands for the file of this path.
pub(super) fn check(text: &str, path: &Path, env: &Environment) -> Result<Config, Faults> {
    let doc = Document::parse(text, path.to_string_lossy().into()).map_err(Faults::new)?;
    let mut reader = Reader::new(&doc, env, path);
    reader.provenance.of_file(Arc::clone(doc.file()));
    walk(&mut reader, doc.root(), &mut Vec::new());
    reader.faults.extend(variables::remarks(env));
    let parts = Parts::read(&mut reader);
    let Reader { mut faults, provenance, .. } = reader;
    match parts {
        Some(parts) if faults.iter().all(|fault| fault.severity == Severity::Warning) => {
            faults.sort_by_key(Fault::order);
            Ok(parts.into_config(faults, provenance))
        }
        _ => Err(Faults::new(faults)),
    }
}

/// `admin.listen`, whatever else is wrong.
pub(super) fn admin_address(text: &str, path: &Path, env: &Environment) -> Option<SocketAddr> {
    let (doc, _) = Document::parse_leniently(text, path.to_string_lossy().into());
    Reader::new(&doc, env, path).address(&["admin", "listen"])
}

/// The file and what it names that is read again when it changes, whatever else is wrong.
pub(super) fn watched(text: &str, path: &Path, env: &Environment) -> Watched {
    let (doc, _) = Document::parse_leniently(text, path.to_string_lossy().into());
    let mut reader = Reader::new(&doc, env, path);
    let mut files = vec![path.to_owned()];
    files.extend(tls::named(&mut reader));
    files.extend(egress::named(&mut reader));
    Watched { files, tree: prompts::directory(&mut reader) }
}

/// The certificate authorities that are named, whatever else is wrong.
pub(super) fn authorities_of(text: &str, path: &Path, env: &Environment) -> ClientTls {
    let (doc, _) = Document::parse_leniently(text, path.to_string_lossy().into());
    ClientTls::new(egress::authorities(&mut Reader::new(&doc, env, path)), None)
}

/// Finds keys that are none, and keys that nothing acts on; notes the place of every other.
fn walk<'d>(reader: &mut Reader<'d>, table: &'d DeTable<'d>, path: &mut Vec<&'d str>) {
    for (name, value) in table {
        path.push(name.get_ref());
        let key = keys::find(path);
        let is_table = !keys::children(path).is_empty();
        match (key, value.get_ref()) {
            (None, _) if !is_table => unknown(reader, path, &name.span()),
            (_, DeValue::Table(inner)) if is_table => walk(reader, inner, path),
            (None, DeValue::Array(_)) => {
                let header = path_text(path);
                let hint = format!("write [{header}], not [[{header}]]");
                reader.error(path, &name.span(), "expected one table").hint = Some(hint);
            }
            (None, value) => {
                // the kind only: what stands where [auth] belongs may be a key
                let said = format!("a value of type {}", value.type_str());
                reader.error(path, &name.span(), "expected a table of keys").said = Some(said);
            }
            (Some(_), _) => {}
        }
        if let Some(key) = key {
            note(reader, path, key, &name.span(), &value.span());
        }
        path.pop();
    }
}

fn unknown(reader: &mut Reader<'_>, path: &[&str], span: &Range<usize>) {
    let Some((name, table)) = path.split_last() else { return };
    let known = keys::children(table);
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

/// Notes where a key's value came from, and says so when nothing comes of it.
fn note(
    reader: &mut Reader<'_>,
    path: &[&str],
    key: &keys::Key,
    name: &Range<usize>,
    value: &Range<usize>,
) {
    let written = reader.doc.written(value);
    match key.acts {
        Acts::NotYet => {
            reader.warning(path, name, "accepted, but this version does not act on it");
        }
        Acts::Yes | Acts::Only(_) => {}
    }
    let origin = Origin::Line(reader.doc.line(name.start));
    reader.provenance.note(path_text(path), Setting { value: written, origin });
}

/// Everything that was read.
struct Parts {
    server: server::Settings,
    tls: Option<Arc<server::Identity>>,
    outward: Outward,
    resilience: Resilience,
    limits: snapshot::Limits,
    shared: Option<RedisUrl>,
    chat: snapshot::Chat,
    log: (Level, Format),
    log_prompts: bool,
    auth: AuthSettings,
    user_tokens: TokenSettings,
    docs: crate::docs::Settings,
    routing: features::Routing,
    prompts: Arc<Registry>,
}

impl Parts {
    /// Reads every section before it gives up, so that every fault is found.
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let server = server(reader);
        let tls = tls::read(reader);
        let auth = auth::read(reader, server.as_ref().map(|server| server.listen));
        let user_tokens = user_tokens::read(reader);
        let docs = docs::read(reader);
        let base = timeouts(reader, &["timeouts"]);
        let inherited = provider_env::read(reader);
        let families = families::read(reader);
        let queue =
            server.as_ref().map(|server| (server.queue, server.queue_wait)).unwrap_or_default();
        let common = models::Common { inherited: &inherited, families: &families, queue };
        let models = models::read(reader, &common);
        let cloud = cloud::read(reader);
        let mut routing = features::read(reader, models, cloud, Budget::DEFAULT.with(&base));
        if let Some(routing) = &mut routing {
            routing.table.set_providers(inherited.defaults());
            routing.table.set_families(families.clone());
        }
        let prompts = prompts::read(reader, &families);
        if let (Some(auth), Some(_)) =
            (&auth, routing.as_ref().and_then(|routing| routing.table.cloud()))
        {
            cloud::is_open_to_somebody(reader, auth);
        }
        let (outward, resilience) = (egress::read(reader), resilience::read(reader));
        let (limits, chat, shared) = (limits(reader), chat(reader), shared(reader));
        let log = log(reader);
        let log_prompts = reader.boolean(&["telemetry", "log_prompts"]);
        let (server, outward, routing, prompts) = (server?, outward?, routing?, prompts?);
        let (user_tokens, docs) = (user_tokens?, docs?);
        Some(Self {
            server,
            tls: tls?,
            outward,
            resilience: resilience?,
            limits: limits?,
            shared: shared?,
            chat: chat?,
            log: log?,
            log_prompts: log_prompts?,
            auth: auth?,
            user_tokens,
            docs,
            routing,
            prompts,
        })
    }

    fn into_config(self, warnings: Vec<Fault>, provenance: super::Provenance) -> Config {
        let Self {
            server,
            tls,
            outward,
            resilience,
            limits,
            shared,
            chat,
            log,
            log_prompts,
            auth,
            user_tokens,
            docs,
            routing,
            prompts,
        } = self;
        let features::Routing { table, models, request_models } = routing;
        Config {
            server,
            tls,
            outward: Arc::new(outward),
            resilience,
            table,
            models,
            request_models,
            prompts,
            auth,
            user_tokens,
            docs,
            limits,
            shared,
            chat,
            log,
            log_prompts,
            warnings,
            provenance,
        }
    }
}

fn server(reader: &mut Reader<'_>) -> Option<server::Settings> {
    let listen = reader.address(&["server", "listen"]);
    let admin = reader.address(&["admin", "listen"]);
    let workers =
        match (reader.integer(&["server", "workers"]), reader.doc.get(&["server", "workers"])) {
            (None, None) => std::thread::available_parallelism().ok().map(Into::into).or(Some(1)),
            (workers, _) => workers,
        };
    let max_headers =
        reader.size(&["limits", "max_headers"]).and_then(|bytes| bytes.try_into().ok());
    let header_timeout = reader.duration(&["limits", "header_timeout"]);
    let connections_per_client = reader.integer(&["limits", "connections_per_client"]);
    let in_flight = reader.integer(&["limits", "in_flight"]);
    let queue = reader.integer(&["limits", "queue"]);
    let queue_wait = reader.duration(&["limits", "queue_wait"]);
    let drain = reader.duration(&["resilience", "drain"]);
    let drain_delay = reader.duration(&["resilience", "drain_delay"]);
    if let (Some(listen), Some(admin)) = (listen, admin)
        && listen.port() == admin.port()
        && listen.port() != 0
        && (listen.ip() == admin.ip()
            || listen.ip().is_unspecified()
            || admin.ip().is_unspecified())
    {
        same_port(reader, listen, admin);
    }
    Some(server::Settings {
        listen: listen?,
        workers: workers?,
        admin: admin?,
        max_headers: max_headers?,
        header_timeout: header_timeout?,
        connections_per_client,
        in_flight: in_flight?,
        queue: queue?,
        queue_wait: queue_wait?,
        drain: drain?,
        drain_delay: drain_delay?,
    })
}

/// Blames the line that is there: the other address may be a default.
fn same_port(reader: &mut Reader<'_>, listen: SocketAddr, admin: SocketAddr) {
    let (said, other) = (("admin.listen", admin), ("server.listen", listen));
    let (said, other) =
        if reader.provenance.is_in_file(said.0) { (said, other) } else { (other, said) };
    let message = format!("expected another port than {} ({})", other.0, other.1);
    let fault = reader.fault_of(said.0, message).said(format!("\"{}\"", said.1));
    reader.faults.push(fault);
}

fn limits(reader: &mut Reader<'_>) -> Option<snapshot::Limits> {
    let max_body = reader.size(&["limits", "max_body"]);
    let body_timeout = reader.duration(&["limits", "body_timeout"]);
    let mut rate = |key| reader.integer(&["limits", key]).and_then(|most| most.try_into().ok());
    let rates = Rates { requests: rate("requests_per_minute"), tokens: rate("tokens_per_minute") };
    Some(snapshot::Limits { max_body: max_body?, body_timeout: body_timeout?, rates })
}

/// `limits.shared`, whose URL may hold a password; `None` when there was a fault.
fn shared(reader: &mut Reader<'_>) -> Option<Option<RedisUrl>> {
    const PATH: &[&str] = &["limits", "shared"];
    let Some(entry) = reader.doc.get(PATH) else { return Some(None) };
    let before = reader.faults.len();
    let url = reader.secret(PATH)?;
    if !url.expose().contains('@') {
        // nothing in it is secret
        reader.faults.truncate(before);
    }
    match RedisUrl::parse(url.expose()) {
        Ok(url) => Some(Some(url)),
        Err(why) => {
            reader.error(PATH, &entry.span, why);
            None
        }
    }
}

fn chat(reader: &mut Reader<'_>) -> Option<snapshot::Chat> {
    let tools = reader.word(&["chat", "tools"]).map(|word| match word {
        "native" => ToolUse::Native,
        "react" => ToolUse::React,
        _ => ToolUse::Auto,
    });
    let expiry_as = reader.word(&["timeouts", "chat_surface"]).map(|word| match word {
        "answer" => ExpiryAs::Answer,
        _ => ExpiryAs::Event,
    });
    let heartbeat = reader.duration(&["chat", "heartbeat"]);
    Some(snapshot::Chat { tools: tools?, heartbeat: heartbeat?, expiry_as: expiry_as? })
}

fn log(reader: &mut Reader<'_>) -> Option<(Level, Format)> {
    let level = reader.word(&["telemetry", "level"]).map(|word| match word {
        "error" => Level::Error,
        "warn" => Level::Warn,
        "debug" => Level::Debug,
        "trace" => Level::Trace,
        _ => Level::Info,
    });
    let format = match reader.word(&["telemetry", "format"]) {
        Some("json") => Format::Json,
        Some(_) => Format::Text,
        None => Format::Auto,
    };
    Some((level?, format))
}

/// `[timeouts]`, or the `timeouts` of a model or a feature.
pub(super) fn timeouts(reader: &mut Reader<'_>, path: &[&str]) -> BudgetPatch {
    let mut read = |phase| -> Option<Duration> { reader.duration(&[path, &[phase]].concat()) };
    BudgetPatch {
        connect: read("connect"),
        first_byte: read("first_byte"),
        idle: read("idle"),
        total: read("total"),
    }
}
