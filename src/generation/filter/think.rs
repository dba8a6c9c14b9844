//! `<think>…</think>` at a response's beginning: the output of reasoning models when their server
//! does not separate their thinking (vLLM without `--reasoning-parser`).

use super::{Filter, partial_tag_len};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";
/// Maximum leading white space in bytes; more is part of the response.
const MAX_BLANK: usize = 256;

/// Filter that removes thinking. Only a block at the beginning is thinking: the same tag further on
/// is text about it. A block that never closes was cut off by the token limit, and nothing is left.
#[derive(Debug)]
pub struct ThinkFilter {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Only white space, or the beginning of a tag, has arrived. `after` thinking, blank lines are
    /// removed.
    Before { buffered: String, after: bool },
    /// In the block; `tail` may be the beginning of the closing tag.
    Inside { tail: String },
    /// In the response's text, which passes.
    Passing,
}

impl Default for ThinkFilter {
    fn default() -> Self {
        Self { state: State::Before { buffered: String::new(), after: false } }
    }
}

impl Filter for ThinkFilter {
    fn feed(&mut self, text: &str, out: &mut String) {
        match &mut self.state {
            State::Passing => out.push_str(text),
            State::Before { buffered, .. } | State::Inside { tail: buffered } => {
                buffered.push_str(text);
                while self.step(out) {}
            }
        }
    }

    fn finish(&mut self, out: &mut String) {
        if let State::Before { buffered, after } = &self.state {
            out.push_str(if *after { without_blank_lines(buffered) } else { buffered });
        }
        self.state = State::Passing;
    }
}

impl ThinkFilter {
    /// Processes the buffered text; returns true when it has to be processed again.
    fn step(&mut self, out: &mut String) -> bool {
        match &mut self.state {
            State::Passing => false,
            State::Before { buffered, after } => {
                let text = buffered.trim_start();
                if let Some(rest) = text.strip_prefix(OPEN) {
                    self.state = State::Inside { tail: rest.to_owned() };
                    return true;
                }
                if OPEN.starts_with(text) && buffered.len() - text.len() <= MAX_BLANK {
                    return false;
                }
                out.push_str(if *after { without_blank_lines(buffered) } else { buffered });
                self.state = State::Passing;
                false
            }
            State::Inside { tail } => {
                if let Some((_, rest)) = tail.split_once(CLOSE) {
                    self.state = State::Before { buffered: rest.to_owned(), after: true };
                    return true;
                }
                tail.drain(..tail.len() - partial_tag_len(tail, CLOSE));
                false
            }
        }
    }
}

/// Returns the text without leading blank lines; the first other line keeps its indentation.
fn without_blank_lines(text: &str) -> &str {
    let blank = text.len() - text.trim_start().len();
    text[..blank].rfind('\n').map_or_else(|| text.trim_start(), |at| &text[at + 1..])
}

/// Returns a reasoning model's whole response without its thinking, even when the model's own
/// template has opened the block, so that only its end is in the response.
pub fn without_thinking(text: &str) -> String {
    if !text.trim_start().starts_with(OPEN)
        && let Some((_, answer)) = text.split_once(CLOSE)
    {
        return without_blank_lines(answer).to_owned();
    }
    let (mut filter, mut out) = (ThinkFilter::default(), String::with_capacity(text.len()));
    filter.feed(text, &mut out);
    filter.finish(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::{ThinkFilter, without_thinking};
    use crate::generation::filter::tests::check;

    fn is(text: &str, expected: &str) {
        check(|| Box::<ThinkFilter>::default(), text, expected);
    }

    #[test]
    fn a_block_at_the_beginning_is_removed() {
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
    fn endless_white_space_is_not_buffered() {
        let mut filter = ThinkFilter::default();
        let mut out = String::new();
        for _ in 0..2000 {
            crate::generation::Filter::feed(&mut filter, " ", &mut out);
        }
        assert!(out.len() > 1500, "{}", out.len());
    }

    #[test]
    fn whole_responses_may_lack_the_opening_tag() {
        assert_eq!(without_thinking("so it is\n</think>\n\nyes"), "yes");
        assert_eq!(without_thinking("<think>so</think>yes </think>"), "yes </think>");
        assert_eq!(without_thinking("yes"), "yes");
    }
}
