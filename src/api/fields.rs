//! An object of a request body, taken apart field by field: what is left at the end was not
//! understood and is refused by name, so that nothing of a request is dropped in silence.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::BodyFault;
use crate::generation::CacheFor;

/// Where in the body something stands: `body`, `messages`, `0`, `content`.
pub(super) type Place = Vec<Cow<'static, str>>;

/// One object.
pub(super) struct Fields {
    map: Map<String, Value>,
    place: Place,
}

/// The fields of a whole body.
pub(super) fn of_body(body: &[u8]) -> Result<Fields, BodyFault> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        let place =
            format!("JSON decode error at line {}, column {}", error.line(), error.column());
        BodyFault::body("json_invalid", place)
    })?;
    Fields::of(value, vec!["body".into()])
}

/// A fault at a place.
pub(super) fn fault(place: &Place, kind: &'static str, msg: impl Into<String>) -> BodyFault {
    BodyFault { loc: place.clone(), msg: msg.into(), kind }
}

impl Fields {
    /// The fields of a value, which has to be an object.
    pub(super) fn of(value: Value, place: Place) -> Result<Self, BodyFault> {
        match value {
            Value::Object(map) => Ok(Self { map, place }),
            _ => Err(fault(&place, "type_error", "expected an object")),
        }
    }

    /// Where a field stands.
    pub(super) fn at(&self, name: &'static str) -> Place {
        let mut place = self.place.clone();
        place.push(Cow::Borrowed(name));
        place
    }

    /// Takes a field; `null` is as good as absent.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// A field of some type; `expected` is for the fault.
    pub(super) fn get<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Result<Option<T>, BodyFault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let wrong = |_| fault(&self.at(name), "type_error", format!("expected {expected}"));
        serde_json::from_value(value).map(Some).map_err(wrong)
    }

    /// A text.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, BodyFault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(fault(&self.at(name), "type_error", "expected a string")),
        }
    }

    /// A text that has to be there.
    pub(super) fn required(&mut self, name: &'static str) -> Result<String, BodyFault> {
        self.text(name)?.ok_or_else(|| fault(&self.at(name), "missing", "Field required"))
    }

    /// An object.
    pub(super) fn object(&mut self, name: &'static str) -> Result<Option<Self>, BodyFault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        Self::of(value, self.at(name)).map(Some)
    }

    /// `cache_control`, as Anthropic's clients and LiteLLM's mark what is worth keeping.
    pub(super) fn cache_control(&mut self) -> Result<Option<CacheFor>, BodyFault> {
        let Some(mut cache) = self.object("cache_control")? else { return Ok(None) };
        cache.only("type", |kind| kind == "ephemeral")?;
        let ttl = cache.text("ttl")?;
        cache.end()?;
        Ok(Some(CacheFor(ttl)))
    }

    /// A list's items with their places.
    pub(super) fn list(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Vec<(Value, Place)>>, BodyFault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(placed(items, &self.at(name)))),
            Some(_) => Err(fault(&self.at(name), "type_error", "expected a list")),
        }
    }

    /// Drops fields that say nothing about the answer.
    pub(super) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    /// Drops a field that asks for what is the case anyway, and refuses any other value of it.
    pub(super) fn only(
        &mut self,
        name: &'static str,
        fine: impl Fn(&Value) -> bool,
    ) -> Result<(), BodyFault> {
        match self.take(name) {
            Some(value) if !fine(&value) => Err(refused(&self.at(name), name)),
            _ => Ok(()),
        }
    }

    /// Refuses what was not taken.
    pub(super) fn end(self) -> Result<(), BodyFault> {
        match self.map.into_iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(100).collect();
                let mut place = self.place;
                place.push(Cow::Owned(name.clone()));
                Err(refused(&place, &name))
            }
        }
    }
}

/// Items with their places.
pub(super) fn placed(items: Vec<Value>, list: &Place) -> Vec<(Value, Place)> {
    let place = |i: usize| list.iter().cloned().chain([Cow::Owned(i.to_string())]).collect();
    items.into_iter().enumerate().map(|(i, item)| (item, place(i))).collect()
}

/// Whether a text can be an image's bytes.
pub(super) fn is_base64(data: &str) -> bool {
    let digits = data.trim_end_matches('=');
    !digits.is_empty()
        && data.len() - digits.len() <= 2
        && digits.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

/// The fault of a field, or of a value of one, that this model's provider has no words for.
pub(super) fn refused(place: &Place, what: &str) -> BodyFault {
    fault(
        place,
        "value_error",
        format!("`{what}` cannot be translated for this model's provider: leave it out"),
    )
}
