//! Bedrock and Azure models: what they require, where it comes from, and that their secrets are not
//! shown.

use super::{bad_with, good_with, one_with};
use crate::config::{Config, Severity};
use crate::model::{Access, ApiVersion, AwsCredentials, BedrockAccess, EndpointUrl, ProviderKind};

const REGION: (&str, &str) = ("AWS_REGION", "eu-central-1");
const ID: (&str, &str) = ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
const SECRET: (&str, &str) = ("AWS_SECRET_ACCESS_KEY", "secret-canary");
const TOKEN: (&str, &str) = ("AWS_SESSION_TOKEN", "token-canary");
const BEARER: (&str, &str) = ("AWS_BEARER_TOKEN_BEDROCK", "bearer-canary");
const AZURE: &str = "[models.m]\nidentifier = \"azure/gpt\"\napi_key = { env = \"K\" }\n";
const AZURE_KEY: (&str, &str) = ("K", "azure-canary");

fn bedrock(id: &str, lines: &str) -> String {
    format!("[models.m]\nidentifier = \"bedrock/{id}\"\n{lines}")
}

fn access(config: &Config) -> &BedrockAccess {
    let Access::Bedrock(access) = &config.models[0].access else { panic!("{:?}", config.models) };
    access
}

fn endpoint(config: &Config) -> String {
    config.models[0].endpoints.iter().map(EndpointUrl::to_string).collect()
}

#[track_caller]
fn wrong(text: &str, pairs: &[(&str, &str)], headline: &str, hint: &str) {
    let (actual, hinted) = one_with(text, pairs);
    assert_eq!((actual.as_str(), hinted.as_str()), (headline, hint));
}

#[test]
fn the_region_is_the_identifiers_then_the_models_then_the_environments() {
    let arn = "arn:aws:bedrock:us-west-2:123456789012:application-inference-profile/a1";
    let other = ("AWS_REGION_NAME", "eu-west-1");
    for (id, lines, env, region, source) in [
        ("us-east-2/x", "", REGION, "us-east-2", "weir.toml:2"),
        (arn, "", REGION, "us-west-2", "weir.toml:2"),
        (arn, "region = \"us-west-2\"", REGION, "us-west-2", "weir.toml:3"),
        ("converse/x", "region = \"us-east-1\"", REGION, "us-east-1", "weir.toml:3"),
        ("x", "", REGION, "eu-central-1", "AWS_REGION"),
        ("x", "", other, "eu-west-1", "AWS_REGION_NAME"),
    ] {
        let config = good_with(&bedrock(id, lines), &[env, ID, SECRET]);
        assert_eq!(access(&config).region.as_str(), region, "{id}");
        assert_eq!(config.provenance.source("models.m.region"), source, "{id}");
        assert_eq!(endpoint(&config), format!("https://bedrock-runtime.{region}.amazonaws.com"));
        assert_eq!(&*config.models[0].upstream_name, id);
    }
    wrong(
        &bedrock("x", ""),
        &[ID, SECRET],
        "1:9: error: models.m: expected a region",
        "set region = \"…\" here, AWS_REGION or AWS_REGION_NAME in the environment, or bedrock/<region>/… in the identifier",
    );
    wrong(
        &bedrock("us-east-2/x", "region = \"us-east-1\""),
        &[ID, SECRET],
        "3:10: error: models.m.region: found \"us-east-1\", contradicts the identifier, which names us-east-2",
        "",
    );
    wrong(
        &bedrock("x", "region = \"Frankfurt\""),
        &[REGION, ID, SECRET],
        "3:10: error: models.m.region: found \"Frankfurt\", expected a region like \"eu-central-1\"",
        "",
    );
    let (headline, _) = one_with(&bedrock("arn:aws:s3:::x", ""), &[REGION, ID, SECRET]);
    assert!(
        headline.contains(
            "models.m.identifier: found \"bedrock/arn:aws:s3:::x\", `arn:aws:s3:::x` is no ARN"
        ),
        "{headline}"
    );
}

#[test]
fn the_endpoint_is_the_models_then_the_environments_then_the_public_one() {
    let env = ("AWS_BEDROCK_RUNTIME_ENDPOINT", "http://127.0.0.1:9201/");
    let config = good_with(&bedrock("x", ""), &[REGION, ID, SECRET, env]);
    assert_eq!(endpoint(&config), "http://127.0.0.1:9201");
    assert_eq!(config.provenance.source("models.m.endpoint"), env.0);
    let lines = "endpoint = \"https://vpce-1.vpce.amazonaws.com\"\nsigning_host = \"bedrock-runtime.eu-central-1.amazonaws.com\"";
    let config = good_with(&bedrock("x", lines), &[REGION, ID, SECRET, env]);
    assert_eq!(endpoint(&config), "https://vpce-1.vpce.amazonaws.com");
    assert_eq!(
        access(&config).signing_host.as_ref().unwrap(),
        "bedrock-runtime.eu-central-1.amazonaws.com"
    );
    for host in ["https://h", "a b", "u:p@h", ""] {
        let (headline, _) =
            one_with(&bedrock("x", &format!("signing_host = \"{host}\"")), &[REGION, ID, SECRET]);
        assert!(headline.starts_with("3:16: error: models.m.signing_host: found "), "{headline}");
    }
}

#[test]
fn credentials_are_the_models_then_a_bearer_token_then_keys() {
    let env = [
        REGION,
        ID,
        SECRET,
        TOKEN,
        BEARER,
        ("MY_ID", "AKIDMINE"),
        ("MY_SECRET", "my-canary"),
        ("MY_KEY", "k-canary"),
    ];
    let chosen = |lines: &str, env: &[(&str, &str)]| {
        let config = good_with(&bedrock("x", lines), env);
        let (_, setting) =
            config.provenance.access_of("m").find(|(key, _)| *key == "credentials").unwrap();
        let value = match &*access(&config).credentials {
            AwsCredentials::ApiKey(key) => key.expose().clone(),
            AwsCredentials::Keys(keys) => {
                let token = keys.session_token.as_ref().map_or("", |token| token.expose());
                format!("{} {} {token}", keys.access_key_id, keys.secret_access_key.expose())
            }
            AwsCredentials::Chain(chain) => chain.region().unwrap().to_string(),
        };
        (value, setting.value.clone(), config.provenance.show(&setting.origin))
    };
    let is = |value: &str, kind: &str, by: &str| (value.to_owned(), kind.to_owned(), by.to_owned());
    let own = "access_key_id = { env = \"MY_ID\" }\nsecret_access_key = { env = \"MY_SECRET\" }";
    assert_eq!(chosen(own, &env), is("AKIDMINE my-canary ", "an access key", "weir.toml:3"));
    assert_eq!(
        chosen("api_key = { env = \"MY_KEY\" }", &env),
        is("k-canary", "a Bedrock API key", "weir.toml:3")
    );
    assert_eq!(
        chosen("", &env),
        is("bearer-canary", "a Bedrock API key", "AWS_BEARER_TOKEN_BEDROCK")
    );
    let by = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY";
    assert_eq!(chosen("", &env[..3]), is("AKIDEXAMPLE secret-canary ", "an access key", by));
    let temporary = is(
        "AKIDEXAMPLE secret-canary token-canary",
        "a temporary access key",
        &format!("{by}, AWS_SESSION_TOKEN"),
    );
    assert_eq!(chosen("", &env[..4]), temporary);
    let chain = "AWS's credential chain";
    assert_eq!(
        chosen("", &[REGION]),
        is("eu-central-1", &format!("{chain}: ~/.aws, else this instance's role"), "default")
    );
    let led = [REGION, ("AWS_PROFILE", "work"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")];
    assert_eq!(
        chosen("", &led),
        is("eu-central-1", chain, "AWS_PROFILE, AWS_WEB_IDENTITY_TOKEN_FILE")
    );
}

#[test]
fn incomplete_credentials_are_faults() {
    let env = [REGION, ("A", "a"), ("B", "b c")];
    let error = |lines: &str| one_with(&bedrock("x", lines), &env).0;
    assert_eq!(
        error("access_key_id = { env = \"A\" }"),
        "3:1: error: models.m: expected secret_access_key as well"
    );
    let both = "expected access_key_id and secret_access_key as well";
    assert_eq!(error("session_token = { env = \"A\" }"), format!("3:1: error: models.m: {both}"));
    assert_eq!(
        error("api_key = { env = \"A\" }\naccess_key_id = { env = \"A\" }"),
        "4:1: error: models.m: api_key and an access key: expected only one of them"
    );
    assert!(
        error("access_key_id = { env = \"A\" }\nsecret_access_key = { env = \"NOPE\" }")
            .contains("NOPE is not set")
    );
    assert!(
        error("api_key = { env = \"B\" }").ends_with("not visible ASCII (a space, a line break?)")
    );
}

#[test]
fn all_models_share_one_chain_which_is_not_used_without_need() {
    let models = format!("{}[models.n]\nidentifier = \"bedrock/us-west-2/y\"", bedrock("x", ""));
    let config = good_with(&models, &[REGION]);
    let renewed: Vec<_> = config.table.refreshable_credentials().collect();
    assert_eq!(renewed.len(), 3, "two models and those of requests");
    assert!(renewed.iter().all(|each| each.is_same(&renewed[0])));
    let with_keys = good_with(&bedrock("x", ""), &[REGION, ID, SECRET]);
    assert_eq!(with_keys.table.refreshable_credentials().count(), 0);
}

#[test]
fn the_openai_compatible_endpoint_is_used_when_the_model_sets_it() {
    let open = |id: &str, lines: &str| bedrock(id, &format!("{lines}\nbedrock_openai = true"));
    let env = [REGION, ID, SECRET, ("K", "key")];
    let config = good_with(&open("us-west-2/openai.gpt-oss-20b-1:0", ""), &env);
    let model = &config.models[0];
    assert_eq!(
        (model.provider, &*model.upstream_name),
        (ProviderKind::BedrockOpenAi, "openai.gpt-oss-20b-1:0")
    );
    assert_eq!(endpoint(&config), "https://bedrock-runtime.us-west-2.amazonaws.com");
    assert_eq!(
        good_with(&bedrock("x", "bedrock_openai = false"), &env).models[0].provider,
        ProviderKind::Bedrock
    );
    let mantle = "endpoint = \"https://bedrock-mantle.us-east-1.api.aws/v1\"";
    good_with(&open("x", &format!("{mantle}\napi_key = {{ env = \"K\" }}")), &env);
    let (headline, _) = one_with(&open("x", mantle), &env);
    assert!(
        headline.contains("models.m.bedrock_openai: bedrock-mantle requires a Bedrock API key"),
        "{headline}"
    );
    let (headline, _) = one_with(&open("x", "guardrail = { identifier = \"g\" }"), &env);
    assert!(headline.contains("expected the guardrail's version"), "{headline}");
    let (headline, hint) =
        one_with("[models.m]\nidentifier = \"bedrock_mantle/x\"\nendpoint = \"http://h\"", &[]);
    assert!(
        headline.contains("unknown prefix") && hint.contains("bedrock_openai = true"),
        "{headline} {hint}"
    );
    wrong(
        "[models.m]\nendpoint = \"http://h/v1\"\nbedrock_openai = true",
        &[],
        "3:1: error: models.m.bedrock_openai: only for bedrock models; this is one of openai",
        "",
    );
}

#[test]
fn wrong_variables_are_errors_when_a_model_needs_them_and_else_warnings() {
    let bad_region = ("AWS_REGION", "nowhere");
    let headline = "environment: error: AWS_REGION: found \"nowhere\", expected a region like \"eu-central-1\"";
    wrong(&bedrock("x", ""), &[bad_region, ID, SECRET], headline, "");
    let half = "environment: error: AWS_ACCESS_KEY_ID: expected AWS_SECRET_ACCESS_KEY as well";
    wrong(&bedrock("x", ""), &[REGION, ID], half, "");
    let half = "environment: error: AWS_SECRET_ACCESS_KEY: expected AWS_ACCESS_KEY_ID as well";
    wrong(&bedrock("x", ""), &[REGION, SECRET], half, "");
    let url = "environment: error: AWS_BEDROCK_RUNTIME_ENDPOINT: found \"•••\", expected a URL like \"https://bedrock-runtime.eu-central-1.amazonaws.com\"";
    wrong(
        &bedrock("x", ""),
        &[REGION, ID, SECRET, ("AWS_BEDROCK_RUNTIME_ENDPOINT", "http://u:canary@h")],
        url,
        "",
    );
    let version = "environment: error: AZURE_API_VERSION: found \"v9\", expected v1, preview or a date like \"2025-02-01-preview\"";
    wrong(
        &format!("{AZURE}endpoint = \"https://h\""),
        &[AZURE_KEY, ("AZURE_API_VERSION", "v9")],
        version,
        "",
    );
    let config = good_with("", &[bad_region, ID, ("AZURE_API_VERSION", "v9")]);
    let keys: Vec<&str> = config.warnings.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AZURE_API_VERSION"]);
}

#[test]
fn guardrails_come_from_the_model_or_as_json_from_the_environment() {
    let json = (
        "AIGW_BEDROCK_GUARDRAIL_CONFIG",
        r#"{"guardrailIdentifier":"abc","guardrailVersion":2,"trace":"enabled"}"#,
    );
    let env = [REGION, ID, SECRET, json];
    let config = good_with(&bedrock("x", ""), &env);
    let guardrail = access(&config).guardrail.as_ref().unwrap();
    assert_eq!(
        (&*guardrail.identifier, guardrail.version.as_deref(), guardrail.trace.as_deref()),
        ("abc", Some("2"), Some("enabled"))
    );
    assert_eq!(config.provenance.source("models.m.guardrail"), json.0);
    let config =
        good_with(&bedrock("x", "guardrail = { identifier = \"own\", version = \"DRAFT\" }"), &env);
    assert_eq!(&*access(&config).guardrail.as_ref().unwrap().identifier, "own");
    let config = good_with(&bedrock("x", "guardrail = { identifier = \"own\" }"), &env);
    assert_eq!(
        access(&config).guardrail.as_ref().unwrap().version,
        None,
        "it is optional in AWS's service model"
    );
    for (line, headline) in [
        (
            "{ version = \"1\" }",
            "3:1: error: models.m.guardrail: expected identifier in this table",
        ),
        (
            "{ identifier = \"O\", version = \"1\" }",
            "3:1: error: models.m.guardrail: a guardrail's identifier is its id (letters and digits) or its ARN",
        ),
        (
            "{ identifier = \"o\", version = \"x\" }",
            "3:1: error: models.m.guardrail: a guardrail's version is \"DRAFT\" or a number",
        ),
        (
            "{ identifier = \"o\", version = 1 }",
            "3:43: error: models.m.guardrail.version: found 1, expected \"DRAFT\" or a number as a string",
        ),
        (
            "{ identifier = \"o\", version = \"1\", trace = \"on\" }",
            "3:56: error: models.m.guardrail.trace: found \"on\", expected \"enabled\", \"disabled\" or \"enabled_full\"",
        ),
        (
            "\"o\"",
            "3:1: error: models.m.guardrail: found a value of type string, expected a table of keys",
        ),
    ] {
        assert_eq!(one_with(&bedrock("x", &format!("guardrail = {line}")), &env).0, headline);
    }
    // a guardrail protects something: even without a model of the file a wrong one is an error
    for json in [
        "{",
        "[]",
        "{\"guardrailVersion\":\"1\"}",
        "{\"guardrailIdentifier\":\"A B\",\"guardrailVersion\":\"1\"}",
    ] {
        let (headline, _) = one_with("", &[("AIGW_BEDROCK_GUARDRAIL_CONFIG", json)]);
        assert!(
            headline.starts_with("environment: error: AIGW_BEDROCK_GUARDRAIL_CONFIG: "),
            "{headline}"
        );
    }
    wrong(
        "[models.m]\nendpoint = \"http://h/v1\"\nguardrail = { identifier = \"o\", version = \"1\" }",
        &[],
        "3:1: error: models.m.guardrail: only for bedrock models; this is one of openai",
        "",
    );
}

#[test]
fn azures_version_is_the_models_then_the_environments_then_v1() {
    let version = |line: &str, env: &[(&str, &str)]| {
        let config = good_with(
            &format!("{AZURE}endpoint = \"https://h\"\n{line}"),
            &[env, &[AZURE_KEY]].concat(),
        );
        let Access::Azure(access) = config.models[0].access.clone() else {
            panic!("{:?}", config.models)
        };
        (access.version, config.provenance.source("models.m.api_version"))
    };
    let env = [("AZURE_API_VERSION", "preview")];
    let dated = ApiVersion::Dated("2024-10-21".into());
    assert_eq!(version("api_version = \"2024-10-21\"", &env), (dated, "weir.toml:5".into()));
    assert_eq!(version("", &env), (ApiVersion::Preview, "AZURE_API_VERSION".into()));
    assert_eq!(version("", &[]), (ApiVersion::V1, "default".into()));
    wrong(
        &format!("{AZURE}endpoint = \"https://h\"\napi_version = \"v2\""),
        &[AZURE_KEY],
        "5:15: error: models.m.api_version: found \"v2\", expected v1, preview or a date like \"2025-02-01-preview\"",
        "",
    );
}

#[test]
fn azure_needs_a_key_and_the_resources_root() {
    let azure = |lines: &str| format!("[models.m]\nidentifier = \"azure/gpt\"\n{lines}");
    let (headline, hint) = one_with(&azure("endpoint = \"https://h\""), &[]);
    assert_eq!(headline, "1:9: error: models.m: expected api_key or entra");
    assert!(hint.contains("api_key = { env") && hint.contains("identity = \"managed\""), "{hint}");

    let root = "https://acme.openai.azure.com";
    let with = |path: &str, version: &str| {
        format!("{AZURE}endpoint = \"{root}{path}\"\napi_version = \"{version}\"")
    };
    for (path, version) in [
        ("", "2024-10-21"),
        ("/", "v1"),
        ("/openai/", "2024-10-21"),
        ("/openai/v1/", "v1"),
        ("/openai/v1", "preview"),
    ] {
        assert_eq!(endpoint(&good_with(&with(path, version), &[AZURE_KEY])), root, "{path}");
    }
    wrong(
        &with("/openai/v1", "2024-10-21"),
        &[AZURE_KEY],
        "4:12: error: models.m.endpoint: ends in the v1 path, which takes no dated api_version, and that is \"2024-10-21\"",
        "write \"https://acme.openai.azure.com\"; or api_version = \"v1\" (weir.toml:5 has 2024-10-21)",
    );
    let alone = "4:12: error: models.m.endpoint: expected the address of the resource alone";
    wrong(
        &with("/openai/deployments/gpt", "2024-10-21"),
        &[AZURE_KEY],
        alone,
        "write \"https://acme.openai.azure.com\"; the deployment is named in identifier = \"azure/…\"",
    );
    wrong(
        &with(
            "/openai/deployments/gpt/chat/completions?api-version=2025-01-01-preview",
            "2024-10-21",
        ),
        &[AZURE_KEY],
        alone,
        "write \"https://acme.openai.azure.com\" and api_version = \"2025-01-01-preview\"; the deployment is named in identifier = \"azure/…\"",
    );
    let (headline, hint) = one_with(AZURE, &[AZURE_KEY]);
    assert_eq!(headline, "1:9: error: models.m: expected endpoint or endpoints");
    assert!(hint.contains("openai.azure.com"), "{hint}");
}

#[test]
fn no_secret_of_a_cloud_is_shown() {
    let env = [REGION, ID, SECRET, TOKEN, BEARER, AZURE_KEY, ("T", "two canary")];
    for text in [
        "models.m = { identifier = \"bedrock/x\", secret_access_key = \"canary\", region = 5 }",
        "models.m = { identifier = \"bedrock/x\", access_key_id = \"canary\", session_tokn = \"canary\" }",
        "models.m = { identifier = \"bedrock/x\", access_key_id = \"a\", secret_access_key = \"canary b\" }",
        "models.m = { identifier = \"bedrock/x\", access_key_id = [\"canary\"], secret_access_key = { v = \"canary\" } }",
        "models.m = { identifier = \"bedrock/x\", api_key = { env = \"T\" } }",
        "[models.m]\nidentifier = \"bedrock/x\"\nsession_token = \"canary",
        "[models.m]\nidentifier = \"azure/x\"\napi_key = \"canary\"\nendpoint = \"https://h/openai/deployments/x?api-version=canary\"",
        "[models.m]\nidentifier = \"azure/x\"\napi_key = { env = \"K\" }\nendpoint = \"https://u:canary@h\"",
        "[models.m]\nidentifier = \"azure/x\"\nentra = { client_secret = \"canary\" }\nendpoint = \"https://h\"",
    ] {
        let faults = bad_with(text, &env);
        assert!(!format!("{faults} {faults:?}").contains("canary"), "{text}\n---\n{faults}");
    }
    let bad = [
        ("AWS_BEARER_TOKEN_BEDROCK", "a canary"),
        ("AWS_SECRET_ACCESS_KEY", "a canary"),
        ("AWS_SESSION_TOKEN", "a canary"),
    ];
    for variable in bad {
        let faults = bad_with(&bedrock("x", ""), &[REGION, ID, SECRET, variable][..]);
        assert!(!format!("{faults} {faults:?}").contains("canary"), "{faults}");
    }
    for env in [&env[..], &env[..4]] {
        let text = format!(
            "{}{}",
            bedrock("x", ""),
            AZURE.replace("models.m", "models.a") + "endpoint = \"https://h\"\n"
        );
        let config = good_with(&text, &[env, &[AZURE_KEY]].concat());
        assert!(!format!("{config:?}").contains("canary"), "{config:?}");
        assert!(config.warnings.iter().all(|fault| fault.severity == Severity::Warning));
    }
}

#[test]
fn anthropics_own_address_is_the_default() {
    let claude = |lines: &str| format!("[models.m]\nidentifier = \"anthropic/claude\"\n{lines}");
    let config = good_with(&claude(""), &[]);
    assert_eq!(endpoint(&config), "https://api.anthropic.com");
    assert_eq!(config.provenance.source("models.m.endpoint"), "default");
    assert_eq!(
        endpoint(&good_with(&claude("endpoint = \"https://proxy.example/v1\""), &[])),
        "https://proxy.example"
    );
}
