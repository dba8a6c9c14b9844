//! `Fault`: one thing that is wrong with the configuration, printed as a compiler prints it: where,
//! which key, what was found, what was expected, the line with a caret, a hint.

use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Whether Weir starts in spite of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Weir does not start.
    Error,
    /// Weir starts.
    Warning,
}

/// Where a fault is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A line of the file.
    Line(Excerpt),
    /// The file as a whole.
    File(Arc<str>),
    /// An environment variable.
    Environment,
}

/// A line of the file, secrets masked, and the part of it that a fault is about. Positions are
/// counted in characters, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The file's name as it was passed.
    pub file: Arc<str>,
    /// Number of the line.
    pub line: usize,
    /// Position of the first character that the fault is about.
    pub column: usize,
    /// The line as it is printed.
    pub source: String,
    /// Position of the caret in `source`; masking may have moved it from `column`.
    pub caret: usize,
    /// Number of carets, at least one.
    pub width: usize,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Error or warning.
    pub severity: Severity,
    /// Where the fault is.
    pub location: Location,
    /// The key (`models.codestral.endpoint`) or the variable; empty for syntax errors.
    pub key: String,
    /// The value that was found, quoted. Never a secret.
    pub found: Option<String>,
    /// What was expected, or what is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Fault {
    /// Creates an error.
    pub fn error(location: Location, key: impl Into<String>, message: impl Into<String>) -> Self {
        let (key, message) = (key.into(), message.into());
        Self { severity: Severity::Error, location, key, found: None, message, hint: None }
    }

    /// Creates a warning.
    pub fn warning(location: Location, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::error(location, key, message).as_warning()
    }

    /// Returns the same fault as a warning.
    #[must_use]
    pub fn as_warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// Returns the fault with the value that was found, quoted.
    #[must_use]
    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }

    /// Returns the fault with a hint.
    #[must_use]
    pub fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// Returns the first line, without colour:
    /// `weir.toml:12:14: error: models.codestral.endpoint: found "gpu-1", expected …`.
    pub fn headline(&self) -> String {
        self.headline_in(&Palette::PLAIN)
    }

    /// Returns the whole text, with or without colour. It ends in a newline.
    pub fn render(&self, colour: bool) -> String {
        let palette = if colour { &Palette::ANSI } else { &Palette::PLAIN };
        let mut text = self.headline_in(palette);
        text.push('\n');
        if let Location::Line(excerpt) = &self.location {
            excerpt.draw(&mut text, palette.of(self.severity), palette.reset);
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "  {}hint:{} {hint}", palette.bold, palette.reset);
        }
        text
    }

    fn headline_in(&self, palette: &Palette) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = match &self.location {
            Location::Line(at) => write!(text, "{}:{}:{}", at.file, at.line, at.column),
            Location::File(file) => write!(text, "{file}"),
            Location::Environment => write!(text, "environment"),
        };
        let label = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _ = write!(text, ": {}{label}:{} ", palette.of(self.severity), palette.reset);
        if !self.key.is_empty() {
            let _ = write!(text, "{}: ", self.key);
        }
        if let Some(found) = &self.found {
            let _ = write!(text, "found {found}, ");
        }
        text.push_str(&self.message);
        text
    }

    /// Returns the sort key: file by file in the order of lines, the environment last.
    pub(crate) fn order(&self) -> (bool, Arc<str>, usize, usize) {
        match &self.location {
            Location::File(file) => (false, Arc::clone(file), 0, 0),
            Location::Line(at) => (false, Arc::clone(&at.file), at.line, at.column),
            Location::Environment => (true, "".into(), 0, 0),
        }
    }
}

impl Excerpt {
    /// Appends the line and, below it, the carets.
    fn draw(&self, text: &mut String, colour: &str, reset: &str) {
        let gutter = self.line.to_string();
        let blank = " ".repeat(gutter.len());
        // a tab before the caret stays a tab, so that the caret is below its column
        let before = self.source.chars().take(self.caret - 1);
        let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets = "^".repeat(self.width);
        let _ = writeln!(text, " {gutter} | {}", self.source);
        let _ = writeln!(text, " {blank} | {indent}{colour}{carets}{reset}");
    }
}

/// Terminal sequences that switch colours; empty without colour.
struct Palette {
    error: &'static str,
    warning: &'static str,
    bold: &'static str,
    reset: &'static str,
}

impl Palette {
    const PLAIN: Self = Self { error: "", warning: "", bold: "", reset: "" };
    const ANSI: Self =
        Self { error: "\x1b[1;31m", warning: "\x1b[1;33m", bold: "\x1b[1m", reset: "\x1b[0m" };

    /// Returns the colour of a severity.
    const fn of(&self, severity: Severity) -> &'static str {
        match severity {
            Severity::Error => self.error,
            Severity::Warning => self.warning,
        }
    }
}

/// Everything that is wrong: at least one error, and the warnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Sorts and wraps the faults.
    pub(crate) fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(Fault::order);
        Self(faults)
    }

    /// Returns all faults, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// Returns the number of errors.
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|fault| fault.severity == Severity::Error).count()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|fault| f.write_str(&fault.render(false)))
    }
}

impl std::error::Error for Faults {}

/// A fault has been collected: the value is missing because it is wrong, and the configuration will
/// be refused. A reader that gets this only gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reported;

/// Returns a text in quotes as a fault prints it: control characters escaped, cut to 80 characters.
pub(crate) fn quoted(text: &str) -> String {
    const MAX: usize = 80;
    let shown: String = text.chars().take(MAX).collect();
    let more = if text.chars().nth(MAX).is_some() { "…" } else { "" };
    format!("\"{}{more}\"", shown.escape_debug())
}

/// Printed instead of a secret.
pub(crate) const MASK: &str = "•••";

/// Returns whether an address may contain a password or a key, so that a fault must not quote it.
pub(crate) fn may_carry_secret(text: &str) -> bool {
    text.contains(['@', '?'])
}

/// Returns whether a text looks like the name of a variable, and not like a secret that was written
/// where a name is expected.
pub(crate) fn is_variable_name(text: &str) -> bool {
    let name = text.trim_matches(['$', '{', '}']);
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::{Excerpt, Fault, Location};

    #[test]
    fn a_fault_is_printed_like_a_compilers() {
        let location = Location::Line(Excerpt {
            file: "weir.toml".into(),
            line: 12,
            column: 13,
            source: "\tendpoint = \"gpu-1:8000\"".into(),
            caret: 13,
            width: 12,
        });
        let fault = Fault::error(location, "models.codestral.endpoint", "expected a URL")
            .found("\"gpu-1:8000\"")
            .hint(Some("did you mean \"http://gpu-1:8000\"?".into()));
        let expected = "\
weir.toml:12:13: error: models.codestral.endpoint: found \"gpu-1:8000\", expected a URL
 12 | \tendpoint = \"gpu-1:8000\"
    | \t           ^^^^^^^^^^^^
  hint: did you mean \"http://gpu-1:8000\"?
";
        assert_eq!(fault.render(false), expected);
        assert!(fault.render(true).contains("\x1b[1;31merror:\x1b[0m"));
    }
}
