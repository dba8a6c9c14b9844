//! Entra ID for Azure models: which identity, from where, and that two at once are refused.

use std::path::Path;

use super::{good_with, one_with};
use crate::config::Config;
use crate::model::{Access, EntraIdentity, ManagedIdentitySource};

const TENANT: (&str, &str) = ("AZURE_TENANT_ID", "t-1");
const CLIENT: (&str, &str) = ("AZURE_CLIENT_ID", "c-1");
const SECRET: (&str, &str) = ("AZURE_CLIENT_SECRET", "secret-canary");
const FILE: (&str, &str) = ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token");
const AUTHORITY: (&str, &str) = ("AZURE_AUTHORITY_HOST", "http://127.0.0.1:9/");
const APP_SERVICE: [(&str, &str); 2] = [
    ("IDENTITY_ENDPOINT", "http://localhost:42356/msi/token"),
    ("IDENTITY_HEADER", "header-canary"),
];
const OWN: &str = "entra = { tenant = \"own.example\", client_id = \"mine\", client_secret = { env = \"MINE\" } }";

fn azure(lines: &str) -> String {
    format!("[models.m]\nidentifier = \"azure/gpt\"\nendpoint = \"https://h\"\n{lines}")
}

/// Returns identity, scope, and what `weir check` prints.
fn read(lines: &str, env: &[(&str, &str)]) -> (EntraIdentity, String, String) {
    let config = good_with(&azure(lines), env);
    let shown = shown(&config);
    let Access::Azure(access) = &config.models[0].access else { panic!("{:?}", config.models) };
    let entra = access.entra.as_ref().unwrap();
    (entra.identity.clone(), entra.scope.to_string(), shown)
}

fn shown(config: &Config) -> String {
    let (_, setting) = config.provenance.access_of("m").find(|(key, _)| *key == "entra").unwrap();
    format!("{} by {}", setting.value, config.provenance.show(&setting.origin))
}

#[test]
fn an_application_is_the_files_or_the_environments() {
    let (identity, scope, shown) =
        read(OWN, &[("MINE", "mine-canary"), TENANT, CLIENT, SECRET, FILE]);
    let EntraIdentity::Application { tenant, client_id, client_secret } = identity else {
        panic!("{identity:?}")
    };
    assert_eq!(tenant.to_string(), "https://login.microsoftonline.com/own.example");
    assert_eq!((&*client_id, client_secret.expose().as_str()), ("mine", "mine-canary"));
    assert_eq!(
        (scope.as_str(), shown.as_str()),
        ("https://ai.azure.com/.default", "an application's secret by weir.toml:4")
    );

    let (identity, _, shown) = read("", &[TENANT, CLIENT, SECRET, AUTHORITY]);
    let EntraIdentity::Application { tenant, .. } = identity else { panic!("{identity:?}") };
    assert_eq!(tenant.to_string(), "http://127.0.0.1:9/t-1");
    assert_eq!(shown, "an application's secret by AZURE_CLIENT_SECRET");
    let (_, scope, _) = read("api_version = \"2024-10-21\"", &[TENANT, CLIENT, SECRET]);
    assert_eq!(scope, "https://cognitiveservices.azure.com/.default");
    let (_, scope, _) = read("entra.scope = \"api://mine/.default\"", &[TENANT, CLIENT, SECRET]);
    assert_eq!(scope, "api://mine/.default");
}

#[test]
fn workload_and_managed_identity() {
    let (identity, ..) = read("", &[TENANT, CLIENT, FILE, APP_SERVICE[0], APP_SERVICE[1]]);
    let EntraIdentity::Workload { token_file, .. } = identity else { panic!("{identity:?}") };
    assert_eq!(token_file, Path::new("/var/run/token"));
    let managed = |lines: &str, env: &[(&str, &str)]| match read(lines, env).0 {
        EntraIdentity::Managed { by, client_id } => (by, client_id),
        identity => panic!("{identity:?}"),
    };
    let (by, client_id) =
        managed("entra = { identity = \"managed\", client_id = \"c-2\" }", &[CLIENT]);
    let ManagedIdentitySource::Instance(url) = by else { panic!("{by:?}") };
    assert_eq!(
        (url.to_string().as_str(), client_id.as_deref()),
        ("http://169.254.169.254", Some("c-2"))
    );
    let (by, client_id) = managed("", &APP_SERVICE);
    assert!(
        matches!(&by, ManagedIdentitySource::AppService(url, _) if url.base_path() == "/msi/token"),
        "{by:?}"
    );
    assert!(client_id.is_none() && !format!("{by:?}").contains("canary"));
    let key =
        good_with(&azure("api_key = { env = \"K\" }"), &[&APP_SERVICE[..], &[("K", "k")]].concat());
    assert!(
        matches!(&key.models[0].access, Access::Azure(access) if access.entra.is_none()),
        "a key wins"
    );
}

#[test]
fn two_identities_at_once_and_incomplete_ones_are_faults() {
    let env = [("MINE", "mine-canary"), ("K", "key")];
    for (lines, env, headline) in [
        (
            format!("api_key = {{ env = \"K\" }}\n{OWN}"),
            &env[..],
            "5:1: error: models.m.entra: api_key and entra: expected only one of them",
        ),
        (
            String::new(),
            &[TENANT, CLIENT, SECRET, FILE],
            "1:9: error: models.m.entra: AZURE_CLIENT_SECRET and AZURE_FEDERATED_TOKEN_FILE are set: expected only one of them",
        ),
        (
            "entra = { client_secret = { env = \"K\" }, token_file = \"t\" }".to_owned(),
            &env,
            "4:42: error: models.m.entra: client_secret and token_file: expected only one of them",
        ),
        (
            "entra = { identity = \"managed\", tenant = \"t\" }".to_owned(),
            &[],
            "4:33: error: models.m.entra: contradicts identity = \"managed\", which takes no tenant",
        ),
        (
            "entra = { identity = \"workload\", client_secret = { env = \"K\" } }".to_owned(),
            &env,
            "4:34: error: models.m.entra: contradicts identity = \"workload\", which takes no client_secret",
        ),
        (
            "entra = { identity = \"managd\" }".to_owned(),
            &[],
            "4:22: error: models.m.entra.identity: found \"managd\", expected \"application\", \"workload\" or \"managed\"",
        ),
        (
            "entra = { client_id = \"c\" }".to_owned(),
            &[],
            "4:1: error: models.m.entra: expected client_secret, token_file or identity",
        ),
        (
            "entra = { client_secret = { env = \"K\" } }".to_owned(),
            &env,
            "4:1: error: models.m.entra: expected tenant and client_id",
        ),
        (
            "entra = { identity = \"workload\" }".to_owned(),
            &[TENANT, CLIENT],
            "4:1: error: models.m.entra: expected token_file",
        ),
        (
            "entra = { identity = \"application\" }".to_owned(),
            &[TENANT, CLIENT],
            "4:1: error: models.m.entra: expected client_secret",
        ),
        (
            "entra = { identity = \"managed\" }".to_owned(),
            &APP_SERVICE[..1],
            "4:1: error: models.m.entra: IDENTITY_ENDPOINT is set, but IDENTITY_HEADER is not",
        ),
        (
            "entra = { client_secret = { env = \"K\" }, tenant = \"a/b\", client_id = \"c\" }"
                .to_owned(),
            &env,
            "4:51: error: models.m.entra.tenant: expected letters, digits, - and . only",
        ),
        (
            "entra = \"managed\"".to_owned(),
            &[],
            "4:1: error: models.m.entra: found a value of type string, expected a table of keys",
        ),
    ] {
        assert_eq!(one_with(&azure(&lines), env).0, headline, "{lines}");
    }
    let (headline, _) = one_with(
        "[models.m]\nidentifier = \"bedrock/x\"\nregion = \"us-east-1\"\nentra = { identity = \"managed\" }",
        &[],
    );
    assert_eq!(
        headline,
        "4:1: error: models.m.entra: only for azure models; this is one of bedrock"
    );
}
