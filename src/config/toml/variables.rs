//! The variables that GitLab's documentation tells an operator of the official container to set,
//! and what Weir makes of each. Source: ai-gateway-server.md §6. The file wins over all of them.

use std::net::IpAddr;

use crate::config::load::Environment;
use crate::config::toml::diagnostic::{Fault, Place, quoted};
use crate::config::toml::keys::{self, Acts};

/// One variable.
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    pub(crate) does: Does,
    pub(crate) doc: &'static str,
}

/// What a variable does.
#[derive(Clone, Copy)]
pub(crate) enum Does {
    /// Sets a key, after conversion to TOML; the text is what is expected.
    Sets(&'static str, fn(&str) -> Option<String>, &'static str),
    /// The address part of a key.
    Host(&'static str),
    /// The port part of a key.
    Port(&'static str),
    /// Read where it is needed (authentication, certificates, Bedrock, Azure).
    Elsewhere,
    /// Accepted, no effect: told in one warning.
    Nothing,
}

use Does::{Elsewhere, Host, Nothing, Port, Sets};

const fn variable(name: &'static str, does: Does, doc: &'static str) -> Variable {
    Variable { name, does, doc }
}

pub(crate) const BYPASS: &str = "AIGW_AUTH__BYPASS_EXTERNAL";
pub(crate) const TLS_ENABLED: &str = "AIGW_FASTAPI__TLS__ENABLED";
pub(crate) const TLS_CERT: &str = "AIGW_FASTAPI__TLS__CERT_FILE";
pub(crate) const TLS_KEY: &str = "AIGW_FASTAPI__TLS__KEY_FILE";
pub(crate) const MTLS_ENABLED: &str = "AIGW_MTLS__ENABLED";
pub(crate) const MTLS_CERT: &str = "AIGW_MTLS__CERT_FILE";
pub(crate) const MTLS_KEY: &str = "AIGW_MTLS__KEY_FILE";
pub(crate) const MTLS_PASSWORD: &str = "AIGW_MTLS__KEY_PASSWORD";
pub(crate) const MTLS_VERIFY: &str = "AIGW_MTLS__VERIFY";
pub(crate) const MTLS_CA: &str = "AIGW_MTLS__CA_BUNDLE";
/// Variables that name a file of certificate authorities.
pub(crate) const CA_FILES: [&str; 2] = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"];

/// The table.
pub(crate) static VARIABLES: &[Variable] = &[
    variable("AIGW_FASTAPI__API_HOST", Host("server.listen"), "address of server.listen"),
    variable("AIGW_FASTAPI__API_PORT", Port("server.listen"), "port of server.listen"),
    variable("AIGW_FASTAPI__METRICS_HOST", Host("admin.listen"), "address of admin.listen"),
    variable("AIGW_FASTAPI__METRICS_PORT", Port("admin.listen"), "port of admin.listen"),
    variable("WEB_CONCURRENCY", Sets("server.workers", whole, "a whole number"), "server.workers"),
    variable(
        "AIGW_AUTH__BYPASS_EXTERNAL",
        Elsewhere,
        "true: everybody may call, on any address (auth.mode off, allow_public)",
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
        "telemetry.log_prompts; where GitLab allows it, too",
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
        Elsewhere,
        "auth.user_tokens.signing_key, itself in PEM",
    ),
    variable(
        "AIGW_SELF_SIGNED_JWT__VALIDATION_KEY",
        Elsewhere,
        "auth.user_tokens.validation_key, itself in PEM",
    ),
    variable(
        "DUO_WORKFLOW_SELF_SIGNED_JWT__SIGNING_KEY",
        Elsewhere,
        "the same, when the AIGW_ one is not set",
    ),
    variable(
        "DUO_WORKFLOW_SELF_SIGNED_JWT__VALIDATION_KEY",
        Elsewhere,
        "the same, when the AIGW_ one is not set",
    ),
    variable("SSL_CERT_FILE", Elsewhere, "one more file for tls.extra_ca"),
    variable("REQUESTS_CA_BUNDLE", Elsewhere, "one more file for tls.extra_ca"),
    variable(
        "HTTPS_PROXY",
        Elsewhere,
        "proxy.url of https servers; https_proxy wins, and ALL_PROXY comes after",
    ),
    variable(
        "HTTP_PROXY",
        Elsewhere,
        "proxy.url of http servers; http_proxy wins, and ALL_PROXY comes after",
    ),
    variable("NO_PROXY", Elsewhere, "proxy.except, separated by commas; no_proxy wins"),
    variable("AWS_REGION", Elsewhere, "region of Bedrock models"),
    variable("AWS_REGION_NAME", Elsewhere, "the same, when AWS_REGION is not set"),
    variable("AWS_BEARER_TOKEN_BEDROCK", Elsewhere, "Bedrock API key; wins over the access key"),
    variable("AWS_ACCESS_KEY_ID", Elsewhere, "access key of Bedrock models"),
    variable("AWS_SECRET_ACCESS_KEY", Elsewhere, "the same"),
    variable("AWS_SESSION_TOKEN", Elsewhere, "the same, when it is temporary"),
    variable("AWS_BEDROCK_RUNTIME_ENDPOINT", Elsewhere, "endpoint of Bedrock models"),
    variable("AIGW_BEDROCK_GUARDRAIL_CONFIG", Elsewhere, "guardrail of Bedrock models, as JSON"),
    variable(
        "AWS_PROFILE",
        Elsewhere,
        "AWS's credential chain, as every other variable of AWS's that it knows",
    ),
    variable("AZURE_API_VERSION", Elsewhere, "api_version of Azure models"),
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
    variable("AZURE_CLIENT_SECRET", Elsewhere, "entra.client_secret of Azure models"),
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
    variable("IDENTITY_ENDPOINT", Elsewhere, "where an App Service gives out managed identities"),
    variable("IDENTITY_HEADER", Elsewhere, "the same"),
    variable(
        "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        Elsewhere,
        "where the metadata service is, if it is elsewhere",
    ),
    variable(
        TLS_ENABLED,
        Elsewhere,
        "true: HTTPS on the listener, with the two files (server.tls)",
    ),
    variable(TLS_CERT, Elsewhere, "server.tls.cert, when that is true"),
    variable(TLS_KEY, Elsewhere, "server.tls.key, when that is true"),
    variable(
        MTLS_ENABLED,
        Elsewhere,
        "true: a client certificate towards model servers, with the files below",
    ),
    variable(MTLS_CERT, Elsewhere, "tls.client_cert, when that is true"),
    variable(MTLS_KEY, Elsewhere, "tls.client_key, when that is true"),
    variable(
        MTLS_PASSWORD,
        Elsewhere,
        "refused when that is true: write the key without a passphrase",
    ),
    variable(
        MTLS_VERIFY,
        Elsewhere,
        "false is refused when that is true: servers are always verified",
    ),
    variable(MTLS_CA, Elsewhere, "one more file for tls.extra_ca, when that is true"),
    variable("AIGW_GITLAB_API_URL", Nothing, "GitLab's API"),
    variable("AIGW_CUSTOM_MODELS__DISABLE_STREAMING", Nothing, "asks models without streaming"),
];

/// The row of a name.
pub(crate) fn find(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.name == name)
}

/// What the environment says of a key: TOML, and which variables said it. Faults are collected.
pub(crate) fn value_of(
    key: &str,
    default: Option<&str>,
    env: &Environment,
    faults: &mut Vec<Fault>,
) -> Option<(String, String)> {
    let mut host = None;
    let mut port = None;
    for variable in VARIABLES {
        let Some(said) = env.get(variable.name) else { continue };
        let mut parsed = |value: Option<String>, expected: &str| {
            let fault =
                || Fault::error(Place::Environment, variable.name, format!("expected {expected}"));
            faults.extend(value.is_none().then(|| fault().said(quoted(said))));
            value.map(|value| (value, variable.name))
        };
        match variable.does {
            Sets(path, convert, expected) if path == key => {
                return parsed(convert(said), expected)
                    .map(|(value, name)| (value, name.to_owned()));
            }
            Host(path) if path == key => {
                host = parsed(address(said), "an address like \"127.0.0.1\"")
            }
            Port(path) if path == key => port = parsed(port_number(said), "a port from 0 to 65535"),
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

/// What is to be said about the environment as a whole: variables without effect.
pub(crate) fn remarks(env: &Environment) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut idle = Vec::new();
    for name in env.names() {
        match find(name).map(|variable| variable.does) {
            Some(Nothing) => idle.push(name),
            Some(Sets(path, ..)) if is_idle(path) => idle.push(name),
            None if name.starts_with("AIGW_") || name.starts_with("DUO_WORKFLOW_") => {
                idle.push(name)
            }
            _ => {}
        }
    }
    if !idle.is_empty() {
        faults.push(Fault::warning(
            Place::Environment,
            idle.join(", "),
            "set, but this version does not act on it",
        ));
    }
    faults
}

/// Whether nothing acts on a key.
fn is_idle(key: &str) -> bool {
    let path: Vec<&str> = key.split('.').collect();
    keys::find(&path).is_some_and(|key| matches!(key.acts, Acts::NotYet))
}

/// `true`, `1`, `yes`, `on` and their opposites, in any case.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "t" | "y" => Some(true),
        "false" | "0" | "no" | "off" | "f" | "n" => Some(false),
        _ => None,
    }
}

fn whole(text: &str) -> Option<String> {
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
    truth(text).map(|truth| truth.to_string())
}

fn format(text: &str) -> Option<String> {
    truth(text).map(|json| if json { "\"json\"" } else { "\"text\"" }.to_owned())
}

fn custom_models(text: &str) -> Option<String> {
    truth(text).map(|enabled| if enabled { "\"allow\"" } else { "\"ignore\"" }.to_owned())
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
