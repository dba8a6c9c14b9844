//! Authentication, and precedence: the file over the environment over the defaults.

use super::{good, good_with, one, one_with, wrong};
use crate::auth::Settings;
use crate::config::Origin;
use crate::route::RequestModels;
use crate::telemetry::{Format, Level};

#[test]
fn off_on_a_public_address_is_refused_with_both_ways_out() {
    let (headline, hint) = one("server.listen = \"0.0.0.0:5052\"");
    assert!(
        headline.starts_with(
            "1:17: error: server.listen: found \"0.0.0.0:5052\", but no authentication is configured"
        ),
        "{headline}"
    );
    assert!(
        hint.contains("auth.static_keys") && hint.contains("auth.allow_public = true"),
        "{hint}"
    );
    let (headline, _) = one("server.listen = \"[::]:5052\"\nauth.mode = \"off\"");
    assert!(headline.contains("server.listen"), "{headline}");
    good("server.listen = \"0.0.0.0:5052\"\nauth.allow_public = true");
    good("server.listen = \"[::1]:5052\"");
}

#[test]
fn keys_that_can_be_guessed_are_refused_on_a_public_address() {
    let file = "auth.static_keys = [{ env = \"K\" }]";
    let public = format!("server.listen = \"0.0.0.0:5052\"\n{file}");
    let (headline, hint) = one_with(&public, &[("K", "sk-guessable-15")]);
    assert!(
        headline.starts_with("2:21: error: auth.static_keys: a key of less than 16 characters"),
        "{headline}"
    );
    assert!(hint.contains("openssl rand") && !headline.contains("guessable"), "{hint}");
    let config = good_with(&public, &[("K", "sk-0123456789abc")]);
    assert!(matches!(config.auth, Settings::Keys(keys) if keys.len() == 1));
    good_with(file, &[("K", "key")]);
}

#[test]
fn auth_keys_that_contradict_each_other_are_faults() {
    wrong("auth.mode = \"keys\"", "1:13: error: auth.mode: expected auth.static_keys as well", "");
    wrong("auth.static_keys = []", "1:20: error: auth.static_keys: expected at least one key", "");
    let (headline, _) = one("auth.mode = \"off\"\nauth.static_keys = [\"k\"]");
    assert_eq!(
        headline,
        "1:13: error: auth.mode: contradicts static_keys: \"off\" admits everybody"
    );
    let (headline, _) = one("auth.mode = \"gitlab\"");
    assert_eq!(
        headline,
        "1:13: error: auth.mode: expected gitlab.url as well: the GitLab whose tokens are accepted"
    );
    let (headline, hint) = one("auth.mode = \"of\"");
    assert!(headline.contains("expected \"off\", \"keys\" or \"gitlab\""), "{headline}");
    assert_eq!(hint, "did you mean \"off\"?");
}

#[test]
fn the_environment_applies_where_the_file_sets_nothing() {
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
    let (headline, _) = one_with("", &[("AIGW_FASTAPI__API_PORT", "http")]);
    assert_eq!(
        headline,
        "environment: error: AIGW_FASTAPI__API_PORT: found \"http\", expected a port from 0 to 65535"
    );
    let (headline, _) = one_with("", &[("WEB_CONCURRENCY", "0")]);
    assert_eq!(
        headline,
        "environment: error: WEB_CONCURRENCY: found 0, expected a whole number from 1 to 1024"
    );
    let (headline, _) = one_with("", &[("AIGW_FASTAPI__API_HOST", "0.0.0.0")]);
    assert!(
        headline.starts_with(
            "environment: error: AIGW_FASTAPI__API_HOST: found \"0.0.0.0:5052\", but no authentication"
        ),
        "{headline}"
    );
    let (headline, _) = one_with("", &[("AIGW_FASTAPI__TLS__ENABLED", "true")]);
    assert_eq!(
        headline,
        "environment: error: AIGW_FASTAPI__TLS__ENABLED: expected AIGW_FASTAPI__TLS__CERT_FILE and AIGW_FASTAPI__TLS__KEY_FILE as well"
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
fn the_bypass_variable_opens_with_a_warning_unless_the_file_decides() {
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
    let (headline, _) =
        one_with("auth.mode = \"off\"", &[public, ("AIGW_AUTH__BYPASS_EXTERNAL", "true")]);
    assert!(
        headline.contains("but no authentication is configured"),
        "the file's own \"off\" is not allow_public: {headline}"
    );
}
