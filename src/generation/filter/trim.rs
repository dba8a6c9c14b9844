//! Small repairs of code: an answer of nothing but white space, the line break before the first
//! line, the cursor's line said again, underscores that were escaped for Markdown.

use super::Filter;

/// More white space than this is not the cursor's line's.
const MAX_BLANK: usize = 256;

/// An answer of white space is no answer; before other text it is indentation and stays.
#[derive(Debug, Default)]
pub struct Blank {
    held: String,
    begun: bool,
}

impl Filter for Blank {
    fn feed(&mut self, text: &str, out: &mut String) {
        if !self.begun {
            self.begun = !text.trim().is_empty();
            if !self.begun {
                return self.held.push_str(text);
            }
            out.push_str(&std::mem::take(&mut self.held));
        }
        out.push_str(text);
    }

    fn finish(&mut self, _out: &mut String) {}
}

/// Begins the answer on a line of its own, for code that must not stand behind a comment.
#[derive(Debug, Default)]
pub struct OwnLine(bool);

impl Filter for OwnLine {
    fn feed(&mut self, text: &str, out: &mut String) {
        if !self.0 && !text.is_empty() {
            self.0 = true;
            if !text.starts_with(['\n', '\r']) {
                out.push('\n');
            }
        }
        out.push_str(text);
    }

    fn finish(&mut self, _out: &mut String) {}
}

/// Takes off the beginning of the cursor's line: asked in words, models say it again before they go
/// on with it.
#[derive(Debug)]
pub struct Echo {
    /// Empty once it is decided.
    line: String,
    held: String,
}

impl Echo {
    /// `line` is what stands before the cursor on its line. Two characters may well be meant twice.
    pub fn new(line: &str) -> Self {
        let line = line.trim_start();
        let line = if line.trim_end().chars().count() < 3 { "" } else { line };
        Self { line: line.to_owned(), held: String::new() }
    }
}

impl Filter for Echo {
    fn feed(&mut self, text: &str, out: &mut String) {
        if self.line.is_empty() {
            return out.push_str(text);
        }
        self.held.push_str(text);
        let word = self.held.trim_start_matches([' ', '\t']);
        if let Some(rest) = word.strip_prefix(self.line.as_str()) {
            out.push_str(rest);
        } else if self.line.starts_with(word) && self.held.len() - word.len() <= MAX_BLANK {
            return;
        } else {
            out.push_str(&self.held);
        }
        self.line.clear();
        self.held.clear();
    }

    fn finish(&mut self, out: &mut String) {
        out.push_str(&std::mem::take(&mut self.held));
    }
}

/// `\_` is `_`: Mixtral writes code as it would in Markdown (ai-gateway-server.md §2.2).
#[derive(Debug, Default)]
pub struct Underscores {
    backslash: bool,
}

impl Filter for Underscores {
    fn feed(&mut self, text: &str, out: &mut String) {
        for char in text.chars() {
            if self.backslash && char != '_' {
                out.push('\\');
            }
            self.backslash = char == '\\';
            if !self.backslash {
                out.push(char);
            }
        }
    }

    fn finish(&mut self, out: &mut String) {
        if std::mem::take(&mut self.backslash) {
            out.push('\\');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Blank, Echo, OwnLine, Underscores};
    use crate::generation::filter::Filter as _;
    use crate::generation::filter::tests::check;

    #[test]
    fn white_space_alone_is_nothing() {
        let is = |text, expected| check(|| Box::<Blank>::default(), text, expected);
        is(" \n\t", "");
        is("\n  a \n", "\n  a \n");
        is("", "");
    }

    #[test]
    fn the_first_line_stands_alone() {
        let is = |text, expected| check(|| Box::<OwnLine>::default(), text, expected);
        is("a\nb", "\na\nb");
        is("\na", "\na");
        is("", "");
    }

    #[test]
    fn the_cursors_line_is_not_said_again() {
        let is = |text, expected| check(|| Box::new(Echo::new("    return ")), text, expected);
        is("return a + b", "a + b");
        is("    return a", "a");
        is("a + b", "a + b");
        is("  retu", "  retu");
        is("returned", "returned");
        is("\nreturn a", "\nreturn a");
        check(|| Box::new(Echo::new("  x ")), "x x", "x x");
        let (mut echo, mut out) = (Echo::new("    return "), String::new());
        echo.feed(&" ".repeat(300), &mut out);
        assert_eq!(out.len(), 300, "white space without end is not held");
    }

    #[test]
    fn underscores_lose_their_backslash() {
        let is = |text, expected| check(|| Box::<Underscores>::default(), text, expected);
        is(r"a\_b \n \\_ c\", r"a_b \n \_ c\");
        is("é_", "é_");
    }
}
