//! Another file in force without a lost request: edits, renames, Kubernetes' symlink swap, SIGHUP;
//! a broken file changes nothing and is reported; SIGTERM drains.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::support::{
    Client, End, Folder, Gateway, Process, Reply, Upstream, chat_body, eventually, one_model,
};

fn file(upstream: &Upstream) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[resilience]\ndrain = \"10s\"\n\
         [telemetry]\nformat = \"json\"\n[auth]\nmode = \"off\"\n{}",
        one_model(&upstream.url())
    )
}

async fn pair() -> (Upstream, Upstream) {
    (Upstream::says("one").await, Upstream::says("two").await)
}

#[tokio::test]
async fn an_edited_file_moves_traffic_however_it_is_saved() {
    let (one, two) = pair().await;
    let folder = Folder::new("edited");
    let weir = Process::serve(&folder.write("weir.toml", &file(&one))).await;
    weir.says("one").await;
    folder.write("weir.toml", &file(&two));
    weir.says("two").await;
    folder.replace("weir.toml", &file(&one));
    weir.says("one").await;
    let metrics = weir.metrics().await;
    assert_eq!(metrics.sum("weir_config_generation", &[]), 3.0);
    assert_eq!(metrics.sum("weir_config_reloads_total", &[("outcome", "ok")]), 2.0);
}

#[tokio::test]
async fn kubernetes_symlink_swap_moves_traffic() {
    let (one, two) = pair().await;
    let folder = Folder::new("kubernetes");
    for (version, upstream) in [("..v1", &one), ("..v2", &two)] {
        std::fs::create_dir(folder.path(version)).unwrap();
        folder.write(&format!("{version}/weir.toml"), &file(upstream));
    }
    symlink("..v1", folder.path("..data")).unwrap();
    symlink("..data/weir.toml", folder.path("weir.toml")).unwrap();
    let weir = Process::serve(&folder.path("weir.toml")).await;
    weir.says("one").await;
    symlink("..v2", folder.path("..data_tmp")).unwrap();
    std::fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
    std::fs::remove_dir_all(folder.path("..v1")).unwrap();
    weir.says("two").await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_says_why() {
    let (one, two) = pair().await;
    let folder = Folder::new("broken");
    let weir = Process::serve(&folder.write("weir.toml", &file(&one))).await;
    folder.write("weir.toml", &file(&two).replace("endpoints", "endpints"));
    eventually("the failed reload", async || {
        weir.metrics().await.sum("weir_config_reload_ok", &[]) == 0.0
    })
    .await;
    weir.says("one").await;
    let status = weir.admin("/status").await.json();
    assert_eq!((&status["last_reload"]["ok"], &status["generation"]), (&json!(false), &json!(1)));
    let faults = status["last_reload"]["faults"].to_string();
    assert!(
        faults.contains("weir.toml:")
            && faults.contains("endpints")
            && faults.contains("endpoints"),
        "{faults}"
    );
    assert_eq!(
        weir.metrics().await.sum("weir_config_reloads_total", &[("outcome", "failed")]),
        1.0
    );
    // a file that is gone is no reason to stop either
    std::fs::remove_file(folder.path("weir.toml")).unwrap();
    weir.says("one").await;
    folder.write("weir.toml", &file(&two));
    weir.says("two").await;
    assert_eq!(weir.metrics().await.sum("weir_config_reload_ok", &[]), 1.0);
    assert_eq!(weir.admin("/status").await.json()["last_reload"]["ok"], true);
}

#[tokio::test]
async fn sighup_reads_what_no_file_watch_sees() {
    let (one, _) = pair().await;
    let folder = Folder::new("sighup");
    let secret = folder.path("key");
    std::fs::write(&secret, "sk-canary-first\n").unwrap();
    let text = file(&one).replace(
        "[features]",
        &format!("api_key = {{ file = \"{}\" }}\n[features]", secret.display()),
    );
    let text = text.replace("[telemetry]", "[telemetry]\nlevel = \"trace\"");
    let mut weir = Process::serve(&folder.write("weir.toml", &text)).await;
    weir.says("one").await;
    assert_eq!(
        one.requests().last().unwrap().header("authorization"),
        Some("Bearer sk-canary-first")
    );
    std::fs::write(&secret, "sk-canary-second\n").unwrap();
    weir.signal("HUP");
    eventually("the new key", async || {
        weir.says("one").await;
        one.requests().last().unwrap().header("authorization") == Some("Bearer sk-canary-second")
    })
    .await;
    weir.signal("TERM");
    assert!(weir.ended().await.success());
    // at the most talkative level, on both outputs
    assert!(
        weir.output().contains("\"kind\":\"request\"") && !weir.output().contains("canary"),
        "{}",
        weir.output()
    );
}

#[tokio::test]
async fn sigterm_lets_a_stream_finish_and_exits_0() {
    let gate = Arc::new(Notify::new());
    let upstream =
        Upstream::always(Reply::sse().text("one").gate(&gate).text("two").done(true)).await;
    let folder = Folder::new("sigterm");
    let mut weir = Process::serve(&folder.write("weir.toml", &file(&upstream))).await;
    let mut client = Client::connect(weir.public).await;
    client
        .send("POST", "/v1/chat/completions", &[], chat_body("m", true).to_string().as_bytes())
        .await;
    let head = client.head().await;
    client.read_until("one").await;
    weir.signal("TERM");
    eventually("not ready while draining", async || weir.admin("/ready").await.status() == 503)
        .await;
    eventually("nothing new is accepted", async || {
        tokio::net::TcpStream::connect(weir.public).await.is_err()
    })
    .await;
    gate.notify_one();
    let answer = client.body(head, false).await;
    assert!(answer.text().contains("two") && answer.text().contains("[DONE]"), "{}", answer.text());
    assert_eq!(answer.end, End::Proper);
    assert!(client.is_closed().await);
    assert!(weir.ended().await.success());
}

#[tokio::test]
async fn a_file_with_faults_does_not_start_and_exits_78() {
    let folder = Folder::new("faults");
    let path =
        folder.write("weir.toml", "[server]\nlistn = \"127.0.0.1:0\"\n[timeouts]\nidle = 60\n");
    for command in ["serve", "check"] {
        let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        let output = run.args([command, "--config"]).arg(&path).env_clear().output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{command}");
        let stated = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(
            stated.contains("weir.toml:2:1")
                && stated.contains("listn")
                && stated.contains("did you mean listen?"),
            "{stated}"
        );
        assert!(
            stated.contains("weir.toml:4:8") && stated.contains("timeouts.idle"),
            "every fault at once: {stated}"
        );
    }
}

#[tokio::test]
async fn a_stream_in_flight_finishes_on_the_model_it_began_with() {
    let gate = Arc::new(Notify::new());
    let old = Upstream::always(Reply::sse().text("old").gate(&gate).text("older").done(true)).await;
    let new = Upstream::says("new").await;
    let gateway = Gateway::with_model(&old, "").await;
    let mut client = gateway.open_chat("m", true).await;
    let head = client.head().await;
    client.read_until("old").await;
    gateway.reload(&one_model(&new.url()));
    assert!(gateway.chat("m", false).await.text().contains("new"));
    gate.notify_one();
    let answer = client.body(head, false).await;
    assert!(
        answer.text().contains("older") && answer.text().contains("[DONE]"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn what_only_a_restart_can_change_is_reported() {
    let upstream = Upstream::says("Hi").await;
    let gateway = Gateway::with_model(&upstream, "").await;
    gateway.reload(&format!("{}[limits]\nin_flight = 7\n", one_model(&upstream.url())));
    let reload = gateway.admin("/status").await.json()["last_reload"].clone();
    assert_eq!(reload["ok"], true, "the rest of the file is in force: {reload}");
    assert!(reload["faults"].to_string().contains("needs a restart"), "{reload}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_reloads_under_traffic_lose_no_request() {
    let (one, two) = pair().await;
    let gateway = Arc::new(Gateway::with_model(&one, "").await);
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for index in 0..4 {
        let (gateway, over) = (Arc::clone(&gateway), Arc::clone(&over));
        clients.spawn(async move {
            let mut client = Client::connect(gateway.public).await;
            let body = chat_body("m", index % 2 == 0).to_string();
            let mut seen = [0_u32; 2];
            while !over.load(Ordering::Relaxed) {
                let answer =
                    client.call("POST", "/v1/chat/completions", &[], body.as_bytes()).await;
                assert_eq!((answer.status(), answer.end), (200, End::Proper), "{}", answer.text());
                seen[usize::from(answer.text().contains("two"))] += 1;
            }
            seen
        });
    }
    for round in 0..100 {
        gateway.reload(&one_model(&two.url()));
        gateway.reload(
            &one_model(if round == 50 { "not a url" } else { "http://127.0.0.1:9/v1" })
                .replace("http://127.0.0.1:9/v1", &one.url()),
        );
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    over.store(true, Ordering::Relaxed);
    let mut seen = [0, 0];
    while let Some(counts) = clients.join_next().await {
        let counts = counts.unwrap();
        seen = [seen[0] + counts[0], seen[1] + counts[1]];
    }
    assert!(seen[0] > 0, "traffic flowed: {seen:?}");
    let metrics = gateway.metrics().await;
    let all = metrics.sum("weir_requests_total", &[("surface", "openai_chat")]);
    assert_eq!(
        (all, metrics.sum("weir_requests_total", &[("outcome", "ok")])),
        (f64::from(seen[0] + seen[1]), all)
    );
    assert_eq!(metrics.sum("weir_config_reloads_total", &[("outcome", "failed")]), 1.0);
    assert_eq!(metrics.sum("weir_config_generation", &[]), 200.0);
}

/// Waits until the last reload was refused, and returns its faults.
async fn refused(weir: &Process) -> String {
    eventually("the refused reload", async || {
        weir.metrics().await.sum("weir_config_reload_ok", &[]) == 0.0
    })
    .await;
    weir.admin("/status").await.json()["last_reload"]["faults"].to_string()
}

#[tokio::test]
async fn a_file_that_lost_its_keys_or_its_models_is_not_put_in_force() {
    let (one, _) = pair().await;
    let folder = Folder::new("emptied");
    let keyed = file(&one).replace(
        "[auth]\nmode = \"off\"\n",
        "[auth]\nstatic_keys = [\"a-key-of-thirty-two-characters-12\"]\n",
    );
    let weir = Process::serve(&folder.write("weir.toml", &keyed)).await;
    let body = chat_body("m", false).to_string();
    let status = async |headers: &[(&str, &str)]| {
        let mut client = Client::connect(weir.public).await;
        client.call("POST", "/v1/chat/completions", headers, body.as_bytes()).await.status()
    };
    assert_eq!(status(&[]).await, 401);
    for (content, key) in
        [(String::new(), "no model"), (keyed.replace("static_keys", "# static_keys"), "auth.mode")]
    {
        folder.write("weir.toml", &content);
        let faults = refused(&weir).await;
        assert!(faults.contains(key), "{faults}");
        assert_eq!(status(&[]).await, 401);
        assert_eq!(
            status(&[("authorization", "Bearer a-key-of-thirty-two-characters-12")]).await,
            200
        );
        folder.write("weir.toml", &keyed);
        eventually("the good file again", async || {
            weir.metrics().await.sum("weir_config_reload_ok", &[]) == 1.0
        })
        .await;
    }
}
