//! [`Markers`]: the byte patterns by which the relay judges a response that passes through in the
//! client's own dialect. Almost every event of a stream holds a piece of text and nothing else, so
//! it is searched, not parsed.
//!
//! The patterns cannot hide from a search: JSON escapes neither the letters of a name nor, outside
//! strings, its quotes. A false positive costs one parse.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::wire::{JsonStart, Payload};

/// What precedes the bytes of a picture in a `data:` URL.
const INLINE_PICTURE: &[u8] = b";base64,";

/// A dialect's patterns, prepared once per process.
pub struct Markers {
    beyond_content: Vec<Finder<'static>>,
    finish_reason: Option<Finder<'static>>,
    errors: &'static [ErrorStart],
    inline_picture: Finder<'static>,
}

/// The first member of an object that is an error instead of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum ErrorStart {
    /// This name, with any value but `null`.
    NotNull(&'static str),
    /// This name, with this value as it is written.
    Is(&'static str, &'static str),
}

impl Markers {
    /// Creates the patterns of a dialect. `beyond_content`: an event with none of them holds
    /// content at most. `finish_reason`: the member that gives the reason for the end, with its
    /// colon. `errors`: how an unstreamed response that is an error begins.
    pub(super) fn new(
        beyond_content: &[&'static str],
        finish_reason: &'static str,
        errors: &'static [ErrorStart],
    ) -> Self {
        Self {
            beyond_content: beyond_content.iter().map(|marker| Finder::new(*marker)).collect(),
            finish_reason: Some(Finder::new(finish_reason)),
            errors,
            inline_picture: Finder::new(INLINE_PICTURE),
        }
    }

    /// Returns the patterns of a dialect in which nothing is inspected: none.
    pub(super) fn none() -> &'static Self {
        static NONE: LazyLock<Markers> = LazyLock::new(|| Markers {
            beyond_content: Vec::new(),
            finish_reason: None,
            errors: &[],
            inline_picture: Finder::new(INLINE_PICTURE),
        });
        &NONE
    }

    /// Returns whether an event may hold more than content: token counts, an error, the end marker.
    pub fn may_exceed_content(&self, event: &[u8]) -> bool {
        self.beyond_content.iter().any(|marker| marker.find(event).is_some())
    }

    /// Returns whether an event gives a reason for the end, a string rather than `null`.
    pub fn is_finished(&self, event: &[u8]) -> bool {
        let Some(marker) = &self.finish_reason else { return false };
        let length = marker.needle().len();
        marker.find_iter(event).any(|at| event[at + length..].trim_ascii_start().starts_with(b"\""))
    }

    /// Returns whether an unstreamed response that begins with `start` has to be read before it is
    /// passed on, since it may be an error whatever its status is.
    pub fn may_be_error(&self, start: &[u8]) -> bool {
        match JsonStart::parse(start) {
            JsonStart::Incomplete => !self.errors.is_empty(),
            JsonStart::Other => false,
            JsonStart::Member(key, value) => self.errors.iter().any(|error| match error {
                ErrorStart::NotNull(name) => key == name.as_bytes() && value[0] != b'n',
                ErrorStart::Is(name, text) => {
                    let text = text.as_bytes();
                    key == name.as_bytes()
                        && text.starts_with(&value[..value.len().min(text.len())])
                }
            }),
        }
    }

    /// Returns the bytes of a request without its inline pictures (`data:image/png;base64,…`),
    /// which are no text.
    pub fn text_len(&self, body: &Payload) -> usize {
        let pictures = |piece: &Bytes| -> usize {
            let starts = self.inline_picture.find_iter(piece).map(|at| &piece[at..]);
            starts.map(|rest| memchr::memchr(b'"', rest).unwrap_or(rest.len())).sum()
        };
        body.len().saturating_sub(body.pieces().iter().map(pictures).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorStart, Markers};
    use crate::wire::Payload;

    fn markers() -> Markers {
        const ERRORS: &[ErrorStart] =
            &[ErrorStart::NotNull("error"), ErrorStart::Is("type", "\"error\"")];
        Markers::new(&["\"usage\"", "[END]"], "\"reason\":", ERRORS)
    }

    #[test]
    fn an_event_is_finished_by_a_string_only() {
        let is = |event: &str| markers().is_finished(event.as_bytes());
        assert!(is("data: {\"reason\": \"stop\"}"));
        assert!(is("{\"reason\":null}{\"reason\":\"stop\"}"));
        assert!(!is("data: {\"reason\":null}") && !is("{\"reason\":") && !is("reason"));
    }

    #[test]
    fn quotes_inside_of_text_are_escaped_and_do_not_match() {
        let markers = markers();
        assert!(markers.may_exceed_content(b"data: {\"usage\":null}"));
        assert!(markers.may_exceed_content(b"data: [END]"));
        assert!(!markers.may_exceed_content(br#"data: {"text":"\"usage\""}"#));
    }

    #[test]
    fn an_ordinary_response_is_never_held_back() {
        for start in [r#"{"id":""#, r#"{"error":n"#, r#"{"object":"list""#, "[", r#"{"type":"m"#] {
            assert!(!markers().may_be_error(start.as_bytes()), "{start}");
        }
        for start in ["", "{", r#"{"error":{"#, r#"{"type":"#, r#"{"type":"err"#] {
            assert!(markers().may_be_error(start.as_bytes()), "{start}");
            assert!(!Markers::none().may_be_error(start.as_bytes()), "{start}");
        }
    }

    #[test]
    fn pictures_are_no_text() {
        let body = bytes::Bytes::from_static(br#"{"url":"data:image/png;base64,AAAA","text":"a"}"#);
        let length = body.len() - ";base64,AAAA".len();
        assert_eq!(Markers::none().text_len(&Payload::from(body)), length);
    }
}
