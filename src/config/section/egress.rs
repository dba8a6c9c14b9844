//! How servers are reached: `[tls]`, the `tls` of a model, `[proxy]`, and the variables that mean
//! the same. The files are read and checked here, at the start and at a reload, as those of
//! `[server] tls` are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use crate::config::section::proxy;
use crate::config::toml::diagnostic::{Fault, Location, Reported, quoted};
use crate::config::toml::document::path_text;
use crate::config::toml::environment::read_limited;
use crate::config::toml::provenance::{Origin, Setting};
use crate::config::toml::reader::Reader;
use crate::config::toml::variables;
use crate::model::ModelId;
use crate::upstream::{ClientIdentity, ClientTls, Egress, EgressSettings, PairError, certificates};

/// The table whose settings apply to every server.
const SHARED: &[&str] = &["tls"];

/// Reads how every server is reached.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Egress, Reported> {
    let request_loopback = reader.boolean(&["features", "request_loopback"]);
    let proxies = proxy::read(reader);
    let authorities = authorities(reader);
    let shared = identity(reader, SHARED).map(|identity| identity.map(Arc::new));
    let mut own = HashMap::new();
    for name in reader.doc.names(&["models"]) {
        let table = ["models", name, "tls"];
        if reader.doc.get(&table).is_none() {
            continue;
        }
        let extra_ca = [authorities.clone(), extra_authorities(reader, &table)].concat();
        if let Ok(identity) = identity(reader, &table) {
            let identity = identity.map(Arc::new).or(shared.clone().unwrap_or_default());
            own.insert(ModelId::from(name), Arc::new(ClientTls::new(extra_ca, identity)));
        }
    }
    let anonymous = Arc::new(ClientTls::new(authorities.clone(), None));
    let models = match shared? {
        Some(identity) => Arc::new(ClientTls::new(authorities, Some(identity))),
        None => Arc::clone(&anonymous),
    };
    let (proxies, request_loopback) = (proxies?, request_loopback?);
    Ok(Egress::new(EgressSettings { anonymous, models, by_model: own, proxies, request_loopback }))
}

/// Returns the files that are named, even when the file has faults: they are watched.
pub(crate) fn files(reader: &mut Reader<'_>) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        authority_variables(reader).into_iter().map(|(_, file)| file).collect();
    let own = reader.doc.names(&["models"]).into_iter().map(|name| vec!["models", name, "tls"]);
    for table in [SHARED.to_vec()].into_iter().chain(own) {
        let extra_ca = reader.strings(&[&table[..], &["extra_ca"]].concat()).unwrap_or_default();
        files.extend(extra_ca.into_iter().map(|(file, _)| reader.base.join(file)));
        files.extend(pair(reader, &table).into_iter().flatten().flatten());
    }
    files
}

/// Reads the authorities of all servers in addition to the system's: `tls.extra_ca` and the
/// variables. A file that cannot be read is left out.
pub(crate) fn authorities(reader: &mut Reader<'_>) -> Vec<CertificateDer<'static>> {
    let mut found = extra_authorities(reader, SHARED);
    for (variable, file) in authority_variables(reader) {
        match certificates_in(&file) {
            Ok(list) => found.extend(list),
            // images set these for every program in them: a stale one must not stop Weir
            Err(why) => {
                let message = format!("{why}; it is left out");
                reader.warn(Fault::warning(Location::Environment, variable, message));
            }
        }
    }
    found
}

/// Returns the variables that name a file of authorities, with their files.
fn authority_variables(reader: &Reader<'_>) -> Vec<(&'static str, PathBuf)> {
    let mtls = reader.env.get(variables::MTLS_ENABLED).and_then(variables::parse_bool);
    let bundle = (mtls == Some(true)).then_some(variables::MTLS_CA);
    let file = |name: &'static str| Some((name, PathBuf::from(reader.env.get(name)?)));
    variables::CA_FILES.into_iter().chain(bundle).filter_map(file).collect()
}

/// Reads `extra_ca` of one table. A file that cannot be read is a fault and left out.
fn extra_authorities(reader: &mut Reader<'_>, table: &[&str]) -> Vec<CertificateDer<'static>> {
    let path = [table, &["extra_ca"]].concat();
    let mut found = Vec::new();
    for (file, span) in reader.strings(&path).unwrap_or_default() {
        let file = reader.base.join(file);
        match certificates_in(&file) {
            Ok(list) => found.extend(list),
            Err(why) => _ = reader.error(&path, &span, why),
        }
    }
    found
}

/// Reads the client certificate and key of one table, if it has any.
fn identity(reader: &mut Reader<'_>, table: &[&str]) -> Result<Option<ClientIdentity>, Reported> {
    let Some([cert, key]) = pair(reader, table)? else { return Ok(None) };
    let [cert_pem, key_pem] = [("client_cert", &cert), ("client_key", &key)]
        .map(|(name, file)| content(file).map_err(|why| report(reader, table, name, why)));
    match ClientIdentity::parse(&cert_pem?, &key_pem?) {
        Ok(identity) => {
            if let Some(remark) = identity.validity().remark(SystemTime::now()) {
                reader.warn(fault_of(reader, table, "client_cert", remark));
            }
            Ok(Some(identity))
        }
        Err(PairError::Cert(why)) => {
            Err(report(reader, table, "client_cert", format!("{} {why}", cert.display())))
        }
        Err(PairError::Key(why)) => {
            Err(report(reader, table, "client_key", format!("{} {why}", key.display())))
        }
    }
}

/// Returns the files of certificate and key that one table names, or the official container's
/// variables where `[tls]` names none.
fn pair(reader: &mut Reader<'_>, table: &[&str]) -> Result<Option<[PathBuf; 2]>, Reported> {
    const NAMES: [&str; 2] = ["client_cert", "client_key"];
    match NAMES.map(|name| reader.optional_string(&[table, &[name]].concat())) {
        [Ok(Some(cert)), Ok(Some(key))] => Ok(Some([cert, key].map(|file| reader.base.join(file)))),
        [Ok(None), Ok(None)] if table == SHARED => of_official_variables(reader),
        [Ok(None), Ok(None)] => Ok(None),
        [Ok(Some(_)), Ok(None)] => Err(half(reader, table, NAMES[0], NAMES[1])),
        [Ok(None), Ok(Some(_))] => Err(half(reader, table, NAMES[1], NAMES[0])),
        [Err(reported), _] | [_, Err(reported)] => Err(reported),
    }
}

fn half(reader: &mut Reader<'_>, table: &[&str], name: &str, missing: &str) -> Reported {
    report(reader, table, name, format!("expected {missing} as well"))
}

/// Returns the files in the variables of the official container (contract::ai_gateway_server §6).
fn of_official_variables(reader: &mut Reader<'_>) -> Result<Option<[PathBuf; 2]>, Reported> {
    let Some(enabled) = reader.env.get(variables::MTLS_ENABLED) else { return Ok(None) };
    let fault = |name: &str, message: &str| Fault::error(Location::Environment, name, message);
    match variables::parse_bool(enabled) {
        Some(true) => {}
        Some(false) => return Ok(None),
        None => {
            let fault = fault(variables::MTLS_ENABLED, "expected true or false");
            return Err(reader.report(fault.found(quoted(enabled))));
        }
    }
    if reader.env.get(variables::MTLS_VERIFY).and_then(variables::parse_bool) == Some(false) {
        let hint =
            "name the server's authority in AIGW_MTLS__CA_BUNDLE or tls.extra_ca, and unset this";
        let fault = fault(variables::MTLS_VERIFY, "servers are always verified");
        return Err(reader.report(fault.hint(Some(hint.to_owned()))));
    }
    if reader.env.get(variables::MTLS_PASSWORD).is_some() {
        let hint =
            "write the key without a passphrase (openssl pkey -in OLD -out NEW), and unset this";
        let fault = fault(variables::MTLS_PASSWORD, "keys with a passphrase are not read");
        return Err(reader.report(fault.hint(Some(hint.to_owned()))));
    }
    let (Some(cert), Some(key)) =
        (reader.env.get(variables::MTLS_CERT), reader.env.get(variables::MTLS_KEY))
    else {
        let message =
            format!("expected {} and {} as well", variables::MTLS_CERT, variables::MTLS_KEY);
        return Err(reader.report(fault(variables::MTLS_ENABLED, &message)));
    };
    for (name, value, variable) in
        [("client_cert", cert, variables::MTLS_CERT), ("client_key", key, variables::MTLS_KEY)]
    {
        let setting =
            Setting { value: format!("{value:?}"), origin: Origin::Variable(variable.to_owned()) };
        reader.provenance.record(format!("tls.{name}"), setting);
    }
    Ok(Some([cert, key].map(PathBuf::from)))
}

fn certificates_in(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    certificates(&content(file)?).map_err(|why| format!("{} {why}", file.display()))
}

fn content(file: &Path) -> Result<Vec<u8>, String> {
    read_limited(file).map_err(|why| format!("cannot read {}: {why}", file.display()))
}

fn report(reader: &mut Reader<'_>, table: &[&str], name: &str, message: String) -> Reported {
    reader.report(fault_of(reader, table, name, message))
}

/// Creates a fault of a key at its line, else at wherever its value came from.
fn fault_of(reader: &Reader<'_>, table: &[&str], name: &str, message: String) -> Fault {
    let path = [table, &[name]].concat();
    match reader.doc.get(&path) {
        Some(entry) => reader.fault_at(&path, &entry.span, message),
        None => reader.fault_of(&path_text(&path), message),
    }
}
