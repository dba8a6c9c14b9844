//! `<new_code>…</new_code>`: generation prompts ask for it, so that the code can be told from talk.

use super::{Filter, begun};

const OPEN: &str = "<new_code>";
const CLOSE: &str = "</new_code>";
/// More than this before the opening is no talk.
const MAX_BEFORE: usize = 256;

/// Takes the wrapper off. The opening counts only at the beginning, since some prompts have said it
/// already; the closing ends the code, whatever follows.
#[derive(Debug)]
pub struct NewCode(State);

#[derive(Debug)]
enum State {
    /// White space, or the beginning of the tag.
    Before(String),
    /// In the code; the end of what came may be the beginning of the closing tag.
    Inside(String),
    /// Behind it.
    After,
}

impl Default for NewCode {
    fn default() -> Self {
        Self(State::Before(String::new()))
    }
}

impl Filter for NewCode {
    fn feed(&mut self, text: &str, out: &mut String) {
        match &mut self.0 {
            State::After => return,
            State::Before(held) | State::Inside(held) => held.push_str(text),
        }
        if let State::Before(held) = &mut self.0 {
            let word = held.trim_start();
            let code = match word.strip_prefix(OPEN) {
                // the newline behind the tag belongs to the tag; wait for it
                Some("" | "\r") => return,
                Some(code) => code
                    .strip_prefix("\r\n")
                    .or_else(|| code.strip_prefix('\n'))
                    .unwrap_or(code)
                    .to_owned(),
                None if OPEN.starts_with(word) && held.len() - word.len() <= MAX_BEFORE => return,
                None => std::mem::take(held),
            };
            self.0 = State::Inside(code);
        }
        if let State::Inside(held) = &mut self.0 {
            if let Some(at) = held.find(CLOSE) {
                out.push_str(&held[..at]);
                self.0 = State::After;
                return;
            }
            out.extend(held.drain(..held.len() - begun(held, CLOSE)));
        }
    }

    fn finish(&mut self, out: &mut String) {
        match std::mem::replace(&mut self.0, State::After) {
            State::After => {}
            State::Before(held) => {
                out.push_str(if held.trim_start().starts_with(OPEN) { "" } else { &held })
            }
            State::Inside(held) => out.push_str(&held),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NewCode;
    use crate::generation::filter::tests::check;

    fn is(text: &str, expected: &str) {
        check(|| Box::<NewCode>::default(), text, expected);
    }

    #[test]
    fn the_wrapper_goes_and_the_code_stays() {
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
