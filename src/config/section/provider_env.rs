//! What Bedrock and Azure models take from the environment where the file sets nothing, and what
//! models that requests bring always take from it. Read once, so that a wrong variable is reported
//! once.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::config::toml::diagnostic::{Fault, Location, MASK, Severity, may_carry_secret, quoted};
use crate::config::toml::document::path_text;
use crate::config::toml::environment::Environment;
use crate::config::toml::provenance::{Origin, Setting};
use crate::config::toml::reader::{Reader, visible_ascii};
use crate::model::{
    ApiVersion, AwsChain, AwsCredentials, AwsKeys, CredentialKind, EndpointUrl, Guardrail,
    Identifier, ProviderDefaults, Region,
};
use crate::secret::Secret;

/// Variables of the region, the first one wins.
pub(crate) const REGION: [&str; 2] = ["AWS_REGION", "AWS_REGION_NAME"];
const ENDPOINT: &str = "AWS_BEDROCK_RUNTIME_ENDPOINT";
const API_KEY: &str = "AWS_BEARER_TOKEN_BEDROCK";
const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
const GUARDRAIL: &str = "AIGW_BEDROCK_GUARDRAIL_CONFIG";
const API_VERSION: &str = "AZURE_API_VERSION";

/// A setting of the environment.
pub(crate) enum EnvValue<T> {
    /// None of its variables is set.
    Unset,
    /// A variable is wrong, which has been reported.
    Invalid,
    /// The value, and the variables that it came from.
    Set {
        /// The value.
        value: T,
        /// Names, separated by commas.
        variables: &'static str,
    },
}

impl<T: Clone> EnvValue<T> {
    /// Returns the value, if there is one.
    pub(crate) fn value(&self) -> Option<T> {
        match self {
            Self::Set { value, .. } => Some(value.clone()),
            Self::Unset | Self::Invalid => None,
        }
    }
}

/// The settings of Bedrock and Azure in the environment.
pub(crate) struct ProviderEnv {
    /// Bedrock's region.
    pub(crate) region: EnvValue<Region>,
    /// Bedrock's address.
    pub(crate) endpoint: EnvValue<EndpointUrl>,
    /// Bedrock's credentials.
    pub(crate) credentials: EnvValue<Arc<AwsCredentials>>,
    /// AWS's credential chain, used where no credentials are set; shared by all models.
    pub(crate) chain: Arc<AwsCredentials>,
    /// Bedrock's guardrail.
    pub(crate) guardrail: EnvValue<Guardrail>,
    /// Azure's API version.
    pub(crate) api_version: EnvValue<ApiVersion>,
}

/// Reads the variables. A wrong one is an error when a model of the file may need it; machines have
/// such variables for other programs too, so without such a model it is a warning.
pub(crate) fn read(reader: &mut Reader<'_>) -> ProviderEnv {
    let severity = |kind| {
        if has_model_of(reader, kind) { Severity::Error } else { Severity::Warning }
    };
    let (bedrock, azure) = (severity(CredentialKind::Aws), severity(CredentialKind::Azure));
    let (env, faults) = (reader.env, &mut reader.faults);
    let provider_env = ProviderEnv {
        region: first(env, &REGION, faults, bedrock, |text| {
            let expected = "expected a region like \"eu-central-1\"";
            Region::parse(text).map_err(|_| InvalidValue::found(text, expected))
        }),
        endpoint: first(env, &[ENDPOINT], faults, bedrock, |text| {
            let expected =
                "expected a URL like \"https://bedrock-runtime.eu-central-1.amazonaws.com\"";
            EndpointUrl::parse(text).map_err(|_| InvalidValue::found(text, expected))
        }),
        credentials: credentials(env, faults, bedrock),
        chain: Arc::new(AwsCredentials::Chain(Arc::new(AwsChain::default()))),
        // what it protects would go unprotected: never only a warning
        guardrail: first(env, &[GUARDRAIL], faults, Severity::Error, guardrail),
        api_version: first(env, &[API_VERSION], faults, azure, |text| {
            let expected = "expected v1, preview or a date like \"2025-02-01-preview\"";
            ApiVersion::parse(text).map_err(|_| InvalidValue::found(text, expected))
        }),
    };
    provider_env.record(reader);
    provider_env
}

/// Returns whether the file has a model with credentials of this kind.
fn has_model_of(reader: &Reader<'_>, kind: CredentialKind) -> bool {
    let credentials = |name: &str| {
        let entry = reader.doc.get(&["models", name, "identifier"])?;
        Some(Identifier::parse(entry.value.as_str()?).ok()?.provider.credentials())
    };
    reader.doc.names(&["models"]).into_iter().any(|name| credentials(name) == Some(kind))
}

/// Parses the first of some variables that is set.
fn first<T>(
    env: &Environment,
    names: &[&'static str],
    faults: &mut Vec<Fault>,
    severity: Severity,
    parse: impl Fn(&str) -> Result<T, InvalidValue>,
) -> EnvValue<T> {
    let Some((name, text)) = env.first(names) else { return EnvValue::Unset };
    match parse(text.trim()) {
        Ok(value) => EnvValue::Set { value, variables: name },
        Err(InvalidValue { found, message }) => {
            let fault = Fault::error(Location::Environment, name, message);
            faults.push(Fault { severity, found, ..fault });
            EnvValue::Invalid
        }
    }
}

/// Why a variable's value is not used.
struct InvalidValue {
    /// The value in quotes, if a fault may show it.
    found: Option<String>,
    message: String,
}

impl InvalidValue {
    fn found(text: &str, expected: &str) -> Self {
        let found = if may_carry_secret(text) { format!("\"{MASK}\"") } else { quoted(text) };
        Self { found: Some(found), message: expected.to_owned() }
    }
}

/// Reads a Bedrock API key, else an access key, in the order of AWS's own programs
/// (contract::providers §d1.8).
fn credentials(
    env: &Environment,
    faults: &mut Vec<Fault>,
    severity: Severity,
) -> EnvValue<Arc<AwsCredentials>> {
    let found = if env.get(API_KEY).is_some() {
        secret(env, API_KEY).map(|key| (AwsCredentials::ApiKey(key), API_KEY))
    } else {
        match [KEY_ID, SECRET_KEY].map(|name| env.get(name).is_some()) {
            [false, false] => return EnvValue::Unset,
            [true, true] => access_key(env).map(|keys| {
                let with_token = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN";
                let without = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY";
                let variables = if keys.session_token.is_some() { with_token } else { without };
                (AwsCredentials::Keys(keys), variables)
            }),
            [true, false] => Err((KEY_ID, format!("expected {SECRET_KEY} as well"))),
            [false, true] => Err((SECRET_KEY, format!("expected {KEY_ID} as well"))),
        }
    };
    match found {
        Ok((credentials, variables)) => EnvValue::Set { value: Arc::new(credentials), variables },
        Err((name, message)) => {
            faults.push(Fault { severity, ..Fault::error(Location::Environment, name, message) });
            EnvValue::Invalid
        }
    }
}

/// A variable and what is wrong with it.
type WrongVariable = (&'static str, String);

fn access_key(env: &Environment) -> Result<AwsKeys, WrongVariable> {
    Ok(AwsKeys {
        access_key_id: secret(env, KEY_ID)?.expose().as_str().into(),
        secret_access_key: secret(env, SECRET_KEY)?,
        session_token: env.get(SESSION_TOKEN).map(|_| secret(env, SESSION_TOKEN)).transpose()?,
    })
}

fn secret(env: &Environment, name: &'static str) -> Result<Secret<String>, WrongVariable> {
    let text = env.get(name).unwrap_or_default().to_owned();
    visible_ascii(text, "").map_err(|message| (name, message))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GuardrailConfig {
    guardrail_identifier: String,
    guardrail_version: Option<Value>,
    trace: Option<String>,
}

/// Parses the JSON of GitLab's gateway (contract::ai_gateway_server §6). The version is optional in
/// it and in AWS's service model.
fn guardrail(text: &str) -> Result<Guardrail, InvalidValue> {
    let fault = |message: String| InvalidValue { found: None, message };
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

impl ProviderEnv {
    /// Returns the settings of models that requests bring.
    pub(crate) fn defaults(&self) -> ProviderDefaults {
        let fallback = ProviderDefaults::default();
        ProviderDefaults {
            region: self.region.value(),
            endpoint: self.endpoint.value(),
            credentials: match &self.credentials {
                EnvValue::Unset => Some(Arc::clone(&self.chain)),
                EnvValue::Invalid => None,
                EnvValue::Set { value, .. } => Some(Arc::clone(value)),
            },
            guardrail: self.guardrail.value(),
            api_version: self.api_version.value().unwrap_or(fallback.api_version),
        }
    }

    /// Records where the settings of models that requests bring come from.
    fn record(&self, reader: &mut Reader<'_>) {
        record_value(reader, REQUEST, "region", &self.region, |region| format!("\"{region}\""));
        record_value(reader, REQUEST, "endpoint", &self.endpoint, |url| format!("\"{url}\""));
        record_value(reader, REQUEST, "credentials", &self.credentials, |it| {
            kind_of(it).to_owned()
        });
        // without a region nothing of Bedrock is of interest here
        if let (EnvValue::Unset, EnvValue::Set { .. }) = (&self.credentials, &self.region) {
            let setting = chain_setting(reader);
            reader.provenance.record(path_text(&["models", REQUEST, "credentials"]), setting);
        }
        record_value(reader, REQUEST, "guardrail", &self.guardrail, shown_guardrail);
        record_value(reader, REQUEST, "api_version", &self.api_version, |version| {
            format!("\"{version}\"")
        });
    }
}

/// Records where a model's setting comes from, if the environment sets it.
pub(crate) fn record_value<T>(
    reader: &mut Reader<'_>,
    model: &str,
    key: &str,
    setting: &EnvValue<T>,
    show: impl Fn(&T) -> String,
) {
    if let EnvValue::Set { value, variables } = setting {
        let origin = Origin::Variable((*variables).to_owned());
        let setting = Setting { value: show(value), origin };
        reader.provenance.record(path_text(&["models", model, key]), setting);
    }
}

/// Returns the kind of some credentials in words; never their value.
pub(crate) fn kind_of(credentials: &AwsCredentials) -> &'static str {
    match credentials {
        AwsCredentials::ApiKey(_) => "a Bedrock API key",
        AwsCredentials::Keys(AwsKeys { session_token: None, .. }) => "an access key",
        AwsCredentials::Keys(AwsKeys { session_token: Some(_), .. }) => "a temporary access key",
        AwsCredentials::Chain(_) => "AWS's credential chain",
    }
}

/// Returns the chain as a setting, and the variables that configure it: a profile, a web identity,
/// a container's role. Without any of them it tries `~/.aws` and the instance's role.
pub(crate) fn chain_setting(reader: &Reader<'_>) -> Setting {
    const VARIABLES: [&str; 6] = [
        "AWS_PROFILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONFIG_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    let is_set = |name: &&str| reader.env.get(name).is_some();
    let set: Vec<&str> = VARIABLES.into_iter().filter(is_set).collect();
    if set.is_empty() {
        let value = "AWS's credential chain: ~/.aws, else this instance's role";
        return Setting { value: value.to_owned(), origin: Origin::Default };
    }
    Setting { value: "AWS's credential chain".to_owned(), origin: Origin::Variable(set.join(", ")) }
}

/// Returns a guardrail as `weir check` prints it.
pub(crate) fn shown_guardrail(guardrail: &Guardrail) -> String {
    match &guardrail.version {
        Some(version) => format!("\"{}\" version {version}", guardrail.identifier),
        None => format!("\"{}\"", guardrail.identifier),
    }
}
