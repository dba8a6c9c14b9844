//! The commands as an operator runs them, each test on its own files.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::Parser as _;

use super::{Line, Out, dispatch};
use crate::config::Environment;

/// A writer whose text can be read afterwards.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs a command line and returns its exit code, standard output and standard error. `FILE` is
/// replaced by the path of a file with this text.
fn weir(test: &str, text: &str, line: &str) -> (String, String, String) {
    weir_with(test, text, line, &[])
}

fn weir_with(test: &str, text: &str, line: &str, env: &[(&str, &str)]) -> (String, String, String) {
    let file: PathBuf =
        std::env::temp_dir().join(format!("weir-{test}-{}.toml", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let line = line.replace("FILE", file.to_str().unwrap());
    let command = Line::try_parse_from(line.split(' ')).unwrap().command;
    let (out, err) = (Buffer::default(), Buffer::default());
    let code = dispatch(
        command,
        &env.iter().copied().collect::<Environment>(),
        &mut Out::new(Box::new(out.clone()), Box::new(err.clone())),
    );
    std::fs::remove_file(&file).unwrap();
    let shorten = |text: String| text.replace(file.to_str().unwrap(), "FILE");
    (format!("{code:?}"), shorten(out.text()), shorten(err.text()))
}

fn exit(code: u8) -> String {
    format!("{:?}", std::process::ExitCode::from(code))
}

const ROUTED: &str = "\
[models.codestral]
endpoint = \"http://gpu-1:8000/v1\"
timeouts.idle = \"30s\"
[models.chat]
endpoint = \"http://gpu-2:8000/v1\"
[features]
code_completions = \"codestral\"
duo_chat = \"chat\"
duo_chat_fix_code = \"disabled\"
";

/// Returns the cells of the line whose first cell is `begin`.
fn cells<'a>(page: &'a str, begin: &str) -> Vec<&'a str> {
    let line = page.lines().find(|line| line.trim_start().split("  ").next() == Some(begin));
    line.unwrap_or_else(|| panic!("no {begin} in\n{page}"))
        .split("  ")
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .collect()
}

#[test]
fn the_command_line_is_well_formed() {
    use clap::CommandFactory as _;
    Line::command().debug_assert();
}

#[test]
fn check_prints_the_routing_table_and_what_decided_it() {
    let (code, page, err) = weir("check", ROUTED, "weir check --config FILE");
    assert_eq!((code, err.as_str()), (exit(0), ""));
    let row = |name| cells(&page, name)[1..].to_vec();
    let limits = ["2s / 60s / 30s / 50s", "2s / 60s / 60s / 600s"];
    assert_eq!(
        row("code_completions"),
        [
            "codestral",
            "openai",
            "http://gpu-1:8000/v1",
            limits[0],
            "FILE:7 features.code_completions"
        ]
    );
    assert_eq!(
        row("duo_chat_write_tests"),
        ["chat", "openai", "http://gpu-2:8000/v1", limits[1], "FILE:8 features.duo_chat"]
    );
    assert_eq!(
        row("duo_chat_fix_code"),
        ["disabled", "-", "-", "-", "FILE:9 features.duo_chat_fix_code"]
    );
    assert_eq!(row("review_merge_request")[4], "no line: the request's own model, else 422");
    assert_eq!(cells(&page, "timeouts.idle"), ["timeouts.idle", "\"60s\"", "default"]);
    assert!(page.ends_with("FILE: fine, 2 models, 0 warnings\n"), "{page}");
}

#[test]
fn check_prints_every_fault_and_exits_78() {
    let (code, page, err) =
        weir("faults", "server.listen = 1\nlimts.queue = 2\n", "weir check --config FILE");
    assert_eq!((code, page.as_str()), (exit(78), ""));
    assert!(err.contains("FILE:1:17: error: server.listen: found 1"), "{err}");
    assert!(err.contains("hint: did you mean limits?"), "{err}");
    assert!(err.ends_with("2 errors\n"), "{err}");
}

#[test]
fn a_file_with_faults_starts_nothing() {
    for line in [
        "weir serve --config FILE",
        "weir probe --config FILE",
        "weir explain duo_chat --config FILE",
    ] {
        assert_eq!(weir("starts-nothing", "server.listen = 1", line).0, exit(78), "{line}");
    }
}

#[test]
fn explain_shows_which_line_decides_each_part() {
    let (code, page, _) = weir("explain", ROUTED, "weir explain code_completions --config FILE");
    assert_eq!(code, exit(0));
    assert_eq!(cells(&page, "model"), ["model", "codestral", "FILE:7 features.code_completions"]);
    assert_eq!(cells(&page, "endpoint"), ["endpoint", "http://gpu-1:8000/v1", "FILE:2"]);
    assert_eq!(cells(&page, "family"), ["family", "general", "default"]);
    assert_eq!(cells(&page, "idle"), ["idle", "30s", "FILE:3 models.codestral.timeouts.idle"]);
    assert_eq!(cells(&page, "first_byte"), ["first_byte", "60s", "default timeouts.first_byte"]);
    assert_eq!(
        cells(&page, "total"),
        ["total", "50s", "GitLab's own timeout for this feature ends soon after"]
    );
    let (_, page, _) = weir("explain", ROUTED, "weir explain duo_chat_write_tests --config FILE");
    assert_eq!(cells(&page, "rule"), ["rule", "as its parent", "FILE:8 features.duo_chat"]);
    let falls_back =
        ROUTED.replace("= \"disabled\"", "= { model = \"codestral\", fallback = [\"chat\"] }");
    let (_, page, _) =
        weir("explain-fallback", &falls_back, "weir explain duo_chat_fix_code --config FILE");
    assert_eq!(
        cells(&page, "fallback")[..2],
        ["fallback", "chat (openai, family general)"],
        "{page}"
    );
    let (_, page, _) = weir("explain", ROUTED, "weir explain default --config FILE");
    assert_eq!(
        cells(&page, "model"),
        ["model", "the request's own, else 422", "no line of [features]"]
    );
    assert!(!page.contains("priority"));
    let with_priority = ROUTED.replace("timeouts.idle = \"30s\"", "priority = true");
    let (_, page, _) =
        weir("explain-priority", &with_priority, "weir explain code_completions --config FILE");
    assert_eq!(
        cells(&page, "priority"),
        ["priority", "0 in the server's queue; 0 goes first", "FILE:3"]
    );
}

#[test]
fn explain_shows_what_precedes_the_default() {
    let rule = |key: &str, feature: &str| {
        let file = format!(
            "auth.mode = \"off\"\nmodels.m.endpoint = \"http://gpu/v1\"\nfeatures.default = \"m\"\n{key}"
        );
        let (_, page, err) = weir(
            &format!("before-{feature}"),
            &file,
            &format!("weir explain {feature} --config FILE"),
        );
        assert!(err.is_empty(), "{err}");
        cells(&page, "rule").remove(1).to_owned()
    };
    let bound = "the user's token is bound to another";
    assert_eq!(rule("", "duo_chat"), "default, unless the request names a model");
    assert_eq!(
        rule("", "code_completions"),
        format!("default, unless the request names a model or {bound}")
    );
    let ignored = "features.request_models = \"ignore\"\n";
    assert_eq!(rule(ignored, "code_completions"), format!("default, unless {bound}"));
    assert_eq!(rule(ignored, "duo_chat"), "default");
    assert_eq!(rule(ignored, "default"), "a line of its own");
}

#[test]
fn explain_suggests_for_names_that_are_no_feature() {
    let (code, _, err) = weir("suggest", ROUTED, "weir explain duo_chat_fixcode --config FILE");
    assert_eq!(code, exit(1));
    assert_eq!(
        err,
        "\"duo_chat_fixcode\" is not a feature of GitLab's: did you mean duo_chat_fix_code?\n"
    );
    let (_, _, err) = weir("suggest-none", ROUTED, "weir explain poem --config FILE");
    assert!(
        err.starts_with(
            "\"poem\" is not a feature of GitLab's: expected one of code_completions, "
        ),
        "{err}"
    );
}

#[test]
fn prompts_are_listed_shown_and_rendered() {
    let (code, page, _) = weir("prompts-list", ROUTED, "weir prompts list --config FILE");
    assert_eq!(code, exit(0));
    let row = cells(&page, "generate_commit_message");
    assert_eq!(row[..4], ["generate_commit_message", "all", "generate_commit_message", "diff"]);
    assert!(page.contains("codegemma"), "{page}");
    let (_, page, _) =
        weir("prompts-show", ROUTED, "weir prompts show generate_commit_message --config FILE");
    assert_eq!(page, include_str!("../../config/prompts/generate_commit_message/base.toml"));
    let line =
        "weir prompts render generate_commit_message --input diff=-a+b --family qwen --config FILE";
    let (code, page, _) = weir("prompts-render", ROUTED, line);
    assert_eq!(code, exit(0));
    assert!(page.starts_with("--- system\nYou write Git commit messages."), "{page}");
    assert!(
        page.contains("\n--- user\n<diff>\n-a+b\n</diff>\n")
            && page.contains("\nmax_tokens = 1024\n"),
        "{page}"
    );
    let json = "weir prompts render chat/write_tests --input libraries=[\"pytest\",\"mock\"] --config FILE";
    assert!(weir("prompts-json", ROUTED, json).1.contains("Libraries in use: pytest, mock\n"));
}

#[test]
fn prompts_suggests_the_nearest_name() {
    for (line, expected) in [
        (
            "weir prompts show chat/explan_code",
            "Prompt 'chat/explan_code' not found: did you mean chat/explain_code?\n",
        ),
        ("weir prompts show zzz", "Prompt 'zzz' not found: `weir prompts list` shows all\n"),
        (
            "weir prompts render chat/fix_code --family mistrall",
            "\"mistrall\" is not a family: did you mean mistral?\n",
        ),
        (
            "weir prompts render chat/fix_code --input input",
            "--input input: expected NAME=VALUE or NAME=@FILE\n",
        ),
        (
            "weir prompts render chat/fix_code --input input=@/no/such",
            "--input input: cannot read /no/such: ",
        ),
    ] {
        let (code, _, err) = weir("prompts-wrong", ROUTED, &format!("{line} --config FILE"));
        assert_eq!(code, exit(1), "{line}");
        assert!(err.starts_with(expected), "{err}");
    }
    let (_, _, err) = weir(
        "prompts-name",
        ROUTED,
        "weir prompts render chat/fix_code --input inptu=x --config FILE",
    );
    assert_eq!(err, "chat/fix_code has no input inptu: did you mean input?\n");
    let line = "weir prompts render generate_commit_message --input x=y --config FILE";
    assert_eq!(
        weir("prompts-only", ROUTED, line).2,
        "generate_commit_message has no input x: expected diff\n"
    );
}

/// Serves one HTTP response on a loopback port; the thread returns the request.
fn serve_once(response: &'static str) -> (std::net::SocketAddr, std::thread::JoinHandle<String>) {
    use std::io::Read as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(response.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (address, thread)
}

#[test]
fn gitlabs_cloud_is_explained_and_probed_without_a_token() {
    let (address, server) = serve_once("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    let text =
        format!("gitlab.cloud_url = \"http://{address}/ai\"\nfeatures.duo_chat = \"gitlab\"\n");
    let (_, page, _) = weir("cloud", &text, "weir explain duo_chat --config FILE");
    assert_eq!(cells(&page, "model"), ["model", "gitlab", "FILE:2 features.duo_chat"]);
    let endpoint = format!("http://{address}/ai");
    assert_eq!(cells(&page, "endpoint"), ["endpoint", &endpoint, "FILE:1 gitlab.cloud_url"]);
    assert!(page.contains("the caller's own; never a static key"), "{page}");
    let (_, page, _) = weir("cloud-check", &text, "weir check --config FILE");
    assert_eq!(cells(&page, "duo_chat")[1..4], ["gitlab", "gitlab", &*endpoint]);
    let (code, page, _) = weir("cloud-probe", &text, "weir probe gitlab --config FILE");
    assert_eq!(code, exit(0), "{page}");
    assert!(cells(&page, "gitlab").last().unwrap().starts_with("ok"), "{page}");
    let request = server.join().unwrap();
    assert!(request.starts_with("GET /ai/monitoring/healthz HTTP/1.1\r\n"), "{request}");
    assert!(!request.to_ascii_lowercase().contains("authorization"), "{request}");
    let (address, server) = serve_once("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let text = format!("gitlab.cloud_url = \"http://{address}\"\nfeatures.duo_chat = \"gitlab\"\n");
    let (code, page, _) = weir("cloud-wrong", &text, "weir probe --config FILE");
    assert_eq!(code, exit(1));
    assert!(page.contains("is gitlab.cloud_url a gateway of GitLab's?"), "{page}");
    server.join().unwrap();
}

#[test]
fn healthcheck_uses_the_address_of_the_file_even_when_the_rest_has_faults() {
    let (address, server) = serve_once("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let text = format!("admin.listen = \"{address}\"\nserver.listen = 1\n[models");
    let (code, page, _) = weir("health", &text, "weir healthcheck --config FILE");
    assert_eq!((code, page), (exit(0), format!("ready: http://{address}/ready\n")));
    assert!(server.join().unwrap().starts_with("GET /ready HTTP/1.1\r\n"));
}

#[test]
fn healthcheck_fails_on_503_and_without_a_response() {
    let (address, server) =
        serve_once("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let (code, _, err) = weir("draining", "", &format!("weir healthcheck http://{address}/ready"));
    assert_eq!((code, err), (exit(1), format!("not ready: http://{address}/ready: HTTP 503\n")));
    server.join().unwrap();
    let (address, server) = serve_once("");
    assert_eq!(weir("silent", "", &format!("weir healthcheck http://{address}/ready")).0, exit(1));
    server.join().unwrap();
}

#[test]
fn check_and_explain_show_the_source_of_credentials_and_never_their_values() {
    const CLOUDS: &str = "\
[models.sonnet]
identifier = \"bedrock/apac.anthropic.claude-sonnet-4-20250514-v1:0\"
[models.team]
identifier = \"bedrock/us-west-2/x\"
api_key = { env = \"TEAM_KEY\" }
[models.gpt]
identifier = \"azure/gpt\"
endpoint = \"https://acme.openai.azure.com\"
api_key = { env = \"AZURE_KEY\" }
[features]
default = \"sonnet\"
duo_chat = \"gpt\"
";
    let env = [
        ("AWS_REGION", "ap-northeast-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "canary"),
        ("TEAM_KEY", "canary"),
        ("AZURE_KEY", "canary"),
    ];
    let (code, page, err) = weir_with("clouds", CLOUDS, "weir check --config FILE", &env);
    assert_eq!((code, err.as_str()), (exit(0), ""));
    let has_row = |row: &str| {
        let mut rows =
            page.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        rows.any(|line| line == row)
    };
    assert!(has_row("sonnet region \"ap-northeast-1\" AWS_REGION"), "{page}");
    assert!(
        has_row("sonnet credentials an access key AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
        "{page}"
    );
    assert!(has_row("team region \"us-west-2\" FILE:4"), "{page}");
    assert!(has_row("team credentials a Bedrock API key FILE:5"), "{page}");
    assert!(has_row("gpt api_version \"v1\" default"), "{page}");
    assert!(has_row("models of requests region \"ap-northeast-1\" AWS_REGION"), "{page}");
    let (_, default, _) =
        weir_with("clouds-default", CLOUDS, "weir explain default --config FILE", &env);
    let public = "https://bedrock-runtime.ap-northeast-1.amazonaws.com";
    assert_eq!(
        cells(&default, "endpoint"),
        ["endpoint", public, "default: the region's public one"]
    );
    assert_eq!(cells(&default, "credentials")[1], "an access key");
    let (_, chat, _) =
        weir_with("clouds-chat", CLOUDS, "weir explain duo_chat --config FILE", &env);
    assert_eq!(cells(&chat, "api_version")[1..], ["\"v1\"", "default"]);
    assert!(![page, default, chat].concat().contains("canary"));
}

#[test]
fn docs_index_writes_a_file_that_the_configuration_accepts() {
    let tree = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/docs");
    let index = std::env::temp_dir().join(format!("weir-docs-{}.index", std::process::id()));
    let index = index.to_str().unwrap();
    let (code, out, err) = weir("docs", "", &format!("weir docs index {tree} -o {index}"));
    assert_eq!(code, exit(0), "{err}");
    assert!(out.starts_with(&format!("{index}: 13 pages, ")) && out.contains(" KiB, in "), "{out}");
    assert_eq!(err, "ci/not_text.md is left out: stream did not contain valid UTF-8\n");
    let file = format!("docs.index = \"{index}\"\n");
    let (code, out, err) = weir("docs", &file, "weir check --config FILE");
    assert!(code == exit(0) && out.contains("docs.index"), "{err}");
    let damaged = std::fs::read(index).unwrap();
    std::fs::write(index, &damaged[..damaged.len() - 1]).unwrap();
    let (code, _, err) = weir("docs", &file, "weir check --config FILE");
    assert_eq!(code, exit(78));
    assert!(
        err.contains(&format!(
            "FILE:1:14: error: docs.index: {index} is damaged (its checksum is wrong)"
        )),
        "{err}"
    );
    std::fs::remove_file(index).unwrap();
    let (code, _, err) = weir("docs", &file, "weir check --config FILE");
    assert!(code == exit(78) && err.contains("no such file"), "{err}");
    let (code, _, err) = weir("docs", "", &format!("weir docs index {tree}/none -o {index}"));
    assert!(code == exit(1) && err.starts_with("cannot read "), "{err}");
    let (code, _, err) =
        weir("docs", "", &format!("weir docs index {tree}/.drafts/none -o {index}"));
    assert!(code == exit(1) && !std::path::Path::new(index).exists(), "{err}");
}
