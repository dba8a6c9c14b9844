//! The variables that GitLab's documentation has the operator of the official container set, and
//! what Weir does with each. Source: contract::ai_gateway_server §6. The file wins over all of
//! them.

use std::net::IpAddr;

use crate::config::toml::diagnostic::{Fault, Location, quoted};
use crate::config::toml::environment::Environment;
use crate::config::toml::key::Support;
use crate::config::toml::key_paths;

/// One variable.
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its effect.
    pub(crate) effect: Effect,
    /// One line for the operator.
    pub(crate) doc: &'static str,
}

/// The effect of a variable.
#[derive(Clone, Copy)]
pub(crate) enum Effect {
    /// Sets this key, after conversion to TOML; the text says what is expected.
    Sets(&'static str, fn(&str) -> Option<String>, &'static str),
    /// The address part of a key.
    Host(&'static str),
    /// The port part of a key.
    Port(&'static str),
    /// Read by a section (authentication, certificates, Bedrock, Azure).
    InSection,
    /// None: it is listed in one warning.
    Ignored,
}

use Effect::{Host, Ignored, InSection, Port, Sets};

/// Creates a row of the table.
const fn variable(name: &'static str, effect: Effect, doc: &'static str) -> Variable {
    Variable { name, effect, doc }
}

/// Switches authentication off.
pub(crate) const BYPASS: &str = "AIGW_AUTH__BYPASS_EXTERNAL";
/// HTTPS on the listener, with the two files below.
pub(crate) const TLS_ENABLED: &str = "AIGW_FASTAPI__TLS__ENABLED";
pub(crate) const TLS_CERT: &str = "AIGW_FASTAPI__TLS__CERT_FILE";
pub(crate) const TLS_KEY: &str = "AIGW_FASTAPI__TLS__KEY_FILE";
/// A client certificate for model servers, with the settings below.
pub(crate) const MTLS_ENABLED: &str = "AIGW_MTLS__ENABLED";
pub(crate) const MTLS_CERT: &str = "AIGW_MTLS__CERT_FILE";
pub(crate) const MTLS_KEY: &str = "AIGW_MTLS__KEY_FILE";
pub(crate) const MTLS_PASSWORD: &str = "AIGW_MTLS__KEY_PASSWORD";
pub(crate) const MTLS_VERIFY: &str = "AIGW_MTLS__VERIFY";
pub(crate) const MTLS_CA: &str = "AIGW_MTLS__CA_BUNDLE";
/// Variables that name a file of certificate authorities.
pub(crate) const CA_FILES: [&str; 2] = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"];

/// Every variable, in the order of `config/reference.toml`.
pub(crate) static VARIABLES: &[Variable] = &[
    variable("AIGW_FASTAPI__API_HOST", Host("server.listen"), "address of server.listen"),
    variable("AIGW_FASTAPI__API_PORT", Port("server.listen"), "port of server.listen"),
    variable("AIGW_FASTAPI__METRICS_HOST", Host("admin.listen"), "address of admin.listen"),
    variable("AIGW_FASTAPI__METRICS_PORT", Port("admin.listen"), "port of admin.listen"),
    variable(
        "WEB_CONCURRENCY",
        Sets("server.workers", integer, "a whole number"),
        "server.workers",
    ),
    variable(
        "AIGW_AUTH__BYPASS_EXTERNAL",
        InSection,
        "true: no authentication, on any address (auth.mode off, allow_public)",
    ),
    variable(
        "AIGW_LOGGING__LEVEL",
        Sets("telemetry.level", level, "DEBUG, INFO, WARNING or ERROR"),
        "telemetry.level",
    ),
    variable(
        "AIGW_LOGGING__FORMAT_JSON",
        Sets("telemetry.format", format, "true or false"),
        "telemetry.format",
    ),
    variable(
        "AIGW_LOGGING__ENABLE_REQUEST_LOGGING",
        Sets("telemetry.log_prompts", boolean, "true or false"),
        "telemetry.log_prompts; only where GitLab allows it, too",
    ),
    variable(
        "AIGW_CUSTOM_MODELS__ENABLED",
        Sets("features.request_models", custom_models, "true or false"),
        "false: features.request_models = \"ignore\"",
    ),
    variable("AIGW_GITLAB_URL", Sets("gitlab.url", string, "a URL"), "gitlab.url"),
    variable(
        "AIGW_CUSTOMER_PORTAL_URL",
        Sets("gitlab.cloud_issuer", string, "a URL"),
        "gitlab.cloud_issuer",
    ),
    variable(
        "AIGW_CLOUD_CONNECTOR_SERVICE_NAME",
        Sets("gitlab.audience", string, "a name"),
        "gitlab.audience",
    ),
    variable(
        "AIGW_SELF_SIGNED_JWT__SIGNING_KEY",
        InSection,
        "auth.user_tokens.signing_key, itself in PEM",
    ),
    variable(
        "AIGW_SELF_SIGNED_JWT__VALIDATION_KEY",
        InSection,
        "auth.user_tokens.validation_key, itself in PEM",
    ),
    variable(
        "DUO_WORKFLOW_SELF_SIGNED_JWT__SIGNING_KEY",
        InSection,
        "the same, when the AIGW_ one is not set",
    ),
    variable(
        "DUO_WORKFLOW_SELF_SIGNED_JWT__VALIDATION_KEY",
        InSection,
        "the same, when the AIGW_ one is not set",
    ),
    variable("SSL_CERT_FILE", InSection, "one more file for tls.extra_ca"),
    variable("REQUESTS_CA_BUNDLE", InSection, "one more file for tls.extra_ca"),
    variable(
        "HTTPS_PROXY",
        InSection,
        "proxy.url of https servers; https_proxy wins, and ALL_PROXY comes after",
    ),
    variable(
        "HTTP_PROXY",
        InSection,
        "proxy.url of http servers; http_proxy wins, and ALL_PROXY comes after",
    ),
    variable("NO_PROXY", InSection, "proxy.except, separated by commas; no_proxy wins"),
    variable("AWS_REGION", InSection, "region of Bedrock models"),
    variable("AWS_REGION_NAME", InSection, "the same, when AWS_REGION is not set"),
    variable("AWS_BEARER_TOKEN_BEDROCK", InSection, "Bedrock API key; wins over the access key"),
    variable("AWS_ACCESS_KEY_ID", InSection, "access key of Bedrock models"),
    variable("AWS_SECRET_ACCESS_KEY", InSection, "the same"),
    variable("AWS_SESSION_TOKEN", InSection, "the same, when it is temporary"),
    variable("AWS_BEDROCK_RUNTIME_ENDPOINT", InSection, "endpoint of Bedrock models"),
    variable("AIGW_BEDROCK_GUARDRAIL_CONFIG", InSection, "guardrail of Bedrock models, as JSON"),
    variable(
        "AWS_PROFILE",
        InSection,
        "AWS's credential chain, as every other variable of AWS's that it knows",
    ),
    variable("AZURE_API_VERSION", InSection, "api_version of Azure models"),
    variable(
        "AZURE_TENANT_ID",
        Sets("models.{name}.entra.tenant", string, "a tenant"),
        "entra.tenant of Azure models",
    ),
    variable(
        "AZURE_CLIENT_ID",
        Sets("models.{name}.entra.client_id", string, "a client id"),
        "entra.client_id of Azure models",
    ),
    variable("AZURE_CLIENT_SECRET", InSection, "entra.client_secret of Azure models"),
    variable(
        "AZURE_FEDERATED_TOKEN_FILE",
        Sets("models.{name}.entra.token_file", string, "a file's path"),
        "entra.token_file of Azure models",
    ),
    variable(
        "AZURE_AUTHORITY_HOST",
        Sets("models.{name}.entra.authority", string, "a URL"),
        "entra.authority of Azure models",
    ),
    variable(
        "IDENTITY_ENDPOINT",
        InSection,
        "where an App Service issues managed identities' tokens",
    ),
    variable("IDENTITY_HEADER", InSection, "the same"),
    variable(
        "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        InSection,
        "where the metadata service is, if not at 169.254.169.254",
    ),
    variable(
        TLS_ENABLED,
        InSection,
        "true: HTTPS on the listener, with the two files (server.tls)",
    ),
    variable(TLS_CERT, InSection, "server.tls.cert, when that is true"),
    variable(TLS_KEY, InSection, "server.tls.key, when that is true"),
    variable(
        MTLS_ENABLED,
        InSection,
        "true: a client certificate for model servers, with the files below",
    ),
    variable(MTLS_CERT, InSection, "tls.client_cert, when that is true"),
    variable(MTLS_KEY, InSection, "tls.client_key, when that is true"),
    variable(
        MTLS_PASSWORD,
        InSection,
        "refused when that is true: write the key without a passphrase",
    ),
    variable(
        MTLS_VERIFY,
        InSection,
        "false is refused when that is true: servers are always verified",
    ),
    variable(MTLS_CA, InSection, "one more file for tls.extra_ca, when that is true"),
    variable("AIGW_GITLAB_API_URL", Ignored, "GitLab's API"),
    variable(
        "AIGW_CUSTOM_MODELS__DISABLE_STREAMING",
        Ignored,
        "sends models requests without streaming",
    ),
];

/// Returns the row of a name.
pub(crate) fn find(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.name == name)
}

/// Returns the value that the environment sets for a key, as TOML, and the variables that set it;
/// or `None` when no variable does, or a fault was collected. `default` supplies the half of an
/// address that no variable sets.
pub(crate) fn value_of(
    key: &str,
    default: Option<&str>,
    env: &Environment,
    faults: &mut Vec<Fault>,
) -> Option<(String, String)> {
    let mut host = None;
    let mut port = None;
    for variable in VARIABLES {
        let Some(text) = env.get(variable.name) else { continue };
        let mut checked = |value: Option<String>, expected: &str| {
            let message = || format!("expected {expected}");
            let fault = || Fault::error(Location::Environment, variable.name, message());
            faults.extend(value.is_none().then(|| fault().found(quoted(text))));
            value.map(|value| (value, variable.name))
        };
        match variable.effect {
            Sets(path, convert, expected) if path == key => {
                return checked(convert(text), expected)
                    .map(|(value, name)| (value, name.to_owned()));
            }
            Host(path) if path == key => {
                host = checked(address(text), "an address like \"127.0.0.1\"")
            }
            Port(path) if path == key => {
                port = checked(port_number(text), "a port from 0 to 65535")
            }
            _ => {}
        }
    }
    let default = default?.trim_matches('"').parse::<std::net::SocketAddr>().ok()?;
    let by: Vec<&str> = host.iter().chain(&port).map(|(_, name)| *name).collect();
    if by.is_empty() {
        return None;
    }
    let host = host.as_ref().and_then(|(host, _)| host.parse().ok()).unwrap_or(default.ip());
    let port = port.as_ref().and_then(|(port, _)| port.parse().ok()).unwrap_or(default.port());
    Some((format!("\"{}\"", std::net::SocketAddr::new(host, port)), by.join(", ")))
}

/// Returns a warning that lists the variables without effect, if there are any.
pub(crate) fn warnings(env: &Environment) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut idle = Vec::new();
    for name in env.names() {
        match find(name).map(|variable| variable.effect) {
            Some(Ignored) => idle.push(name),
            Some(Sets(path, ..)) if is_idle(path) => idle.push(name),
            None if name.starts_with("AIGW_") || name.starts_with("DUO_WORKFLOW_") => {
                idle.push(name)
            }
            _ => {}
        }
    }
    if !idle.is_empty() {
        faults.push(Fault::warning(
            Location::Environment,
            idle.join(", "),
            "set, but this version does not act on it",
        ));
    }
    faults
}

/// Returns whether this version does not act on a key.
fn is_idle(key: &str) -> bool {
    let path: Vec<&str> = key.split('.').collect();
    key_paths::find(&path).is_some_and(|key| matches!(key.support, Support::NotYet))
}

/// Parses `true`, `1`, `yes`, `on` and their opposites, in upper or lower case.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "t" | "y" => Some(true),
        "false" | "0" | "no" | "off" | "f" | "n" => Some(false),
        _ => None,
    }
}

fn integer(text: &str) -> Option<String> {
    text.trim().parse::<u32>().ok().map(|number| number.to_string())
}

fn level(text: &str) -> Option<String> {
    let level = match text.trim().to_ascii_lowercase().as_str() {
        "critical" | "fatal" | "error" => "error",
        "warn" | "warning" => "warn",
        "info" => "info",
        "debug" => "debug",
        "trace" | "notset" => "trace",
        _ => return None,
    };
    Some(format!("\"{level}\""))
}

fn boolean(text: &str) -> Option<String> {
    parse_bool(text).map(|value| value.to_string())
}

fn format(text: &str) -> Option<String> {
    parse_bool(text).map(|json| if json { "\"json\"" } else { "\"text\"" }.to_owned())
}

fn custom_models(text: &str) -> Option<String> {
    parse_bool(text).map(|enabled| if enabled { "\"allow\"" } else { "\"ignore\"" }.to_owned())
}

fn string(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    text.chars().all(plain).then(|| format!("\"{text}\""))
}

fn address(text: &str) -> Option<String> {
    let text = text.trim();
    if text == "localhost" {
        return Some("127.0.0.1".to_owned());
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|address| address.to_string())
}

fn port_number(text: &str) -> Option<String> {
    text.trim().parse::<u16>().ok().map(|port| port.to_string())
}
