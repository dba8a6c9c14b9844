//! Secrets, certificates and the file itself; and that no secret is ever shown.

use super::{MODEL, bad_with, env, good, good_with, one};
use crate::config::{Environment, admin_address, from_str, load};

#[test]
fn secrets_come_from_variables_and_files() {
    let dir = std::env::temp_dir().join(format!("weir-secrets-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("key"), "from-file\r\n").unwrap();
    std::fs::write(dir.join("blank"), "\n").unwrap();
    let name = dir.join("weir.toml");
    let read = |secret: &str| {
        let text = format!("{MODEL}api_key = {secret}\n");
        let env = env(&[("KEY", "from-env"), ("EMPTY", ""), ("SPACE", "two words")]);
        match from_str(&text, name.to_str().unwrap(), &env) {
            Ok(config) => config.models[0].api_key.as_ref().unwrap().expose().clone(),
            Err(faults) => faults.iter().next().unwrap().message.clone(),
        }
    };
    assert_eq!(read("{ env = \"KEY\" }"), "from-env");
    assert_eq!(
        read("{ file = \"key\" }"),
        "from-file",
        "relative to the file, without its last line break"
    );
    assert_eq!(read("{ env = \"UNSET\" }"), "the environment variable UNSET is not set");
    assert_eq!(read("{ env = \"EMPTY\" }"), "the environment variable EMPTY is empty");
    assert_eq!(
        read("{ env = \"${KEY}\" }"),
        "no environment variable is named ${KEY}: write \"KEY\""
    );
    assert_eq!(read("{ file = \"blank\" }"), "an empty secret in blank");
    assert_eq!(
        read("{ file = \"nope\" }"),
        format!("cannot read {}: no such file", dir.join("nope").display())
    );
    assert!(
        read("{ env = \"SPACE\" }")
            .starts_with("the secret in SPACE has a character that is not visible ASCII")
    );
    for form in ["5", "{ env = \"A\", file = \"b\" }", "{ enb = \"A\" }", "{}"] {
        assert_eq!(read(form), "expected { env = \"NAME\" } or { file = \"/run/secrets/name\" }");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn no_secret_is_ever_shown() {
    const CANARY: &str = "sk-canary";
    for text in [
        "models.m = { endpoint = \"nope\", api_key = \"sk-canary\" }",
        "models.m = { endpoint = \"nope\", api_kye = \"sk-canary\" }",
        "models.m = { endpoint = \"nope\", apikey = { a = [\"sk-canary\"] } }",
        "[models.m]\napi_key = [\"sk-canary\"]",
        "[models.m]\napi_key = { value = \"sk-canary\" }",
        "[models.m]\napi_key = \"sk-canary with spaces\"",
        "[models.m]\napi_key = sk-canary",
        "[models.m]\napi_key = \"sk-canary",
        "[models.m]\napi_key \"sk-canary\"",
        "[models.m]\napi_key: \"sk-canary\"",
        "[models.m]\napi_key = \"\"\"\nsk-canary\"",
        "[models.m]\nendpoint = \"x\", api_key = \"sk-canary\"",
        "models.m = { endpoint = \"http://h\" api_key = \"sk-canary\" }",
        "[models.m]\nendpoint = \"http://user:sk-canary@host/v1\"",
        "[models.m]\nendpoints = [\"ftp://user:sk-canary@host/v1\"]",
        "[auth]\nstatic_keys = [\n\"sk-canary\",\n\"sk-canary b\"]",
        "[auth]\nstatic_keys = [\n\"sk-canary\"\n\"sk-canary\"\n",
        "[auth]\nstatic_keys = \"sk-canary\"",
        "[auth]\nstatic_key = [\"sk-canary\"]\nmode = \"of\"",
        "auth = \"sk-canary\"",
        "models = [\"sk-canary\"]",
        "models.m = \"sk-canary\"",
        "[model.m]\napi_key = \"sk-canary\"",
        "[models.m]\napi_key = { env = \"sk-canary\" }\nendpoint = \"http://h/v1\"",
        "[models.m]\nendpoint = \"http://h/v1?key=sk-canary\"",
        "[features]\ndefault = { api_key = \"sk-canary\" }",
        "models.m = { identifier = \"azure/x\", entra = { client_secret = \"sk-canary\" }, endpoint = 5 }",
    ] {
        let faults = bad_with(text, &[]);
        assert!(!faults.to_string().contains(CANARY), "{text}\n---\n{faults}");
        assert!(!format!("{faults:?}").contains(CANARY), "{text}");
    }
    let config =
        good(&format!("{MODEL}api_key = \"sk-canary\"\n[auth]\nstatic_keys = [\"sk-canary\"]\n"));
    assert!(!format!("{config:?}").contains(CANARY));
    assert_eq!(
        config.warnings.iter().filter(|fault| fault.message == "a secret in plain text").count(),
        2
    );
    assert!(!format!("{:?}", env(&[("KEY", CANARY)])).contains(CANARY));
}

#[test]
fn certificate_files_must_hold_certificates() {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/config/weir.toml");
    let (headline, _) = one(&format!("tls.extra_ca = [{here:?}]"));
    assert!(headline.ends_with("weir.toml holds no certificate"), "{headline}");
    let config = good_with("", &[("SSL_CERT_FILE", "/nope.pem")]);
    assert_eq!(config.warnings[0].message, "cannot read /nope.pem: no such file; it is left out");
}

#[test]
fn the_admin_address_is_found_in_a_file_that_is_being_edited() {
    let dir = std::env::temp_dir().join(format!("weir-admin-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("weir.toml");
    std::fs::write(&file, "[admin]\nlisten = \"127.0.0.1:9999\"\n[models.m]\nendp").unwrap();
    let found = admin_address(&file, &Environment::default());
    assert_eq!(found.map(|address| address.port()), Some(9999));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn files_that_cannot_be_read_are_faults_without_a_line() {
    let failure = |path: &str| {
        load(std::path::Path::new(path), &Environment::default()).unwrap_err().to_string()
    };
    assert_eq!(failure("/nope/weir.toml"), "/nope/weir.toml: error: no such file\n");
    assert_eq!(failure("/tmp"), "/tmp: error: it is a directory\n");
    let file = std::env::temp_dir().join(format!("weir-latin1-{}.toml", std::process::id()));
    std::fs::write(&file, b"[server]\n# caf\xe9\n").unwrap();
    let headline = failure(file.to_str().unwrap());
    assert!(
        headline.ends_with("error: line 2 is not UTF-8: save the file as UTF-8\n"),
        "{headline}"
    );
    std::fs::write(&file, b"\xef\xbb\xbf[server]\r\nworkers = 1\r\n").unwrap();
    assert!(
        load(&file, &Environment::default()).is_ok(),
        "a byte order mark and CRLF are no fault"
    );
    std::fs::remove_file(file).unwrap();
}
