//! What a Bedrock model has in addition to name and family: region, address, credentials, guardrail.
//! What its table does not set comes from the environment.

use std::ops::Range;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::Authority;

use crate::config::section::provider_env::{
    EnvValue, ProviderEnv, REGION, chain_setting, kind_of, record_value, shown_guardrail,
};
use crate::config::toml::diagnostic::Reported;
use crate::config::toml::document::path_text;
use crate::config::toml::provenance::{Origin, Setting};
use crate::config::toml::reader::Reader;
use crate::config::toml::values::quoted_value;
use crate::model::{
    AwsCredentials, AwsKeys, BedrockAccess, BedrockModel, EndpointUrl, Guardrail, Region,
};
use crate::secret::Secret;

const ACCESS_KEYS: [&str; 3] = ["access_key_id", "secret_access_key", "session_token"];

/// One Bedrock model of the file.
pub(crate) struct Bedrock<'m> {
    /// Its name in the file.
    pub(crate) name: &'m str,
    /// Span of its table's header.
    pub(crate) header: &'m Range<usize>,
    /// The part of its identifier after `bedrock/`.
    pub(crate) model: &'m str,
    /// Whether it uses the OpenAI-compatible endpoint (`bedrock_openai = true`).
    pub(crate) is_openai: bool,
    /// The settings of the environment.
    pub(crate) provider_env: &'m ProviderEnv,
}

impl Bedrock<'_> {
    /// Reads the endpoints and how they are accessed. `endpoints` are those of the file, which may
    /// be none, and `api_key` is its key.
    pub(crate) fn read(
        &self,
        reader: &mut Reader<'_>,
        endpoints: Vec<EndpointUrl>,
        api_key: Result<Option<Secret<String>>, Reported>,
    ) -> Result<(Vec<EndpointUrl>, BedrockAccess), Reported> {
        let region = self.region(reader);
        let endpoints = self.endpoints(reader, endpoints, region.as_ref().ok());
        let credentials = self.credentials(reader, api_key);
        let signing_host = self.signing_host(reader);
        let guardrail = self.guardrail(reader);
        if let (Ok(AwsCredentials::Chain(chain)), Ok(region)) = (credentials.as_deref(), &region) {
            chain.set_region(region);
            // at start-up, before the first request
            chain.keys.request_fetch();
        }
        if self.is_openai {
            let guardrail = guardrail.as_ref().map_err(|_| Reported)?.as_ref();
            self.check_openai(reader, &endpoints, &credentials, guardrail)?;
        }
        let access = BedrockAccess {
            region: region?,
            credentials: credentials?,
            signing_host: signing_host?,
            guardrail: guardrail?,
        };
        Ok((endpoints?, access))
    }

    const fn path<'p>(&'p self, key: &'p str) -> [&'p str; 3] {
        ["models", self.name, key]
    }

    fn record(&self, reader: &mut Reader<'_>, key: &str, value: String, origin: Origin) {
        reader.provenance.record(path_text(&self.path(key)), Setting { value, origin });
    }

    /// Reads the region: the identifier's, else `region`, else the environment's.
    fn region(&self, reader: &mut Reader<'_>) -> Result<Region, Reported> {
        let identifier = self.path("identifier");
        let entry = reader.doc.get(&identifier).ok_or(Reported)?;
        let model = BedrockModel::parse(self.model).map_err(|why| {
            let fault = reader.fault_at(&identifier, &entry.span, why.to_string());
            reader.report(fault.found(quoted_value(entry.value)))
        })?;
        let path = self.path("region");
        let own = match reader.doc.get(&path) {
            Some(entry) => {
                let text = reader.string(&path)?;
                let region = Region::parse(&text)
                    .map_err(|_| reader.wrong(&path, &entry.span, entry.value))?;
                Some((region, entry.span))
            }
            None => None,
        };
        match (model.named_region(), own) {
            (Some(named), Some((own, span))) if named != own => {
                let message = format!("contradicts the identifier, which names {named}");
                let fault = reader.fault_at(&path, &span, message).found(format!("\"{own}\""));
                Err(reader.report(fault))
            }
            (Some(named), _) => {
                let origin = reader.provenance.origin(&path_text(&identifier));
                self.record(reader, "region", format!("\"{named}\""), origin);
                Ok(named)
            }
            (None, Some((own, _))) => Ok(own),
            (None, None) => self.region_of_environment(reader),
        }
    }

    fn region_of_environment(&self, reader: &mut Reader<'_>) -> Result<Region, Reported> {
        record_value(reader, self.name, "region", &self.provider_env.region, |region| {
            format!("\"{region}\"")
        });
        match &self.provider_env.region {
            EnvValue::Set { value, .. } => Ok(value.clone()),
            EnvValue::Invalid => Err(Reported),
            EnvValue::Unset => {
                let hint = format!(
                    "set region = \"…\" here, {} in the environment, or bedrock/<region>/… in the identifier",
                    REGION.join(" or ")
                );
                let path = ["models", self.name];
                let fault = reader.fault_at(&path, self.header, "expected a region");
                Err(reader.report(fault.hint(Some(hint))))
            }
        }
    }

    /// Returns the endpoints: the file's, else the environment's, else the region's public one.
    fn endpoints(
        &self,
        reader: &mut Reader<'_>,
        own: Vec<EndpointUrl>,
        region: Option<&Region>,
    ) -> Result<Vec<EndpointUrl>, Reported> {
        if !own.is_empty() {
            return Ok(own);
        }
        record_value(reader, self.name, "endpoint", &self.provider_env.endpoint, |url| {
            format!("\"{url}\"")
        });
        match &self.provider_env.endpoint {
            EnvValue::Set { value, .. } => Ok(vec![value.clone()]),
            EnvValue::Invalid => Err(Reported),
            // a region is safe in a host name: this does not fail
            EnvValue::Unset => {
                let url = region.ok_or(Reported)?.bedrock_endpoint();
                url.map(|url| vec![url]).map_err(|_| Reported)
            }
        }
    }

    /// Reads the credentials: `api_key` or the access key of the file, else the environment's.
    fn credentials(
        &self,
        reader: &mut Reader<'_>,
        api_key: Result<Option<Secret<String>>, Reported>,
    ) -> Result<Arc<AwsCredentials>, Reported> {
        let api_key_entry = reader.doc.get(&self.path("api_key"));
        let access_keys = ACCESS_KEYS.map(|key| reader.doc.get(&self.path(key)));
        let access_key = access_keys.into_iter().flatten().next();
        let (credentials, start) = match (api_key_entry, access_key) {
            (Some(_), Some(entry)) => {
                let message = "api_key and an access key: expected only one of them";
                let path = ["models", self.name];
                return Err(reader.report(reader.fault_at(&path, &entry.key, message)));
            }
            (Some(entry), None) => {
                let key = api_key?.ok_or(Reported)?;
                (AwsCredentials::ApiKey(key), entry.key.start)
            }
            (None, Some(entry)) => {
                let keys = self.access_key(reader, &entry.key)?;
                (AwsCredentials::Keys(keys), entry.key.start)
            }
            (None, None) => return self.credentials_of_environment(reader),
        };
        let origin = Origin::Line(reader.doc.line(start));
        self.record(reader, "credentials", kind_of(&credentials).to_owned(), origin);
        Ok(Arc::new(credentials))
    }

    /// Reads the parts of an access key, of which the first in the file is at `at`.
    fn access_key(&self, reader: &mut Reader<'_>, at: &Range<usize>) -> Result<AwsKeys, Reported> {
        let missing: Vec<&str> = ACCESS_KEYS[..2]
            .iter()
            .copied()
            .filter(|key| reader.doc.get(&self.path(key)).is_none())
            .collect();
        if !missing.is_empty() {
            let message = format!("expected {} as well", missing.join(" and "));
            return Err(reader.report(reader.fault_at(&["models", self.name], at, message)));
        }
        let [id, secret, session_token] =
            ACCESS_KEYS.map(|key| reader.optional_secret(&self.path(key)));
        Ok(AwsKeys {
            access_key_id: id?.ok_or(Reported)?.expose().as_str().into(),
            secret_access_key: secret?.ok_or(Reported)?,
            session_token: session_token?,
        })
    }

    /// Returns the environment's credentials, else AWS's credential chain.
    fn credentials_of_environment(
        &self,
        reader: &mut Reader<'_>,
    ) -> Result<Arc<AwsCredentials>, Reported> {
        let credentials = &self.provider_env.credentials;
        record_value(reader, self.name, "credentials", credentials, |it| kind_of(it).to_owned());
        match credentials {
            EnvValue::Invalid => Err(Reported),
            EnvValue::Set { value, .. } => Ok(Arc::clone(value)),
            EnvValue::Unset => {
                let Setting { value, origin } = chain_setting(reader);
                self.record(reader, "credentials", value, origin);
                Ok(Arc::clone(&self.provider_env.chain))
            }
        }
    }

    /// Checks what the OpenAI-compatible endpoint requires and Converse does not.
    fn check_openai(
        &self,
        reader: &mut Reader<'_>,
        endpoints: &Result<Vec<EndpointUrl>, Reported>,
        credentials: &Result<Arc<AwsCredentials>, Reported>,
        guardrail: Option<&Guardrail>,
    ) -> Result<(), Reported> {
        let path = self.path("bedrock_openai");
        let entry = reader.doc.get(&path).ok_or(Reported)?;
        let mut endpoints = endpoints.as_ref().map_err(|_| Reported)?.iter();
        let is_mantle = endpoints.any(|url| url.host().starts_with("bedrock-mantle."));
        let has_api_key = credentials.as_deref().map(|it| matches!(it, AwsCredentials::ApiKey(_)));
        let message = match guardrail {
            Some(_) if is_mantle => {
                "a guardrail is not known to work at bedrock-mantle: use bedrock-runtime"
            }
            Some(Guardrail { version: None, .. }) => {
                "expected the guardrail's version: this endpoint requires it"
            }
            None if is_mantle && !has_api_key.map_err(|_| Reported)? => {
                "bedrock-mantle requires a Bedrock API key: how its requests are signed is not documented"
            }
            Some(_) | None => return Ok(()),
        };
        Err(reader.report(reader.fault_at(&path, &entry.key, message)))
    }

    /// Reads the host to send and sign, if it is another than the endpoint's.
    fn signing_host(&self, reader: &mut Reader<'_>) -> Result<Option<HeaderValue>, Reported> {
        let path = self.path("signing_host");
        let Some(entry) = reader.doc.get(&path) else { return Ok(None) };
        let text = reader.string(&path)?;
        let is_host = text.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@'));
        match HeaderValue::from_str(&text) {
            Ok(host) if is_host => Ok(Some(host)),
            _ => Err(reader.wrong(&path, &entry.span, entry.value)),
        }
    }

    /// Reads the guardrail: the file's, else the environment's, if there is one.
    fn guardrail(&self, reader: &mut Reader<'_>) -> Result<Option<Guardrail>, Reported> {
        let table = self.path("guardrail");
        let Some(entry) = reader.doc.get(&table) else {
            let guardrail = &self.provider_env.guardrail;
            record_value(reader, self.name, "guardrail", guardrail, shown_guardrail);
            return match guardrail {
                EnvValue::Invalid => Err(Reported),
                EnvValue::Set { .. } | EnvValue::Unset => Ok(guardrail.value()),
            };
        };
        // anything but a table has been reported
        entry.value.as_table().ok_or(Reported)?;
        let path = |key| ["models", self.name, "guardrail", key];
        let identifier = reader.optional_string(&path("identifier"));
        let version = reader.optional_string(&path("version"));
        let trace = reader.optional_keyword(&path("trace")).unwrap_or_default();
        let Some(identifier) = identifier? else {
            let message = "expected identifier in this table";
            return Err(reader.report(reader.fault_at(&table, &entry.key, message)));
        };
        Guardrail::parse(&identifier, version?.as_deref(), trace)
            .map(Some)
            .map_err(|why| reader.report(reader.fault_at(&table, &entry.key, why.to_string())))
    }
}
