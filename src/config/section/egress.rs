//! How servers are reached: `[tls]`, the `tls` of a model, `[proxy]`, and the variables that mean
//! the same. The files are read and checked here, at the start and at a reload, as those of
//! `[server] tls` are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use crate::config::config::{Origin, Setting};
use crate::config::load::read_limited;
use crate::config::section::proxy;
use crate::config::toml::diagnostic::{Fault, Place, Severity, quoted};
use crate::config::toml::document::path_text;
use crate::config::toml::reader::Reader;
use crate::config::toml::variables;
use crate::model::ModelId;
use crate::upstream::{
    ClientIdentity, ClientTls, Outward, OutwardSettings, PairError, certificates,
};

const SHARED: &[&str] = &["tls"];

/// The ways out. `None` when a fault was noted.
pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Outward> {
    let request_loopback = reader.boolean(&["features", "request_loopback"]);
    let proxies = proxy::read(reader);
    let authorities = authorities(reader);
    let identity = identity(reader, SHARED).map(|own| own.map(Arc::new));
    let mut own = HashMap::new();
    for name in reader.doc.names(&["models"]) {
        let table = ["models", name, "tls"];
        if reader.doc.get(&table).is_none() {
            continue;
        }
        let extra_ca = [authorities.clone(), named_authorities(reader, &table)].concat();
        let identity = self::identity(reader, &table)
            .map(|own| own.map(Arc::new).or(identity.clone().flatten()));
        if let Some(identity) = identity {
            own.insert(ModelId::from(name), Arc::new(ClientTls::new(extra_ca, identity)));
        }
    }
    let anonymous = Arc::new(ClientTls::new(authorities.clone(), None));
    let models = match identity? {
        Some(identity) => Arc::new(ClientTls::new(authorities, Some(identity))),
        None => Arc::clone(&anonymous),
    };
    let (proxies, request_loopback) = (proxies?, request_loopback?);
    Some(Outward::new(OutwardSettings { anonymous, models, own, proxies, request_loopback }))
}

/// The files that are named, whatever else is wrong: what to watch.
pub(crate) fn named(reader: &mut Reader<'_>) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = variables(reader).into_iter().map(|(_, file)| file).collect();
    let own = reader.doc.names(&["models"]).into_iter().map(|name| vec!["models", name, "tls"]);
    for table in [SHARED.to_vec()].into_iter().chain(own) {
        let texts = reader.texts(&[&table[..], &["extra_ca"]].concat()).unwrap_or_default();
        files.extend(texts.into_iter().map(|(file, _)| reader.base.join(file)));
        files.extend(pair(reader, &table).into_iter().flatten());
    }
    files
}

/// The authorities besides the system's, of all servers: `tls.extra_ca` and the variables.
pub(crate) fn authorities(reader: &mut Reader<'_>) -> Vec<CertificateDer<'static>> {
    let mut found = named_authorities(reader, SHARED);
    for (variable, file) in variables(reader) {
        match certificates_in(&file) {
            Ok(list) => found.extend(list),
            // images set these for every program in them: a stale one must not stop Weir
            Err(why) => {
                let fault =
                    Fault::warning(Place::Environment, variable, format!("{why}; it is left out"));
                reader.faults.push(fault);
            }
        }
    }
    found
}

/// The variables that name a file of authorities.
fn variables(reader: &Reader<'_>) -> Vec<(&'static str, PathBuf)> {
    let is_mutual =
        || reader.env.get(variables::MTLS_ENABLED).and_then(variables::truth) == Some(true);
    let bundle = Some(variables::MTLS_CA).filter(|_| is_mutual());
    let named = |name: &'static str| Some((name, PathBuf::from(reader.env.get(name)?)));
    variables::CA_FILES.into_iter().chain(bundle).filter_map(named).collect()
}

/// `extra_ca` of one table.
fn named_authorities(reader: &mut Reader<'_>, table: &[&str]) -> Vec<CertificateDer<'static>> {
    let path = [table, &["extra_ca"]].concat();
    let mut found = Vec::new();
    for (file, span) in reader.texts(&path).unwrap_or_default() {
        let file = reader.base.join(file);
        match certificates_in(&file) {
            Ok(list) => found.extend(list),
            Err(why) => _ = reader.error(&path, &span, why),
        }
    }
    found
}

/// Who we are by one table. The outer `None`: a fault was noted.
fn identity(reader: &mut Reader<'_>, table: &[&str]) -> Option<Option<ClientIdentity>> {
    let before = reader.faults.len();
    let Some([cert, key]) = pair(reader, table) else {
        return (reader.faults.len() == before).then_some(None);
    };
    let [cert_pem, key_pem] = [("client_cert", &cert), ("client_key", &key)]
        .map(|(name, file)| content(file).map_err(|why| fault(reader, table, name, why)).ok());
    match ClientIdentity::parse(&cert_pem?, &key_pem?) {
        Ok(identity) => {
            if let Some(remark) = identity.validity().remark(SystemTime::now()) {
                let fault = fault_at(reader, table, "client_cert", remark);
                reader.faults.push(Fault { severity: Severity::Warning, ..fault });
            }
            Some(Some(identity))
        }
        Err(PairError::Cert(why)) => {
            fault(reader, table, "client_cert", format!("{} {why}", cert.display()));
            None
        }
        Err(PairError::Key(why)) => {
            fault(reader, table, "client_key", format!("{} {why}", key.display()));
            None
        }
    }
}

/// Certificate and key of one table, and of the official container's variables where `[tls]` has
/// none. `None` also after a fault.
fn pair(reader: &mut Reader<'_>, table: &[&str]) -> Option<[PathBuf; 2]> {
    const NAMES: [&str; 2] = ["client_cert", "client_key"];
    let said = NAMES.map(|name| reader.text(&[table, &[name]].concat()));
    match said {
        [Some(cert), Some(key)] => Some([cert, key].map(|file| reader.base.join(file))),
        [None, None] if table == SHARED => official(reader),
        [None, None] => None,
        [cert, _] => {
            let (there, missing) =
                if cert.is_some() { (NAMES[0], NAMES[1]) } else { (NAMES[1], NAMES[0]) };
            // a value of the wrong type was told
            if reader.doc.get(&[table, &[missing]].concat()).is_none() {
                fault(reader, table, there, format!("expected {missing} as well"));
            }
            None
        }
    }
}

/// What the official container calls it (ai-gateway-server.md §6).
fn official(reader: &mut Reader<'_>) -> Option<[PathBuf; 2]> {
    let said = reader.env.get(variables::MTLS_ENABLED)?;
    let mut refuse = |name: &str, fault: Fault| {
        reader.faults.push(Fault { key: name.into(), ..fault });
        None
    };
    let wrong = |message: &str| Fault::error(Place::Environment, "", message);
    match variables::truth(said) {
        Some(true) => {}
        Some(false) => return None,
        None => {
            return refuse(
                variables::MTLS_ENABLED,
                wrong("expected true or false").said(quoted(said)),
            );
        }
    }
    if reader.env.get(variables::MTLS_VERIFY).and_then(variables::truth) == Some(false) {
        let hint =
            "name the server's authority in AIGW_MTLS__CA_BUNDLE or tls.extra_ca, and unset this";
        let fault = wrong("servers are always verified").hint(Some(hint.to_owned()));
        return refuse(variables::MTLS_VERIFY, fault);
    }
    if reader.env.get(variables::MTLS_PASSWORD).is_some() {
        let hint =
            "write the key without a passphrase (openssl pkey -in OLD -out NEW), and unset this";
        return refuse(
            variables::MTLS_PASSWORD,
            wrong("keys with a passphrase are not read").hint(Some(hint.to_owned())),
        );
    }
    let (Some(cert), Some(key)) =
        (reader.env.get(variables::MTLS_CERT), reader.env.get(variables::MTLS_KEY))
    else {
        let message =
            format!("expected {} and {} beside it", variables::MTLS_CERT, variables::MTLS_KEY);
        return refuse(variables::MTLS_ENABLED, wrong(&message));
    };
    for (name, value, variable) in
        [("client_cert", cert, variables::MTLS_CERT), ("client_key", key, variables::MTLS_KEY)]
    {
        let setting =
            Setting { value: format!("{value:?}"), origin: Origin::Variable(variable.to_owned()) };
        reader.provenance.note(format!("tls.{name}"), setting);
    }
    Some([cert, key].map(PathBuf::from))
}

fn certificates_in(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    certificates(&content(file)?).map_err(|why| format!("{} {why}", file.display()))
}

fn content(file: &Path) -> Result<Vec<u8>, String> {
    read_limited(file).map_err(|why| format!("cannot read {}: {why}", file.display()))
}

fn fault(reader: &mut Reader<'_>, table: &[&str], name: &str, message: String) {
    let fault = fault_at(reader, table, name, message);
    reader.faults.push(fault);
}

/// At its line, else wherever the value came from.
fn fault_at(reader: &Reader<'_>, table: &[&str], name: &str, message: String) -> Fault {
    let path = [table, &[name]].concat();
    match reader.doc.get(&path) {
        Some(entry) => Fault::error(reader.doc.place(&entry.span), path_text(&path), message),
        None => reader.fault_of(&path_text(&path), message),
    }
}
