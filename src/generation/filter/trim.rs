//! Small repairs of code: an answer of nothing but white space, the line break before the first line, underscores
//! that were escaped for Markdown.

use super::Filter;

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
    use super::{Blank, OwnLine, Underscores};
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
    fn underscores_lose_their_backslash() {
        let is = |text, expected| check(|| Box::<Underscores>::default(), text, expected);
        is(r"a\_b \n \\_ c\", r"a_b \n \_ c\");
        is("é_", "é_");
    }
}
