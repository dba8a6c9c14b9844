//! Instructions of the hot paths, counted by `valgrind --tool=callgrind`:
//! `cargo bench --bench icount`.
//!
//! Counts hardly depend on the machine, so they can be compared with a committed baseline: the
//! bench fails when a path grew by more than 3 % over `icount.txt`, and
//! `cargo bench --bench icount -- --bless` writes what was counted there. Each path runs twice
//! under valgrind, n and 2n times; the difference is n operations without the program's start.
//! Without valgrind it says so and succeeds.
//!
//! A baseline holds for one compiler and one kind of processor (memchr chooses by its features,
//! which valgrind passes on): bless again after an upgrade of Rust, in a commit of its own.
#![expect(clippy::expect_used, reason = "a bench may stop at a broken fixture")]
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

mod paths;

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::process::{Command, ExitCode};

use paths::HotPath;

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/icount.txt");
/// Operations of the shorter run.
const REPEAT: u32 = 100;
/// How much a path may grow before it counts as slower, in per cent.
const TOLERANCE: f64 = 3.0;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let phrase: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match phrase.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--run", index, repeat] => {
            repeat_path(&paths::ALL[index.parse::<usize>()?], repeat.parse()?);
            Ok(ExitCode::SUCCESS)
        }
        [] => count_all(false),
        ["--bless"] => count_all(true),
        _ => Err("expected nothing or --bless".into()),
    }
}

/// What valgrind watches.
fn repeat_path(path: &HotPath, repeat: u32) {
    let mut operation = (path.prepare)();
    (0..repeat).for_each(|_| operation());
}

fn count_all(bless: bool) -> Result<ExitCode, Box<dyn Error>> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("icount: valgrind is not installed; nothing was counted");
        return Ok(ExitCode::SUCCESS);
    }
    let committed = std::fs::read_to_string(BASELINE).unwrap_or_default();
    let before = baseline(&committed);
    let mut after = String::from(
        "# Instructions per operation; written by `cargo bench --bench icount -- --bless`.\n",
    );
    let mut grown = 0;
    println!("{:<36}{:>14}{:>14}{:>9}", "path", "instructions", "baseline", "change");
    for (index, path) in paths::ALL.iter().enumerate() {
        let once = instructions(index, REPEAT)?;
        let count = (instructions(index, 2 * REPEAT)?.saturating_sub(once)) / u64::from(REPEAT);
        writeln!(after, "{count:>10}  {}", path.name)?;
        let Some(old) = before.get(path.name) else {
            println!("{:<36}{count:>14}{:>14}{:>9}", path.name, "-", "new");
            continue;
        };
        let change = (count as f64 / *old as f64 - 1.0) * 100.0;
        let verdict = if change > TOLERANCE { "  SLOWER" } else { "" };
        grown += usize::from(change > TOLERANCE);
        println!("{:<36}{count:>14}{old:>14}{change:>+8.1}%{verdict}", path.name);
    }
    if bless {
        std::fs::write(BASELINE, after)?;
        println!("wrote {BASELINE}");
        return Ok(ExitCode::SUCCESS);
    }
    if grown > 0 {
        println!(
            "{grown} paths grew by more than {TOLERANCE} %: make them smaller, or bless and say why"
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn baseline(text: &str) -> HashMap<&str, u64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.trim().split_once("  "))
        .filter_map(|(n, name)| Some((name, n.parse().ok()?)))
        .collect()
}

/// Instructions of one run of this very program that repeats one path.
fn instructions(index: usize, repeat: u32) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--run", &index.to_string(), &repeat.to_string()])
        .output()?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected :"));
    let count = collected.and_then(|(_, number)| number.trim().parse().ok());
    count
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("valgrind failed: {report}").into())
}
