//! What Bedrock and Azure models take from the environment where the file is silent, and what
//! models that requests bring take from it always. Read once, so that a wrong variable is told
//! once.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::config::config::{Origin, Setting};
use crate::config::load::Environment;
use crate::config::toml::diagnostic::{Fault, MASK, Place, Severity, may_carry_secret, quoted};
use crate::config::toml::document::path_text;
use crate::config::toml::reader::{Reader, visible};
use crate::model::{
    ApiVersion, AwsChain, AwsCredentials, AwsKeys, CredentialKind, EndpointUrl, Guardrail,
    Identifier, ProviderDefaults, Region,
};
use crate::secret::Secret;

pub(crate) const REGION: [&str; 2] = ["AWS_REGION", "AWS_REGION_NAME"];
const ENDPOINT: &str = "AWS_BEDROCK_RUNTIME_ENDPOINT";
const API_KEY: &str = "AWS_BEARER_TOKEN_BEDROCK";
const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
const GUARDRAIL: &str = "AIGW_BEDROCK_GUARDRAIL_CONFIG";
const API_VERSION: &str = "AZURE_API_VERSION";

/// What one setting's variables said.
pub(crate) enum Said<T> {
    Nothing,
    /// Not what was expected; that is told.
    Wrong,
    /// This, and who said it.
    Value(T, &'static str),
}

impl<T: Clone> Said<T> {
    pub(crate) fn value(&self) -> Option<T> {
        match self {
            Self::Value(value, _) => Some(value.clone()),
            Self::Nothing | Self::Wrong => None,
        }
    }
}

/// All of them.
pub(crate) struct Inherited {
    pub(crate) region: Said<Region>,
    pub(crate) endpoint: Said<EndpointUrl>,
    pub(crate) credentials: Said<Arc<AwsCredentials>>,
    /// Where nothing says credentials; shared by all models.
    pub(crate) chain: Arc<AwsCredentials>,
    pub(crate) guardrail: Said<Guardrail>,
    pub(crate) api_version: Said<ApiVersion>,
}

/// A wrong variable is an error when a model of the file may need it; machines have such variables
/// for other programs too, so without such a model it is a warning.
pub(crate) fn read(reader: &mut Reader<'_>) -> Inherited {
    let severity = |kind| if has(reader, kind) { Severity::Error } else { Severity::Warning };
    let (bedrock, azure) = (severity(CredentialKind::Aws), severity(CredentialKind::Azure));
    let (env, faults) = (reader.env, &mut reader.faults);
    let inherited = Inherited {
        region: first(env, &REGION, faults, bedrock, |text| {
            Region::parse(text).map_err(|_| wrong(text, "expected a region like \"eu-central-1\""))
        }),
        endpoint: first(env, &[ENDPOINT], faults, bedrock, |text| {
            let expected =
                "expected a URL like \"https://bedrock-runtime.eu-central-1.amazonaws.com\"";
            EndpointUrl::parse(text).map_err(|_| wrong(text, expected))
        }),
        credentials: credentials(env, faults, bedrock),
        chain: Arc::new(AwsCredentials::Chain(Arc::new(AwsChain::default()))),
        // what it protects would go unprotected: never only a warning
        guardrail: first(env, &[GUARDRAIL], faults, Severity::Error, guardrail),
        api_version: first(env, &[API_VERSION], faults, azure, |text| {
            let expected = "expected v1, preview or a date like \"2025-02-01-preview\"";
            ApiVersion::parse(text).map_err(|_| wrong(text, expected))
        }),
    };
    inherited.note(reader);
    inherited
}

/// Returns whether the file has a model with credentials of this kind.
fn has(reader: &Reader<'_>, kind: CredentialKind) -> bool {
    let credentials = |name: &str| {
        let entry = reader.doc.get(&["models", name, "identifier"])?;
        Some(Identifier::parse(entry.value.as_str()?).ok()?.provider.credentials())
    };
    reader.doc.names(&["models"]).into_iter().any(|name| credentials(name) == Some(kind))
}

/// The first of some variables that is set.
fn first<T>(
    env: &Environment,
    names: &[&'static str],
    faults: &mut Vec<Fault>,
    severity: Severity,
    parse: impl Fn(&str) -> Result<T, Unfit>,
) -> Said<T> {
    let set = names.iter().find_map(|name| Some((*name, env.get(name)?)));
    let Some((name, text)) = set else { return Said::Nothing };
    match parse(text.trim()) {
        Ok(value) => Said::Value(value, name),
        Err(Unfit { said, message }) => {
            faults.push(Fault {
                severity,
                said,
                ..Fault::error(Place::Environment, name, message)
            });
            Said::Wrong
        }
    }
}

/// Why a variable's value is not used.
struct Unfit {
    said: Option<String>,
    message: String,
}

fn wrong(text: &str, expected: &str) -> Unfit {
    let said = if may_carry_secret(text) { format!("\"{MASK}\"") } else { quoted(text) };
    Unfit { said: Some(said), message: expected.to_owned() }
}

/// A Bedrock API key before an access key, as AWS's own programs do (providers.md d1.8).
fn credentials(
    env: &Environment,
    faults: &mut Vec<Fault>,
    severity: Severity,
) -> Said<Arc<AwsCredentials>> {
    let found = if env.get(API_KEY).is_some() {
        secret(env, API_KEY).map(|key| (AwsCredentials::ApiKey(key), API_KEY))
    } else {
        match [KEY_ID, SECRET_KEY].map(|name| env.get(name).is_some()) {
            [false, false] => return Said::Nothing,
            [true, true] => keys(env).map(|keys| {
                let with_token = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN";
                let by = if keys.session_token.is_some() {
                    with_token
                } else {
                    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"
                };
                (AwsCredentials::Keys(keys), by)
            }),
            [true, false] => Err((KEY_ID, format!("expected {SECRET_KEY} beside it"))),
            [false, true] => Err((SECRET_KEY, format!("expected {KEY_ID} beside it"))),
        }
    };
    match found {
        Ok((credentials, by)) => Said::Value(Arc::new(credentials), by),
        Err((name, message)) => {
            faults.push(Fault { severity, ..Fault::error(Place::Environment, name, message) });
            Said::Wrong
        }
    }
}

type Wrong = (&'static str, String);

fn keys(env: &Environment) -> Result<AwsKeys, Wrong> {
    Ok(AwsKeys {
        access_key_id: secret(env, KEY_ID)?.expose().as_str().into(),
        secret_access_key: secret(env, SECRET_KEY)?,
        session_token: env.get(SESSION_TOKEN).map(|_| secret(env, SESSION_TOKEN)).transpose()?,
    })
}

fn secret(env: &Environment, name: &'static str) -> Result<Secret<String>, Wrong> {
    visible(env.get(name).unwrap_or_default().to_owned(), "").map_err(|message| (name, message))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GuardrailConfig {
    guardrail_identifier: String,
    guardrail_version: Option<Value>,
    trace: Option<String>,
}

/// The JSON of GitLab's gateway (ai-gateway-server.md §6). It and AWS's service model let the
/// version out.
fn guardrail(text: &str) -> Result<Guardrail, Unfit> {
    let fault = |message: String| Unfit { said: None, message };
    let config: GuardrailConfig = serde_json::from_str(text).map_err(|_| {
        fault(
            "expected JSON like {\"guardrailIdentifier\": \"abc123\", \"guardrailVersion\": \"1\"}"
                .to_owned(),
        )
    })?;
    let version = match &config.guardrail_version {
        None | Some(Value::Null) => None,
        Some(Value::String(version)) => Some(version.clone()),
        Some(other) => Some(other.to_string()),
    };
    Guardrail::parse(&config.guardrail_identifier, version.as_deref(), config.trace.as_deref())
        .map_err(|error| fault(error.to_string()))
}

/// The name that `weir check` lists the models of requests under; no model of the file may have it.
const REQUEST: &str = "request";

impl Inherited {
    /// What the models of requests get.
    pub(crate) fn defaults(&self) -> ProviderDefaults {
        let unsaid = ProviderDefaults::default();
        ProviderDefaults {
            region: self.region.value(),
            endpoint: self.endpoint.value(),
            credentials: match &self.credentials {
                Said::Nothing => Some(Arc::clone(&self.chain)),
                said => said.value(),
            },
            guardrail: self.guardrail.value(),
            api_version: self.api_version.value().unwrap_or(unsaid.api_version),
        }
    }

    fn note(&self, reader: &mut Reader<'_>) {
        note_said(reader, REQUEST, "region", &self.region, |region| format!("\"{region}\""));
        note_said(reader, REQUEST, "endpoint", &self.endpoint, |url| format!("\"{url}\""));
        note_said(reader, REQUEST, "credentials", &self.credentials, |it| kind_of(it).to_owned());
        // without a region nothing of Bedrock is of interest here
        if let (Said::Nothing, Said::Value(..)) = (&self.credentials, &self.region) {
            let setting = chain_setting(reader);
            reader.provenance.note(path_text(&["models", REQUEST, "credentials"]), setting);
        }
        note_said(reader, REQUEST, "guardrail", &self.guardrail, shown_guardrail);
        note_said(reader, REQUEST, "api_version", &self.api_version, |version| {
            format!("\"{version}\"")
        });
    }
}

/// Notes what a model takes from the environment.
pub(crate) fn note_said<T>(
    reader: &mut Reader<'_>,
    model: &str,
    key: &str,
    said: &Said<T>,
    show: impl Fn(&T) -> String,
) {
    if let Said::Value(value, by) = said {
        let setting = Setting { value: show(value), origin: Origin::Variable((*by).to_owned()) };
        reader.provenance.note(path_text(&["models", model, key]), setting);
    }
}

/// What kind of credentials these are; never their value.
pub(crate) fn kind_of(credentials: &AwsCredentials) -> &'static str {
    match credentials {
        AwsCredentials::ApiKey(_) => "a Bedrock API key",
        AwsCredentials::Keys(AwsKeys { session_token: None, .. }) => "an access key",
        AwsCredentials::Keys(AwsKeys { session_token: Some(_), .. }) => "a temporary access key",
        AwsCredentials::Chain(_) => "AWS's credential chain",
    }
}

/// The chain, and what in the environment leads it: a profile, a web identity, a container's role.
/// Without any of them it tries `~/.aws` and the instance's role.
pub(crate) fn chain_setting(reader: &Reader<'_>) -> Setting {
    const LEADS: [&str; 6] = [
        "AWS_PROFILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONFIG_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    let set: Vec<&str> = LEADS.into_iter().filter(|name| reader.env.get(name).is_some()).collect();
    if set.is_empty() {
        let value = "AWS's credential chain: ~/.aws, else this instance's role";
        return Setting { value: value.to_owned(), origin: Origin::Default };
    }
    Setting { value: "AWS's credential chain".to_owned(), origin: Origin::Variable(set.join(", ")) }
}

pub(crate) fn shown_guardrail(guardrail: &Guardrail) -> String {
    match &guardrail.version {
        Some(version) => format!("\"{}\" version {version}", guardrail.identifier),
        None => format!("\"{}\"", guardrail.identifier),
    }
}
