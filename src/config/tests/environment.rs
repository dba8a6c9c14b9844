//! Who may call, and who wins: the file over the environment over the defaults.

use super::{good, good_with, one, one_with, wrong};
use crate::auth::Settings;
use crate::config::Origin;
use crate::route::RequestModels;
use crate::telemetry::{Format, Level};

#[test]
fn off_on_a_public_address_is_refused_with_both_ways_out() {
    let (said, hint) = one("server.listen = \"0.0.0.0:5052\"");
    assert!(
        said.starts_with(
            "1:17: error: server.listen: said \"0.0.0.0:5052\", but nobody is asked for a key"
        ),
        "{said}"
    );
    assert!(
        hint.contains("auth.static_keys") && hint.contains("auth.allow_public = true"),
        "{hint}"
    );
    let (said, _) = one("server.listen = \"[::]:5052\"\nauth.mode = \"off\"");
    assert!(said.contains("server.listen"), "{said}");
    good("server.listen = \"0.0.0.0:5052\"\nauth.allow_public = true");
    good("server.listen = \"[::1]:5052\"");
}

#[test]
fn keys_that_can_be_guessed_are_refused_on_a_public_address() {
    let file = "auth.static_keys = [{ env = \"K\" }]";
    let public = format!("server.listen = \"0.0.0.0:5052\"\n{file}");
    let (said, hint) = one_with(&public, &[("K", "sk-guessable-15")]);
    assert!(
        said.starts_with("2:21: error: auth.static_keys: a key of less than 16 characters"),
        "{said}"
    );
    assert!(hint.contains("openssl rand") && !said.contains("guessable"), "{hint}");
    let config = good_with(&public, &[("K", "sk-0123456789abc")]);
    assert!(matches!(config.auth, Settings::Keys(keys) if keys.len() == 1));
    good_with(file, &[("K", "key")]);
}

#[test]
fn auth_lines_that_contradict_each_other_are_told() {
    wrong(
        "auth.mode = \"keys\"",
        "1:13: error: auth.mode: expected auth.static_keys beside it",
        "",
    );
    wrong("auth.static_keys = []", "1:20: error: auth.static_keys: expected at least one key", "");
    let (said, _) = one("auth.mode = \"off\"\nauth.static_keys = [\"k\"]");
    assert_eq!(said, "1:13: error: auth.mode: contradicts static_keys: \"off\" admits everybody");
    let (said, _) = one("auth.mode = \"gitlab\"");
    assert_eq!(
        said,
        "1:13: error: auth.mode: expected gitlab.url beside it: whose tokens to accept"
    );
    let (said, hint) = one("auth.mode = \"of\"");
    assert!(said.contains("expected \"off\", \"keys\" or \"gitlab\""), "{said}");
    assert_eq!(hint, "did you mean \"off\"?");
}

#[test]
fn the_environment_speaks_where_the_file_is_silent() {
    let variables = [
        ("AIGW_FASTAPI__API_HOST", "::1"),
        ("AIGW_FASTAPI__API_PORT", "6000"),
        ("AIGW_FASTAPI__METRICS_PORT", "6001"),
        ("AIGW_LOGGING__LEVEL", "WARNING"),
        ("AIGW_LOGGING__FORMAT_JSON", "false"),
        ("AIGW_CUSTOM_MODELS__ENABLED", "false"),
        ("WEB_CONCURRENCY", "3"),
        ("AWS_REGION", "eu-central-1"),
    ];
    let config = good_with("", &variables);
    assert_eq!(config.server.listen.to_string(), "[::1]:6000");
    assert_eq!(config.server.admin.to_string(), "127.0.0.1:6001");
    assert_eq!((config.server.workers, config.log), (3, (Level::Warn, Format::Text)));
    assert_eq!(config.request_models, RequestModels::Ignore);
    assert_eq!(
        config.provenance.source("server.listen"),
        "AIGW_FASTAPI__API_HOST, AIGW_FASTAPI__API_PORT"
    );
    assert_eq!(config.warnings, []);
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nworkers = 1\n[telemetry]\nlevel = \"debug\"\n[features]\nrequest_models = \"allow\"\n";
    let config = good_with(file, &variables);
    assert_eq!(
        (config.server.listen.to_string().as_str(), config.server.workers),
        ("127.0.0.1:1", 1)
    );
    assert_eq!((config.log.0, config.request_models), (Level::Debug, RequestModels::Allow));
    assert_eq!(config.provenance.origin("server.listen"), Origin::Line(2));
    assert_eq!(config.provenance.source("telemetry.level"), "weir.toml:5");
    assert_eq!(config.provenance.source("timeouts.idle"), "default");
}

#[test]
fn bad_variables_are_faults_of_the_environment() {
    let (said, _) = one_with("", &[("AIGW_FASTAPI__API_PORT", "http")]);
    assert_eq!(
        said,
        "environment: error: AIGW_FASTAPI__API_PORT: said \"http\", expected a port from 0 to 65535"
    );
    let (said, _) = one_with("", &[("WEB_CONCURRENCY", "0")]);
    assert_eq!(
        said,
        "environment: error: WEB_CONCURRENCY: said 0, expected a whole number from 1 to 1024"
    );
    let (said, _) = one_with("", &[("AIGW_FASTAPI__API_HOST", "0.0.0.0")]);
    assert!(
        said.starts_with(
            "environment: error: AIGW_FASTAPI__API_HOST: said \"0.0.0.0:5052\", but nobody"
        ),
        "{said}"
    );
    let (said, _) = one_with("", &[("AIGW_FASTAPI__TLS__ENABLED", "true")]);
    assert_eq!(
        said,
        "environment: error: AIGW_FASTAPI__TLS__ENABLED: expected AIGW_FASTAPI__TLS__CERT_FILE and AIGW_FASTAPI__TLS__KEY_FILE beside it"
    );
    let config = good_with(
        "",
        &[
            ("AIGW_NOVEL", "1"),
            ("AIGW_GITLAB_API_URL", "http://g"),
            ("OTHER", "x"),
            ("AIGW_EMPTY", ""),
        ],
    );
    assert_eq!(config.warnings.len(), 1);
    assert_eq!(config.warnings[0].key, "AIGW_GITLAB_API_URL, AIGW_NOVEL");
}

#[test]
fn the_bypass_variable_opens_and_says_so_unless_the_file_decides() {
    let public = ("AIGW_FASTAPI__API_HOST", "0.0.0.0");
    let config = good_with("", &[public, ("AIGW_AUTH__BYPASS_EXTERNAL", "true")]);
    assert!(matches!(config.auth, Settings::Off));
    assert!(
        config.warnings[0].message.starts_with("authentication is off"),
        "{:?}",
        config.warnings
    );
    assert_eq!(config.provenance.source("auth.mode"), "AIGW_AUTH__BYPASS_EXTERNAL");
    let keys = "auth.static_keys = [{ env = \"K\" }]";
    let config = good_with(
        keys,
        &[public, ("AIGW_AUTH__BYPASS_EXTERNAL", "true"), ("K", "sk-0123456789abc")],
    );
    assert!(matches!(config.auth, Settings::Keys(_)));
    let (said, _) =
        one_with("auth.mode = \"off\"", &[public, ("AIGW_AUTH__BYPASS_EXTERNAL", "true")]);
    assert!(
        said.contains("but nobody is asked for a key"),
        "the file's own \"off\" is not allow_public: {said}"
    );
}
