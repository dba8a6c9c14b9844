//! `Fault`: one thing that is wrong with the configuration, printed as a compiler prints it: where,
//! which key, what was said, what was expected, the line with a caret, a hint.

use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Whether Weir starts all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does not.
    Error,
    /// It does.
    Warning,
}

/// Where a fault is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of the file.
    Line(Excerpt),
    /// The file as a whole.
    File(Arc<str>),
    /// An environment variable.
    Environment,
}

/// A line of the file, secrets masked, and the part of it that is meant. Counted in characters,
/// from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The file's name as it was given.
    pub file: Arc<str>,
    /// Line.
    pub line: usize,
    /// First character meant.
    pub column: usize,
    /// The line as it is shown.
    pub source: String,
    /// Where the caret stands in `source`; masking may have moved it from `column`.
    pub caret: usize,
    /// How many characters are meant, at least one.
    pub width: usize,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Error or warning.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// The key (`models.codestral.endpoint`) or the variable; empty for faults of syntax.
    pub key: String,
    /// What was said there, quoted. Never a secret.
    pub said: Option<String>,
    /// What was expected, or what is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Fault {
    /// An error.
    pub fn error(place: Place, key: impl Into<String>, message: impl Into<String>) -> Self {
        let (key, message) = (key.into(), message.into());
        Self { severity: Severity::Error, place, key, said: None, message, hint: None }
    }

    /// A warning.
    pub fn warning(place: Place, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, key, message) }
    }

    /// This fault, with what was said.
    #[must_use]
    pub fn said(mut self, said: impl Into<String>) -> Self {
        self.said = Some(said.into());
        self
    }

    /// This fault, with a hint.
    #[must_use]
    pub fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// The first line:
    /// `weir.toml:12:14: error: models.codestral.endpoint: said "gpu-1", expected …`.
    pub fn headline(&self) -> String {
        self.headline_in(&Palette::PLAIN)
    }

    /// The whole of it, with or without colour. Ends in a newline.
    pub fn render(&self, colour: bool) -> String {
        let palette = if colour { &Palette::ANSI } else { &Palette::PLAIN };
        let mut text = self.headline_in(palette);
        text.push('\n');
        if let Place::Line(excerpt) = &self.place {
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
        let _ = match &self.place {
            Place::Line(at) => write!(text, "{}:{}:{}", at.file, at.line, at.column),
            Place::File(file) => write!(text, "{file}"),
            Place::Environment => write!(text, "environment"),
        };
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _ = write!(text, ": {}{word}:{} ", palette.of(self.severity), palette.reset);
        if !self.key.is_empty() {
            let _ = write!(text, "{}: ", self.key);
        }
        if let Some(said) = &self.said {
            let _ = write!(text, "said {said}, ");
        }
        text.push_str(&self.message);
        text
    }

    /// Faults file by file in the order of their lines, then those of the environment.
    pub(crate) fn order(&self) -> (bool, Arc<str>, usize, usize) {
        match &self.place {
            Place::File(file) => (false, Arc::clone(file), 0, 0),
            Place::Line(at) => (false, Arc::clone(&at.file), at.line, at.column),
            Place::Environment => (true, "".into(), 0, 0),
        }
    }
}

impl Excerpt {
    fn draw(&self, text: &mut String, colour: &str, reset: &str) {
        let gutter = self.line.to_string();
        let blank = " ".repeat(gutter.len());
        // A tab before the caret stays a tab, so that the caret stands under what it means.
        let before = self.source.chars().take(self.caret - 1);
        let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets = "^".repeat(self.width);
        let _ = writeln!(text, " {gutter} | {}", self.source);
        let _ = writeln!(text, " {blank} | {indent}{colour}{carets}{reset}");
    }
}

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

    const fn of(&self, severity: Severity) -> &'static str {
        match severity {
            Severity::Error => self.error,
            Severity::Warning => self.warning,
        }
    }
}

/// Everything that is wrong: at least one error, and the warnings found beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// These faults, put in order.
    pub(crate) fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(Fault::order);
        Self(faults)
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// How many of them are errors.
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

/// A text as a fault quotes it: control characters escaped, not longer than a line.
pub(crate) fn quoted(text: &str) -> String {
    const MAX: usize = 80;
    let shown: String = text.chars().take(MAX).collect();
    let more = if text.chars().nth(MAX).is_some() { "…" } else { "" };
    format!("\"{}{more}\"", shown.escape_debug())
}

/// What a secret is shown as.
pub(crate) const MASK: &str = "•••";

/// Whether an address may carry a password or a key, which a fault then must not quote.
pub(crate) fn may_carry_secret(text: &str) -> bool {
    text.contains(['@', '?'])
}

/// Whether a text is a variable's name by custom, and not a secret that was put where a name
/// belongs.
pub(crate) fn is_variable_name(text: &str) -> bool {
    let name = text.trim_matches(['$', '{', '}']);
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::{Excerpt, Fault, Place};

    #[test]
    fn prints_like_a_compiler() {
        let place = Place::Line(Excerpt {
            file: "weir.toml".into(),
            line: 12,
            column: 13,
            source: "\tendpoint = \"gpu-1:8000\"".into(),
            caret: 13,
            width: 12,
        });
        let fault = Fault::error(place, "models.codestral.endpoint", "expected a URL")
            .said("\"gpu-1:8000\"")
            .hint(Some("did you mean \"http://gpu-1:8000\"?".into()));
        let expected = "\
weir.toml:12:13: error: models.codestral.endpoint: said \"gpu-1:8000\", expected a URL
 12 | \tendpoint = \"gpu-1:8000\"
    | \t           ^^^^^^^^^^^^
  hint: did you mean \"http://gpu-1:8000\"?
";
        assert_eq!(fault.render(false), expected);
        assert!(fault.render(true).contains("\x1b[1;31merror:\x1b[0m"));
    }
}
