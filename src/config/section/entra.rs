//! Entra ID for an Azure model: which identity, from where, for what scope. What the file does not
//! set comes from the variables that Azure's own libraries read (contract::providers §d2.3).

use std::ops::Range;
use std::sync::Arc;

use crate::config::toml::diagnostic::{Fault, Location, Reported};
use crate::config::toml::document::path_text;
use crate::config::toml::provenance::{Origin, Setting};
use crate::config::toml::reader::{Reader, visible_ascii};
use crate::model::{ApiVersion, EndpointUrl, EntraIdentity, EntraToken, ManagedIdentitySource};
use crate::secret::Secret;

const SECRET: &str = "AZURE_CLIENT_SECRET";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const ENDPOINT: &str = "IDENTITY_ENDPOINT";
const HEADER: &str = "IDENTITY_HEADER";
/// Variable of the metadata service's address.
const INSTANCE_HOST: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
/// Default address of the metadata service.
const INSTANCE: &str = "http://169.254.169.254";
/// Scope of dated API versions.
const CLASSIC: &str = "https://cognitiveservices.azure.com/.default";
/// Scope of the v1 paths and of Foundry's hosts.
const FOUNDRY: &str = "https://ai.azure.com/.default";

/// One Azure model of the file.
pub(crate) struct AzureModel<'m> {
    /// Its name in the file.
    pub(crate) name: &'m str,
    /// Span of its table's header.
    pub(crate) header: &'m Range<usize>,
    /// Its API version, if it could be read.
    pub(crate) version: Option<&'m ApiVersion>,
    /// Its endpoints, as far as they could be read.
    pub(crate) endpoints: &'m [EndpointUrl],
}

/// Kind of identity that gets the model's tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Application,
    Workload,
    Managed,
}

impl Kind {
    const fn shown(self) -> &'static str {
        match self {
            Self::Application => "an application's secret",
            Self::Workload => "workload identity",
            Self::Managed => "managed identity",
        }
    }
}

/// Reads Entra ID, or returns `None` when the model is called with its key.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    model: &AzureModel<'_>,
) -> Result<Option<Arc<EntraToken>>, Reported> {
    let table = ["models", model.name, "entra"];
    let entry = reader.doc.get(&table);
    let key = reader.doc.get(&["models", model.name, "api_key"]);
    let (at, origin) = match (entry, key) {
        (Some(entry), Some(_)) => {
            let message = "api_key and entra: expected only one of them";
            return Err(reader.report(reader.fault_at(&table, &entry.key, message)));
        }
        (None, Some(_)) => return Ok(None),
        (Some(entry), None) => {
            // anything but a table has been reported
            entry.value.as_table().ok_or(Reported)?;
            let line = Origin::Line(reader.doc.line(entry.key.start));
            (entry.key, line)
        }
        (None, None) => match set_variables(reader) {
            [] => {
                let hint = "set one of the resource's two keys: api_key = { env = \"…\" } or { file = \"…\" }; or entra = { tenant = \"…\", client_id = \"…\", client_secret = { env = \"…\" } }, { identity = \"workload\" } or { identity = \"managed\" }";
                let path = ["models", model.name];
                let fault = reader.fault_at(&path, model.header, "expected api_key or entra");
                return Err(reader.report(fault.hint(Some(hint.to_owned()))));
            }
            set => (model.header.clone(), Origin::Variable(set.join(", "))),
        },
    };
    let kind = kind(reader, model.name, &at)?;
    let identity = identity(reader, model.name, kind, &at);
    let scope = scope(reader, model)?;
    let setting = Setting { value: kind.shown().to_owned(), origin };
    reader.provenance.record(path_text(&table), setting);
    Ok(Some(Arc::new(EntraToken::new(identity?, &scope))))
}

/// Returns which of the variables that choose an identity are set.
fn set_variables(reader: &Reader<'_>) -> &'static [&'static str] {
    let is_set = |name: &str| reader.env.get(name).is_some();
    match (is_set(SECRET), is_set(TOKEN_FILE), is_set(ENDPOINT)) {
        (true, true, _) => &[SECRET, TOKEN_FILE],
        (true, false, _) => &[SECRET],
        (false, true, _) => &[TOKEN_FILE],
        // an App Service sets it for every program: a key or a table wins over it
        (false, false, true) => &[ENDPOINT],
        (false, false, false) => &[],
    }
}

/// Returns the kind that the table sets or implies, else that of the environment. More than one is
/// a fault.
fn kind(reader: &mut Reader<'_>, name: &str, at: &Range<usize>) -> Result<Kind, Reported> {
    let table = ["models", name, "entra"];
    let path = |key| ["models", name, "entra", key];
    if reader.doc.get(&path("identity")).is_some() {
        return explicit_kind(reader, name);
    }
    let [secret, file] = ["client_secret", "token_file"].map(|key| reader.doc.get(&path(key)));
    match (secret, file) {
        (Some(_), Some(file)) => {
            let message = "client_secret and token_file: expected only one of them";
            return Err(reader.report(reader.fault_at(&table, &file.key, message)));
        }
        (Some(_), None) => return Ok(Kind::Application),
        (None, Some(_)) => return Ok(Kind::Workload),
        (None, None) => {}
    }
    let (message, hint) = match set_variables(reader) {
        [SECRET] => return Ok(Kind::Application),
        [TOKEN_FILE] => return Ok(Kind::Workload),
        [ENDPOINT] => return Ok(Kind::Managed),
        [] => (
            "expected client_secret, token_file or identity".to_owned(),
            "identity = \"managed\" is the machine's own, \"workload\" the cluster's",
        ),
        several => (
            format!("{} are set: expected only one of them", several.join(" and ")),
            "set entra.identity = \"application\" or \"workload\"",
        ),
    };
    Err(reader.report(reader.fault_at(&table, at, message).hint(Some(hint.to_owned()))))
}

/// Returns the kind that `entra.identity` sets. A key of another kind is a fault.
fn explicit_kind(reader: &mut Reader<'_>, name: &str) -> Result<Kind, Reported> {
    let keyword = reader.keyword(&["models", name, "entra", "identity"])?;
    let (kind, excluded): (_, &[&str]) = match keyword {
        "application" => (Kind::Application, &["token_file"]),
        "workload" => (Kind::Workload, &["client_secret"]),
        _ => (Kind::Managed, &["client_secret", "token_file", "tenant"]),
    };
    for key in excluded {
        if let Some(entry) = reader.doc.get(&["models", name, "entra", key]) {
            let message = format!("contradicts identity = \"{keyword}\", which takes no {key}");
            let table = ["models", name, "entra"];
            return Err(reader.report(reader.fault_at(&table, &entry.key, message)));
        }
    }
    Ok(kind)
}

fn identity(
    reader: &mut Reader<'_>,
    name: &str,
    kind: Kind,
    at: &Range<usize>,
) -> Result<EntraIdentity, Reported> {
    let table = ["models", name, "entra"];
    let client_id = plain_id(reader, name, "client_id");
    if kind == Kind::Managed {
        let by = managed_by(reader, &table, at)?;
        return Ok(EntraIdentity::Managed { by, client_id: client_id? });
    }
    let tenant = plain_id(reader, name, "tenant");
    let authority = authority(reader, name);
    let (client_id, tenant) = match (client_id?, tenant?) {
        (Some(client_id), Some(tenant)) => (client_id, tenant),
        (client_id, tenant) => {
            let missing: Vec<&str> = [("tenant", &tenant), ("client_id", &client_id)]
                .into_iter()
                .filter(|(_, id)| id.is_none())
                .map(|(key, _)| key)
                .collect();
            let hint = "here, or AZURE_TENANT_ID and AZURE_CLIENT_ID in the environment";
            let fault = reader.fault_at(&table, at, format!("expected {}", missing.join(" and ")));
            return Err(reader.report(fault.hint(Some(hint.to_owned()))));
        }
    };
    // an authority with one more segment in its path is a URL: this does not fail
    let tenant = EndpointUrl::parse(&format!("{}/{tenant}", authority?)).map_err(|_| Reported)?;
    if kind == Kind::Application {
        let client_secret = client_secret(reader, name, at)?;
        return Ok(EntraIdentity::Application { tenant, client_id, client_secret });
    }
    let Some(file) = reader.optional_string(&["models", name, "entra", "token_file"])? else {
        let hint = format!("here, or {TOKEN_FILE} in the environment");
        let fault = reader.fault_at(&table, at, "expected token_file");
        return Err(reader.report(fault.hint(Some(hint))));
    };
    Ok(EntraIdentity::Workload { tenant, client_id, token_file: reader.base.join(file) })
}

/// Reads the id of a tenant or a client, if it is set: letters, digits, `-` and `.`.
fn plain_id(reader: &mut Reader<'_>, name: &str, key: &str) -> Result<Option<Box<str>>, Reported> {
    let path = ["models", name, "entra", key];
    let Some(text) = reader.optional_string(&path)? else { return Ok(None) };
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if text.is_empty() || !text.bytes().all(is_plain) {
        let fault = reader.fault_of(&path_text(&path), "expected letters, digits, - and . only");
        return Err(reader.report(fault));
    }
    Ok(Some(text.into()))
}

/// Reads the application's secret: the file's, else the environment's.
fn client_secret(
    reader: &mut Reader<'_>,
    name: &str,
    at: &Range<usize>,
) -> Result<Secret<String>, Reported> {
    if let Some(secret) = reader.optional_secret(&["models", name, "entra", "client_secret"])? {
        return Ok(secret);
    }
    let Some(text) = reader.env.get(SECRET) else {
        let hint = format!("here, or {SECRET} in the environment");
        let fault = reader.fault_at(&["models", name, "entra"], at, "expected client_secret");
        return Err(reader.report(fault.hint(Some(hint))));
    };
    secret_variable(reader, SECRET, text.to_owned())
}

fn secret_variable(
    reader: &mut Reader<'_>,
    name: &str,
    text: String,
) -> Result<Secret<String>, Reported> {
    visible_ascii(text, "")
        .map_err(|why| reader.report(Fault::error(Location::Environment, name, why)))
}

/// Reads where tokens are issued: any URL, for sovereign clouds and test authorities. Azure's
/// libraries take a bare host as well.
fn authority(reader: &mut Reader<'_>, name: &str) -> Result<EndpointUrl, Reported> {
    let path = ["models", name, "entra", "authority"];
    let text = reader.string(&path)?;
    let url = if text.contains("://") { text } else { format!("https://{text}") };
    EndpointUrl::parse(&url).map_err(|_| {
        let message = "expected a URL like \"https://login.microsoftonline.com\"";
        let fault = reader.fault_of(&path_text(&path), message);
        reader.report(fault)
    })
}

/// Returns which service issues a managed identity's tokens: an App Service's, else the machine's.
fn managed_by(
    reader: &mut Reader<'_>,
    table: &[&str],
    at: &Range<usize>,
) -> Result<ManagedIdentitySource, Reported> {
    let wrong = |name: &str| {
        let message = "expected a URL like \"http://host:port/path\"";
        Fault::error(Location::Environment, name, message)
    };
    match (reader.env.get(ENDPOINT), reader.env.get(HEADER)) {
        (Some(endpoint), Some(header)) => {
            let header = header.to_owned();
            let url = EndpointUrl::parse(endpoint).map_err(|_| reader.report(wrong(ENDPOINT)))?;
            Ok(ManagedIdentitySource::AppService(url, secret_variable(reader, HEADER, header)?))
        }
        (Some(_), None) => {
            let hint = "Azure Arc is not in this version: use workload identity or an application";
            let message = format!("{ENDPOINT} is set, but {HEADER} is not");
            let fault = reader.fault_at(table, at, message);
            Err(reader.report(fault.hint(Some(hint.to_owned()))))
        }
        (None, _) => {
            let host = reader.env.get(INSTANCE_HOST).unwrap_or(INSTANCE);
            EndpointUrl::parse(host)
                .map(ManagedIdentitySource::Instance)
                .map_err(|_| reader.report(wrong(INSTANCE_HOST)))
        }
    }
}

/// Reads the scope: the file's; else Foundry's for its own hosts and the v1 paths, and the older
/// one for dated versions.
fn scope(reader: &mut Reader<'_>, model: &AzureModel<'_>) -> Result<String, Reported> {
    let path = ["models", model.name, "entra", "scope"];
    if let Some(entry) = reader.doc.get(&path) {
        let text = reader.string(&path)?;
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(reader.wrong(&path, &entry.span, entry.value));
        }
        return Ok(text);
    }
    let is_foundry = |url: &EndpointUrl| url.host().ends_with(".services.ai.azure.com");
    let is_dated = matches!(model.version, Some(ApiVersion::Dated(_)));
    let scope = if is_dated && !model.endpoints.iter().any(is_foundry) { CLASSIC } else { FOUNDRY };
    let setting = Setting { value: format!("\"{scope}\""), origin: Origin::Default };
    reader.provenance.record(path_text(&path), setting);
    Ok(scope.to_owned())
}
