//! `Out`: the output of a command. A closed pipe (`weir check | head`) ends the output, not the
//! program.

use std::fmt;
use std::io::{IsTerminal as _, Write};

use crate::config::{Fault, Faults, nearest};

/// Standard output and standard error of one command.
pub struct Out {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Whether standard error is a terminal that shows colour.
    colour: bool,
    /// Whether standard error is a terminal at all: then it shows progress.
    live: bool,
}

impl Out {
    /// Returns the streams of this process.
    pub fn standard(env: &crate::config::Environment) -> Self {
        let live = std::io::stderr().is_terminal();
        let colour = live && env.get("NO_COLOR").is_none();
        Self { out: Box::new(std::io::stdout()), err: Box::new(std::io::stderr()), colour, live }
    }

    /// Creates an output to other streams, without colour.
    pub fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self { out, err, colour: false, live: false }
    }

    /// Prints a line of the result to standard output.
    pub fn line(&mut self, line: impl fmt::Display) {
        let _ = writeln!(self.out, "{line}");
    }

    /// Prints a line about the run to standard error.
    pub fn remark(&mut self, line: impl fmt::Display) {
        let _ = writeln!(self.err, "{line}");
    }

    /// Prints the progress on one line that the next call overwrites; an empty line ends it. Prints
    /// nothing unless standard error is a terminal.
    pub fn progress(&mut self, line: impl fmt::Display) {
        if self.live {
            let _ = write!(self.err, "\r\x1b[2K{line}").and_then(|()| self.err.flush());
        }
    }

    /// Prints one fault, with its line of the file.
    pub fn fault(&mut self, fault: &Fault) {
        let _ = self.err.write_all(fault.render(self.colour).as_bytes());
    }

    /// Prints every fault, and their number.
    pub fn faults(&mut self, faults: &Faults) {
        faults.iter().for_each(|fault| self.fault(fault));
        let errors = faults.errors();
        let warnings = faults.iter().count() - errors;
        let also = if warnings == 0 {
            String::new()
        } else {
            format!(", {}", plural(warnings, "warning"))
        };
        self.remark(format_args!("{}{also}", plural(errors, "error")));
    }
}

/// Returns a count with its noun: `1 error`, `2 errors`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Returns a hint for a name that is none of `names`: the nearest of them, or all.
pub(super) fn suggestion<'a>(found: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    if let Some(near) = nearest(found, names.iter().copied()) {
        return format!("did you mean {near}?");
    }
    match names.as_slice() {
        [] => "none is defined".to_owned(),
        [one] => format!("expected {one}"),
        all => format!("expected one of {}", all.join(", ")),
    }
}

/// Returns rows as lines with aligned columns.
pub(super) fn align(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
