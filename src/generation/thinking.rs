//! Takes `<think>…</think>` off the front of an answer: the thinking of reasoning models behind servers that do
//! not tell it apart from the answer. Only at the front: an answer may well speak of such a tag.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Takes it off an answer that arrives in pieces.
#[derive(Debug, Default)]
pub struct WithoutThinking {
    state: State,
    /// What may yet turn out to be part of a tag.
    held: String,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Nothing but space so far, or the beginning of the tag.
    #[default]
    Front,
    /// Between the tags.
    Inside,
    /// Behind thinking, where the answer's first line is still to come.
    Behind,
    /// In the answer.
    Answer,
}

impl WithoutThinking {
    /// The part of the answer that is certain now; may be empty.
    pub fn feed(&mut self, piece: &str) -> String {
        if matches!(self.state, State::Answer) {
            return piece.to_owned();
        }
        self.held.push_str(piece);
        loop {
            match self.state {
                State::Front | State::Behind => {
                    let front = self.held.trim_start();
                    if let Some(rest) = front.strip_prefix(OPEN) {
                        (self.state, self.held) = (State::Inside, rest.to_owned());
                    } else if OPEN.starts_with(front) {
                        return String::new();
                    } else {
                        self.held = self.held_answer();
                        self.state = State::Answer;
                    }
                }
                State::Inside => {
                    let Some(at) = self.held.find(CLOSE) else {
                        // no more than a tag's beginning is kept: thinking is long
                        let from = self.held.len().saturating_sub(CLOSE.len());
                        let from = (0..=from).rev().find(|at| self.held.is_char_boundary(*at)).unwrap_or(0);
                        self.held.drain(..from);
                        return String::new();
                    };
                    (self.state, self.held) = (State::Behind, self.held[at + CLOSE.len()..].to_owned());
                }
                State::Answer => return std::mem::take(&mut self.held),
            }
        }
    }

    /// What was held back when the answer ends.
    pub fn finish(&mut self) -> String {
        let answer = self.held_answer();
        self.held.clear();
        answer
    }

    fn held_answer(&self) -> String {
        match self.state {
            State::Front | State::Answer => self.held.clone(),
            State::Behind => self.held.trim_start().to_owned(),
            State::Inside => String::new(),
        }
    }
}

/// Takes it off a whole answer. A server whose template opens the tag itself sends only its end.
pub fn without_thinking(text: &str) -> &str {
    let mut text = text;
    while let Some((before, rest)) = text.split_once(CLOSE)
        && (before.trim_start().starts_with(OPEN) || !before.contains(OPEN))
    {
        text = rest.trim_start();
    }
    if text.trim_start().starts_with(OPEN) { "" } else { text }
}

#[cfg(test)]
mod tests {
    use super::{WithoutThinking, without_thinking};

    /// Fed whole, and cut at every place.
    fn streamed(text: &str) -> String {
        let feed = |pieces: &[&str]| {
            let mut filter = WithoutThinking::default();
            let mut out: String = pieces.iter().map(|piece| filter.feed(piece)).collect();
            out.push_str(&filter.finish());
            out
        };
        let whole = feed(&[text]);
        for (at, _) in text.char_indices() {
            assert_eq!(feed(&[&text[..at], &text[at..]]), whole, "cut at {at}");
        }
        let chars: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(feed(&chars.iter().map(String::as_str).collect::<Vec<_>>()), whole, "one by one");
        whole
    }

    #[test]
    fn thinking_goes_and_the_answer_stays() {
        for (text, answer) in [
            ("<think>hm, über</think>\n\nYes", "Yes"),
            ("\n <think>\n</think>Yes", "Yes"),
            ("<think>never done", ""),
            ("<think></think>", ""),
            ("Yes", "Yes"),
            ("<thinking> aloud", "<thinking> aloud"),
            ("<thi", "<thi"),
            ("Say <think>x</think>", "Say <think>x</think>"),
            ("  indented", "  indented"),
            ("", ""),
        ] {
            assert_eq!(streamed(text), answer, "{text}");
            assert_eq!(without_thinking(text), answer, "{text}");
        }
        assert_eq!(without_thinking("<think>a</think><think>b</think>c"), "c");
        assert_eq!(streamed("<think>a</think><think>b</think>c"), "c");
    }

    #[test]
    fn a_whole_answer_may_lack_the_tags_beginning() {
        assert_eq!(without_thinking("let me see\n</think>\n\nYes"), "Yes");
        assert_eq!(without_thinking("a <think>b</think> c"), "a <think>b</think> c");
    }

    #[test]
    fn long_thinking_is_not_kept() {
        let mut filter = WithoutThinking::default();
        filter.feed("<think>");
        for _ in 0..1000 {
            filter.feed("and then again… ");
        }
        assert!(filter.held.len() < 64, "{}", filter.held.len());
        assert_eq!(filter.feed("</think>Yes"), "Yes");
    }
}
