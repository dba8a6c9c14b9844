//! `[server] tls`: the files are read and checked here, so that a certificate and a key that do not
//! belong together are a fault of the file like any other, at the start and at a reload.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::toml::diagnostic::{Fault, Location, Reported, quoted};
use crate::config::toml::environment::read_limited;
use crate::config::toml::provenance::{Origin, Setting};
use crate::config::toml::reader::Reader;
use crate::config::toml::variables;
use crate::server::{Identity, IdentityError, PemFiles};

const TABLE: &str = "server.tls";

/// The files of the listener's TLS.
struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_crl: Option<PathBuf>,
}

/// Reads the identity, or returns `None` when neither the file nor the environment configures TLS.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Option<Arc<Identity>>, Reported> {
    let Some(files) = configured(reader)? else { return Ok(None) };
    let cert = content(reader, "cert", &files.cert);
    let key = content(reader, "key", &files.key);
    let client_ca = optional_content(reader, "client_ca", files.client_ca.as_deref());
    let client_crl = optional_content(reader, "client_crl", files.client_crl.as_deref());
    let (cert, key, client_ca, client_crl) = (cert?, key?, client_ca?, client_crl?);
    let pem_files = PemFiles {
        cert: &cert,
        key: &key,
        client_ca: client_ca.as_deref(),
        client_crl: client_crl.as_deref(),
    };
    match Identity::parse(pem_files) {
        Ok(identity) => {
            if let Some(remark) = identity.validity().remark(SystemTime::now()) {
                reader.warn(reader.fault_of("server.tls.cert", remark));
            }
            Ok(Some(Arc::new(identity)))
        }
        Err(error) => {
            let (name, path) = match &error {
                IdentityError::Cert(_) => ("cert", Some(&files.cert)),
                IdentityError::Key(_) => ("key", Some(&files.key)),
                IdentityError::ClientCa(_) => ("client_ca", files.client_ca.as_ref()),
                IdentityError::ClientCrl(_) => ("client_crl", files.client_crl.as_ref()),
            };
            let path = path.map(|path| path.display().to_string()).unwrap_or_default();
            Err(report(reader, name, format!("{path} {error}")))
        }
    }
}

/// Returns the files that are named, even when the file has faults: they are watched.
pub(crate) fn files(reader: &mut Reader<'_>) -> Vec<PathBuf> {
    let Ok(Some(files)) = configured(reader) else { return Vec::new() };
    let Files { cert, key, client_ca, client_crl } = files;
    [cert, key].into_iter().chain(client_ca).chain(client_crl).collect()
}

/// Returns the files that the file or the environment names, or `None` without TLS.
fn configured(reader: &mut Reader<'_>) -> Result<Option<Files>, Reported> {
    let path = |name| ["server", "tls", name];
    let Some(table) = reader.doc.get(&["server", "tls"]) else {
        return of_official_variables(reader);
    };
    // anything but a table has been reported
    table.value.as_table().ok_or(Reported)?;
    let [cert, key, client_ca, client_crl] =
        ["cert", "key", "client_ca", "client_crl"].map(|name| reader.optional_string(&path(name)));
    if matches!(client_crl, Ok(Some(_))) && reader.doc.get(&path("client_ca")).is_none() {
        let message = "expected client_ca as well: whose certificates it revokes";
        report(reader, "client_crl", message.to_owned());
    }
    for (name, other) in [("cert", "key"), ("key", "cert")] {
        if reader.doc.get(&path(name)).is_none() {
            let hint = format!(
                "server.tls = {{ cert = \"tls.crt\", key = \"tls.key\" }}: {other} alone is not enough"
            );
            let fault = reader.fault_of(TABLE, format!("expected {name} as well"));
            reader.report(fault.hint(Some(hint)));
        }
    }
    let full = |path: String| reader.base.join(path);
    Ok(Some(Files {
        cert: full(cert?.ok_or(Reported)?),
        key: full(key?.ok_or(Reported)?),
        client_ca: client_ca.unwrap_or_default().map(full),
        client_crl: client_crl.unwrap_or_default().map(full),
    }))
}

/// Returns the files in the variables of the official container (contract::ai_gateway_server §6).
fn of_official_variables(reader: &mut Reader<'_>) -> Result<Option<Files>, Reported> {
    let Some(enabled) = reader.env.get(variables::TLS_ENABLED) else { return Ok(None) };
    let fault =
        |message: &str| Fault::error(Location::Environment, variables::TLS_ENABLED, message);
    match variables::parse_bool(enabled) {
        Some(true) => {}
        Some(false) => return Ok(None),
        None => return Err(reader.report(fault("expected true or false").found(quoted(enabled)))),
    }
    let (Some(cert), Some(key)) =
        (reader.env.get(variables::TLS_CERT), reader.env.get(variables::TLS_KEY))
    else {
        let message =
            format!("expected {} and {} as well", variables::TLS_CERT, variables::TLS_KEY);
        return Err(reader.report(fault(&message)));
    };
    for (name, value, variable) in
        [("cert", cert, variables::TLS_CERT), ("key", key, variables::TLS_KEY)]
    {
        let setting =
            Setting { value: format!("{value:?}"), origin: Origin::Variable(variable.to_owned()) };
        reader.provenance.record(format!("{TABLE}.{name}"), setting);
    }
    Ok(Some(Files { cert: cert.into(), key: key.into(), client_ca: None, client_crl: None }))
}

fn content(reader: &mut Reader<'_>, name: &str, path: &Path) -> Result<Vec<u8>, Reported> {
    read_limited(path)
        .map_err(|why| report(reader, name, format!("cannot read {}: {why}", path.display())))
}

fn optional_content(
    reader: &mut Reader<'_>,
    name: &str,
    path: Option<&Path>,
) -> Result<Option<Vec<u8>>, Reported> {
    path.map(|path| content(reader, name, path)).transpose()
}

fn report(reader: &mut Reader<'_>, name: &str, message: String) -> Reported {
    reader.report(reader.fault_of(&format!("{TABLE}.{name}"), message))
}
