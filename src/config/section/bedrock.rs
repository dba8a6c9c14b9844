//! What a Bedrock model says besides name and family: region, address, credentials, guardrail. What
//! it does not say comes from the environment.

use std::ops::Range;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::Authority;

use crate::config::config::{Origin, Setting};
use crate::config::section::provider_env::{
    Inherited, REGION, Said, chain_setting, kind_of, note_said, shown_guardrail,
};
use crate::config::toml::document::path_text;
use crate::config::toml::reader::{Reader, said};
use crate::model::{
    AwsCredentials, AwsKeys, BedrockAccess, BedrockModel, EndpointUrl, Guardrail, Region,
};
use crate::secret::Secret;

/// One Bedrock model of the file.
pub(crate) struct Bedrock<'m> {
    pub(crate) name: &'m str,
    /// Where its table begins.
    pub(crate) header: &'m Range<usize>,
    /// What follows `bedrock/`.
    pub(crate) model: &'m str,
    /// `bedrock_openai = true`
    pub(crate) is_open: bool,
    pub(crate) inherited: &'m Inherited,
}

impl Bedrock<'_> {
    /// Where and as whom it is asked. `said` are the endpoints of the file, `api_key` its key.
    pub(crate) fn read(
        &self,
        reader: &mut Reader<'_>,
        said: Vec<EndpointUrl>,
        api_key: Option<Secret<String>>,
    ) -> Option<(Vec<EndpointUrl>, BedrockAccess)> {
        let region = self.region(reader);
        let endpoints = self.endpoints(reader, said, region.as_ref());
        let credentials = self.credentials(reader, api_key);
        let signing_host = self.signing_host(reader);
        let guardrail = self.guardrail(reader);
        if let (Some(AwsCredentials::Chain(chain)), Some(region)) =
            (credentials.as_deref(), &region)
        {
            chain.near(region);
            // at start-up, before the first request
            chain.keys.ask();
        }
        if self.is_open {
            self.check_open(
                reader,
                endpoints.as_deref(),
                credentials.as_deref(),
                guardrail.as_ref()?.as_ref(),
            )?;
        }
        let access = BedrockAccess {
            region: region?,
            credentials: credentials?,
            signing_host: signing_host?,
            guardrail: guardrail?,
        };
        Some((endpoints?, access))
    }

    const fn path<'p>(&'p self, key: &'p str) -> [&'p str; 3] {
        ["models", self.name, key]
    }

    fn note(&self, reader: &mut Reader<'_>, key: &str, value: String, origin: Origin) {
        reader.provenance.note(path_text(&self.path(key)), Setting { value, origin });
    }

    /// The identifier's, else `region`, else the environment's.
    fn region(&self, reader: &mut Reader<'_>) -> Option<Region> {
        let identifier = self.path("identifier");
        let entry = reader.doc.get(&identifier)?;
        let model = match BedrockModel::parse(self.model) {
            Ok(model) => model,
            Err(why) => {
                reader.error(&identifier, &entry.span, why.to_string()).said =
                    Some(said(entry.value));
                return None;
            }
        };
        let path = self.path("region");
        let own = match reader.doc.get(&path) {
            Some(entry) => {
                let region = Region::parse(&reader.text(&path)?).ok();
                if region.is_none() {
                    reader.wrong(&path, &entry.span, entry.value);
                }
                Some((region?, entry.span))
            }
            None => None,
        };
        match (model.named_region(), own) {
            (Some(named), Some((own, span))) if named != own => {
                let message = format!("contradicts the identifier, which names {named}");
                reader.error(&path, &span, message).said = Some(format!("\"{own}\""));
                None
            }
            (Some(named), _) => {
                let origin = reader.provenance.origin(&path_text(&identifier));
                self.note(reader, "region", format!("\"{named}\""), origin);
                Some(named)
            }
            (None, Some((own, _))) => Some(own),
            (None, None) => self.inherited_region(reader),
        }
    }

    fn inherited_region(&self, reader: &mut Reader<'_>) -> Option<Region> {
        note_said(reader, self.name, "region", &self.inherited.region, |region| {
            format!("\"{region}\"")
        });
        if matches!(self.inherited.region, Said::Nothing) {
            let hint = format!(
                "say region = \"…\" here, {} in the environment, or bedrock/<region>/… in the identifier",
                REGION.join(" or ")
            );
            reader.error(&["models", self.name], self.header, "expected a region").hint =
                Some(hint);
        }
        self.inherited.region.value()
    }

    /// The file's, else the environment's, else the region's public one.
    fn endpoints(
        &self,
        reader: &mut Reader<'_>,
        said: Vec<EndpointUrl>,
        region: Option<&Region>,
    ) -> Option<Vec<EndpointUrl>> {
        if !said.is_empty() {
            return Some(said);
        }
        note_said(reader, self.name, "endpoint", &self.inherited.endpoint, |url| {
            format!("\"{url}\"")
        });
        match &self.inherited.endpoint {
            Said::Value(url, _) => Some(vec![url.clone()]),
            Said::Wrong => None,
            // a region is safe in a host name: this does not fail
            Said::Nothing => region?.bedrock_endpoint().ok().map(|url| vec![url]),
        }
    }

    /// `api_key` or the keys of the file, else the environment's.
    fn credentials(
        &self,
        reader: &mut Reader<'_>,
        api_key: Option<Secret<String>>,
    ) -> Option<Arc<AwsCredentials>> {
        const KEYS: [&str; 3] = ["access_key_id", "secret_access_key", "session_token"];
        let api_key_entry = reader.doc.get(&self.path("api_key"));
        let [id, secret, token] = KEYS.map(|key| reader.doc.get(&self.path(key)));
        let own_keys = id.iter().chain(&secret).chain(&token).map(|entry| entry.key.clone()).next();
        let found = match (api_key_entry, own_keys) {
            (Some(_), Some(key)) => {
                let message = "api_key and an access key: expected only one of them";
                reader.error(&["models", self.name], &key, message);
                return None;
            }
            (Some(entry), None) => (AwsCredentials::ApiKey(api_key?), entry.key.start),
            (None, Some(at)) => {
                let lacking: Vec<&str> = KEYS
                    .into_iter()
                    .zip([&id, &secret])
                    .filter(|(_, it)| it.is_none())
                    .map(|(key, _)| key)
                    .collect();
                if !lacking.is_empty() {
                    let message = format!("expected {} beside it", lacking.join(" and "));
                    reader.error(&["models", self.name], &at, message);
                    return None;
                }
                let [id, secret, session_token] = KEYS.map(|key| reader.secret(&self.path(key)));
                if token.is_some() && session_token.is_none() {
                    return None;
                }
                let access_key_id = id?.expose().as_str().into();
                (
                    AwsCredentials::Keys(AwsKeys {
                        access_key_id,
                        secret_access_key: secret?,
                        session_token,
                    }),
                    at.start,
                )
            }
            (None, None) => return self.inherited_credentials(reader),
        };
        let origin = Origin::Line(reader.doc.line(found.1));
        self.note(reader, "credentials", kind_of(&found.0).to_owned(), origin);
        Some(Arc::new(found.0))
    }

    /// The environment's, else AWS's credential chain.
    fn inherited_credentials(&self, reader: &mut Reader<'_>) -> Option<Arc<AwsCredentials>> {
        match &self.inherited.credentials {
            Said::Wrong => None,
            Said::Value(credentials, _) => {
                note_said(reader, self.name, "credentials", &self.inherited.credentials, |it| {
                    kind_of(it).to_owned()
                });
                Some(Arc::clone(credentials))
            }
            Said::Nothing => {
                let Setting { value, origin } = chain_setting(reader);
                self.note(reader, "credentials", value, origin);
                Some(Arc::clone(&self.inherited.chain))
            }
        }
    }

    /// What the OpenAI-compatible endpoint wants otherwise than Converse. `None` leaves a fault.
    fn check_open(
        &self,
        reader: &mut Reader<'_>,
        endpoints: Option<&[EndpointUrl]>,
        credentials: Option<&AwsCredentials>,
        guardrail: Option<&Guardrail>,
    ) -> Option<()> {
        let (path, entry) =
            (self.path("bedrock_openai"), reader.doc.get(&self.path("bedrock_openai"))?);
        let is_mantle = endpoints?.iter().any(|url| url.host().starts_with("bedrock-mantle."));
        let message = match guardrail {
            Some(_) if is_mantle => {
                "a guardrail is not known to work at bedrock-mantle: use bedrock-runtime"
            }
            Some(Guardrail { version: None, .. }) => {
                "expected the guardrail's version: this endpoint wants it"
            }
            Some(_) | None if is_mantle && !matches!(credentials?, AwsCredentials::ApiKey(_)) => {
                "bedrock-mantle wants a Bedrock API key here: how it is signed for is not written down"
            }
            Some(_) | None => return Some(()),
        };
        reader.error(&path, &entry.key, message);
        None
    }

    /// The outer `None` leaves a fault.
    fn signing_host(&self, reader: &mut Reader<'_>) -> Option<Option<HeaderValue>> {
        let path = self.path("signing_host");
        let Some(entry) = reader.doc.get(&path) else { return Some(None) };
        let text = reader.text(&path)?;
        let is_host = text.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@'));
        let host = HeaderValue::from_str(&text).ok().filter(|_| is_host);
        if host.is_none() {
            reader.wrong(&path, &entry.span, entry.value);
        }
        Some(Some(host?))
    }

    /// The file's, else the environment's. The outer `None` leaves a fault.
    fn guardrail(&self, reader: &mut Reader<'_>) -> Option<Option<Guardrail>> {
        let table = self.path("guardrail");
        let Some(entry) = reader.doc.get(&table) else {
            note_said(reader, self.name, "guardrail", &self.inherited.guardrail, shown_guardrail);
            return match &self.inherited.guardrail {
                Said::Wrong => None,
                said => Some(said.value()),
            };
        };
        entry.value.as_table()?;
        let mut read = |key| reader.text(&["models", self.name, "guardrail", key]);
        let (identifier, version) = (read("identifier"), read("version"));
        let trace = reader.word(&["models", self.name, "guardrail", "trace"]);
        // of the wrong kind is told already
        let is_there = |key| reader.doc.get(&["models", self.name, "guardrail", key]).is_some();
        let (is_named, is_dated) = (is_there("identifier"), is_there("version"));
        if !is_named {
            reader.error(&table, &entry.key, "expected identifier in this table");
        }
        let identifier = identifier.filter(|_| version.is_some() || !is_dated)?;
        match Guardrail::parse(&identifier, version.as_deref(), trace) {
            Ok(guardrail) => Some(Some(guardrail)),
            Err(why) => {
                reader.error(&table, &entry.key, why.to_string());
                None
            }
        }
    }
}
