//! Small repairs of code: a response of nothing but white space, the line break before the first
//! line, the cursor's line repeated, underscores that were escaped for Markdown.

use super::Filter;

/// Maximum leading white space in bytes of a repetition of the cursor's line.
const MAX_BLANK: usize = 256;

/// Filter that removes a response of white space alone; before other text it is indentation and
/// stays.
#[derive(Debug, Default)]
pub struct BlankFilter {
    buffered: String,
    has_text: bool,
}

impl Filter for BlankFilter {
    fn feed(&mut self, text: &str, out: &mut String) {
        if !self.has_text {
            self.has_text = !text.trim().is_empty();
            if !self.has_text {
                return self.buffered.push_str(text);
            }
            out.push_str(&std::mem::take(&mut self.buffered));
        }
        out.push_str(text);
    }

    fn finish(&mut self, _out: &mut String) {}
}

/// Filter that puts the response on a line of its own, for code that must not follow a comment.
#[derive(Debug, Default)]
pub struct OwnLineFilter {
    has_begun: bool,
}

impl Filter for OwnLineFilter {
    fn feed(&mut self, text: &str, out: &mut String) {
        if !self.has_begun && !text.is_empty() {
            self.has_begun = true;
            if !text.starts_with(['\n', '\r']) {
                out.push('\n');
            }
        }
        out.push_str(text);
    }

    fn finish(&mut self, _out: &mut String) {}
}

/// Filter that removes a repetition of the cursor's line: models that get an instruction repeat the
/// line before they continue it.
#[derive(Debug)]
pub struct EchoFilter {
    /// The cursor's line up to the cursor; empty once the repetition is decided.
    line: String,
    buffered: String,
}

impl EchoFilter {
    /// Creates a filter for the text that precedes the cursor on its line. A line of fewer than
    /// three characters is not filtered: it may well be meant twice.
    pub fn new(line: &str) -> Self {
        let line = line.trim_start();
        let line = if line.trim_end().chars().count() < 3 { "" } else { line };
        Self { line: line.to_owned(), buffered: String::new() }
    }
}

impl Filter for EchoFilter {
    fn feed(&mut self, text: &str, out: &mut String) {
        if self.line.is_empty() {
            return out.push_str(text);
        }
        self.buffered.push_str(text);
        let unindented = self.buffered.trim_start_matches([' ', '\t']);
        if let Some(rest) = unindented.strip_prefix(self.line.as_str()) {
            out.push_str(rest);
        } else if self.line.starts_with(unindented)
            && self.buffered.len() - unindented.len() <= MAX_BLANK
        {
            return;
        } else {
            out.push_str(&self.buffered);
        }
        self.line.clear();
        self.buffered.clear();
    }

    fn finish(&mut self, out: &mut String) {
        out.push_str(&std::mem::take(&mut self.buffered));
    }
}

/// Filter that replaces `\_` by `_`: Mixtral escapes code as in Markdown
/// (contract::ai_gateway_server §2.2).
#[derive(Debug, Default)]
pub struct UnderscoreFilter {
    backslash: bool,
}

impl Filter for UnderscoreFilter {
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
    use super::{BlankFilter, EchoFilter, OwnLineFilter, UnderscoreFilter};
    use crate::generation::filter::Filter as _;
    use crate::generation::filter::tests::check;

    #[test]
    fn white_space_alone_is_removed() {
        let is = |text, expected| check(|| Box::<BlankFilter>::default(), text, expected);
        is(" \n\t", "");
        is("\n  a \n", "\n  a \n");
        is("", "");
    }

    #[test]
    fn the_first_line_is_on_its_own() {
        let is = |text, expected| check(|| Box::<OwnLineFilter>::default(), text, expected);
        is("a\nb", "\na\nb");
        is("\na", "\na");
        is("", "");
    }

    #[test]
    fn a_repetition_of_the_cursors_line_is_removed() {
        let is =
            |text, expected| check(|| Box::new(EchoFilter::new("    return ")), text, expected);
        is("return a + b", "a + b");
        is("    return a", "a");
        is("a + b", "a + b");
        is("  retu", "  retu");
        is("returned", "returned");
        is("\nreturn a", "\nreturn a");
        check(|| Box::new(EchoFilter::new("  x ")), "x x", "x x");
        let (mut echo, mut out) = (EchoFilter::new("    return "), String::new());
        echo.feed(&" ".repeat(300), &mut out);
        assert_eq!(out.len(), 300, "endless white space is not buffered");
    }

    #[test]
    fn underscores_lose_their_backslash() {
        let is = |text, expected| check(|| Box::<UnderscoreFilter>::default(), text, expected);
        is(r"a\_b \n \\_ c\", r"a_b \n \_ c\");
        is("é_", "é_");
    }
}
