//! `weir demo`: everything in one process, with no file and no network. Prints commands to paste,
//! then one line per request.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;

use serde_json::Value;
use tokio::sync::watch;

use super::Out;
use super::serve::{StopSignals, runtime};
use crate::app::{App, StartError};
use crate::config::{self, Environment};
use crate::demo::{self, model};

/// GitLab's usual port for the gateway, and the official image's for metrics.
const PORT: u16 = 5052;
const ADMIN_PORT: u16 = 8082;
/// The number of ports tried from there on.
const PORTS_TRIED: u16 = 50;

/// Runs until Ctrl-C or SIGTERM.
pub(super) fn run(out: &mut Out) -> ExitCode {
    match runtime().and_then(|runtime| runtime.block_on(serve(out))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.remark(format_args!("the demo did not start: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(out: &mut Out) -> Result<(), StartError> {
    let (public, admin) = (free_port(PORT, out)?, free_port(ADMIN_PORT, out)?);
    let model = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let text = demo::config(public, admin, model.local_addr()?);
    let config =
        config::from_str(&text, "demo.toml", &Environment::default()).map_err(|faults| {
            // the demo's file is built in; a unit test checks it
            StartError::System(io::Error::other(
                faults.iter().map(config::Fault::headline).collect::<Vec<_>>().join("; "),
            ))
        })?;
    let app = App::build(config, Box::new(LogPrinter::default()))?;
    let (stop_model, model_stop) = watch::channel(false);
    let serving = tokio::spawn(model::serve(model, model_stop));
    out.line(demo::banner(app.public_addr(), app.admin_addr()?));
    let mut stop = StopSignals::new()?;
    let ran = app.run(async move { stop.wait().await }).await;
    stop_model.send_replace(true);
    // The gateway has drained, so the model server has nothing left to do.
    let _ = serving.await;
    ran
}

/// Returns the port itself, or the next free one with a remark. Fails when none is free.
fn free_port(port: u16, out: &mut Out) -> Result<SocketAddr, StartError> {
    let mut last_error = None;
    for candidate in port..port + PORTS_TRIED {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, candidate)) {
            Ok(listener) => {
                if candidate != port {
                    out.remark(format_args!("port {port} is taken: using {candidate}"));
                }
                return Ok(listener.local_addr()?);
            }
            Err(error) => last_error = Some(error),
        }
    }
    Err(last_error.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()).into())
}

/// Prints the lines of the access log in a form for people.
#[derive(Default)]
struct LogPrinter {
    /// The beginning of a line whose end has not been written yet.
    partial: Vec<u8>,
}

impl Write for LogPrinter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = memchr::memchr(b'\n', &self.partial) {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            if let Ok(entry) = serde_json::from_slice(&line) {
                writeln!(io::stdout(), "{}", summary(&entry))?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// Returns a line of the log as a person reads it:
/// `14:03:22  openai_chat  duo_chat → demo  200 ok  first token 41 ms, 812 ms, 7+12 tokens`
fn summary(entry: &Value) -> String {
    let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
    let time = text("ts").get(11..19).unwrap_or_default().to_owned();
    let mut line = format!(
        "{time}  {}  {} → {}  {} {}",
        text("surface"),
        text("feature"),
        text("model"),
        entry["status"],
        entry["error_code"].as_str().unwrap_or(entry["outcome"].as_str().unwrap_or_default()),
    );
    let millis = |key: &str| entry[key].as_f64().map(|ms| format!("{ms:.0} ms"));
    if let Some(first) = millis("ttft_ms") {
        line += &format!("  first token {first},");
    }
    line += &format!("  {}", millis("duration_ms").unwrap_or_default());
    if let (Some(input), Some(output)) = (entry["tokens_in"].as_u64(), entry["tokens_out"].as_u64())
    {
        line += &format!(", {input}+{output} tokens");
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::summary;

    #[test]
    fn a_request_is_printed_on_one_line() {
        let entry = json!({
            "ts": "2026-11-24T14:03:22.123Z", "surface": "openai_chat", "feature": "duo_chat",
            "model": "demo", "status": 200, "outcome": "ok", "ttft_ms": 41.2, "duration_ms": 812.4,
            "tokens_in": 7, "tokens_out": 12
        });
        let line = "14:03:22  openai_chat  duo_chat → demo  200 ok  first token 41 ms,  812 ms, \
                    7+12 tokens";
        assert_eq!(summary(&entry), line);
    }
}
