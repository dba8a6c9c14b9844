//! `GET /v1/models` for clients that send `anthropic-version`: the same names as Anthropic's JSON.

use serde_json::{Value, json};

use crate::api::model_names;
use crate::auth::Caller;
use crate::route::Table;

/// Returns all of them as one page. The date of a model's release is not known here.
pub(crate) fn list(table: &Table, caller: &Caller) -> String {
    let entry = |id: &String| {
        json!({
            "type": "model", "id": id, "display_name": id, "created_at": "1970-01-01T00:00:00Z", "lifecycle": "active",
        })
    };
    let names = model_names(table, caller);
    let data: Vec<Value> = names.iter().map(entry).collect();
    json!({"data": data, "has_more": false, "first_id": names.first(), "last_id": names.last()})
        .to_string()
}
