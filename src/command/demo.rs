//! `weir demo`: placeholder until the demo is there.

use std::process::ExitCode;

use super::Out;

/// Runs the demo.
pub(super) fn run(out: &mut Out) -> ExitCode {
    out.remark("demo is not built yet");
    ExitCode::FAILURE
}
