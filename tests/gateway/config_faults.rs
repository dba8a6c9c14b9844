//! Broken files through the public API: every fault at once, each with its location, the value
//! found, the value expected and the nearest key; secrets masked.

use crate::support::parse;

/// Returns the faults of a file, as `weir check` prints them.
fn faults(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(|fault| fault.render(false)).collect(),
    }
}

/// Asserts that the one fault of a file contains all of these.
fn fault(text: &str, parts: &[&str]) {
    let faults = faults(text);
    let [fault] = faults.as_slice() else { panic!("{} faults, not 1: {faults:#?}", faults.len()) };
    for part in parts {
        assert!(fault.contains(part), "`{part}` in\n{fault}");
    }
}

const MODEL: &str = "[models.m]\nendpoint = \"http://h/v1\"\n";

#[test]
fn a_file_without_faults_has_none() {
    assert_eq!(faults(""), [] as [&str; 0]);
    assert_eq!(
        faults(&format!("{MODEL}[features]\nduo_chat = \"m\"\nduo_chat_fix_code = \"disabled\"\n")),
        [] as [&str; 0]
    );
}

#[test]
fn unknown_keys_name_their_location_and_the_nearest() {
    fault(
        "[server]\nlisten = \"127.0.0.1:1\"\nworkrs = 2\n",
        &["weir.toml:3:1: error:", "workrs", "did you mean workers?"],
    );
    fault(
        "[models.m]\nendpont = \"http://h/v1\"\nendpoint = \"http://h/v1\"\n",
        &["weir.toml:2:1", "endpont", "did you mean endpoint"],
    );
    fault("[timeout]\nidle = \"60s\"\n", &["weir.toml:1:", "timeout", "did you mean timeouts?"]);
    fault(
        &format!("{MODEL}[features]\ncode_completion = \"m\"\n"),
        &["weir.toml:4:1", "code_completions"],
    );
}

#[test]
fn wrong_values_say_what_was_found_and_what_is_expected() {
    fault(
        "[timeouts]\nidle = \"fast\"\n",
        &["weir.toml:2:8", "timeouts.idle", "\"fast\"", "expected"],
    );
    fault("[timeouts]\nidle = 60\n", &["weir.toml:2:8", "timeouts.idle", "60", "\"60s\""]);
    fault("[timeouts]\nidle = \"0s\"\n", &["weir.toml:2:8", "timeouts.idle", "0s"]);
    fault("[limits]\nmax_body = \"big\"\n", &["weir.toml:2:12", "limits.max_body", "big"]);
    fault("[server]\nlisten = \"localhost\"\n", &["weir.toml:2:10", "server.listen", "localhost"]);
    fault("[server]\nworkers = 0\n", &["weir.toml:2:11", "server.workers", "0"]);
    fault(
        "[models.m]\nendpoint = \"gpu:8000\"\n",
        &["weir.toml:2:12", "models.m.endpoint", "gpu:8000", "http://"],
    );
    fault(
        "[models.m]\nendpoint = \"http://h\"\nfamily = \"mistrall\"\n",
        &["weir.toml:3:10", "mistral"],
    );
    fault(
        "[models.m]\nendpoint = \"http://h\"\nidentifier = \"nope/x\"\n",
        &["weir.toml:3:14", "nope"],
    );
    fault(
        &format!("{MODEL}[features]\nrequest_models = \"maybe\"\n"),
        &["weir.toml:4:18", "allow", "listed", "ignore"],
    );
}

#[test]
fn references_to_nothing_name_the_nearest_model() {
    fault(
        "[models.codestral]\nendpoint = \"http://h\"\n[features]\nduo_chat = \"codestrl\"\n",
        &["weir.toml:4:12", "codestrl", "codestral"],
    );
}

#[test]
fn syntax_errors_have_a_permit() {
    fault("[server\nlisten = 1\n", &["weir.toml:1:"]);
    fault("a = \"unclosed\n", &["weir.toml:1:"]);
    fault("[server]\nworkers = 1\nworkers = 2\n", &["weir.toml:3:1"]);
}

#[test]
fn every_fault_is_reported_at_once_in_the_order_of_the_file() {
    let text = "[server]\nlistn = \"x\"\n[timeouts]\nidle = \"fast\"\n[models.m]\nendpoint = \"gpu\"\n[features]\nduo_chat = \"other\"\nnothing = \"m\"\n";
    let faults = faults(text);
    let lines: Vec<&str> = faults.iter().map(|fault| fault.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["2", "4", "6", "8", "9"], "{faults:#?}");
}

#[test]
fn an_open_gateway_on_a_public_address_is_refused() {
    let open = "[server]\nlisten = \"0.0.0.0:5052\"\n[auth]\nmode = \"off\"\n";
    fault(open, &["allow_public"]);
    assert_eq!(faults(&format!("{open}allow_public = true\n")), [] as [&str; 0]);
}

#[test]
fn a_fault_beside_a_secret_does_not_show_it() {
    let text = "[models.m]\nendpoint = \"http://h\"\napi_key = \"sk-canary\"\napi_kye = \"sk-canary\"\n[auth]\nmode = \"keys\"\nstatic_keys = [\"sk-canary\", 7]\n";
    let all = faults(text).concat();
    assert!(all.contains("api_kye") && all.contains("static_keys"), "{all}");
    assert!(!all.contains("canary"), "{all}");
    let broken = faults("[models.m]\napi_key = \"sk-canary\n").concat();
    assert!(!broken.is_empty() && !broken.contains("canary"), "{broken}");
}
