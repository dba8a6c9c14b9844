//! The program itself, as an operator runs it: `weir serve` on a file, signals, its log.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;
use tokio::sync::watch;

use super::{Answer, Client, Metrics, PATIENCE, chat_body, eventually, soon};

/// A folder that is removed when the test is over.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Saves as editors and configuration managers do: writes a new file and renames it over the
    /// old.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        let beside = self.write(&format!(".{name}.new"), text);
        std::fs::rename(beside, self.path(name)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running `weir serve --config …`.
pub(crate) struct Process {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: watch::Receiver<String>,
    out: Arc<Mutex<String>>,
}

impl Process {
    /// Starts the program and waits for the log line with its addresses. The file's log must be
    /// JSON at `info` or more.
    pub(crate) async fn serve(file: &Path) -> Self {
        Self::serve_with(file, &[]).await
    }

    /// Starts the program with these environment variables.
    pub(crate) async fn serve_with(file: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = serve(file);
        command.envs(environment.iter().copied());
        Self::start(command).await
    }

    /// Starts the program in a group that is not root's, if the tests run as root: only then does
    /// `/proc` show that the kernel protects its memory.
    #[cfg(target_os = "linux")]
    pub(crate) async fn serve_apart(file: &Path) -> Self {
        use std::os::unix::{fs::MetadataExt as _, process::CommandExt as _};
        const NOBODY: u32 = 65_534;
        let mut command = serve(file);
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.gid(NOBODY);
        }
        Self::start(command).await
    }

    /// Starts a program that takes over from the one that serves on the file's addresses.
    pub(crate) async fn replace(file: &Path) -> Self {
        let mut command = serve(file);
        command.arg("--replace");
        Self::start(command).await
    }

    async fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, mut log) = watch::channel(String::new());
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            each_line(stderr, |line| sender.send_modify(|log| log.push_str(line)))
        });
        let (out, stdout) = (Arc::new(Mutex::new(String::new())), child.stdout.take().unwrap());
        let kept = Arc::clone(&out);
        std::thread::spawn(move || each_line(stdout, |line| kept.lock().unwrap().push_str(line)));
        let line =
            soon("the line that says where it serves", log.wait_for(|log| serving(log).is_some()))
                .await;
        let line = serving(&line.unwrap()).unwrap();
        let address = |key: &str| line[key].as_str().unwrap().parse().unwrap();
        Self { public: address("public"), admin: address("admin"), child, log, out }
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits for its exit.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(since.elapsed() < PATIENCE, "it does not end");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Returns how many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Returns its resident private memory in bytes.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
    }

    /// Returns everything it wrote.
    pub(crate) fn output(&self) -> String {
        format!("{}{}", self.out.lock().unwrap(), *self.log.borrow())
    }

    pub(crate) async fn chat(&self, model: &str) -> Answer {
        let body = chat_body(model, false).to_string();
        Client::connect(self.public)
            .await
            .call("POST", "/v1/chat/completions", &[], body.as_bytes())
            .await
    }

    /// Waits until a chat with `m` gets a response with this text.
    pub(crate) async fn says(&self, text: &str) {
        eventually("the new configuration", async || {
            let answer = self.chat("m").await;
            assert_eq!(answer.status(), 200, "no request may fail: {}", answer.text());
            answer.text().contains(text)
        })
        .await;
    }

    pub(crate) async fn admin(&self, path: &str) -> Answer {
        Client::connect(self.admin).await.call("GET", path, &[], b"").await
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::parse(self.admin("/metrics").await.text())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["serve", "--config"]).arg(file).env_clear();
    command
}

fn each_line(from: impl Read, mut take: impl FnMut(&str)) {
    let mut reader = BufReader::new(from);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
        take(&line);
        line.clear();
    }
}

fn serving(log: &str) -> Option<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.into_iter().find(|line| line["message"] == "serving")
}
