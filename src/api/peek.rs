//! A body that passes through: the few top-level fields that are inspected, and the splice of its
//! model's name. Both vendors' dialects have the same names for these fields.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{BodyFault, GatewayError};
use crate::model::Model;
use crate::wire::{Edits, span_of};

/// The inspected fields, borrowed from the body so that their spans are known.
#[derive(Deserialize)]
pub(super) struct Peek<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    stream: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) stream_options: Option<&'a RawValue>,
}

impl Peek<'_> {
    /// Returns the `model` that the client sent. Fails if it is missing or not a string.
    pub(super) fn model(&self) -> Result<String, GatewayError> {
        parse_field("model", self.model)?.ok_or_else(|| missing("model"))
    }

    /// Returns whether the client requests a stream. Fails if `stream` is not a boolean.
    pub(super) fn stream(&self) -> Result<bool, GatewayError> {
        Ok(parse_field("stream", self.stream)?.unwrap_or(false))
    }

    /// Replaces the client's `model` with the name that the model's server has for it.
    pub(super) fn replace_model(
        &self,
        body: &Bytes,
        model: &Model,
        edits: &mut Edits,
    ) -> Result<(), GatewayError> {
        if *model.upstream_name != *self.model()? {
            let span =
                self.model.and_then(|raw| span_of(body, raw)).ok_or_else(|| missing("model"))?;
            edits.replace(span, Value::from(&*model.upstream_name).to_string());
        }
        Ok(())
    }
}

/// Parses a field, or returns `None` if it is absent or `null`, since OpenAI's clients send either.
/// Fails with a 422 if it has another type.
pub(super) fn parse_field<T: for<'de> Deserialize<'de>>(
    field: &'static str,
    raw: Option<&RawValue>,
) -> Result<Option<T>, GatewayError> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map_err(|_| {
        let expected = match field {
            "stream" => "expected true or false",
            "stream_options" => "expected an object",
            _ => "expected a string",
        };
        GatewayError::invalid(vec![BodyFault::at(field, "type_error", expected)])
    })
}

/// Returns the fault of a required field that is missing.
pub(super) fn missing(field: &'static str) -> GatewayError {
    GatewayError::invalid(vec![BodyFault::at(field, "missing", "Field required")])
}
