//! A model's turn where it calls functions itself: words, then perhaps a call.
//!
//! Words before a call are its thought, words without one are the answer, and GitLab ignores a call once it has a
//! piece of an answer. So the beginning is held until it is too long to be a thought.

use serde_json::Value;

use super::react::settled;

/// Models say a sentence or two before they call. Bytes.
const THOUGHT: usize = 240;
/// A call's arguments are read up to here; the input is a question or a reference. Bytes.
const ARGUMENTS: usize = 256 << 10;

/// The words of a turn as far as they were read.
#[derive(Debug)]
pub(super) struct Words {
    text: String,
    /// Until so many bytes have come.
    hold: usize,
}

impl Words {
    /// Of a model that may call something, or not.
    pub(super) fn new(may_call: bool) -> Self {
        Self { text: String::new(), hold: if may_call { THOUGHT } else { 1 } }
    }

    /// Reads on. What comes back is the next piece of the answer.
    pub(super) fn feed(&mut self, piece: &str) -> Option<String> {
        self.text.push_str(piece);
        if self.hold > 0 {
            let words = self.text.trim_start();
            if words.len() < self.hold {
                // a flood of white space is not held
                let kept = words.len();
                self.text.drain(..self.text.len() - kept);
                return None;
            }
            self.text = words.to_owned();
            self.hold = 0;
        }
        settled(&mut self.text)
    }

    /// The words that are still held; `None` when the answer has begun.
    pub(super) fn held(self) -> Option<String> {
        (self.hold > 0).then(|| self.text.trim().to_owned())
    }
}

/// The first call of a turn; GitLab runs one at a time.
#[derive(Debug)]
pub(super) struct FirstCall {
    index: u32,
    pub(super) name: String,
    arguments: String,
}

impl FirstCall {
    /// Begins with its first piece.
    pub(super) fn new(index: u32) -> Self {
        Self { index, name: String::new(), arguments: String::new() }
    }

    /// Takes a piece, if it is this call's.
    pub(super) fn feed(&mut self, index: u32, name: Option<&str>, arguments: &str) {
        if index != self.index {
            return;
        }
        self.name.push_str(name.filter(|_| self.name.is_empty()).unwrap_or_default());
        if self.arguments.len() + arguments.len() <= ARGUMENTS {
            self.arguments.push_str(arguments);
        }
    }

    /// The one string among the arguments. Models that do not keep to the schema mean the only thing they say.
    pub(super) fn input(&self) -> String {
        let said = match serde_json::from_str::<Value>(&self.arguments) {
            Ok(Value::Object(mut map)) => {
                let first = map.keys().next().cloned().unwrap_or_default();
                map.remove("input").or_else(|| map.remove(&first)).unwrap_or_default()
            }
            Ok(other) => other,
            Err(_) => Value::String(self.arguments.trim().to_owned()),
        };
        match said {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FirstCall, THOUGHT, Words};

    fn read(may_call: bool, pieces: &[&str]) -> (String, Option<String>) {
        let mut words = Words::new(may_call);
        let said: String = pieces.iter().filter_map(|piece| words.feed(piece)).collect();
        (said, words.held())
    }

    #[test]
    fn short_words_are_held_and_long_ones_are_the_answer() {
        assert_eq!(read(true, &[" Let me ", "look.\n"]), (String::new(), Some("Let me look.".into())));
        let long = format!("\n{} end. ", "é".repeat(THOUGHT));
        for at in (0..=long.len()).filter(|at| long.is_char_boundary(*at)) {
            assert_eq!(read(true, &[&long[..at], &long[at..]]), (long.trim().to_owned(), None), "cut at {at}");
        }
    }

    #[test]
    fn without_tools_nothing_is_held() {
        let mut words = Words::new(false);
        assert_eq!([words.feed(" \n"), words.feed("a "), words.feed("b")], [None, Some("a".into()), Some(" b".into())]);
    }

    #[test]
    fn an_input_is_found_however_it_was_given() {
        for (arguments, meant) in [
            (r##"{"input":"#1"}"##, "#1"),
            (r##"{"reason":"x","input":"#1"}"##, "#1"),
            (r##"{"issue":"#1"}"##, "#1"),
            (r#"{"input":7}"#, "7"),
            (r##""#1""##, "#1"),
            ("{}", ""),
            ("", ""),
            ("issue #1 ", "issue #1"),
        ] {
            let mut call = FirstCall::new(3);
            call.feed(3, Some("issue_reader"), "");
            arguments.chars().for_each(|c| call.feed(3, None, c.encode_utf8(&mut [0; 4])));
            call.feed(4, Some("epic_reader"), "{}");
            assert_eq!((call.name.as_str(), call.input().as_str()), ("issue_reader", meant), "{arguments}");
        }
    }
}
