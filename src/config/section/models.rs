//! `[models]`: each table → one [`Model`].

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::config::check::timeouts;
use crate::config::config::{Origin, Setting};
use crate::config::section::azure;
use crate::config::section::bedrock::Bedrock;
use crate::config::section::cloud;
use crate::config::section::entra;
use crate::config::section::provider_env::Inherited;
use crate::config::section::replicas;
use crate::config::toml::diagnostic::Fault;
use crate::config::toml::keys::{self, Acts};
use crate::config::toml::reader::{Reader, said};
use crate::config::toml::suggest;
use crate::model::{
    Access, ApiVersion, AzureAccess, BedrockModel, CredentialKind, DefaultEndpoint, EndpointUrl,
    Families, Family, Identifier, Model, ProviderKind, Room, UrlRule,
};

/// What every model has in common.
pub(crate) struct Common<'c> {
    pub(crate) inherited: &'c Inherited,
    pub(crate) families: &'c Families,
    /// `limits.queue` and `limits.queue_wait`.
    pub(crate) queue: (usize, Duration),
}

/// The models that could be read, in the order of the file. The others have left their faults.
pub(crate) fn read(reader: &mut Reader<'_>, common: &Common<'_>) -> Vec<Arc<Model>> {
    let names = reader.doc.names(&["models"]);
    names.into_iter().filter_map(|name| model(reader, name, common).map(Arc::new)).collect()
}

fn model(reader: &mut Reader<'_>, name: &str, common: &Common<'_>) -> Option<Model> {
    let Common { inherited, families, queue } = *common;
    let path = ["models", name];
    let header = reader.doc.get(&path)?;
    header.value.as_table()?;
    if let Some(why) = bad_name(name) {
        reader.error(&path, &header.key, why);
    }
    let identifier = identifier(reader, name);
    let family = family(reader, name, families);
    let provider =
        identifier.as_ref().map(|identifier| served_by(reader, name, identifier.provider));
    if let Some(provider) = provider {
        only_for(reader, name, provider);
    }
    let is_azure = provider.map(ProviderKind::credentials) == Some(CredentialKind::Azure);
    let version = if is_azure { azure::api_version(reader, name, inherited) } else { None };
    let endpoints = endpoints(reader, name, &header.key, provider, version.as_ref());
    let mut api_key = reader.secret(&["models", name, "api_key"]);
    let timeouts = timeouts(reader, &["models", name, "timeouts"]);
    let room = room(reader, name, queue);
    let priority = reader.boolean(&["models", name, "priority"]).unwrap_or(false);
    let (identifier, provider) = (identifier?, provider?);
    let mut upstream_name: Arc<str> = identifier.model.into();
    let (endpoints, access) = match provider.credentials() {
        CredentialKind::Azure => {
            let said = endpoints.as_deref().unwrap_or_default();
            let named = entra::Named {
                name,
                header: &header.key,
                version: version.as_ref(),
                endpoints: said,
            };
            let entra = entra::read(reader, &named);
            let access = version.zip(entra).map(|(version, entra)| AzureAccess { version, entra });
            (endpoints, access.map(Access::Azure))
        }
        CredentialKind::Aws => {
            let is_open = provider != identifier.provider;
            let model =
                Bedrock { name, header: &header.key, model: &upstream_name, is_open, inherited };
            let read = model.read(reader, endpoints.clone().unwrap_or_default(), api_key.take());
            let (found, access) = read.unzip();
            if let Some(alone) = BedrockModel::parse(&upstream_name).ok().filter(|_| is_open) {
                // it goes into the body as it is: what stands in front is for us
                upstream_name = alone.id.into();
            }
            (endpoints.and(found), access.map(|access| Access::Bedrock(Box::new(access))))
        }
        CredentialKind::ApiKey | CredentialKind::Caller => (endpoints, Some(Access::Key)),
    };
    let replicas = replicas::read(reader, name, provider, endpoints.as_ref().map_or(0, Vec::len));
    Some(Model {
        id: name.into(),
        provider,
        upstream_name,
        family: family?,
        endpoints: endpoints?,
        api_key,
        access: access?,
        timeouts,
        replicas,
        room,
        priority,
        from_request: false,
    })
}

/// `max_parallel`, and the queue for it: as `[limits]` has it where the model says nothing.
fn room(reader: &mut Reader<'_>, name: &str, (queue, wait): (usize, Duration)) -> Option<Room> {
    let path = |key| ["models", name, key];
    let parallel = reader.integer(&path("max_parallel"));
    let own = (reader.integer(&path("max_queue")), reader.duration(&path("max_wait")));
    if reader.doc.get(&path("max_parallel")).is_none() {
        for key in ["max_queue", "max_wait"] {
            if let Some(entry) = reader.doc.get(&path(key)) {
                reader.warning(&path(key), &entry.key, "has no effect without max_parallel");
            }
        }
    }
    Some(Room { parallel: parallel?, queue: own.0.unwrap_or(queue), wait: own.1.unwrap_or(wait) })
}

/// The kind of server: the identifier's, or Bedrock's OpenAI-compatible endpoint when the model
/// says so.
fn served_by(reader: &mut Reader<'_>, name: &str, provider: ProviderKind) -> ProviderKind {
    let Some(open) = provider.profile().openai_compatible else { return provider };
    let is_open = reader.boolean(&["models", name, "bedrock_openai"]) == Some(true);
    if is_open { open } else { provider }
}

/// A model's name is a label of metrics, a value of headers and a line of `/v1/models`.
fn bad_name(name: &str) -> Option<&'static str> {
    match name {
        "disabled" | cloud::NAME => {
            Some("this name means something else in [features]: choose another")
        }
        "request" => Some("this name stands for models that requests bring: choose another"),
        _ if name.starts_with("feature/") => {
            Some("feature/… asks by feature in /v1: choose another name")
        }
        _ if name.is_empty() || name.len() > 100 => Some("a model's name has 1 to 100 characters"),
        _ if !name.bytes().all(|b| b.is_ascii_graphic()) => {
            Some("a model's name is of visible ASCII characters")
        }
        _ => None,
    }
}

fn identifier(reader: &mut Reader<'_>, name: &str) -> Option<Identifier> {
    let path = ["models", name, "identifier"];
    let Some(entry) = reader.doc.get(&path) else {
        return Some(Identifier { provider: ProviderKind::default(), model: name.into() });
    };
    let text = reader.text(&path)?;
    let fault = |reader: &Reader<'_>, message: String| {
        Fault::error(
            reader.doc.place(&entry.span),
            crate::config::toml::document::path_text(&path),
            message,
        )
        .said(said(entry.value))
    };
    let identifier = match Identifier::parse(&text) {
        Ok(identifier) => identifier,
        Err(why) => {
            let fault = fault(reader, why.to_string()).hint(prefix_hint(&text));
            reader.faults.push(fault);
            return None;
        }
    };
    Some(identifier)
}

/// `mistralai/Mistral-7B` is a Hugging Face name that lacks its prefix.
fn prefix_hint(text: &str) -> Option<String> {
    let (prefix, model) = text.trim().split_once('/')?;
    if prefix == "bedrock_mantle" {
        let at = "endpoint = \"https://bedrock-mantle.<region>.api.aws/v1\"";
        return Some(format!("say \"bedrock/{model}\", bedrock_openai = true and {at}"));
    }
    let meant = match suggest::nearest(prefix, ProviderKind::prefixes()) {
        Some(near) => format!("{near}/{model}"),
        None => format!("custom_openai/{}", text.trim()),
    };
    Some(format!("did you mean {meant:?}?"))
}

/// The model's family, with what the model's own lines say over it.
fn family(reader: &mut Reader<'_>, name: &str, families: &Families) -> Option<Arc<Family>> {
    let path = ["models", name, "family"];
    let named = match reader.text(&path) {
        Some(text) => families.find(&text).cloned(),
        None if reader.doc.get(&path).is_some() => return None,
        None => Some(families.get("")),
    };
    let context_tokens =
        reader.integer(&["models", name, "context_tokens"]).and_then(|n| n.try_into().ok());
    let endpoint = crate::config::section::families::completion_endpoint(
        reader,
        &["models", name, "completion_endpoint"],
    );
    let Some(family) = named else {
        // one of the file's that has faults of its own has told them
        if reader.doc.get(&path).is_none_or(|entry| !is_defined(reader, entry.value.as_str())) {
            crate::config::section::families::unknown(reader, &path, families);
        }
        return None;
    };
    if context_tokens.is_none() && endpoint.is_none() {
        return Some(family);
    }
    Some(Arc::new(Family {
        context_tokens: context_tokens.unwrap_or(family.context_tokens),
        completion_endpoint: endpoint.or(family.completion_endpoint),
        ..(*family).clone()
    }))
}

fn is_defined(reader: &Reader<'_>, family: Option<&str>) -> bool {
    family.is_some_and(|family| reader.doc.get(&["families", family]).is_some())
}

/// Keys of one kind of server at a model of another.
fn only_for(reader: &mut Reader<'_>, name: &str, provider: ProviderKind) {
    for said in reader.doc.names(&["models", name]) {
        let path = ["models", name, said];
        // a table is for whom its keys are
        let inner = keys::children(&path)
            .first()
            .and_then(|inner| keys::find(&["models", name, said, inner]));
        let Some(Acts::Only(kinds)) = keys::find(&path).or(inner).map(|key| key.acts) else {
            continue;
        };
        let Some(entry) = reader.doc.get(&path).filter(|_| !kinds.contains(&provider.label()))
        else {
            continue;
        };
        let message =
            format!("only for {} models; this is one of {}", kinds.join(" and "), provider.label());
        reader.error(&path, &entry.key, message);
    }
}

fn endpoints(
    reader: &mut Reader<'_>,
    name: &str,
    header: &Range<usize>,
    provider: Option<ProviderKind>,
    version: Option<&ApiVersion>,
) -> Option<Vec<EndpointUrl>> {
    let (one, many) = (["models", name, "endpoint"], ["models", name, "endpoints"]);
    let texts = match (reader.doc.get(&one), reader.doc.get(&many)) {
        (Some(_), Some(both)) => {
            reader.error(&many, &both.key, "endpoint and endpoints: expected only one of them");
            return None;
        }
        (Some(entry), None) => vec![(reader.text(&one)?, entry.span)],
        (None, Some(entry)) => {
            let texts = reader.texts(&many)?;
            if texts.is_empty() {
                reader.error(&many, &entry.span, "expected at least one URL");
                return None;
            }
            texts
        }
        (None, None) => match provider.unwrap_or_default().profile().default_endpoint {
            // read with the region
            DefaultEndpoint::AwsRegion => return Some(vec![]),
            DefaultEndpoint::Url(text) => {
                let setting = Setting { value: format!("\"{text}\""), origin: Origin::Default };
                reader.provenance.note(crate::config::toml::document::path_text(&one), setting);
                return EndpointUrl::parse(text).ok().map(|url| vec![url]);
            }
            DefaultEndpoint::Required(hint) => {
                reader.error(&["models", name], header, "expected endpoint or endpoints").hint =
                    Some(hint.to_owned());
                return None;
            }
        },
    };
    let path: &[&str] = if reader.doc.get(&one).is_some() { &one } else { &many };
    let mut found = Vec::new();
    let mut all_good = true;
    let rule = provider.unwrap_or_default().profile().url;
    for (text, span) in texts {
        if rule == UrlRule::AzureResource {
            azure::check_root(reader, path, &text, &span, version);
        }
        match endpoint(reader, path, &text, &span, rule) {
            Some(url) if found.contains(&url) => {
                reader.warning(path, &span, "listed twice");
            }
            Some(url) => found.push(url),
            None => all_good = false,
        }
    }
    all_good.then_some(found)
}

fn endpoint(
    reader: &mut Reader<'_>,
    path: &[&str],
    text: &str,
    span: &Range<usize>,
    rule: UrlRule,
) -> Option<EndpointUrl> {
    let why = match rule.parse(text) {
        Ok(url) => return Some(url),
        Err(why) => why,
    };
    let has_scheme = text.contains("://");
    let path_of_most = if text.contains('/') { "" } else { "/v1" };
    let meant = format!("http://{}{path_of_most}", text.trim());
    let hint = if !has_scheme && EndpointUrl::parse(&meant).is_ok() {
        format!("did you mean {meant:?}?")
    } else {
        why.to_string()
    };
    let value = toml::de::DeValue::String(text.into());
    let fault = reader.error(path, span, "expected a URL like \"http://host:port/v1\"");
    (fault.said, fault.hint) = (Some(said(&value)), Some(hint));
    None
}
