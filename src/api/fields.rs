//! An object of a request body, taken apart field by field: what is left at the end was not
//! understood and is refused by name, so that no part of a request is dropped silently.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::BodyFault;
use crate::generation::CacheTtl;

/// A path in the body: `body`, `messages`, `0`, `content`.
pub(super) type JsonPath = Vec<Cow<'static, str>>;

/// The fields of one object that were not taken yet.
pub(super) struct Fields {
    map: Map<String, Value>,
    /// The object's own path.
    path: JsonPath,
}

/// Parses a whole body into its fields. Fails if it is not JSON or not an object.
pub(super) fn parse_body(body: &[u8]) -> Result<Fields, BodyFault> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        let message =
            format!("JSON decode error at line {}, column {}", error.line(), error.column());
        BodyFault::body("json_invalid", message)
    })?;
    Fields::from_value(value, vec!["body".into()])
}

/// Returns a fault at this path.
pub(super) fn fault(path: &JsonPath, kind: &'static str, msg: impl Into<String>) -> BodyFault {
    BodyFault { loc: path.clone(), msg: msg.into(), kind }
}

impl Fields {
    /// Returns the fields of a value. Fails if it is not an object.
    pub(super) fn from_value(value: Value, path: JsonPath) -> Result<Self, BodyFault> {
        match value {
            Value::Object(map) => Ok(Self { map, path }),
            _ => Err(fault(&path, "type_error", "expected an object")),
        }
    }

    /// Returns the path of a field of this object.
    pub(super) fn path_of(&self, name: &'static str) -> JsonPath {
        let mut path = self.path.clone();
        path.push(Cow::Borrowed(name));
        path
    }

    /// Takes a field, or returns `None` if it is absent or `null`.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a field and parses it. Fails if it has another type, for which the fault's text is
    /// `expected`.
    pub(super) fn get<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Result<Option<T>, BodyFault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let wrong = |_| fault(&self.path_of(name), "type_error", format!("expected {expected}"));
        serde_json::from_value(value).map(Some).map_err(wrong)
    }

    /// Takes a string. Fails if the field has another type.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, BodyFault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(fault(&self.path_of(name), "type_error", "expected a string")),
        }
    }

    /// Takes a string. Fails if the field is missing or has another type.
    pub(super) fn required(&mut self, name: &'static str) -> Result<String, BodyFault> {
        self.text(name)?.ok_or_else(|| fault(&self.path_of(name), "missing", "Field required"))
    }

    /// Takes an object. Fails if the field has another type.
    pub(super) fn object(&mut self, name: &'static str) -> Result<Option<Self>, BodyFault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        Self::from_value(value, self.path_of(name)).map(Some)
    }

    /// Takes `cache_control`, by which Anthropic's clients and LiteLLM's mark what to cache.
    pub(super) fn cache_control(&mut self) -> Result<Option<CacheTtl>, BodyFault> {
        let Some(mut cache) = self.object("cache_control")? else { return Ok(None) };
        cache.accept_only("type", |kind| kind == "ephemeral")?;
        let ttl = cache.text("ttl")?;
        cache.finish()?;
        Ok(Some(CacheTtl(ttl)))
    }

    /// Takes a list and returns its items with their paths. Fails if the field has another type.
    pub(super) fn list(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Vec<(Value, JsonPath)>>, BodyFault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(with_paths(items, &self.path_of(name)))),
            Some(_) => Err(fault(&self.path_of(name), "type_error", "expected a list")),
        }
    }

    /// Drops fields that do not affect the response.
    pub(super) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    /// Drops a field if its value changes nothing, and refuses any other value of it.
    pub(super) fn accept_only(
        &mut self,
        name: &'static str,
        is_accepted: impl Fn(&Value) -> bool,
    ) -> Result<(), BodyFault> {
        match self.take(name) {
            Some(value) if !is_accepted(&value) => Err(unsupported(&self.path_of(name), name)),
            _ => Ok(()),
        }
    }

    /// Fails if a field is left that was not taken.
    pub(super) fn finish(self) -> Result<(), BodyFault> {
        match self.map.into_iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(100).collect();
                let mut path = self.path;
                path.push(Cow::Owned(name.clone()));
                Err(unsupported(&path, &name))
            }
        }
    }
}

/// Pairs a list's items with their paths.
pub(super) fn with_paths(items: Vec<Value>, list: &JsonPath) -> Vec<(Value, JsonPath)> {
    let path = |i: usize| list.iter().cloned().chain([Cow::Owned(i.to_string())]).collect();
    items.into_iter().enumerate().map(|(i, item)| (item, path(i))).collect()
}

/// Returns whether a text has the form of base64, as an image's bytes must.
pub(super) fn is_base64(data: &str) -> bool {
    let digits = data.trim_end_matches('=');
    !digits.is_empty()
        && data.len() - digits.len() <= 2
        && digits.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

/// Returns the fault of a field, or of one of its values, that this model's provider has no
/// equivalent for.
pub(super) fn unsupported(path: &JsonPath, what: &str) -> BodyFault {
    fault(
        path,
        "value_error",
        format!("`{what}` cannot be translated for this model's provider: leave it out"),
    )
}
