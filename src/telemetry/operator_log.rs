//! The operator's log on standard error: reloads, drains, faults. `tracing` with a level that a
//! reload may change; text on a terminal, JSON elsewhere, unless the file sets the format.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

/// `telemetry.level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Faults that need an operator.
    Error,
    /// Conditions that may become faults.
    Warn,
    /// Changes of state.
    #[default]
    Info,
    /// Causes and details of changes.
    Debug,
    /// Everything else; no secret, and no prompt unless `telemetry.log_prompts` and GitLab allow
    /// it.
    Trace,
}

/// `telemetry.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Plain lines.
    Text,
}

/// The handle by which the level of the running log is changed.
#[derive(Clone, Debug)]
pub struct OperatorLog(reload::Handle<LevelFilter, Registry>);

impl OperatorLog {
    /// Installs the log for the process and returns its handle. Only the first call installs one;
    /// handles of later calls (tests) have no effect.
    pub fn init(level: Level, format: Format) -> Self {
        let (filter, handle) = reload::Layer::new(filter(level));
        let json = match format {
            Format::Json => true,
            Format::Text => false,
            Format::Auto => !std::io::stderr().is_terminal(),
        };
        let registry = tracing_subscriber::registry();
        let layer = if json {
            fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
        } else {
            let colour = std::io::stderr().is_terminal();
            fmt::layer().with_target(false).with_ansi(colour).with_writer(std::io::stderr).boxed()
        };
        // AWS's crates log at `trace` what they read and sign: only their warnings are kept.
        let layer = layer.with_filter(filter_fn(|line| {
            !line.target().starts_with("aws_") || *line.level() <= tracing::Level::WARN
        }));
        // Fails when a test has already installed one, which then stays.
        let _ = registry.with(filter).with(layer).try_init();
        Self(handle)
    }

    /// Sets the level, effective at once.
    pub fn set_level(&self, level: Level) {
        // Fails only when the subscriber is gone, and the log with it.
        let _ = self.0.reload(filter(level));
    }
}

const fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}
