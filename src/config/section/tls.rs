//! `[server] tls`: the files are read and checked here, so that a certificate and a key that do not
//! belong together are a fault of the file like any other, at the start and at a reload.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::config::{Origin, Setting};
use crate::config::load::read_limited;
use crate::config::toml::diagnostic::{Fault, Place, Severity, quoted};
use crate::config::toml::reader::Reader;
use crate::config::toml::variables;
use crate::server::{Identity, IdentityError, PemFiles};

const TABLE: &str = "server.tls";

/// Where the files are.
struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_crl: Option<PathBuf>,
}

/// The identity, if the file or the environment names one. The outer `None`: a fault was noted.
pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Option<Arc<Identity>>> {
    let before = reader.faults.len();
    let Some(files) = files(reader) else { return (reader.faults.len() == before).then_some(None) };
    let cert = content(reader, "cert", &files.cert);
    let key = content(reader, "key", &files.key);
    let client_ca = files.client_ca.as_ref().map(|path| content(reader, "client_ca", path));
    let client_crl = files.client_crl.as_ref().map(|path| content(reader, "client_crl", path));
    let (cert, key, client_ca) =
        (cert?, key?, client_ca.map_or(Some(None), |read| read.map(Some))?);
    let client_crl = client_crl.map_or(Some(None), |read| read.map(Some))?;
    let (client_ca, client_crl) = (client_ca.as_deref(), client_crl.as_deref());
    match Identity::parse(PemFiles { cert: &cert, key: &key, client_ca, client_crl }) {
        Ok(identity) => {
            if let Some(remark) = identity.validity().remark(SystemTime::now()) {
                let fault = Fault {
                    severity: Severity::Warning,
                    ..reader.fault_of("server.tls.cert", remark)
                };
                reader.faults.push(fault);
            }
            Some(Some(Arc::new(identity)))
        }
        Err(error) => {
            let (name, path) = match &error {
                IdentityError::Cert(_) => ("cert", Some(&files.cert)),
                IdentityError::Key(_) => ("key", Some(&files.key)),
                IdentityError::ClientCa(_) => ("client_ca", files.client_ca.as_ref()),
                IdentityError::ClientCrl(_) => ("client_crl", files.client_crl.as_ref()),
            };
            let path = path.map(|path| path.display().to_string()).unwrap_or_default();
            fault(reader, name, format!("{path} {error}"));
            None
        }
    }
}

/// The files that are named, whatever else is wrong: what to watch.
pub(crate) fn named(reader: &mut Reader<'_>) -> Vec<PathBuf> {
    let Some(Files { cert, key, client_ca, client_crl }) = files(reader) else { return Vec::new() };
    [cert, key].into_iter().chain(client_ca).chain(client_crl).collect()
}

/// `None` without TLS, and after a fault.
fn files(reader: &mut Reader<'_>) -> Option<Files> {
    let Some(table) = reader.doc.get(&["server", "tls"]) else { return official(reader) };
    // anything but a table was noted
    table.value.as_table()?;
    let [cert, key, client_ca, client_crl] = ["cert", "key", "client_ca", "client_crl"]
        .map(|name| reader.text(&["server", "tls", name]));
    if client_crl.is_some() && reader.doc.get(&["server", "tls", "client_ca"]).is_none() {
        fault(
            reader,
            "client_crl",
            "expected client_ca beside it: whose certificates it revokes".to_owned(),
        );
    }
    for (name, other, value) in [("cert", "key", &cert), ("key", "cert", &key)] {
        if value.is_none() && reader.doc.get(&["server", "tls", name]).is_none() {
            let fault = reader.fault_of(TABLE, format!("expected {name} as well")).hint(Some(format!(
                "server.tls = {{ cert = \"tls.crt\", key = \"tls.key\" }}: {other} alone is not enough"
            )));
            reader.faults.push(fault);
        }
    }
    let full = |path: String| reader.base.join(path);
    Some(Files {
        cert: full(cert?),
        key: full(key?),
        client_ca: client_ca.map(full),
        client_crl: client_crl.map(full),
    })
}

/// What the official container calls it (ai-gateway-server.md §6).
fn official(reader: &mut Reader<'_>) -> Option<Files> {
    let said = reader.env.get(variables::TLS_ENABLED)?;
    match variables::truth(said) {
        Some(true) => {}
        Some(false) => return None,
        None => {
            let fault =
                Fault::error(Place::Environment, variables::TLS_ENABLED, "expected true or false");
            reader.faults.push(fault.said(quoted(said)));
            return None;
        }
    }
    let (Some(cert), Some(key)) =
        (reader.env.get(variables::TLS_CERT), reader.env.get(variables::TLS_KEY))
    else {
        let message =
            format!("expected {} and {} beside it", variables::TLS_CERT, variables::TLS_KEY);
        reader.faults.push(Fault::error(Place::Environment, variables::TLS_ENABLED, message));
        return None;
    };
    for (name, value, variable) in
        [("cert", cert, variables::TLS_CERT), ("key", key, variables::TLS_KEY)]
    {
        let setting =
            Setting { value: format!("{value:?}"), origin: Origin::Variable(variable.to_owned()) };
        reader.provenance.note(format!("{TABLE}.{name}"), setting);
    }
    Some(Files { cert: cert.into(), key: key.into(), client_ca: None, client_crl: None })
}

fn content(reader: &mut Reader<'_>, name: &str, path: &Path) -> Option<Vec<u8>> {
    let read = read_limited(path);
    read.map_err(|why| fault(reader, name, format!("cannot read {}: {why}", path.display()))).ok()
}

fn fault(reader: &mut Reader<'_>, name: &str, message: String) {
    let fault = reader.fault_of(&format!("{TABLE}.{name}"), message);
    reader.faults.push(fault);
}
