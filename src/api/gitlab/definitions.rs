//! `GET /v1/models/definitions`: the operator's models, in the shape of GitLab's list of its own.
//!
//! Source: gitlab-client.md §9.5, ai-gateway-server.md §1.10. It is served to anybody, as the
//! official one is: names and kinds of models, never an address. What a feature answers with is its
//! default and its only choice, since the operator's file decides; features that nothing answers
//! are left out.

use serde_json::{Value, json};

use crate::auth::Scopes;
use crate::model::Model;
use crate::route::{Choice, Feature, Table};

/// The list as JSON.
pub(in crate::api) fn list(table: &Table) -> String {
    let mut models: Vec<&Model> = table
        .models()
        .map(|route| &*route.model)
        .filter(|model| !model.provider.is_gateway())
        .collect();
    models.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let models: Vec<Value> = models.into_iter().map(model).collect();
    let features: Vec<Value> =
        Feature::all().filter_map(|feature| primitive(table, feature)).collect();
    json!({ "models": models, "unit_primitives": features }).to_string()
}

fn model(model: &Model) -> Value {
    json!({
        "name": &*model.id, "identifier": &*model.id, "provider": model.provider.label(), "description": null,
        "cost_indicator": null, "deprecation": null,
    })
}

fn primitive(table: &Table, feature: Feature) -> Option<Value> {
    let choice = table
        .feature_choice(feature)
        .map(|(choice, _)| choice)
        .or_else(|| table.default_choice())?;
    let Choice::Model(route) = choice else { return None };
    if route.model.provider.is_gateway() {
        return None;
    }
    let model = &*route.model.id;
    let primitives: Vec<&str> = Scopes::of_feature(feature).names().collect();
    Some(json!({
        "feature_setting": feature.name(), "default_model": model, "selectable_models": [model], "beta_models": [],
        "deprecated_models": [], "unit_primitives": primitives,
    }))
}
