//! `GET /v1/models`: the names that a client may send as `model`.

use serde_json::{Value, json};

use crate::api::model_names;
use crate::auth::Caller;
use crate::route::Table;

/// Returns the list as OpenAI's JSON.
pub(crate) fn list(table: &Table, caller: &Caller) -> String {
    let entry = |id| json!({"id": id, "object": "model", "created": 0, "owned_by": "weir"});
    json!({"object": "list", "data": model_names(table, caller).into_iter().map(entry).collect::<Vec<Value>>()})
        .to_string()
}
