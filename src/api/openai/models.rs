//! `GET /v1/models`: the names a client may put into `model`.

use serde_json::{Value, json};

use crate::route::{Feature, Table};

/// The file's models, then `feature/<name>` for every feature that answers.
pub(crate) fn list(table: &Table) -> String {
    let mut names: Vec<String> = table.models().map(|route| route.model.id.to_string()).collect();
    names.sort_unstable();
    let features = Feature::all().map(|feature| format!("feature/{}", feature.name()));
    names.extend(features.filter(|name| table.resolve_named(name).is_ok()));
    let entry = |id| json!({"id": id, "object": "model", "created": 0, "owned_by": "weir"});
    json!({"object": "list", "data": names.into_iter().map(entry).collect::<Vec<Value>>()}).to_string()
}
