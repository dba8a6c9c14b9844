//! A body that passes through: the few fields of its top level that are looked at, and the splice
//! of its model's name. Both vendors' dialects name these fields alike.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{BodyFault, GatewayError};
use crate::model::Model;
use crate::wire::{Edits, place_of};

/// The fields, where they stand in the body.
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
    /// The model that the client names.
    pub(super) fn model(&self) -> Result<String, GatewayError> {
        value("model", self.model)?.ok_or_else(|| missing("model"))
    }

    /// Whether a stream is wanted.
    pub(super) fn stream(&self) -> Result<bool, GatewayError> {
        Ok(value("stream", self.stream)?.unwrap_or(false))
    }

    /// Puts the name that the model's server knows in place of the client's.
    pub(super) fn rename(
        &self,
        body: &Bytes,
        model: &Model,
        edits: &mut Edits,
    ) -> Result<(), GatewayError> {
        if *model.upstream_name != *self.model()? {
            let range =
                self.model.and_then(|raw| place_of(body, raw)).ok_or_else(|| missing("model"))?;
            edits.replace(range, Value::from(&*model.upstream_name).to_string());
        }
        Ok(())
    }
}

/// A field of the expected type; absent and `null` are the same, as OpenAI's clients send either.
pub(super) fn value<T: for<'de> Deserialize<'de>>(
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

/// A field that has to be there.
pub(super) fn missing(field: &'static str) -> GatewayError {
    GatewayError::invalid(vec![BodyFault::at(field, "missing", "Field required")])
}
