//! The real gateway, in this process, on ports of its own. It drains and stops when dropped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use weir::app::{App, Reloader};
use weir::config::{Config, Environment, Faults};

use super::{Answer, Client, Folder, Log, Metrics, Upstream, eventually};

/// The lines that every test's file starts with: loopback, no keys, one worker, a short drain.
const HOUSE: &str = r#"
[server]
listen = "127.0.0.1:0"
workers = 1
[admin]
listen = "127.0.0.1:0"
[auth]
mode = "off"
[resilience]
drain = "100ms"
"#;

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) log: Log,
    reloader: Reloader,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Starts a gateway with the base configuration and these lines.
    pub(crate) async fn start(file: &str) -> Self {
        Self::start_whole(&format!("{HOUSE}{file}")).await
    }

    /// Starts a gateway with one model `m` (called `up` at its server) for everything, and more
    /// lines.
    pub(crate) async fn with_model(upstream: &Upstream, more: &str) -> Self {
        Self::start(&format!("{}{more}", one_model(&upstream.url()))).await
    }

    /// Starts a gateway with exactly this file.
    pub(crate) async fn start_whole(file: &str) -> Self {
        Self::start_in(&Environment::default(), file).await
    }

    /// Starts a gateway with the base configuration, these lines and these environment variables.
    pub(crate) async fn start_with(env: &Environment, file: &str) -> Self {
        Self::start_in(env, &format!("{HOUSE}{file}")).await
    }

    /// Starts a gateway with exactly this file and these environment variables.
    pub(crate) async fn start_exactly(env: &Environment, file: &str) -> Self {
        Self::start_in(env, file).await
    }

    async fn start_in(env: &Environment, file: &str) -> Self {
        // The first subscriber of a process stays: tests that read the operator's log run the
        // program itself.
        let _ =
            tracing::subscriber::set_global_default(tracing::subscriber::NoSubscriber::default());
        let config = weir::config::from_str(file, "weir.toml", env)
            .unwrap_or_else(|faults| panic!("{faults}\n{file}"));
        let log = Log::default();
        let app = App::build(config, Box::new(log.clone())).unwrap();
        let (public, admin, reloader) =
            (app.public_addr(), app.admin_addr().unwrap(), app.reloader());
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let running = app.run(async {
                let _ = stopped.await;
            });
            runtime.block_on(running).unwrap();
        });
        Self { public, admin, log, reloader, stop: Some(stop), thread: Some(thread) }
    }

    /// Does what the file watch does: parses this text and applies it, or keeps the old
    /// configuration.
    pub(crate) fn reload(&self, file: &str) {
        match parse(&format!("{HOUSE}{file}")) {
            Ok(config) => self.reloader.apply(config),
            Err(faults) => self.reloader.refuse(&faults),
        }
    }

    /// Sends a request on a connection of its own and returns the response.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        Client::connect(self.public).await.call(method, path, headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], b"").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &[], body.to_string().as_bytes()).await
    }

    /// Sends a chat completion with one short question to this model.
    pub(crate) async fn chat(&self, model: &str, stream: bool) -> Answer {
        self.post("/v1/chat/completions", &chat_body(model, stream)).await
    }

    /// Sends a chat completion and reads nothing.
    pub(crate) async fn open_chat(&self, model: &str, stream: bool) -> Client {
        let mut client = Client::connect(self.public).await;
        client
            .send(
                "POST",
                "/v1/chat/completions",
                &[],
                chat_body(model, stream).to_string().as_bytes(),
            )
            .await;
        client
    }

    /// Sends a GET to the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        Client::connect(self.admin).await.call("GET", path, &[], b"").await
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::parse(self.admin("/metrics").await.text())
    }

    /// Waits until exactly `count` requests are in flight; for 0, at the model servers too.
    pub(crate) async fn in_flight(&self, count: f64) {
        eventually("the right number in flight", async || {
            let metrics = self.metrics().await;
            let upstream = metrics.sum("weir_upstream_inflight", &[]);
            metrics.sum("weir_inflight", &[]) == count && (count > 0.0 || upstream == 0.0)
        })
        .await;
    }

    /// Waits until `count` requests have one access-log line each, all of them cancelled by their
    /// clients.
    pub(crate) async fn all_cancelled(&self, count: usize) {
        eventually("a line for each", async || self.log.lines().len() >= count).await;
        let lines = self.log.lines();
        assert_eq!(lines.len(), count);
        for line in lines {
            assert!(line["outcome"] == "cancelled" && line.get("error_code").is_none(), "{line}");
        }
    }

    /// Returns the access-log line of a response.
    pub(crate) async fn line(&self, answer: &Answer) -> Value {
        self.log.line(answer.header("x-request-id").expect("an id in the answer")).await
    }
}

/// Parses a configuration file with an empty environment.
pub(crate) fn parse(file: &str) -> Result<Config, Faults> {
    weir::config::from_str(file, "weir.toml", &Environment::default())
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        // a test that already failed reports why itself
        assert!(
            matches!(ended, Some(Ok(()))) || std::thread::panicking(),
            "the gateway ended by a panic"
        );
    }
}

/// Writes a file for a [`Process`] with one worker and these keys of `[resilience]`.
pub(crate) fn resilient_file(folder: &Folder, upstream: &Upstream, resilience: &str) -> PathBuf {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[resilience]\n{resilience}\n\
         [telemetry]\nformat = \"json\"\n[auth]\nmode = \"off\"\n{}",
        one_model(&upstream.url())
    );
    folder.write("weir.toml", &text)
}

/// Returns the configuration of one model `m` for everything.
pub(crate) fn one_model(url: &str) -> String {
    format!(
        "[models.m]\nidentifier = \"custom_openai/up\"\nfamily = \"general\"\nendpoints = [\"{url}\"]\n[features]\ndefault = \"m\"\n"
    )
}

/// Returns an OpenAI-style chat request.
pub(crate) fn chat_body(model: &str, stream: bool) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": stream})
}
