//! Filters over an answer's words: what a model wraps around them is taken off, a piece at a time,
//! the same whether the answer is streamed or whole and however its pieces are cut.

mod fence;
mod think;
mod trim;
mod wrapper;

use bytes::BytesMut;

use super::{Delta, Encode};

pub use fence::Fences;
pub use think::{Think, without_thinking};
pub use trim::{Blank, Echo, OwnLine, Underscores};
pub use wrapper::NewCode;

/// Takes an answer's text piece by piece, and gives on what may be said already.
pub trait Filter: Send {
    /// Takes a piece; appends what can be said now. What may still turn out to be something else is
    /// held.
    fn feed(&mut self, text: &str, out: &mut String);
    /// The answer has ended; appends what was held.
    fn finish(&mut self, out: &mut String);
}

/// How many bytes at a text's end may be the beginning of a mark.
fn begun(text: &str, mark: &str) -> usize {
    (1..mark.len()).rev().find(|n| text.ends_with(&mark[..*n])).unwrap_or(0)
}

/// Filters one behind the other.
#[derive(Default)]
pub struct Filters(Vec<Box<dyn Filter>>);

impl Filters {
    /// Text passes them in this order.
    pub fn new(filters: Vec<Box<dyn Filter>>) -> Self {
        Self(filters)
    }

    /// A whole answer.
    pub fn whole(mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        self.feed(text, &mut out);
        self.finish(&mut out);
        out
    }

    /// What `from` lets through, through the filters behind it.
    fn on(&mut self, from: usize, text: String, out: &mut String) {
        let mut text = text;
        for filter in self.0.iter_mut().skip(from) {
            if text.is_empty() {
                return;
            }
            let mut next = String::with_capacity(text.len());
            filter.feed(&text, &mut next);
            text = next;
        }
        out.push_str(&text);
    }
}

impl Filter for Filters {
    fn feed(&mut self, text: &str, out: &mut String) {
        self.on(0, text.to_owned(), out);
    }

    fn finish(&mut self, out: &mut String) {
        for at in 0..self.0.len() {
            let mut held = String::new();
            self.0[at].finish(&mut held);
            self.on(at + 1, held, out);
        }
    }
}

/// An encoder that sees only what the filters let through. Thinking that the model server itself
/// keeps apart, calls and counts pass unchanged.
pub struct Filtered {
    filters: Filters,
    inner: Box<dyn Encode>,
}

impl Filtered {
    /// `inner` behind `filters`.
    pub fn new(filters: Filters, inner: Box<dyn Encode>) -> Self {
        Self { filters, inner }
    }

    fn say(&mut self, text: String, out: &mut BytesMut) {
        if !text.is_empty() {
            self.inner.delta(&Delta::Text(text), out);
        }
    }

    /// What is held belongs before the end.
    fn flush(&mut self, out: &mut BytesMut) {
        let mut held = String::new();
        std::mem::take(&mut self.filters).finish(&mut held);
        self.say(held, out);
    }
}

impl Encode for Filtered {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        match delta {
            Delta::Text(text) => {
                let mut passed = String::with_capacity(text.len());
                self.filters.feed(text, &mut passed);
                self.say(passed, out);
            }
            Delta::Stop(_) => {
                self.flush(out);
                self.inner.delta(delta, out);
            }
            Delta::Reasoning(_)
            | Delta::ReasoningSignature(_)
            | Delta::ToolCall { .. }
            | Delta::Usage(_) => {
                self.inner.delta(delta, out);
            }
        }
    }

    fn finish(&mut self, out: &mut BytesMut) {
        self.flush(out);
        self.inner.finish(out);
    }

    fn fault(&self) -> Option<&str> {
        self.inner.fault()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::BytesMut;

    use super::{Filter, Filtered, Filters, Think};
    use crate::generation::{Delta, Encode, StopReason, Usage};

    /// Checks a filter with a text cut in every possible way.
    pub(crate) fn check(filter: impl Fn() -> Box<dyn Filter>, text: &str, expected: &str) {
        let run = |pieces: &[&str]| {
            let (mut filter, mut out) = (filter(), String::new());
            pieces.iter().for_each(|piece| filter.feed(piece, &mut out));
            filter.finish(&mut out);
            assert_eq!(out, expected, "{pieces:?}");
        };
        let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        for first in &cuts {
            for second in cuts.iter().filter(|second| *second >= first) {
                run(&[&text[..*first], &text[*first..*second], &text[*second..]]);
            }
        }
        let single: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        run(&single);
    }

    /// Writes each delta in brackets.
    struct Shown;

    impl Encode for Shown {
        fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
            let shown = match delta {
                Delta::Text(text) => format!("[{text}]"),
                Delta::Stop(_) => "[stop]".to_owned(),
                other => format!("[{other:?}]"),
            };
            out.extend_from_slice(shown.as_bytes());
        }

        fn finish(&mut self, out: &mut BytesMut) {
            out.extend_from_slice(b"[end]");
        }
    }

    /// Holds everything until the end.
    #[derive(Default)]
    struct Hold(String);

    impl Filter for Hold {
        fn feed(&mut self, text: &str, _out: &mut String) {
            self.0.push_str(text);
        }

        fn finish(&mut self, out: &mut String) {
            out.push_str(&self.0);
        }
    }

    #[test]
    fn what_is_held_comes_before_the_end() {
        let filters = Filters::new(vec![Box::new(Hold::default()), Box::<Think>::default()]);
        let (mut encoder, mut out) = (Filtered::new(filters, Box::new(Shown)), BytesMut::new());
        for delta in [
            Delta::Text("<think>hm</think>".into()),
            Delta::Text("yes".into()),
            Delta::Stop(StopReason::End),
            Delta::Usage(Usage::default()),
        ] {
            encoder.delta(&delta, &mut out);
        }
        encoder.finish(&mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        assert!(text.starts_with("[yes][stop][Usage(") && text.ends_with("[end]"), "{text}");
    }

    #[test]
    fn a_whole_answer_is_a_stream_of_one_piece() {
        assert_eq!(Filters::new(vec![Box::<Think>::default()]).whole("<think>a</think>\n\nb"), "b");
        assert_eq!(Filters::default().whole("b"), "b");
    }
}
