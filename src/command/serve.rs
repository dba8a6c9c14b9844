//! `weir serve`: placeholder until app.rs is there.

use std::path::Path;
use std::process::ExitCode;

use super::Out;
use crate::config::{Config, Environment};

/// Runs the gateway.
pub(super) fn run(config: Config, path: &Path, _env: &Environment, out: &mut Out) -> ExitCode {
    out.remark(format_args!("{}: {} models; serve is not built yet", path.display(), config.models.len()));
    drop(config);
    ExitCode::FAILURE
}
