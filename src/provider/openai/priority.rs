//! vLLM's `priority`: the order of the server's own queue (providers.md d3.7). Its chat,
//! completions and embeddings take it.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::route::Class;
use crate::wire::{Edits, Payload, place_of};

/// The body with the class's number in it, in place of whatever the client said there: its own
/// number would let one user overtake everybody.
pub(super) fn said(body: &Payload, class: Class) -> Payload {
    let number = class.priority().to_string();
    let mut edits = Edits::default();
    {
        let whole = body.to_bytes();
        // a body that is no object is the server's to refuse
        let theirs =
            serde_json::Deserializer::from_slice(&whole).deserialize_map(Said).unwrap_or_default();
        for place in theirs.iter().filter_map(|raw| place_of(&whole, raw)) {
            edits.replace(place, number.clone());
        }
        if edits.is_empty() {
            edits.add_member(&whole, &format!("\"priority\":{number}"));
        }
    }
    edits.apply(body.clone())
}

/// Every `priority` at the top: JSON does not say which of two counts.
struct Said;

impl<'de> Visitor<'de> for Said {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut said = Vec::new();
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key == "priority" {
                said.push(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::said;
    use crate::route::Class;
    use crate::wire::Payload;

    #[track_caller]
    fn check(body: &'static str, expected: &str) {
        let body = Bytes::from_static(body.as_bytes());
        assert_eq!(said(&body.into(), Class::Batch).to_bytes(), expected);
    }

    #[test]
    fn it_is_added_and_nothing_else_is_touched() {
        check(r#" {"model" : "m", "x": 1.50}"#, r#" {"priority":2,"model" : "m", "x": 1.50}"#);
        check(
            r#"{"x":{"priority":-5},"y":["priority"]}"#,
            r#"{"priority":2,"x":{"priority":-5},"y":["priority"]}"#,
        );
    }

    #[test]
    fn ours_stands_over_every_one_of_the_clients() {
        check(r#"{"a":1, "priority" : -100 }"#, r#"{"a":1, "priority" : 2 }"#);
        check(
            r#"{"priority":[1,"x"],"a":1,"prior\u0069ty":-1}"#,
            r#"{"priority":2,"a":1,"prior\u0069ty":2}"#,
        );
        check(r#"{"priority":null}"#, r#"{"priority":2}"#);
    }

    #[test]
    fn what_is_no_object_stays_as_it_is() {
        check("[1]", "[1]");
        check("", "");
    }

    #[test]
    fn a_long_body_is_shared() {
        let long = Bytes::from(format!(r#""x":"{}","priority":9}}"#, "x".repeat(100_000)));
        let body = Payload::of([Bytes::from_static(b"{"), long.clone()]);
        let said = said(&body, Class::Completion);
        assert_eq!(said.pieces()[1].as_ptr(), long.as_ptr());
        assert!(said.to_bytes().ends_with(br#""priority":0}"#));
    }
}
