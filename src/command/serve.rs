//! `weir serve`: runs the gateway on a file, reloads when the file changes or on SIGHUP, drains on
//! SIGTERM or when another process replaces it.

use std::path::Path;
use std::process::ExitCode;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Out;
use crate::app::{App, Reloader, StartError};
use crate::config::{self, Config, Environment, Watcher};
use crate::server::upgrade::OldProcess;

/// Serves `config`, which was read from `path`, until SIGTERM or SIGINT, or until it is replaced.
/// With `replace`, replaces the process that serves on its admin address, if there is one.
pub(super) fn run(
    config: Config,
    path: &Path,
    replace: bool,
    env: &Environment,
    out: &mut Out,
) -> ExitCode {
    let served = runtime().and_then(|runtime| runtime.block_on(serve(config, path, replace, env)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.remark(format_args!("weir did not start: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Turns off core dumps, and access by other processes of the same user: the memory contains keys
/// and what users wrote. Weir serves also on a system that refuses this.
fn protect_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let refused = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).err();
    // handlers to which the kernel pipes dumps are called whatever the limit is
    #[cfg(target_os = "linux")]
    let refused =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .err()
            .or(refused);
    if let Some(error) = refused {
        tracing::warn!(%error, "core dumps could not be turned off");
    }
}

/// Creates the runtime of everything but the workers: admin listener, file watch, signals.
pub(super) fn runtime() -> Result<Runtime, StartError> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

async fn serve(
    config: Config,
    path: &Path,
    replace: bool,
    env: &Environment,
) -> Result<(), StartError> {
    let old_process = if replace { OldProcess::connect(config.server.admin).await? } else { None };
    let app = App::build_replacing(config, Box::new(std::io::stdout()), old_process)?;
    // not earlier: a failure is logged
    protect_memory();
    for warning in app.warnings() {
        tracing::warn!("{warning}");
    }
    let reloader = app.reloader();
    let mut stop = StopSignals::new()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut watched = config::watched(path, env);
    let (mut watcher, mut changes) = Watcher::start(&watched)?;
    let mut running = std::pin::pin!(app.run(async move { stop.wait().await }));
    loop {
        tokio::select! {
            ended = &mut running => return ended,
            _ = hangup.recv() => {}
            Some(()) = changes.recv() => {}
        }
        // The file may refer to other files now. They are watched before they are read, so that no
        // change is missed in between.
        let referenced = config::watched(path, env);
        if referenced != watched {
            match Watcher::start(&referenced) {
                // this drops the old watcher
                Ok(started) => (watcher, changes) = started,
                Err(error) => {
                    tracing::warn!(
                        %error,
                        ?watcher,
                        "the files of the new configuration could not be watched"
                    );
                }
            }
            watched = referenced;
        }
        reload(&reloader, path, env);
    }
}

/// Reads the file again and puts it in force; a file with faults changes nothing.
fn reload(reloader: &Reloader, path: &Path, env: &Environment) {
    match config::load(path, env) {
        Ok(config) => reloader.apply(config),
        Err(faults) => reloader.refuse(&faults),
    }
}

/// The signals that stop a process: SIGTERM (an orchestrator) or SIGINT (Ctrl-C).
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Installs the handlers.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them.
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
