//! Filters over a response's text: what a model wraps around it is removed incrementally, with the
//! same result whether the response is streamed or whole and however it is split.

mod fence;
mod think;
mod trim;
mod wrapper;

use bytes::BytesMut;

use super::{Delta, Encode};

pub use fence::FenceFilter;
pub use think::{ThinkFilter, without_thinking};
pub use trim::{BlankFilter, EchoFilter, OwnLineFilter, UnderscoreFilter};
pub use wrapper::NewCodeFilter;

/// Incremental filter of a response's text.
pub trait Filter: Send {
    /// Filters a piece of text; appends the part that is decided. Text that may still turn out to
    /// be something else is buffered.
    fn feed(&mut self, text: &str, out: &mut String);
    /// Ends the response; appends the part of the buffered text that remains.
    fn finish(&mut self, out: &mut String);
}

/// Returns how many bytes at the end of a text may be the beginning of a tag.
fn partial_tag_len(text: &str, tag: &str) -> usize {
    (1..tag.len()).rev().find(|n| text.ends_with(&tag[..*n])).unwrap_or(0)
}

/// Chain of filters.
#[derive(Default)]
pub struct FilterChain {
    filters: Vec<Box<dyn Filter>>,
}

impl FilterChain {
    /// Creates a chain that text passes in this order.
    pub fn new(filters: Vec<Box<dyn Filter>>) -> Self {
        Self { filters }
    }

    /// Returns a whole response, filtered.
    pub fn apply(mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        self.feed(text, &mut out);
        self.finish(&mut out);
        out
    }

    /// Passes text through the filters from index `from` on.
    fn pass_from(&mut self, from: usize, text: String, out: &mut String) {
        let mut text = text;
        for filter in self.filters.iter_mut().skip(from) {
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

impl Filter for FilterChain {
    fn feed(&mut self, text: &str, out: &mut String) {
        self.pass_from(0, text.to_owned(), out);
    }

    fn finish(&mut self, out: &mut String) {
        for index in 0..self.filters.len() {
            let mut buffered = String::new();
            self.filters[index].finish(&mut buffered);
            self.pass_from(index + 1, buffered, out);
        }
    }
}

/// Encoder of the filtered text. Thinking that the model server itself separates, calls and counts
/// pass unchanged.
pub struct FilteredEncoder {
    filters: FilterChain,
    inner: Box<dyn Encode>,
}

impl FilteredEncoder {
    /// Creates an encoder that passes text through `filters` before `inner`.
    pub fn new(filters: FilterChain, inner: Box<dyn Encode>) -> Self {
        Self { filters, inner }
    }

    fn encode_text(&mut self, text: String, out: &mut BytesMut) {
        if !text.is_empty() {
            self.inner.delta(&Delta::Text(text), out);
        }
    }

    /// Encodes the buffered text, which precedes the end.
    fn flush(&mut self, out: &mut BytesMut) {
        let mut buffered = String::new();
        std::mem::take(&mut self.filters).finish(&mut buffered);
        self.encode_text(buffered, out);
    }
}

impl Encode for FilteredEncoder {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        match delta {
            Delta::Text(text) => {
                let mut passed = String::with_capacity(text.len());
                self.filters.feed(text, &mut passed);
                self.encode_text(passed, out);
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

    fn failure(&self) -> Option<&str> {
        self.inner.failure()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::BytesMut;

    use super::{Filter, FilterChain, FilteredEncoder, ThinkFilter};
    use crate::generation::{Delta, Encode, StopReason, Usage};

    /// Asserts the output of a filter for a text that is split in every possible way.
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

    /// Encodes each delta in brackets.
    struct Bracketed;

    impl Encode for Bracketed {
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

    /// Buffers all text until the end.
    #[derive(Default)]
    struct HoldAll(String);

    impl Filter for HoldAll {
        fn feed(&mut self, text: &str, _out: &mut String) {
            self.0.push_str(text);
        }

        fn finish(&mut self, out: &mut String) {
            out.push_str(&self.0);
        }
    }

    #[test]
    fn buffered_text_precedes_the_end() {
        let filters =
            FilterChain::new(vec![Box::new(HoldAll::default()), Box::<ThinkFilter>::default()]);
        let (mut encoder, mut out) =
            (FilteredEncoder::new(filters, Box::new(Bracketed)), BytesMut::new());
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
        assert_eq!(
            FilterChain::new(vec![Box::<ThinkFilter>::default()]).apply("<think>a</think>\n\nb"),
            "b"
        );
        assert_eq!(FilterChain::default().apply("b"), "b");
    }
}
