//! `GET /v1/models`: the names a client may put into `model`.

use serde_json::{Value, json};

use crate::route::{Choice, Feature, Table};

/// The file's models, then `feature/<name>` for every feature that answers.
pub(crate) fn list(table: &Table) -> String {
    let mut names: Vec<String> = table.models().map(|route| route.model.id.to_string()).collect();
    names.sort_unstable();
    let features = Feature::all().filter(|feature| {
        let choice = table.feature_choice(*feature).map(|(choice, _)| choice).or_else(|| table.default_choice());
        matches!(choice, Some(Choice::Model(_)))
    });
    names.extend(features.map(|feature| format!("feature/{}", feature.name())));
    let entry = |id| json!({"id": id, "object": "model", "created": 0, "owned_by": "weir"});
    json!({"object": "list", "data": names.into_iter().map(entry).collect::<Vec<Value>>()}).to_string()
}
