//! vLLM's `priority`: the order of the server's own queue (contract::providers §d3.7). Its chat,
//! completions and embeddings calls accept it.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::route::PriorityClass;
use crate::wire::{Edits, Payload, span_of};

/// Returns the body with the class's number as `priority`, in place of the client's: a number of
/// its own would let one user overtake all others.
pub(super) fn with_priority(body: &Payload, class: PriorityClass) -> Payload {
    let number = class.priority().to_string();
    let mut edits = Edits::default();
    {
        let contiguous = body.to_bytes();
        // the server refuses a body that is not an object
        let existing = serde_json::Deserializer::from_slice(&contiguous)
            .deserialize_map(PriorityValues)
            .unwrap_or_default();
        for span in existing.iter().filter_map(|raw| span_of(&contiguous, raw)) {
            edits.replace(span, number.clone());
        }
        if edits.is_empty() {
            edits.add_member(&contiguous, &format!("\"priority\":{number}"));
        }
    }
    edits.apply(body.clone())
}

/// Visitor of every `priority` at the top level: JSON does not define which of two applies.
struct PriorityValues;

impl<'de> Visitor<'de> for PriorityValues {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key == "priority" {
                values.push(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::with_priority;
    use crate::route::PriorityClass;
    use crate::wire::Payload;

    #[track_caller]
    fn check(body: &'static str, expected: &str) {
        let body = Bytes::from_static(body.as_bytes());
        assert_eq!(with_priority(&body.into(), PriorityClass::Batch).to_bytes(), expected);
    }

    #[test]
    fn it_is_added_and_nothing_else_changes() {
        check(r#" {"model" : "m", "x": 1.50}"#, r#" {"priority":2,"model" : "m", "x": 1.50}"#);
        check(
            r#"{"x":{"priority":-5},"y":["priority"]}"#,
            r#"{"priority":2,"x":{"priority":-5},"y":["priority"]}"#,
        );
    }

    #[test]
    fn it_replaces_every_one_of_the_clients() {
        check(r#"{"a":1, "priority" : -100 }"#, r#"{"a":1, "priority" : 2 }"#);
        check(
            r#"{"priority":[1,"x"],"a":1,"prior\u0069ty":-1}"#,
            r#"{"priority":2,"a":1,"prior\u0069ty":2}"#,
        );
        check(r#"{"priority":null}"#, r#"{"priority":2}"#);
    }

    #[test]
    fn a_body_that_is_no_object_is_unchanged() {
        check("[1]", "[1]");
        check("", "");
    }

    #[test]
    fn a_long_body_is_shared() {
        let long = Bytes::from(format!(r#""x":"{}","priority":9}}"#, "x".repeat(100_000)));
        let body = Payload::from_pieces([Bytes::from_static(b"{"), long.clone()]);
        let body = with_priority(&body, PriorityClass::Completion);
        assert_eq!(body.pieces()[1].as_ptr(), long.as_ptr());
        assert!(body.to_bytes().ends_with(br#""priority":0}"#));
    }
}
