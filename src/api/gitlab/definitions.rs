//! `GET /v1/models/definitions`: the operator's models, in the format of GitLab's own list.
//!
//! Source: contract::gitlab_client §9.5, contract::ai_gateway_server §1.10. It is public, as the
//! official one is: names and kinds of models, never an address. The model configured for a feature
//! is its default and its only choice, since the operator's file decides; features without a model
//! are left out.

use serde_json::{Value, json};

use crate::auth::Scopes;
use crate::model::Model;
use crate::route::{Choice, Feature, Table};

/// Returns the list of models and features as JSON.
pub(in crate::api) fn list(table: &Table) -> String {
    let mut models: Vec<&Model> = table
        .models()
        .map(|route| &*route.model)
        .filter(|model| !model.provider.is_gateway())
        .collect();
    models.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let models: Vec<Value> = models.into_iter().map(model_entry).collect();
    let features: Vec<Value> =
        Feature::all().filter_map(|feature| feature_entry(table, feature)).collect();
    json!({ "models": models, "unit_primitives": features }).to_string()
}

/// Returns the list's entry of one model.
fn model_entry(model: &Model) -> Value {
    json!({
        "name": &*model.id, "identifier": &*model.id, "provider": model.provider.label(), "description": null,
        "cost_indicator": null, "deprecation": null,
    })
}

/// Returns the list's entry of one feature, or `None` if no local model answers it.
fn feature_entry(table: &Table, feature: Feature) -> Option<Value> {
    let choice = table
        .feature_choice(feature)
        .map(|(choice, _)| choice)
        .or_else(|| table.default_choice())?;
    let Choice::Model(route) = choice else { return None };
    if route.model.provider.is_gateway() {
        return None;
    }
    let model = &*route.model.id;
    let primitives: Vec<&str> = Scopes::for_feature(feature).names().collect();
    Some(json!({
        "feature_setting": feature.name(), "default_model": model, "selectable_models": [model], "beta_models": [],
        "deprecated_models": [], "unit_primitives": primitives,
    }))
}
