//! Editing a JSON text in place: values are located by `serde_json`'s raw values and replaced as
//! bytes, so that unknown fields, key order, number spelling and white space survive. And a parser
//! for the start of a text that is still arriving.

use std::ops::Range;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Payload;

/// Returns the byte span in `body` of a raw value that was borrowed from it, or `None` if the value
/// was borrowed from elsewhere. Addresses are compared, nothing is dereferenced.
pub fn span_of(body: &[u8], raw: &RawValue) -> Option<Range<usize>> {
    let start = raw.get().as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    let end = start.checked_add(raw.get().len())?;
    (end <= body.len()).then_some(start..end)
}

/// Returns the value of the last member with this name, at any depth; `None` if there is none or if
/// it does not parse. `text` may be only the end of a JSON text, since no more is kept of large
/// responses. `quoted` is the name with its quotes, which inside a string would be escaped.
pub fn find_last_member<T: DeserializeOwned>(text: &[u8], quoted: &str) -> Option<T> {
    let name = memchr::memmem::rfind(text, quoted.as_bytes())?;
    let value = text[name + quoted.len()..].trim_ascii_start().strip_prefix(b":")?;
    serde_json::Deserializer::from_slice(value).into_iter().next()?.ok()
}

/// Replacements in one text, which are applied in one pass.
#[derive(Debug, Default)]
pub struct Edits {
    replacements: Vec<(Range<usize>, Bytes)>,
}

impl Edits {
    /// Replaces a span with `text`; an empty span inserts.
    pub fn replace(&mut self, range: Range<usize>, text: impl Into<Bytes>) {
        self.replacements.push((range, text.into()));
    }

    /// Inserts a member after the opening brace of a non-empty object.
    ///
    /// `member` is `"key":value`; the comma is added. Returns false when `body` does not start an
    /// object.
    pub fn add_member(&mut self, body: &[u8], member: &str) -> bool {
        let Some(brace) =
            body.iter().position(|b| !b.is_ascii_whitespace()).filter(|i| body[*i] == b'{')
        else {
            return false;
        };
        self.replace(brace + 1..brace + 1, format!("{member},"));
        true
    }

    /// Returns whether there are no replacements.
    pub const fn is_empty(&self) -> bool {
        self.replacements.is_empty()
    }

    /// Returns the edited text. Spans that overlap or exceed the text are ignored: they cannot come
    /// from [`span_of`] on distinct values.
    pub fn apply(mut self, body: impl Into<Payload>) -> Payload {
        let body = body.into();
        if self.replacements.is_empty() {
            return body;
        }
        self.replacements.sort_by_key(|(range, _)| range.start);
        let mut pieces = Vec::with_capacity(2 * self.replacements.len() + 1);
        let mut copied = 0;
        for (range, text) in self.replacements {
            if range.start < copied || range.end < range.start || range.end > body.len() {
                continue;
            }
            pieces.extend(body.slices(copied..range.start));
            pieces.push(text);
            copied = range.end;
        }
        pieces.extend(body.slices(copied..body.len()));
        Payload::from_pieces(pieces)
    }
}

/// Start of a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonStart<'a> {
    /// Too short to decide.
    Incomplete,
    /// Not an object, an empty one, or a first key with escapes.
    Other,
    /// An object's first member: its key as written, and the bytes of its value and of what follows
    /// that have arrived, one at least.
    Member(&'a [u8], &'a [u8]),
}

impl<'a> JsonStart<'a> {
    /// Parses the start of a text whose end may not have arrived.
    pub fn parse(text: &'a [u8]) -> Self {
        let expect = |text: &'a [u8], token: &[u8]| match text.trim_ascii_start() {
            [] => Err(Self::Incomplete),
            text => text.strip_prefix(token).ok_or(Self::Other),
        };
        let member = || {
            let key = expect(expect(text, b"{")?, b"\"")?;
            let end = memchr::memchr(b'"', key).ok_or(Self::Incomplete)?;
            let value = expect(&key[end + 1..], b":")?.trim_ascii_start();
            if value.is_empty() {
                Err(Self::Incomplete)
            } else {
                Ok(Self::Member(&key[..end], value))
            }
        };
        member().unwrap_or_else(|undecided| undecided)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::{Edits, JsonStart, span_of};

    #[derive(Deserialize)]
    struct Peek<'a> {
        #[serde(borrow)]
        model: &'a RawValue,
    }

    #[test]
    fn replaces_a_value_and_keeps_the_rest() {
        let body = Bytes::from_static(br#" { "x": 1.50, "model" : "a\"b", "y":[ ] }"#);
        let peek: Peek<'_> = serde_json::from_slice(&body).unwrap();
        let mut edits = Edits::default();
        edits.replace(span_of(&body, peek.model).unwrap(), "\"m\"");
        assert!(edits.add_member(&body, r#""stream_options":{}"#));
        assert_eq!(
            edits.apply(&body).to_bytes(),
            &br#" {"stream_options":{}, "x": 1.50, "model" : "m", "y":[ ] }"#[..]
        );
    }

    #[test]
    fn large_texts_are_shared_not_copied() {
        let body = Bytes::from(format!(r#"{{"model":"a","pad":"{}"}}"#, "x".repeat(100_000)));
        let peek: Peek<'_> = serde_json::from_slice(&body).unwrap();
        let mut edits = Edits::default();
        edits.replace(span_of(&body, peek.model).unwrap(), "\"b\"");
        let payload = edits.apply(&body);
        assert_eq!(payload.pieces().len(), 3);
        assert_eq!(payload.pieces()[2].as_ptr(), body[12..].as_ptr());
    }

    #[test]
    fn the_first_member_is_parsed_as_soon_as_it_has_arrived() {
        let text = br#" { "error" : null, "x": 1 }"#;
        let start = |length: usize| JsonStart::parse(&text[..length]);
        for length in 0..13 {
            assert_eq!(start(length), JsonStart::Incomplete, "{length}");
        }
        assert_eq!(start(14), JsonStart::Member(b"error", b"n"));
        assert_eq!(start(text.len()), JsonStart::Member(b"error", &text[13..]));
        for other in [
            &b"[{\"error\":1}]"[..],
            b"{}",
            b"\"error\"",
            b"{\"a\\\"b\":1}",
            b"data: {",
            b"{error:1}",
        ] {
            assert_eq!(JsonStart::parse(other), JsonStart::Other, "{other:?}");
        }
    }

    #[test]
    fn foreign_values_have_no_span() {
        let other: Box<RawValue> = serde_json::from_str("1").unwrap();
        assert_eq!(span_of(b"1", &other), None);
    }
}
