//! `[models]`: each table → one [`Model`].

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use crate::config::section::bedrock::Bedrock;
use crate::config::section::provider_env::ProviderEnv;
use crate::config::section::{azure, cloud, entra, families, replicas, timeouts};
use crate::config::toml::diagnostic::Reported;
use crate::config::toml::document::path_text;
use crate::config::toml::key::Support;
use crate::config::toml::key_paths;
use crate::config::toml::provenance::{Origin, Setting};
use crate::config::toml::reader::Reader;
use crate::config::toml::suggest;
use crate::config::toml::values::quoted_value;
use crate::model::{
    Access, ApiVersion, AzureAccess, BedrockModel, ConcurrencySettings, CredentialKind,
    DefaultEndpoint, EndpointUrl, Families, Family, Identifier, Model, ProviderKind, UrlRule,
};
use crate::secret::Secret;

/// What all models have in common.
pub(crate) struct Common<'c> {
    /// The settings of the environment.
    pub(crate) provider_env: &'c ProviderEnv,
    /// The known families.
    pub(crate) families: &'c Families,
    /// `limits.queue` and `limits.queue_wait`.
    pub(crate) queue: (usize, Duration),
}

/// Reads the models, in the order of the file. One with faults is missing.
pub(crate) fn read(reader: &mut Reader<'_>, common: &Common<'_>) -> Vec<Arc<Model>> {
    let names = reader.doc.names(&["models"]);
    names.into_iter().filter_map(|name| model(reader, name, common).ok().map(Arc::new)).collect()
}

fn model(reader: &mut Reader<'_>, name: &str, common: &Common<'_>) -> Result<Model, Reported> {
    let path = ["models", name];
    let header = reader.doc.get(&path).ok_or(Reported)?;
    // anything but a table has been reported
    header.value.as_table().ok_or(Reported)?;
    if let Some(why) = bad_name(name) {
        reader.error(&path, &header.key, why);
    }
    let identifier = identifier(reader, name);
    let family = family(reader, name, common.families);
    let provider = match &identifier {
        Ok(identifier) => Some(served_by(reader, name, identifier.provider)),
        Err(Reported) => None,
    };
    if let Some(provider) = provider {
        check_support(reader, name, provider);
    }
    let version = (provider.map(ProviderKind::credentials) == Some(CredentialKind::Azure))
        .then(|| azure::api_version(reader, name, common.provider_env))
        .transpose();
    let known_version = version.as_ref().ok().and_then(Option::as_ref);
    let endpoints = endpoints(reader, name, &header.key, provider, known_version);
    let api_key = reader.optional_secret(&["models", name, "api_key"]);
    let timeouts = timeouts::read(reader, &["models", name, "timeouts"]);
    let room = room(reader, name, common.queue);
    let priority = reader.boolean(&["models", name, "priority"]).unwrap_or(false);
    let (identifier, provider) = (identifier?, provider.ok_or(Reported)?);
    let header = &header.key;
    let table =
        ModelTable { name, header, identifier, provider, provider_env: common.provider_env };
    let backend = table.backend(reader, version, endpoints, api_key);
    let endpoint_count = backend.endpoints.as_ref().map_or(0, Vec::len);
    let replicas = replicas::read(reader, name, provider, endpoint_count);
    Ok(Model {
        id: name.into(),
        provider,
        upstream_name: backend.upstream_name,
        family: family?,
        endpoints: backend.endpoints?,
        api_key: backend.api_key,
        access: backend.access?,
        timeouts,
        replicas,
        concurrency: room,
        priority,
        from_request: false,
    })
}

/// A model's table, as far as it is the same for every provider.
struct ModelTable<'m> {
    name: &'m str,
    header: &'m Range<usize>,
    identifier: Identifier,
    provider: ProviderKind,
    provider_env: &'m ProviderEnv,
}

/// What depends on a model's provider.
struct Backend {
    upstream_name: Arc<str>,
    endpoints: Result<Vec<EndpointUrl>, Reported>,
    /// The key of the file, unless it is in `access`.
    api_key: Option<Secret<String>>,
    access: Result<Access, Reported>,
}

impl ModelTable<'_> {
    /// Reads how the model's servers are accessed.
    fn backend(
        &self,
        reader: &mut Reader<'_>,
        version: Result<Option<ApiVersion>, Reported>,
        endpoints: Result<Vec<EndpointUrl>, Reported>,
        api_key: Result<Option<Secret<String>>, Reported>,
    ) -> Backend {
        let upstream_name: Arc<str> = Arc::from(&*self.identifier.model);
        match self.provider.credentials() {
            CredentialKind::Azure => {
                let access = self.azure(reader, version, endpoints.as_deref().unwrap_or_default());
                let api_key = api_key.unwrap_or_default();
                Backend { upstream_name, endpoints, api_key, access: access.map(Access::Azure) }
            }
            CredentialKind::Aws => self.bedrock(reader, upstream_name, endpoints, api_key),
            CredentialKind::ApiKey | CredentialKind::Caller => Backend {
                upstream_name,
                endpoints,
                api_key: api_key.unwrap_or_default(),
                access: Ok(Access::Key),
            },
        }
    }

    fn azure(
        &self,
        reader: &mut Reader<'_>,
        version: Result<Option<ApiVersion>, Reported>,
        endpoints: &[EndpointUrl],
    ) -> Result<AzureAccess, Reported> {
        let known_version = version.as_ref().ok().and_then(Option::as_ref);
        let (name, header) = (self.name, self.header);
        let model = entra::AzureModel { name, header, version: known_version, endpoints };
        let entra = entra::read(reader, &model);
        Ok(AzureAccess { version: version?.ok_or(Reported)?, entra: entra? })
    }

    fn bedrock(
        &self,
        reader: &mut Reader<'_>,
        upstream_name: Arc<str>,
        endpoints: Result<Vec<EndpointUrl>, Reported>,
        api_key: Result<Option<Secret<String>>, Reported>,
    ) -> Backend {
        let is_openai = self.provider != self.identifier.provider;
        let model = Bedrock {
            name: self.name,
            header: self.header,
            model: &upstream_name,
            is_openai,
            provider_env: self.provider_env,
        };
        let own = endpoints.clone().unwrap_or_default();
        let (endpoints, access) = match model.read(reader, own, api_key) {
            Ok((found, access)) => (endpoints.map(|_| found), Ok(access)),
            Err(reported) => (Err(reported), Err(reported)),
        };
        // the name goes into the body as it is, without the region before it
        let bare = BedrockModel::parse(&upstream_name).ok().filter(|_| is_openai);
        let upstream_name = bare.map_or(upstream_name, |bare| bare.id.into());
        let access = access.map(|access| Access::Bedrock(Box::new(access)));
        Backend { upstream_name, endpoints, api_key: None, access }
    }
}

/// Reads `max_parallel` and the queue for it, which is that of `[limits]` where the model sets
/// nothing. Returns `None` without `max_parallel`, or when it is wrong.
fn room(
    reader: &mut Reader<'_>,
    name: &str,
    (queue, wait): (usize, Duration),
) -> Option<ConcurrencySettings> {
    let path = |key| ["models", name, key];
    let parallel = reader.optional_integer(&path("max_parallel")).unwrap_or_default();
    let own_queue = reader.optional_integer(&path("max_queue")).unwrap_or_default();
    let own_wait = reader.optional_duration(&path("max_wait")).unwrap_or_default();
    if reader.doc.get(&path("max_parallel")).is_none() {
        for key in ["max_queue", "max_wait"] {
            if let Some(entry) = reader.doc.get(&path(key)) {
                reader.warning(&path(key), &entry.key, "has no effect without max_parallel");
            }
        }
    }
    let parallel = parallel?;
    Some(ConcurrencySettings {
        max_parallel: parallel,
        max_queue: own_queue.unwrap_or(queue),
        max_wait: own_wait.unwrap_or(wait),
    })
}

/// Returns the kind of server: the identifier's, or Bedrock's OpenAI-compatible endpoint when the
/// model sets it.
fn served_by(reader: &mut Reader<'_>, name: &str, provider: ProviderKind) -> ProviderKind {
    let Some(openai) = provider.profile().openai_compatible else { return provider };
    let is_openai = reader.optional_boolean(&["models", name, "bedrock_openai"]) == Ok(Some(true));
    if is_openai { openai } else { provider }
}

/// Returns why a name cannot be a model's: it is a label of metrics, a value of headers and a line
/// of `/v1/models`.
fn bad_name(name: &str) -> Option<&'static str> {
    match name {
        "disabled" | cloud::NAME => {
            Some("this name means something else in [features]: choose another")
        }
        "request" => Some("this name stands for models that requests bring: choose another"),
        _ if name.starts_with("feature/") => {
            Some("feature/… selects a feature in /v1: choose another name")
        }
        _ if name.is_empty() || name.len() > 100 => Some("a model's name has 1 to 100 characters"),
        _ if !name.bytes().all(|b| b.is_ascii_graphic()) => {
            Some("a model's name is of visible ASCII characters")
        }
        _ => None,
    }
}

/// Reads the identifier. Without one, the model's name is that of an OpenAI-compatible server.
fn identifier(reader: &mut Reader<'_>, name: &str) -> Result<Identifier, Reported> {
    let path = ["models", name, "identifier"];
    let Some(entry) = reader.doc.get(&path) else {
        return Ok(Identifier { provider: ProviderKind::default(), model: name.into() });
    };
    let text = reader.string(&path)?;
    Identifier::parse(&text).map_err(|why| {
        let fault = reader.fault_at(&path, &entry.span, why.to_string());
        reader.report(fault.found(quoted_value(entry.value)).hint(prefix_hint(&text)))
    })
}

/// Returns the identifier that was probably meant: `mistralai/Mistral-7B` is a Hugging Face name
/// that lacks its prefix.
fn prefix_hint(text: &str) -> Option<String> {
    let (prefix, model) = text.trim().split_once('/')?;
    if prefix == "bedrock_mantle" {
        let endpoint = "endpoint = \"https://bedrock-mantle.<region>.api.aws/v1\"";
        return Some(format!("write \"bedrock/{model}\", bedrock_openai = true and {endpoint}"));
    }
    let meant = match suggest::nearest(prefix, ProviderKind::prefixes()) {
        Some(near) => format!("{near}/{model}"),
        None => format!("custom_openai/{}", text.trim()),
    };
    Some(format!("did you mean {meant:?}?"))
}

/// Reads the model's family, with the model's own keys over it.
fn family(
    reader: &mut Reader<'_>,
    name: &str,
    families: &Families,
) -> Result<Arc<Family>, Reported> {
    let path = ["models", name, "family"];
    let named = reader.optional_string(&path)?;
    let family = match &named {
        Some(text) => families.find(text).cloned(),
        None => Some(families.get("")),
    };
    let context_tokens =
        reader.optional_integer(&["models", name, "context_tokens"]).unwrap_or_default();
    let context_tokens = context_tokens.and_then(|tokens| tokens.try_into().ok());
    let endpoint = families::completion_endpoint(reader, &["models", name, "completion_endpoint"]);
    let Some(family) = family else {
        // one of the file's that has faults of its own has been reported
        let is_defined = |family| reader.doc.get(&["families", family]).is_some();
        if named.as_deref().is_some_and(is_defined) {
            return Err(Reported);
        }
        return Err(families::unknown(reader, &path, families));
    };
    if context_tokens.is_none() && endpoint.is_none() {
        return Ok(family);
    }
    Ok(Arc::new(Family {
        context_tokens: context_tokens.unwrap_or(family.context_tokens),
        completion_endpoint: endpoint.or(family.completion_endpoint),
        ..(*family).clone()
    }))
}

/// Collects a fault for each key that is only for models of other providers.
fn check_support(reader: &mut Reader<'_>, name: &str, provider: ProviderKind) {
    for key in reader.doc.names(&["models", name]) {
        let path = ["models", name, key];
        // a table is for the same providers as its keys
        let inner = key_paths::children(&path)
            .first()
            .and_then(|inner| key_paths::find(&["models", name, key, inner]));
        let support = key_paths::find(&path).or(inner).map(|key| key.support);
        let Some(Support::Only(kinds)) = support else { continue };
        let Some(entry) = reader.doc.get(&path).filter(|_| !kinds.contains(&provider.label()))
        else {
            continue;
        };
        let message =
            format!("only for {} models; this is one of {}", kinds.join(" and "), provider.label());
        reader.error(&path, &entry.key, message);
    }
}

/// Reads `endpoint` or `endpoints`. Returns an empty list for a Bedrock model that sets neither: its
/// region has an endpoint.
fn endpoints(
    reader: &mut Reader<'_>,
    name: &str,
    header: &Range<usize>,
    provider: Option<ProviderKind>,
    version: Option<&ApiVersion>,
) -> Result<Vec<EndpointUrl>, Reported> {
    let (one, many) = (["models", name, "endpoint"], ["models", name, "endpoints"]);
    let (path, texts) = match (reader.doc.get(&one), reader.doc.get(&many)) {
        (Some(_), Some(entry)) => {
            let message = "endpoint and endpoints: expected only one of them";
            return Err(reader.report(reader.fault_at(&many, &entry.key, message)));
        }
        (Some(entry), None) => (one, vec![(reader.string(&one)?, entry.span)]),
        (None, Some(entry)) => {
            let texts = reader.strings(&many)?;
            if texts.is_empty() {
                let fault = reader.fault_at(&many, &entry.span, "expected at least one URL");
                return Err(reader.report(fault));
            }
            (many, texts)
        }
        (None, None) => return default_endpoints(reader, name, header, provider),
    };
    let rule = provider.unwrap_or_default().profile().url;
    let mut found = Vec::new();
    let mut all_good = Ok(());
    for (text, span) in texts {
        if rule == UrlRule::AzureResource {
            azure::check_root(reader, &path, &text, &span, version);
        }
        match endpoint(reader, &path, &text, &span, rule) {
            Ok(url) if found.contains(&url) => {
                reader.warning(&path, &span, "listed twice");
            }
            Ok(url) => found.push(url),
            Err(reported) => all_good = Err(reported),
        }
    }
    all_good.map(|()| found)
}

/// Returns the endpoints of a model that sets none.
fn default_endpoints(
    reader: &mut Reader<'_>,
    name: &str,
    header: &Range<usize>,
    provider: Option<ProviderKind>,
) -> Result<Vec<EndpointUrl>, Reported> {
    let hint = match provider.unwrap_or_default().profile().default_endpoint {
        // read with the region
        DefaultEndpoint::AwsRegion => return Ok(vec![]),
        DefaultEndpoint::Url(text) => {
            let setting = Setting { value: format!("\"{text}\""), origin: Origin::Default };
            reader.provenance.record(path_text(&["models", name, "endpoint"]), setting);
            return EndpointUrl::parse(text).map(|url| vec![url]).map_err(|_| Reported);
        }
        DefaultEndpoint::Required(hint) => hint,
    };
    let fault = reader.fault_at(&["models", name], header, "expected endpoint or endpoints");
    Err(reader.report(fault.hint(Some(hint.to_owned()))))
}

/// Parses one endpoint.
fn endpoint(
    reader: &mut Reader<'_>,
    path: &[&str],
    text: &str,
    span: &Range<usize>,
    rule: UrlRule,
) -> Result<EndpointUrl, Reported> {
    rule.parse(text).map_err(|why| {
        let usual_path = if text.contains('/') { "" } else { "/v1" };
        let meant = format!("http://{}{usual_path}", text.trim());
        let hint = if !text.contains("://") && EndpointUrl::parse(&meant).is_ok() {
            format!("did you mean {meant:?}?")
        } else {
            why.to_string()
        };
        let found = quoted_value(&DeValue::String(text.into()));
        let fault = reader.fault_at(path, span, "expected a URL like \"http://host:port/v1\"");
        reader.report(fault.found(found).hint(Some(hint)))
    })
}
