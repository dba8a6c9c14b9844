//! What an operator can get wrong in the file, a test per kind.

mod clouds;
mod entra;
mod environment;
mod families;
mod files;
mod gitlab;
mod prompts;

use std::time::Duration;

use super::{Config, Environment, Faults, Severity, from_str};
use crate::auth::Settings;
use crate::model::{ConcurrencySettings, Timeouts};
use crate::route::{Choice, Feature, RequestModels, Rule};
use crate::snapshot;
use crate::telemetry::{Format, Level};

const MODEL: &str = "[models.m]\nendpoint = \"http://gpu:8000/v1\"\n";

fn env(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().copied().collect()
}

fn good_with(text: &str, pairs: &[(&str, &str)]) -> Config {
    from_str(text, "weir.toml", &env(pairs)).unwrap_or_else(|faults| panic!("{faults}"))
}

fn good(text: &str) -> Config {
    good_with(text, &[])
}

fn bad_with(text: &str, pairs: &[(&str, &str)]) -> Faults {
    from_str(text, "weir.toml", &env(pairs)).expect_err(text)
}

/// Returns the one error of a text: its headline without the file, and its hint.
fn one(text: &str) -> (String, String) {
    one_with(text, &[])
}

fn one_with(text: &str, pairs: &[(&str, &str)]) -> (String, String) {
    let faults = bad_with(text, pairs);
    let errors: Vec<_> = faults.iter().filter(|fault| fault.severity == Severity::Error).collect();
    assert_eq!(errors.len(), 1, "{faults}");
    let headline = errors[0].headline();
    let headline = headline.strip_prefix("weir.toml:").unwrap_or(&headline).to_owned();
    (headline, errors[0].hint.clone().unwrap_or_default())
}

#[track_caller]
fn wrong(text: &str, headline: &str, hint: &str) {
    let (actual, hinted) = one(text);
    assert_eq!((actual.as_str(), hinted.as_str()), (headline, hint));
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = good("");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:5052");
    assert_eq!(config.server.admin.to_string(), "127.0.0.1:8082");
    assert!(config.server.workers >= 1);
    assert_eq!(config.limits, snapshot::Limits::default());
    assert!(!config.outward.settings().request_loopback);
    assert!(matches!(config.auth, Settings::Off));
    assert_eq!(config.log, (Level::Info, Format::Auto));
    assert_eq!(config.request_models, RequestModels::Allow);
    let route = good(&format!("{MODEL}[features]\ndefault = \"m\"\n"));
    let Some(Choice::Model(route)) = route.table.default_choice() else { panic!("no default") };
    assert_eq!(route.timeouts, Timeouts::DEFAULT);
}

#[test]
fn the_smallest_file_in_the_repository_is_good() {
    let text = include_str!("../../../config/weir.toml");
    let config = good(text);
    assert_eq!((config.models.len(), config.warnings.len()), (1, 0));
}

#[test]
fn every_fault_is_reported_at_once_in_the_order_of_the_file() {
    let text = "\
[server]
listen = \"nowhere\"
wrokers = 2
[timeouts]
connect = \"1h\"
[models.codestral]
endpoint = \"gpu-1:8000\"
api_key = { env = \"UNSET\" }
[features]
default = \"codestrl\"
";
    let faults = bad_with(text, &[("WEB_CONCURRENCY", "many")]);
    let locations: Vec<String> = faults
        .iter()
        .map(|f| f.headline().split(": ").take(3).collect::<Vec<_>>().join(" "))
        .collect();
    let expected = [
        "weir.toml:2:10 error server.listen",
        "weir.toml:3:1 error server.wrokers",
        "weir.toml:5:11 error timeouts.connect",
        "weir.toml:7:12 error models.codestral.endpoint",
        "weir.toml:8:19 error models.codestral.api_key",
        "weir.toml:10:11 error features.default",
        "environment error WEB_CONCURRENCY",
    ];
    assert_eq!(locations, expected);
    assert_eq!(faults.errors(), 7);
}

#[test]
fn unknown_keys_are_reported_with_the_nearest() {
    wrong(
        "[server]\nlistn = \"x\"\n",
        "2:1: error: server.listn: unknown key",
        "did you mean listen?",
    );
    wrong("[sever]\nlisten = \"x\"\n", "1:2: error: sever: unknown key", "did you mean server?");
    wrong(
        "[server]\nmax_body = 1\n",
        "2:1: error: server.max_body: unknown key",
        "there is limits.max_body",
    );
    wrong("[admin]\nzzz = 1\n", "2:1: error: admin.zzz: unknown key", "known here: listen");
    let text = format!("{MODEL}[features]\nduo_chat_fixcode = \"m\"\n");
    wrong(
        &text,
        "4:1: error: features.duo_chat_fixcode: unknown key",
        "did you mean duo_chat_fix_code?",
    );
}

#[test]
fn values_of_the_wrong_type_are_reported_with_a_correction() {
    let address = "expected an address and port like \"127.0.0.1:5052\"";
    wrong(
        "server.listen = \":80\"",
        &format!("1:17: error: server.listen: found \":80\", {address}"),
        "did you mean \"0.0.0.0:80\"?",
    );
    wrong(
        "admin.listen = 8082",
        &format!("1:16: error: admin.listen: found 8082, {address}"),
        "did you mean \"127.0.0.1:8082\"?",
    );
    let duration = "expected a duration from 10ms to 30m like \"60s\"";
    wrong(
        "timeouts.idle = 60",
        &format!("1:17: error: timeouts.idle: found 60, {duration}"),
        "did you mean \"60s\"?",
    );
    wrong(
        "timeouts.idle = \"31m\"",
        &format!("1:17: error: timeouts.idle: found \"31m\", {duration}"),
        "",
    );
    let size = "expected a size from 1KiB to 1GiB like \"16MiB\"";
    wrong(
        "limits.max_body = \"16M\"",
        &format!("1:19: error: limits.max_body: found \"16M\", {size}"),
        "did you mean \"16MiB\"?",
    );
    let integer = "expected a whole number from 1 to 1024";
    wrong(
        "server.workers = \"2\"",
        &format!("1:18: error: server.workers: found \"2\", {integer}"),
        "without quotes: 2",
    );
    wrong("server.workers = 0", &format!("1:18: error: server.workers: found 0, {integer}"), "");
    let keyword = "expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
    wrong(
        "telemetry.level = \"warning\"",
        &format!("1:19: error: telemetry.level: found \"warning\", {keyword}"),
        "did you mean \"warn\"?",
    );
    wrong(
        "auth.allow_public = \"true\"",
        "1:21: error: auth.allow_public: found \"true\", expected true or false",
        "without quotes: true",
    );
    wrong(
        "tls.extra_ca = \"ca.pem\"",
        "1:16: error: tls.extra_ca: found \"ca.pem\", expected an array of PEM files",
        "in brackets: [\"ca.pem\"]",
    );
    wrong(
        "server = 1",
        "1:1: error: server: found a value of type integer, expected a table of keys",
        "",
    );
    wrong(
        "[[models.m]]\nendpoint = \"http://h\"",
        "1:10: error: models.m: expected one table",
        "write [models.m], not [[models.m]]",
    );
}

#[test]
fn numbers_may_be_written_as_toml_writes_them() {
    assert_eq!(good("limits.in_flight = 1_000").server.in_flight, 1000);
    assert_eq!(good("limits.in_flight = 0x10").server.in_flight, 16);
    assert_eq!(good("server.listen = \"localhost:0\"").server.listen.to_string(), "127.0.0.1:0");
}

#[test]
fn text_that_is_not_toml_is_reported_like_any_fault() {
    const REST: &str = "keys and values are checked once the file is TOML";
    wrong("[server\n", "1:8: error: not TOML: unclosed table, expected `]`", REST);
    let faults = bad_with("[server]\nlisten = \"a\nworkers 2\n", &[]);
    assert_eq!(faults.errors(), 2, "{faults}");
    wrong(
        "[admin]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n",
        "3:1: error: not TOML: duplicate key",
        REST,
    );
}

#[test]
fn endpoints_are_one_or_many_and_are_urls() {
    let expected = "expected a URL like \"http://host:port/v1\"";
    wrong(
        "models.m.endpoint = \"gpu-1:8000\"",
        &format!("1:21: error: models.m.endpoint: found \"gpu-1:8000\", {expected}"),
        "did you mean \"http://gpu-1:8000/v1\"?",
    );
    wrong(
        "[models.m]",
        "1:9: error: models.m: expected endpoint or endpoints",
        "set the model server's address: endpoint = \"http://host:port/v1\"",
    );
    wrong(
        "models.m.endpoints = []",
        "1:22: error: models.m.endpoints: expected at least one URL",
        "",
    );
    wrong(
        &format!("{MODEL}endpoints = [\"http://h\"]\n"),
        "3:1: error: models.m.endpoints: endpoint and endpoints: expected only one of them",
        "",
    );
    let config = good("models.m.endpoints = [\"http://a/v1\", \"http://b/v1\", \"http://a/v1/\"]");
    assert_eq!(config.models[0].endpoints.len(), 2);
    assert_eq!(config.warnings[0].message, "listed twice");
}

#[test]
fn identifiers_and_families_are_known_ones() {
    let text = |line: &str| format!("{MODEL}{line}\n");
    let (headline, hint) = one(&text("identifier = \"mistralai/Mistral-7B\""));
    assert!(
        headline.starts_with(
            "3:14: error: models.m.identifier: found \"mistralai/Mistral-7B\", unknown prefix"
        ),
        "{headline}"
    );
    assert_eq!(hint, "did you mean \"custom_openai/mistralai/Mistral-7B\"?");
    let (headline, hint) = one(&text("family = \"lama3\""));
    assert!(
        headline.starts_with(
            "3:10: error: models.m.family: found \"lama3\", expected one of claude_3, "
        ),
        "{headline}"
    );
    assert_eq!(hint, "did you mean \"llama3\"?");
    assert_eq!(
        &*good(MODEL).models[0].upstream_name,
        "m",
        "the model's name is its identifier when it has none"
    );
}

#[test]
fn every_provider_is_read_and_its_keys_are_for_it_alone() {
    let env = env(&[("AWS_REGION", "eu-central-1"), ("AWS_BEARER_TOKEN_BEDROCK", "k"), ("K", "k")]);
    for identifier in ["bedrock/x", "azure/x", "anthropic/x"] {
        let kind = crate::model::Identifier::parse(identifier).unwrap().provider;
        let text = format!("{MODEL}identifier = \"{identifier}\"\napi_key = {{ env = \"K\" }}\n");
        let result = from_str(&text, "weir.toml", &env);
        assert_eq!(result.unwrap().models[0].provider, kind, "{identifier}");
    }
    let text = format!("{MODEL}region = \"eu-central-1\"\n");
    wrong(&text, "3:1: error: models.m.region: only for bedrock models; this is one of openai", "");
}

#[test]
fn only_a_server_that_may_be_vllm_gets_priorities() {
    assert!(good(&format!("{MODEL}priority = true\n")).models[0].priority);
    assert!(!good(MODEL).models[0].priority);
    for (identifier, kind) in
        [("azure/x", "azure"), ("anthropic/x", "anthropic"), ("bedrock/x", "bedrock")]
    {
        let text = format!(
            "{MODEL}identifier = \"{identifier}\"\napi_key = {{ env = \"K\" }}\npriority = true\n"
        );
        let (headline, _) = one_with(&text, &[("K", "k"), ("AWS_REGION", "eu-central-1")]);
        assert_eq!(
            headline,
            format!("5:1: error: models.m.priority: only for openai models; this is one of {kind}")
        );
    }
}

#[test]
fn names_with_another_meaning_are_no_models_names() {
    for name in ["disabled", "gitlab", "request", "\"feature/x\"", "\"a b\"", "\"\"", "\"ü\""] {
        let (headline, _) = one(&format!("[models.{name}]\nendpoint = \"http://h/v1\"\n"));
        assert!(headline.starts_with("1:9: error: models."), "{headline}");
    }
    assert_eq!(
        &*good("[models.\"gpt-4.1\"]\nendpoint = \"http://h/v1\"\n").models[0].id,
        "gpt-4.1"
    );
}

#[test]
fn features_name_models_that_are_there() {
    let text = |line: &str| {
        format!("{MODEL}[models.codestral]\nendpoint = \"http://h/v1\"\n[features]\n{line}\n")
    };
    let expected = "expected the name of a model in [models]";
    wrong(
        &text("default = \"codestrl\""),
        &format!("6:11: error: features.default: found \"codestrl\", {expected}"),
        "did you mean \"codestral\"?",
    );
    wrong(
        &text("duo_chat = \"zzzzz\""),
        &format!("6:12: error: features.duo_chat: found \"zzzzz\", {expected}"),
        "defined are m, codestral",
    );
    wrong(
        &text("duo_chat = { model = \"m\", fallback = [\"gpt\"] }"),
        &format!("6:39: error: features.duo_chat.fallback: found \"gpt\", {expected}"),
        "defined are m, codestral",
    );
    let another = "expected the name of another model in [models]";
    for (line, column, name, hint) in [
        (
            "duo_chat = { model = \"m\", fallback = [\"m\"] }",
            39,
            "m",
            "each model is tried once: remove this one",
        ),
        (
            "duo_chat = { model = \"m\", fallback = [\"codestral\", \"codestral\"] }",
            52,
            "codestral",
            "each model is tried once: remove this one",
        ),
        (
            "duo_chat = { model = \"m\", fallback = [\"gitlab\"] }",
            39,
            "gitlab",
            "only models of this file can be fallbacks",
        ),
    ] {
        let headline =
            format!("6:{column}: error: features.duo_chat.fallback: found \"{name}\", {another}");
        wrong(&text(line), &headline, hint);
    }
    wrong(
        &text("embeddings_code = { model = \"m\", fallback = [\"codestral\"] }"),
        "6:34: error: features.embeddings_code.fallback: vectors of another model would not fit those that GitLab has stored",
        "give the model more than one endpoint instead",
    );
    wrong(
        &text("duo_chat = { model = \"disabled\", fallback = [\"m\"] }"),
        "6:34: error: features.duo_chat.fallback: a feature that is disabled has no fallback",
        "remove this line",
    );
    wrong(
        &text("duo_chat = { timeouts = { idle = \"1s\" } }"),
        "6:1: error: features.duo_chat: expected model = \"…\" in this table",
        "",
    );
    let (headline, _) = one(&text("duo_chat = 3"));
    assert!(headline.starts_with(
        "6:12: error: features.duo_chat: found 3, expected a model's name, \"gitlab\", \"disabled\", or a"
    ));
}

#[test]
fn a_model_with_faults_is_not_reported_as_undefined() {
    let (headline, _) = one("[models.m]\nendpoint = \"nope\"\n[features]\ndefault = \"m\"\n");
    assert!(headline.starts_with("2:12"), "{headline}");
}

#[test]
fn a_models_queue_is_that_of_the_file_unless_it_sets_its_own() {
    let room = |text: &str| good(text).models[0].concurrency;
    assert_eq!(room(MODEL), None);
    let wait = Duration::from_secs(1);
    assert_eq!(
        room(&format!("{MODEL}max_parallel = 8\n")),
        Some(ConcurrencySettings { max_parallel: 8, max_queue: 1024, max_wait: wait })
    );
    let all = format!("limits.queue_wait = \"3s\"\n{MODEL}max_parallel = 8\nmax_queue = 0\n");
    assert_eq!(
        room(&all),
        Some(ConcurrencySettings {
            max_parallel: 8,
            max_queue: 0,
            max_wait: Duration::from_secs(3)
        })
    );
    let own = ConcurrencySettings {
        max_parallel: 8,
        max_queue: 1024,
        max_wait: Duration::from_millis(50),
    };
    assert_eq!(room(&format!("{MODEL}max_parallel = 8\nmax_wait = \"50ms\"\n")), Some(own));
    let warnings = good(&format!("{MODEL}max_queue = 8\n")).warnings;
    assert!(
        warnings[0].headline().ends_with("models.m.max_queue: has no effect without max_parallel"),
        "{warnings:?}"
    );
}

#[test]
fn limits_of_a_feature_go_over_its_models_over_the_files() {
    let text = "\
[timeouts]
connect = \"1s\"
first_byte = \"70s\"
[models.m]
endpoint = \"http://h/v1\"
timeouts = { first_byte = \"20s\", idle = \"20s\" }
[features]
default = \"m\"
duo_chat = { model = \"m\", timeouts = { idle = \"5s\" } }
code_completions = \"m\"
code_generations = { model = \"m\", timeouts = { total = \"120s\" } }
duo_chat_fix_code = \"disabled\"
";
    let config = good(text);
    let seconds = |name: &str| {
        let (choice, rule) = config.table.feature_choice(Feature::parse(name).unwrap()).unwrap();
        let Choice::Model(route) = choice else { panic!("disabled") };
        assert_eq!(
            (route.rule, rule, route.feature),
            (Rule::Feature, Rule::Feature, Feature::parse(name))
        );
        let Timeouts { connect, first_byte, idle, total } = route.timeouts;
        [connect, first_byte, idle, total].map(|limit| limit.as_secs())
    };
    assert_eq!(seconds("duo_chat"), [1, 20, 5, 600]);
    assert_eq!(seconds("code_completions"), [1, 20, 20, 50], "capped by GitLab's own limit");
    assert_eq!(seconds("code_generations"), [1, 20, 20, 120], "unless it sets its own");
    let fix_code = config.table.feature_choice(Feature::parse("duo_chat_fix_code").unwrap());
    assert!(matches!(fix_code, Some((Choice::Disabled, Rule::Feature))));
    let Some(Choice::Model(route)) = config.table.default_choice() else { panic!("no default") };
    assert_eq!((route.feature, route.rule), (None, Rule::Default));
    assert!(std::sync::Arc::ptr_eq(&route.model, &config.models[0]));
}

#[test]
fn keys_that_this_version_does_not_act_on_are_warnings() {
    let config = good("telemetry.otlp = \"http://collector:4318\"\n");
    let keys: Vec<&str> = config.warnings.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["telemetry.otlp"]);
}

#[test]
fn two_listeners_do_not_share_a_port() {
    wrong(
        "server.listen = \"127.0.0.1:8082\"",
        "1:17: error: server.listen: found \"127.0.0.1:8082\", expected another port than admin.listen (127.0.0.1:8082)",
        "",
    );
    good("server.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"");
}

#[test]
fn checking_a_large_file_takes_no_time() {
    use std::fmt::Write as _;
    let mut text = String::new();
    for i in 0..2000 {
        writeln!(
            text,
            "[models.m{i}]\nendpoint = \"http://h{i}/v1\"\napi_key = \"k{i}\"\nfamly = 1"
        )
        .unwrap();
    }
    let start = std::time::Instant::now();
    assert_eq!(bad_with(&text, &[]).errors(), 2000);
    assert!(start.elapsed() < Duration::from_secs(20), "quadratic: {:?}", start.elapsed());
}

#[test]
fn a_long_line_is_cut_around_the_fault() {
    let models: String =
        (0..200).map(|i| format!("m{i} = {{ endpoint = \"http://h/v1\" }}, ")).collect();
    let faults = bad_with(&format!("models = {{ {models} last = {{ endpoint = 5 }} }}"), &[]);
    let printed = faults.to_string();
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[1].chars().count() < 220, "{printed}");
    let caret = lines[2].chars().position(|c| c == '^').unwrap();
    assert_eq!(lines[1].chars().nth(caret), Some('5'), "{printed}");
}

#[test]
fn damaged_files_never_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    let reference = super::reference().replace("\n#", "\n");
    for _ in 0..400 {
        let mut text: Vec<char> = reference.chars().collect();
        let start = random.usize(..text.len());
        text.drain(..start);
        text.truncate(random.usize(..1500) + 1);
        for _ in 0..random.usize(..12) {
            let at = random.usize(..text.len());
            text[at] = random
                .choice([
                    '"', '\'', '[', ']', '{', '}', '=', '.', '\n', '\t', 'é', '\u{0}', '#', ',',
                ])
                .unwrap();
        }
        let text: String = text.into_iter().collect();
        if let Err(faults) = from_str(&text, "weir.toml", &Environment::default()) {
            assert!(faults.errors() > 0 && !faults.to_string().is_empty());
        }
    }
}
