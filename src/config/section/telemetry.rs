//! `[telemetry]`: the operator's log.

use crate::config::toml::diagnostic::Reported;
use crate::config::toml::reader::Reader;
use crate::telemetry::{Format, Level};

/// What `[telemetry]` sets.
pub(crate) struct Telemetry {
    /// Level and format of the log.
    pub(crate) log: (Level, Format),
    /// Whether prompts may be logged.
    pub(crate) log_prompts: bool,
}

/// Reads the settings of the log.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Telemetry, Reported> {
    let level = reader.keyword(&["telemetry", "level"]);
    let format = reader.optional_keyword(&["telemetry", "format"]);
    let log_prompts = reader.boolean(&["telemetry", "log_prompts"]);
    let level = match level? {
        "error" => Level::Error,
        "warn" => Level::Warn,
        "debug" => Level::Debug,
        "trace" => Level::Trace,
        _ => Level::Info,
    };
    let format = match format? {
        Some("json") => Format::Json,
        Some(_) => Format::Text,
        None => Format::Auto,
    };
    Ok(Telemetry { log: (level, format), log_prompts: log_prompts? })
}
