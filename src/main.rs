//! argv → command → exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir::command::run(std::env::args_os())
}
