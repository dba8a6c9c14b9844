//! `weir probe`: placeholder until the upstream side is there.

use std::process::ExitCode;

use super::Out;
use crate::config::Config;

/// Probes every model, or one.
pub(super) fn run(config: Config, _model: Option<&str>, out: &mut Out) -> ExitCode {
    out.remark("probe is not built yet");
    drop(config);
    ExitCode::FAILURE
}
