//! `[gitlab]` and `[auth.user_tokens]`: whose tokens are accepted, and the cloud gateway.

use super::{good, good_with, one, one_with, wrong};
use crate::auth::{GitlabSettings, Settings};

/// Returns the settings of a text that accepts a GitLab's tokens: address, second issuer, audience,
/// number of keys.
#[track_caller]
fn accepts(text: &str, env: &[(&str, &str)]) -> (String, Option<String>, String, usize) {
    let config = good_with(text, env);
    let Settings::Gitlab { keys, gitlab: GitlabSettings { url, cloud_issuer, audience } } =
        config.auth
    else {
        panic!("{:?}", config.auth)
    };
    (url.to_string(), cloud_issuer.map(|url| url.to_string()), audience.into(), keys.len())
}

const GITLAB: &str = "https://gitlab.example.com";
const ON_PUBLIC: &str =
    "server.listen = \"0.0.0.0:5052\"\ngitlab.url = \"https://gitlab.example.com/\"\n";

#[test]
fn a_gitlab_is_enough_to_serve_on_a_public_address() {
    let plain = (GITLAB.to_owned(), None, "gitlab-ai-gateway".to_owned(), 0);
    assert_eq!(accepts(ON_PUBLIC, &[]), plain);
    assert_eq!(accepts(&format!("{ON_PUBLIC}auth.mode = \"gitlab\"\n"), &[]), plain);
    let both = format!("{ON_PUBLIC}auth.static_keys = [{{ env = \"K\" }}]\n");
    assert_eq!(accepts(&both, &[("K", "sk-0123456789abc")]).3, 1);
    let config = good(ON_PUBLIC);
    assert_eq!(config.provenance.source("auth.mode"), "weir.toml:2");
    assert_eq!(config.warnings, []);
}

#[test]
fn the_official_variables_are_enough_too() {
    let env = [
        ("AIGW_FASTAPI__API_HOST", "0.0.0.0"),
        ("AIGW_GITLAB_URL", GITLAB),
        ("AIGW_CUSTOMER_PORTAL_URL", "https://customers.gitlab.com"),
        ("AIGW_CLOUD_CONNECTOR_SERVICE_NAME", "another"),
    ];
    let cloud = Some("https://customers.gitlab.com".to_owned());
    assert_eq!(accepts("", &env), (GITLAB.to_owned(), cloud, "another".to_owned(), 0));
    assert_eq!(good_with("", &env).provenance.source("auth.mode"), "AIGW_GITLAB_URL");
}

#[test]
fn the_mode_of_the_file_wins() {
    let keys = format!("{ON_PUBLIC}auth.static_keys = [{{ env = \"K\" }}]\nauth.mode = \"keys\"\n");
    assert!(
        matches!(good_with(&keys, &[("K", "sk-0123456789abc")]).auth, Settings::Keys(keys) if keys.len() == 1)
    );
    let (headline, _) = one(&format!("{ON_PUBLIC}auth.mode = \"off\""));
    assert!(headline.contains("but no authentication is configured"), "{headline}");
}

#[test]
fn the_bypass_variable_opens_only_where_the_file_names_no_gitlab() {
    let bypass = ("AIGW_AUTH__BYPASS_EXTERNAL", "true");
    assert_eq!(accepts(ON_PUBLIC, &[bypass]).0, GITLAB);
    assert!(good_with(ON_PUBLIC, &[bypass]).warnings[0].message.contains("has no effect"));
    let config = good_with(
        "",
        &[("AIGW_FASTAPI__API_HOST", "0.0.0.0"), ("AIGW_GITLAB_URL", GITLAB), bypass],
    );
    assert_eq!(config.auth, Settings::Off);
}

#[test]
fn malformed_addresses_are_reported_with_a_correction() {
    let expected = "expected a URL like \"https://gitlab.example.com\"";
    wrong(
        "gitlab.url = \"gitlab.example.com\"",
        &format!(
            "1:14: error: gitlab.url: found \"gitlab.example.com\", {expected}: an endpoint starts with http:// or https://"
        ),
        "did you mean \"https://gitlab.example.com\"?",
    );
    let (headline, _) = one("[gitlab]\nurl = \"https://g\"\ncloud_issuer = \"ftp://c\"");
    assert!(
        headline.starts_with("3:16: error: gitlab.cloud_issuer: found \"ftp://c\", expected a URL"),
        "{headline}"
    );
    let (headline, _) = one_with("", &[("AIGW_GITLAB_URL", "gitlab")]);
    assert!(
        headline
            .starts_with("environment: error: AIGW_GITLAB_URL: found \"gitlab\", expected a URL"),
        "{headline}"
    );
    let (headline, _) = one("gitlab.url = \"https://root:sk-canary@g\"");
    assert!(
        !headline.contains("sk-canary") && headline.contains("no user or password"),
        "{headline}"
    );
    let (headline, _) = one("[gitlab]\nurl = \"https://g\"\naudience = \"\"");
    assert_eq!(
        headline,
        "3:12: error: gitlab.audience: found \"\", expected a name like \"gitlab-ai-gateway\""
    );
}

#[test]
fn keys_over_plain_http_are_a_warning() {
    let warnings = good("gitlab.url = \"http://gitlab.internal\"").warnings;
    assert!(
        warnings[0].headline().contains("gitlab.url: found \"http://gitlab.internal\", plain HTTP"),
        "{warnings:?}"
    );
    assert_eq!(good("gitlab.url = \"http://127.0.0.1:3000\"").warnings, []);
}

const FIRST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/jwt/first.pem");
const SECOND: &str = include_str!("../../../tests/golden/jwt/second.pem");

#[test]
fn the_keys_of_users_tokens_come_from_files_and_from_the_official_variables() {
    let of = |text: &str, env: &[(&str, &str)]| {
        let config = good_with(text, env);
        let keys = format!("{:?} {:?}", config.user_tokens.signing, config.user_tokens.validation);
        (keys, config.provenance.source("auth.user_tokens.signing_key"), config.warnings.len())
    };
    let file = format!("auth.user_tokens.signing_key = {{ file = {FIRST:?} }}\n");
    let first = of(&file, &[]).0;
    assert!(first.starts_with("Some(SigningKey(RS256, ") && first.ends_with(" None"), "{first}");
    let official = [
        ("AIGW_SELF_SIGNED_JWT__SIGNING_KEY", SECOND),
        ("DUO_WORKFLOW_SELF_SIGNED_JWT__SIGNING_KEY", "x"),
    ];
    let (second, source, warnings) = of("", &official);
    assert!(second != first && second.starts_with("Some(") && warnings == 0, "{second}");
    assert_eq!(source, "AIGW_SELF_SIGNED_JWT__SIGNING_KEY");
    assert_eq!(of(&file, &official), (first, "weir.toml:1".to_owned(), 0));
    let rotating = [("DUO_WORKFLOW_SELF_SIGNED_JWT__VALIDATION_KEY", SECOND)];
    assert!(of(&file, &rotating).0.contains("Some(VerifyingKey(RS256, "));
    assert_eq!(of("", &[]).0, "None None");
}

#[test]
fn a_malformed_key_is_a_fault_and_not_shown() {
    let expected = "expected a key in PEM (-----BEGIN PRIVATE KEY-----)";
    let env =
        [("AIGW_SELF_SIGNED_JWT__SIGNING_KEY", "sk-canary\ncanary"), ("K", "sk-canary two words")];
    let (headline, _) = one_with("", &env[..1]);
    assert_eq!(
        headline,
        format!("environment: error: AIGW_SELF_SIGNED_JWT__SIGNING_KEY: {expected}")
    );
    let (headline, _) = one_with("auth.user_tokens.validation_key = { env = \"K\" }", &env[1..]);
    assert_eq!(headline, format!("1:35: error: auth.user_tokens.validation_key: {expected}"));
}

const TO_CLOUD: &str =
    "[features]\nduo_chat = { model = \"gitlab\", timeouts = { idle = \"9s\" } }\n";

#[test]
fn a_feature_may_be_gitlabs_own() {
    let config = good(TO_CLOUD);
    let route = config.table.cloud().unwrap();
    assert_eq!(route.model.endpoints[0].to_string(), "https://cloud.gitlab.com/ai");
    assert_eq!(
        (&*route.model.id, route.model.provider.label(), route.timeouts.idle.as_secs()),
        ("gitlab", "gitlab", 9)
    );
    assert_eq!(config.models.len(), 0, "it is no model of the file");
    let elsewhere = good(&format!("gitlab.cloud_url = \"http://127.0.0.1:1/ai/\"\n{TO_CLOUD}"));
    assert_eq!(
        elsewhere.table.cloud().unwrap().model.endpoints[0].to_string(),
        "http://127.0.0.1:1/ai"
    );
    assert!(good("").table.cloud().is_none());
}

#[test]
fn the_cloud_is_reached_safely_or_not_at_all() {
    let text = |url: &str| format!("gitlab.cloud_url = \"{url}\"\n{TO_CLOUD}");
    wrong(
        &text("http://cloud.internal"),
        "1:20: error: gitlab.cloud_url: found \"http://cloud.internal\", plain HTTP: the callers' tokens would cross the \
         network for everybody to read",
        "use https://",
    );
    wrong(
        &text("cloud.gitlab.com/ai"),
        "1:20: error: gitlab.cloud_url: found \"cloud.gitlab.com/ai\", expected a URL like \"https://cloud.gitlab.com/ai\": \
         an endpoint starts with http:// or https://",
        "did you mean \"https://cloud.gitlab.com/ai\"?",
    );
    let fallback = "[models.m]\nendpoint = \"http://h/v1\"\n[features]\nduo_chat = { model = \"gitlab\", fallback = [\"m\"] }\n";
    let (headline, _) = one(fallback);
    assert_eq!(headline, "4:32: error: features.duo_chat.fallback: GitLab's cloud has no fallback");
}

#[test]
fn a_cloud_that_no_caller_can_use_is_a_warning() {
    let warnings = |text: &str| {
        let config = good_with(&format!("{text}\n{TO_CLOUD}"), &[("K", "key")]);
        config.warnings.iter().map(crate::config::Fault::headline).collect::<Vec<_>>().join("\n")
    };
    assert!(
        warnings("auth.static_keys = [{ env = \"K\" }]")
            .contains("static keys do not open GitLab's cloud")
    );
    assert!(
        warnings("gitlab.url = \"https://g\"")
            .contains("gitlab.cloud_issuer: without it the tokens")
    );
    assert_eq!(
        warnings("[gitlab]\nurl = \"https://g\"\ncloud_issuer = \"https://customers.gitlab.com\""),
        ""
    );
    assert_eq!(warnings(""), "", "auth is off: the cloud authenticates");
}
