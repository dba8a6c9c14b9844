//! Editing a JSON text in place: values are found by `serde_json`'s raw values and replaced as
//! bytes, so that unknown fields, key order, number spelling and white space survive. And a look at
//! how a text begins that is still arriving.

use std::ops::Range;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Payload;

/// Where a raw value that was borrowed from `body` stands in it.
///
/// Returns `None` if it was not borrowed from there. Addresses are compared, nothing is
/// dereferenced.
pub fn place_of(body: &[u8], raw: &RawValue) -> Option<Range<usize>> {
    let start = raw.get().as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    let end = start.checked_add(raw.get().len())?;
    (end <= body.len()).then_some(start..end)
}

/// The value of the last member with this name, however deep; `text` may be only the end of a JSON
/// text, as large answers are kept. `quoted` is the name with its quotes, which inside a string
/// would be escaped.
pub fn last_member<T: DeserializeOwned>(text: &[u8], quoted: &str) -> Option<T> {
    let name = memchr::memmem::rfind(text, quoted.as_bytes())?;
    let value = text[name + quoted.len()..].trim_ascii_start().strip_prefix(b":")?;
    serde_json::Deserializer::from_slice(value).into_iter().next()?.ok()
}

/// Replacements in one text, applied in one pass.
#[derive(Debug, Default)]
pub struct Edits(Vec<(Range<usize>, Bytes)>);

impl Edits {
    /// Puts `text` in place of these bytes; an empty range inserts.
    pub fn replace(&mut self, range: Range<usize>, text: impl Into<Bytes>) {
        self.0.push((range, text.into()));
    }

    /// Adds a member right behind the opening brace of a non-empty object.
    ///
    /// `member` is `"key":value`; the comma is ours. Returns false when `body` does not start an
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

    /// Whether anything is to be changed.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The edited text. Ranges that overlap or leave the text are ignored: they cannot come from
    /// [`place_of`] on distinct values.
    pub fn apply(mut self, body: impl Into<Payload>) -> Payload {
        let body = body.into();
        if self.0.is_empty() {
            return body;
        }
        self.0.sort_by_key(|(range, _)| range.start);
        let mut pieces = Vec::with_capacity(2 * self.0.len() + 1);
        let mut done = 0;
        for (range, text) in self.0 {
            if range.start < done || range.end < range.start || range.end > body.len() {
                continue;
            }
            pieces.extend(body.slices(done..range.start));
            pieces.push(text);
            done = range.end;
        }
        pieces.extend(body.slices(done..body.len()));
        Payload::of(pieces)
    }
}

/// How a JSON text begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning<'a> {
    /// Too little of it is there.
    Unknown,
    /// No object, an empty one, or none that is worth a look.
    Other,
    /// An object's first member: its key as it is written, and what is there of its value and
    /// beyond, a byte at least.
    Member(&'a [u8], &'a [u8]),
}

impl<'a> Beginning<'a> {
    /// Of a text whose end may not have arrived. Keys with escapes are not looked at.
    pub fn of(text: &'a [u8]) -> Self {
        let next = |text: &'a [u8], mark: &[u8]| match text.trim_ascii_start() {
            [] => Err(Self::Unknown),
            text => text.strip_prefix(mark).ok_or(Self::Other),
        };
        let member = || {
            let key = next(next(text, b"{")?, b"\"")?;
            let end = memchr::memchr(b'"', key).ok_or(Self::Unknown)?;
            let value = next(&key[end + 1..], b":")?.trim_ascii_start();
            if value.is_empty() { Err(Self::Unknown) } else { Ok(Self::Member(&key[..end], value)) }
        };
        member().unwrap_or_else(|other| other)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::{Beginning, Edits, place_of};

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
        edits.replace(place_of(&body, peek.model).unwrap(), "\"m\"");
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
        edits.replace(place_of(&body, peek.model).unwrap(), "\"b\"");
        let payload = edits.apply(&body);
        assert_eq!(payload.pieces().len(), 3);
        assert_eq!(payload.pieces()[2].as_ptr(), body[12..].as_ptr());
    }

    #[test]
    fn the_first_member_is_read_as_soon_as_it_is_there() {
        let text = br#" { "error" : null, "x": 1 }"#;
        let begins = |length: usize| Beginning::of(&text[..length]);
        for length in 0..13 {
            assert_eq!(begins(length), Beginning::Unknown, "{length}");
        }
        assert_eq!(begins(14), Beginning::Member(b"error", b"n"));
        assert_eq!(begins(text.len()), Beginning::Member(b"error", &text[13..]));
        for other in [
            &b"[{\"error\":1}]"[..],
            b"{}",
            b"\"error\"",
            b"{\"a\\\"b\":1}",
            b"data: {",
            b"{error:1}",
        ] {
            assert_eq!(Beginning::of(other), Beginning::Other, "{other:?}");
        }
    }

    #[test]
    fn foreign_values_have_no_place() {
        let other: Box<RawValue> = serde_json::from_str("1").unwrap();
        assert_eq!(place_of(b"1", &other), None);
    }
}
