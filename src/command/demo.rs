//! `weir demo`: everything in one process, with no file and no network. Prints lines to paste, then
//! one line per request.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;

use serde_json::Value;
use tokio::sync::watch;

use super::Out;
use super::serve::{Stop, runtime};
use crate::app::{App, StartError};
use crate::config::{self, Environment};
use crate::demo::{self, model};

/// GitLab's usual port for the gateway, and the official image's for metrics.
const PORT: u16 = 5052;
const ADMIN_PORT: u16 = 8082;
/// Ports tried from there on.
const TRIES: u16 = 50;

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
    let (public, admin) = (free(PORT, out)?, free(ADMIN_PORT, out)?);
    let model = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let text = demo::config(public, admin, model.local_addr()?);
    let config =
        config::from_str(&text, "demo.toml", &Environment::default()).map_err(|faults| {
            // the demo's file is ours; a unit test checks it
            StartError::System(io::Error::other(
                faults.iter().map(config::Fault::headline).collect::<Vec<_>>().join("; "),
            ))
        })?;
    let app = App::build(config, Box::new(Told::default()))?;
    let (stop_model, model_stop) = watch::channel(false);
    let serving = tokio::spawn(model::serve(model, model_stop));
    out.line(demo::banner(app.public_addr(), app.admin_addr()?));
    let mut stop = Stop::new()?;
    let ran = app.run(async move { stop.wait().await }).await;
    stop_model.send_replace(true);
    // The gateway has drained, so the model server has nothing left to do.
    let _ = serving.await;
    ran
}

/// The port itself, or the next free one; says so when it is another.
fn free(port: u16, out: &mut Out) -> Result<SocketAddr, StartError> {
    let mut refused = None;
    for candidate in port..port + TRIES {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, candidate)) {
            Ok(listener) => {
                if candidate != port {
                    out.remark(format_args!("port {port} is taken: using {candidate}"));
                }
                return Ok(listener.local_addr()?);
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()).into())
}

/// The access log, told to a person.
#[derive(Default)]
struct Told {
    rest: Vec<u8>,
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = memchr::memchr(b'\n', &self.rest) {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            if let Ok(facts) = serde_json::from_slice(&line) {
                writeln!(io::stdout(), "{}", told(&facts))?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// `14:03:22  openai_chat  duo_chat → demo  200 ok  first token 41 ms, 812 ms, 7+12 tokens`
fn told(facts: &Value) -> String {
    let text = |key: &str| facts[key].as_str().unwrap_or("-").to_owned();
    let time = text("ts").get(11..19).unwrap_or_default().to_owned();
    let mut line = format!(
        "{time}  {}  {} → {}  {} {}",
        text("surface"),
        text("feature"),
        text("model"),
        facts["status"],
        facts["error_code"].as_str().unwrap_or(facts["outcome"].as_str().unwrap_or_default()),
    );
    let millis = |key: &str| facts[key].as_f64().map(|ms| format!("{ms:.0} ms"));
    if let Some(first) = millis("ttft_ms") {
        line += &format!("  first token {first},");
    }
    line += &format!("  {}", millis("duration_ms").unwrap_or_default());
    if let (Some(read), Some(written)) = (facts["tokens_in"].as_u64(), facts["tokens_out"].as_u64())
    {
        line += &format!(", {read}+{written} tokens");
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::told;

    #[test]
    fn a_request_is_a_sentence() {
        let facts = json!({"ts": "2026-11-24T14:03:22.123Z", "surface": "openai_chat", "feature": "duo_chat", "model": "demo",
            "status": 200, "outcome": "ok", "ttft_ms": 41.2, "duration_ms": 812.4, "tokens_in": 7, "tokens_out": 12});
        let line = "14:03:22  openai_chat  duo_chat → demo  200 ok  first token 41 ms,  812 ms, 7+12 tokens";
        assert_eq!(told(&facts), line);
    }
}
