//! `<new_code>…</new_code>`: generation prompts request it, so that code and talk can be kept
//! apart.

use super::{Filter, partial_tag_len};

const OPEN: &str = "<new_code>";
const CLOSE: &str = "</new_code>";
/// Maximum leading white space in bytes before the opening tag.
const MAX_BEFORE: usize = 256;

/// Filter that removes the wrapper. The opening tag counts only at the beginning, and is optional
/// since some prompts end with it; the closing tag ends the code, whatever follows.
#[derive(Debug)]
pub struct NewCodeFilter {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Only white space, or the beginning of the opening tag, has arrived.
    Before(String),
    /// In the code; the buffered text may be the beginning of the closing tag.
    Inside(String),
    /// After the closing tag.
    After,
}

impl Default for NewCodeFilter {
    fn default() -> Self {
        Self { state: State::Before(String::new()) }
    }
}

impl Filter for NewCodeFilter {
    fn feed(&mut self, text: &str, out: &mut String) {
        match &mut self.state {
            State::After => return,
            State::Before(buffered) | State::Inside(buffered) => buffered.push_str(text),
        }
        if let State::Before(buffered) = &mut self.state {
            let text = buffered.trim_start();
            let code = match text.strip_prefix(OPEN) {
                // a newline after the tag belongs to the tag: it has to arrive first
                Some("" | "\r") => return,
                Some(code) => code
                    .strip_prefix("\r\n")
                    .or_else(|| code.strip_prefix('\n'))
                    .unwrap_or(code)
                    .to_owned(),
                None if OPEN.starts_with(text) && buffered.len() - text.len() <= MAX_BEFORE => {
                    return;
                }
                None => std::mem::take(buffered),
            };
            self.state = State::Inside(code);
        }
        if let State::Inside(buffered) = &mut self.state {
            if let Some(at) = buffered.find(CLOSE) {
                out.push_str(&buffered[..at]);
                self.state = State::After;
                return;
            }
            out.extend(buffered.drain(..buffered.len() - partial_tag_len(buffered, CLOSE)));
        }
    }

    fn finish(&mut self, out: &mut String) {
        match std::mem::replace(&mut self.state, State::After) {
            State::After => {}
            State::Before(buffered) => {
                out.push_str(if buffered.trim_start().starts_with(OPEN) { "" } else { &buffered })
            }
            State::Inside(buffered) => out.push_str(&buffered),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NewCodeFilter;
    use crate::generation::filter::tests::check;

    fn is(text: &str, expected: &str) {
        check(|| Box::<NewCodeFilter>::default(), text, expected);
    }

    #[test]
    fn the_wrapper_is_removed_and_the_code_stays() {
        is("<new_code>\n  a < b\n</new_code>\nThat is it.", "  a < b\n");
        is("\n<new_code>a</new_code>", "a");
        is("<new_code>\r\na</new_code>", "a");
        is("a</new_code> b", "a");
        is("<new_code>", "");
        is("<new_code>\n", "");
        is("<new_code>a", "a");
    }

    #[test]
    fn other_text_stays() {
        is("a <new_code> b", "a <new_code> b");
        is("<new_codex>", "<new_codex>");
        is("a</new_cod", "a</new_cod");
        is("  <new", "  <new");
        is("", "");
    }
}
