//! `[features]`: which model answers which feature, and within which limits → the routing
//! [`Table`].

use std::ops::Range;
use std::sync::Arc;

use toml::de::DeValue;

use crate::config::check::timeouts;
use crate::config::section::cloud;
use crate::config::toml::reader::{Reader, said};
use crate::config::toml::suggest;
use crate::model::{Budget, Model};
use crate::route::{Choice, Feature, RequestModels, Route, Rule, Table};

/// The table, and the models in the order of the file.
pub(crate) struct Routing {
    pub(crate) table: Table,
    pub(crate) models: Vec<Arc<Model>>,
    pub(crate) request_models: RequestModels,
}

/// Reads `[features]` against the models that could be read. `base` is `[timeouts]`.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    models: Vec<Arc<Model>>,
    cloud: Option<Arc<Model>>,
    base: Budget,
) -> Option<Routing> {
    let request_models = reader.word(&["features", "request_models"]).map(|word| match word {
        "listed" => RequestModels::Listed,
        "ignore" => RequestModels::Ignore,
        _ => RequestModels::Allow,
    });
    let mut table = Table::new(models.clone(), request_models.unwrap_or_default(), base);
    let known: Vec<Arc<Model>> = models.iter().cloned().chain(cloud).collect();
    for name in reader.doc.names(&["features"]) {
        let feature = Feature::parse(name);
        if feature.is_none() && name != "default" {
            continue;
        }
        match (choice(reader, name, feature, &known, base), feature) {
            (Some(choice), Some(feature)) => table.set(feature, choice),
            (Some(choice), None) => table.set_default(choice),
            (None, _) => {}
        }
    }
    Some(Routing { table, models, request_models: request_models? })
}

/// What the file says of one feature, or `None` with a fault noted.
fn choice(
    reader: &mut Reader<'_>,
    name: &str,
    feature: Option<Feature>,
    models: &[Arc<Model>],
    base: Budget,
) -> Option<Choice> {
    let path = ["features", name];
    let entry = reader.doc.get(&path)?;
    let (model_path, at): (&[&str], _) = match entry.value {
        DeValue::String(_) => (&path, entry),
        DeValue::Table(_) => match reader.doc.get(&["features", name, "model"]) {
            Some(model) => (&["features", name, "model"], model),
            None => {
                reader.error(&path, &entry.key, "expected model = \"…\" in this table");
                return None;
            }
        },
        other => {
            reader.wrong(&path, &entry.span, other);
            return None;
        }
    };
    let patch = timeouts(reader, &["features", name, "timeouts"]);
    let text = match at.value.as_str() {
        Some("disabled") => {
            no_fallback(reader, name, "a feature that is disabled has no fallback", "leave it out");
            return Some(Choice::Disabled);
        }
        Some(cloud::NAME) => {
            // what went there went as GitLab sent it, for GitLab's models: no other can take over
            no_fallback(
                reader,
                name,
                "GitLab's cloud has no fallback",
                "name a model of your own first",
            );
            cloud::NAME
        }
        Some(text) => text,
        None => {
            reader.wrong(model_path, &at.span, at.value);
            return None;
        }
    };
    if text != cloud::NAME && !is_defined(reader, text) {
        undefined(reader, model_path, &at.span, text);
        return None;
    }
    // absent when the model or cloud_url has faults; they are told already
    let model = models.iter().find(|model| &*model.id == text)?;
    let mut budget = base.with(&model.timeouts).with(&patch);
    if patch.total.is_none() {
        budget = budget.capped(feature.and_then(Feature::total_limit));
    }
    let rule = if feature.is_some() { Rule::Feature } else { Rule::Default };
    let route = |model: &Arc<Model>, budget, fallback| Route {
        feature,
        model: Arc::clone(model),
        budget,
        rule,
        fallback,
    };
    if !feature.is_none_or(Feature::may_fall_back) {
        let why = "vectors of another model would not fit those that GitLab has stored";
        no_fallback(reader, name, why, "give the model more than one endpoint instead");
    }
    let chain = fallbacks(reader, name, text).iter().rev().fold(None, |next, name| {
        let model = models.iter().find(|model| *model.id == **name)?;
        let limits = base.with(&model.timeouts).with(&patch).capped(Some(budget.total));
        Some(Arc::new(route(model, limits, next)))
    });
    Some(Choice::Model(Arc::new(route(model, budget, chain))))
}

/// The names of `fallback`, each of a model that comes once. `first` is the model that they stand
/// in for.
fn fallbacks(reader: &mut Reader<'_>, name: &str, first: &str) -> Vec<String> {
    let path = ["features", name, "fallback"];
    let mut names: Vec<String> = Vec::new();
    for (text, span) in reader.texts(&path).unwrap_or_default() {
        let hint = match text.as_str() {
            "disabled" | cloud::NAME => "only models of this file can stand in for another",
            _ if text == first || names.contains(&text) => "each model is asked once: leave it out",
            _ if is_defined(reader, &text) => {
                names.push(text);
                continue;
            }
            _ => {
                undefined(reader, &path, &span, &text);
                continue;
            }
        };
        let fault = reader.error(&path, &span, "expected the name of another model in [models]");
        (fault.said, fault.hint) =
            (Some(said(&DeValue::String(text.into()))), Some(hint.to_owned()));
    }
    names
}

fn no_fallback(reader: &mut Reader<'_>, name: &str, why: &str, hint: &str) {
    let path = ["features", name, "fallback"];
    if let Some(entry) = reader.doc.get(&path) {
        reader.error(&path, &entry.key, why).hint = Some(hint.to_owned());
    }
}

fn is_defined(reader: &Reader<'_>, model: &str) -> bool {
    reader.doc.get(&["models", model]).is_some()
}

fn undefined(reader: &mut Reader<'_>, path: &[&str], span: &Range<usize>, text: &str) {
    let names = reader.doc.names(&["models"]);
    let hint = if let Some(near) =
        suggest::nearest(text, names.iter().copied().chain(["disabled", cloud::NAME]))
    {
        format!("did you mean {near:?}?")
    } else if names.is_empty() {
        format!(
            "no model is defined: begin a table [models.{}]",
            crate::config::toml::document::path_text(&[text])
        )
    } else {
        format!("defined are {}", names.join(", "))
    };
    let fault = reader.error(path, span, "expected the name of a model in [models]");
    (fault.said, fault.hint) = (Some(said(&DeValue::String(text.into()))), Some(hint));
}
