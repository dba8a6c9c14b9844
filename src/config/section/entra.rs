//! What an Azure model says of Entra ID: as whom, where, for what. What the file lets out comes
//! from the variables that Azure's own libraries read (providers.md d2.3).

use std::ops::Range;
use std::sync::Arc;

use crate::config::config::{Origin, Setting};
use crate::config::toml::diagnostic::{Fault, Place};
use crate::config::toml::document::path_text;
use crate::config::toml::reader::{Reader, visible};
use crate::model::{ApiVersion, EndpointUrl, Entra, EntraIdentity, ManagedBy};
use crate::secret::Secret;

const SECRET: &str = "AZURE_CLIENT_SECRET";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const ENDPOINT: &str = "IDENTITY_ENDPOINT";
const HEADER: &str = "IDENTITY_HEADER";
/// Where Azure's libraries look for the metadata service.
const INSTANCE_HOST: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
const INSTANCE: &str = "http://169.254.169.254";
const CLASSIC: &str = "https://cognitiveservices.azure.com/.default";
const FOUNDRY: &str = "https://ai.azure.com/.default";

/// One Azure model of the file.
pub(crate) struct Named<'m> {
    pub(crate) name: &'m str,
    /// Where its table begins.
    pub(crate) header: &'m Range<usize>,
    pub(crate) version: Option<&'m ApiVersion>,
    pub(crate) endpoints: &'m [EndpointUrl],
}

/// How the model is asked for its token.
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

/// Entra ID, if the model is asked with it and not with its key. The outer `None` leaves a fault.
pub(crate) fn read(reader: &mut Reader<'_>, named: &Named<'_>) -> Option<Option<Arc<Entra>>> {
    let table = ["models", named.name, "entra"];
    let entry = reader.doc.get(&table);
    let key = reader.doc.get(&["models", named.name, "api_key"]);
    let (at, origin) = match (entry, key) {
        (Some(entry), Some(_)) => {
            reader.error(&table, &entry.key, "api_key and entra: expected only one of them");
            return None;
        }
        (None, Some(_)) => return Some(None),
        (Some(entry), None) => {
            entry.value.as_table()?;
            let line = Origin::Line(reader.doc.line(entry.key.start));
            (entry.key, line)
        }
        (None, None) => match of_environment(reader) {
            [] => {
                reader.error(&["models", named.name], named.header, "expected api_key or entra").hint =
                    Some("say one of the resource's two keys: api_key = { env = \"…\" } or { file = \"…\" }; or entra = { tenant = \"…\", client_id = \"…\", client_secret = { env = \"…\" } }, { identity = \"workload\" } or { identity = \"managed\" }".to_owned());
                return None;
            }
            set => (named.header.clone(), Origin::Variable(set.join(", "))),
        },
    };
    let kind = kind(reader, named.name, &at)?;
    let identity = identity(reader, named.name, kind, &at);
    let scope = scope(reader, named)?;
    reader.provenance.note(path_text(&table), Setting { value: kind.shown().to_owned(), origin });
    Some(Some(Arc::new(Entra::new(identity?, &scope))))
}

/// Which of the variables that choose an identity are set.
fn of_environment(reader: &Reader<'_>) -> &'static [&'static str] {
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

/// The one that is said; several at once are refused.
fn kind(reader: &mut Reader<'_>, name: &str, at: &Range<usize>) -> Option<Kind> {
    let path = |key| ["models", name, "entra", key];
    let said = reader.doc.get(&path("identity"));
    let [secret, file, tenant] =
        ["client_secret", "token_file", "tenant"].map(|key| reader.doc.get(&path(key)));
    let table = ["models", name, "entra"];
    if said.is_some() {
        let word = reader.word(&path("identity"))?;
        let (secret, file, tenant) =
            (("client_secret", secret), ("token_file", file), ("tenant", tenant));
        let (kind, others) = match word {
            "application" => (Kind::Application, vec![file]),
            "workload" => (Kind::Workload, vec![secret]),
            _ => (Kind::Managed, vec![secret, file, tenant]),
        };
        if let Some((key, entry)) = others.into_iter().find_map(|(key, entry)| Some((key, entry?)))
        {
            let message = format!("contradicts identity = \"{word}\", which takes no {key}");
            reader.error(&table, &entry.key, message);
            return None;
        }
        return Some(kind);
    }
    match (secret, file) {
        (Some(_), Some(file)) => {
            reader.error(
                &table,
                &file.key,
                "client_secret and token_file: expected only one of them",
            );
            return None;
        }
        (Some(_), None) => return Some(Kind::Application),
        (None, Some(_)) => return Some(Kind::Workload),
        (None, None) => {}
    }
    match of_environment(reader) {
        [SECRET] => Some(Kind::Application),
        [TOKEN_FILE] => Some(Kind::Workload),
        [ENDPOINT] => Some(Kind::Managed),
        [] => {
            reader.error(&table, at, "expected client_secret, token_file or identity").hint = Some(
                "identity = \"managed\" is the machine's own, \"workload\" the cluster's"
                    .to_owned(),
            );
            None
        }
        several => {
            reader
                .error(
                    &table,
                    at,
                    format!("{} are set: expected only one of them", several.join(" and ")),
                )
                .hint = Some("say entra.identity = \"application\" or \"workload\"".to_owned());
            None
        }
    }
}

fn identity(
    reader: &mut Reader<'_>,
    name: &str,
    kind: Kind,
    at: &Range<usize>,
) -> Option<EntraIdentity> {
    let table = ["models", name, "entra"];
    let client_id = word_of(reader, name, "client_id");
    if kind == Kind::Managed {
        return Some(EntraIdentity::Managed {
            by: managed_by(reader, &table, at)?,
            client_id: client_id?,
        });
    }
    let tenant = word_of(reader, name, "tenant");
    let authority = authority(reader, name);
    let (client_id, tenant) = (client_id?, tenant?);
    let lacking: Vec<&str> = [("tenant", &tenant), ("client_id", &client_id)]
        .iter()
        .filter(|(_, it)| it.is_none())
        .map(|(k, _)| *k)
        .collect();
    if !lacking.is_empty() {
        let names = "AZURE_TENANT_ID and AZURE_CLIENT_ID";
        reader.error(&table, at, format!("expected {}", lacking.join(" and "))).hint =
            Some(format!("here, or {names} in the environment"));
        return None;
    }
    let (client_id, tenant) = (client_id?, tenant?);
    // an authority with one more word in its path is a URL
    let tenant = EndpointUrl::parse(&format!("{}/{tenant}", authority?)).ok()?;
    if kind == Kind::Application {
        let client_secret = secret(reader, name, at)?;
        return Some(EntraIdentity::Application { tenant, client_id, client_secret });
    }
    let Some(file) = reader.text(&["models", name, "entra", "token_file"]) else {
        reader.error(&table, at, "expected token_file").hint =
            Some(format!("here, or {TOKEN_FILE} in the environment"));
        return None;
    };
    Some(EntraIdentity::Workload { tenant, client_id, token_file: reader.base.join(file) })
}

/// A tenant or a client: letters, digits, `-` and `.`. The outer `None` leaves a fault.
fn word_of(reader: &mut Reader<'_>, name: &str, key: &str) -> Option<Option<Box<str>>> {
    let path = ["models", name, "entra", key];
    let is_said = reader.doc.get(&path).is_some();
    let Some(text) = reader.text(&path) else { return if is_said { None } else { Some(None) } };
    let good = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if !good {
        let fault = reader.fault_of(&path_text(&path), "expected letters, digits, - and . only");
        reader.faults.push(fault);
        return None;
    }
    Some(Some(text.into()))
}

/// The file's, else the environment's.
fn secret(reader: &mut Reader<'_>, name: &str, at: &Range<usize>) -> Option<Secret<String>> {
    let path = ["models", name, "entra", "client_secret"];
    if reader.doc.get(&path).is_some() {
        return reader.secret(&path);
    }
    let Some(text) = reader.env.get(SECRET) else {
        reader.error(&["models", name, "entra"], at, "expected client_secret").hint =
            Some(format!("here, or {SECRET} in the environment"));
        return None;
    };
    variable(reader, SECRET, text.to_owned())
}

fn variable(reader: &mut Reader<'_>, name: &str, text: String) -> Option<Secret<String>> {
    visible(text, "")
        .map_err(|why| reader.faults.push(Fault::error(Place::Environment, name, why)))
        .ok()
}

/// Any URL: sovereign clouds, test authorities. Azure's libraries take a bare host as well.
fn authority(reader: &mut Reader<'_>, name: &str) -> Option<EndpointUrl> {
    let path = ["models", name, "entra", "authority"];
    let text = reader.text(&path)?;
    let url = if text.contains("://") { text } else { format!("https://{text}") };
    EndpointUrl::parse(&url).ok().or_else(|| {
        let fault = reader.fault_of(
            &path_text(&path),
            "expected a URL like \"https://login.microsoftonline.com\"",
        );
        reader.faults.push(fault);
        None
    })
}

fn managed_by(reader: &mut Reader<'_>, table: &[&str], at: &Range<usize>) -> Option<ManagedBy> {
    let wrong = |reader: &mut Reader<'_>, name: &str| {
        reader.faults.push(Fault::error(
            Place::Environment,
            name,
            "expected a URL like \"http://host:port/path\"",
        ));
        None
    };
    match (reader.env.get(ENDPOINT), reader.env.get(HEADER)) {
        (Some(endpoint), Some(header)) => {
            let header = header.to_owned();
            let Ok(url) = EndpointUrl::parse(endpoint) else { return wrong(reader, ENDPOINT) };
            Some(ManagedBy::AppService(url, variable(reader, HEADER, header)?))
        }
        (Some(_), None) => {
            reader.error(table, at, format!("{ENDPOINT} is set, but {HEADER} is not")).hint = Some(
                "Azure Arc is not in this version: use workload identity or an application"
                    .to_owned(),
            );
            None
        }
        (None, _) => {
            let host = reader.env.get(INSTANCE_HOST).unwrap_or(INSTANCE);
            match EndpointUrl::parse(host) {
                Ok(url) => Some(ManagedBy::Instance(url)),
                Err(_) => wrong(reader, INSTANCE_HOST),
            }
        }
    }
}

/// The file's; else Foundry's for its own hosts and the v1 paths, and the older one for dated
/// versions.
fn scope(reader: &mut Reader<'_>, named: &Named<'_>) -> Option<String> {
    let path = ["models", named.name, "entra", "scope"];
    if let Some(entry) = reader.doc.get(&path) {
        let text = reader.text(&path)?;
        let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !good {
            reader.wrong(&path, &entry.span, entry.value);
        }
        return good.then_some(text);
    }
    let is_foundry = |url: &EndpointUrl| url.host().ends_with(".services.ai.azure.com");
    let dated = matches!(named.version, Some(ApiVersion::Dated(_)));
    let scope = if dated && !named.endpoints.iter().any(is_foundry) { CLASSIC } else { FOUNDRY };
    let setting = Setting { value: format!("\"{scope}\""), origin: Origin::Default };
    reader.provenance.note(path_text(&path), setting);
    Some(scope.to_owned())
}
