//! `<think>…</think>` at an answer's beginning: what reasoning models write when their server does
//! not keep their thinking apart (vLLM without `--reasoning-parser`).

use super::{Filter, begun};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";
/// More white space than this before a first word is the answer itself.
const MAX_BLANK: usize = 256;

/// Takes thinking off. Only a block that the answer begins with is thinking: the same tag further
/// on is somebody's text about it. A block that never closes was cut off by the model's limit, and
/// nothing is left.
#[derive(Debug)]
pub struct Think(State);

#[derive(Debug)]
enum State {
    /// Nothing but white space, or the beginning of a tag, has come. `after` thinking, blank lines
    /// are not the answer's.
    Before { held: String, after: bool },
    /// In the block; the end of what came may be the beginning of the closing tag.
    Inside { tail: String },
    /// In the answer.
    Passing,
}

impl Default for Think {
    fn default() -> Self {
        Self(State::Before { held: String::new(), after: false })
    }
}

impl Filter for Think {
    fn feed(&mut self, text: &str, out: &mut String) {
        match &mut self.0 {
            State::Passing => out.push_str(text),
            State::Before { held, .. } | State::Inside { tail: held } => {
                held.push_str(text);
                while self.step(out) {}
            }
        }
    }

    fn finish(&mut self, out: &mut String) {
        if let State::Before { held, after } = &self.0 {
            out.push_str(if *after { without_blank_lines(held) } else { held });
        }
        self.0 = State::Passing;
    }
}

impl Think {
    /// Looks at what is held; true when there may be more to see in it.
    fn step(&mut self, out: &mut String) -> bool {
        match &mut self.0 {
            State::Passing => false,
            State::Before { held, after } => {
                let word = held.trim_start();
                if let Some(rest) = word.strip_prefix(OPEN) {
                    self.0 = State::Inside { tail: rest.to_owned() };
                    return true;
                }
                if OPEN.starts_with(word) && held.len() - word.len() <= MAX_BLANK {
                    return false;
                }
                out.push_str(if *after { without_blank_lines(held) } else { held });
                self.0 = State::Passing;
                false
            }
            State::Inside { tail } => {
                if let Some((_, rest)) = tail.split_once(CLOSE) {
                    self.0 = State::Before { held: rest.to_owned(), after: true };
                    return true;
                }
                tail.drain(..tail.len() - begun(tail, CLOSE));
                false
            }
        }
    }
}

/// The first line that says something keeps its indentation.
fn without_blank_lines(text: &str) -> &str {
    let blank = text.len() - text.trim_start().len();
    text[..blank].rfind('\n').map_or_else(|| text.trim_start(), |at| &text[at + 1..])
}

/// A whole answer of a reasoning model without its thinking, even when the model's own template has
/// opened the block, so that only its end is in the answer.
pub fn without_thinking(text: &str) -> String {
    if !text.trim_start().starts_with(OPEN)
        && let Some((_, answer)) = text.split_once(CLOSE)
    {
        return without_blank_lines(answer).to_owned();
    }
    let (mut filter, mut out) = (Think::default(), String::with_capacity(text.len()));
    filter.feed(text, &mut out);
    filter.finish(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::{Think, without_thinking};
    use crate::generation::filter::tests::check;

    fn is(text: &str, expected: &str) {
        check(|| Box::<Think>::default(), text, expected);
    }

    #[test]
    fn a_block_at_the_beginning_goes() {
        is("<think>a < b</think>yes", "yes");
        is(" \n<think>a</thin </think>\n\n  yes\n", "  yes\n");
        is("<think></think> yes", "yes");
        is("<think>a</think>\n<think>b</think>\nyes", "yes");
    }

    #[test]
    fn a_block_that_does_not_close_leaves_nothing() {
        is("<think>and then", "");
        is("<think>and then</thin", "");
    }

    #[test]
    fn text_about_thinking_stays() {
        is("say <think>a</think>", "say <think>a</think>");
        is("<thinker>", "<thinker>");
        is("<thi", "<thi");
        is("\n\n  yes", "\n\n  yes");
        is("", "");
        is("\n", "\n");
    }

    #[test]
    fn white_space_without_end_is_not_held() {
        let mut filter = Think::default();
        let mut out = String::new();
        for _ in 0..2000 {
            crate::generation::Filter::feed(&mut filter, " ", &mut out);
        }
        assert!(out.len() > 1500, "{}", out.len());
    }

    #[test]
    fn whole_answers_may_lack_the_opening() {
        assert_eq!(without_thinking("so it is\n</think>\n\nyes"), "yes");
        assert_eq!(without_thinking("<think>so</think>yes </think>"), "yes </think>");
        assert_eq!(without_thinking("yes"), "yes");
    }
}
