//! `[features]`: which model answers which feature, and within which limits → the routing
//! [`Table`].

use std::ops::Range;
use std::sync::Arc;

use toml::de::DeValue;

use crate::config::section::{cloud, timeouts};
use crate::config::toml::diagnostic::Reported;
use crate::config::toml::document::path_text;
use crate::config::toml::reader::Reader;
use crate::config::toml::suggest;
use crate::config::toml::values::quoted_value;
use crate::model::{Model, Timeouts};
use crate::route::{Choice, Feature, RequestModels, Route, Rule, Table};

/// The table, and what it was built from.
pub(crate) struct Routing {
    /// The routing table.
    pub(crate) table: Table,
    /// The models in the order of the file.
    pub(crate) models: Vec<Arc<Model>>,
    /// What the table does with a model that a request names.
    pub(crate) request_models: RequestModels,
}

/// Reads `[features]` against the models and the cloud, as far as they could be read. `base` are
/// the timeouts of `[timeouts]`.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    models: Vec<Arc<Model>>,
    cloud: Option<Arc<Model>>,
    base: Timeouts,
) -> Result<Routing, Reported> {
    let request_models = match reader.keyword(&["features", "request_models"]) {
        Ok("listed") => Ok(RequestModels::Listed),
        Ok("ignore") => Ok(RequestModels::Ignore),
        Ok(_) => Ok(RequestModels::Allow),
        Err(reported) => Err(reported),
    };
    let mut table = Table::new(models.clone(), request_models.unwrap_or_default(), base);
    let known: Vec<Arc<Model>> = models.iter().cloned().chain(cloud).collect();
    for name in reader.doc.names(&["features"]) {
        let feature = Feature::parse(name);
        if feature.is_none() && name != "default" {
            continue;
        }
        match (choice(reader, name, feature, &known, base), feature) {
            (Ok(choice), Some(feature)) => table.set(feature, choice),
            (Ok(choice), None) => table.set_default(choice),
            (Err(Reported), _) => {}
        }
    }
    Ok(Routing { table, models, request_models: request_models? })
}

/// Reads the line or table of one feature, or of `default` when `feature` is `None`.
fn choice(
    reader: &mut Reader<'_>,
    name: &str,
    feature: Option<Feature>,
    models: &[Arc<Model>],
    base: Timeouts,
) -> Result<Choice, Reported> {
    let path = ["features", name];
    let model_path = ["features", name, "model"];
    let entry = reader.doc.get(&path).ok_or(Reported)?;
    let (path, at): (&[&str], _) = match entry.value {
        DeValue::String(_) => (&path, entry),
        DeValue::Table(_) => match reader.doc.get(&model_path) {
            Some(model) => (&model_path, model),
            None => {
                let message = "expected model = \"…\" in this table";
                return Err(reader.report(reader.fault_at(&path, &entry.key, message)));
            }
        },
        other => return Err(reader.wrong(&path, &entry.span, other)),
    };
    let patch = timeouts::read(reader, &["features", name, "timeouts"]);
    let text = match at.value.as_str() {
        Some("disabled") => {
            let why = "a feature that is disabled has no fallback";
            refuse_fallback(reader, name, why, "remove this line");
            return Ok(Choice::Disabled);
        }
        Some(cloud::NAME) => {
            // what went there went as GitLab sent it, for GitLab's models: no other can take over
            let hint = "name a model of your own first";
            refuse_fallback(reader, name, "GitLab's cloud has no fallback", hint);
            cloud::NAME
        }
        Some(text) => text,
        None => return Err(reader.wrong(path, &at.span, at.value)),
    };
    if text != cloud::NAME && !is_defined(reader, text) {
        return Err(undefined(reader, path, &at.span, text));
    }
    // missing when the model or cloud_url has faults, which have been reported
    let model = models.iter().find(|model| &*model.id == text).ok_or(Reported)?;
    let mut budget = base.patched(&model.timeouts).patched(&patch);
    if patch.total.is_none() {
        budget = budget.capped(feature.and_then(Feature::total_limit));
    }
    let rule = if feature.is_some() { Rule::Feature } else { Rule::Default };
    let route = |model: &Arc<Model>, budget, fallback| Route {
        feature,
        model: Arc::clone(model),
        timeouts: budget,
        rule,
        fallback,
    };
    if !feature.is_none_or(Feature::can_fall_back) {
        let why = "vectors of another model would not fit those that GitLab has stored";
        refuse_fallback(reader, name, why, "give the model more than one endpoint instead");
    }
    let chain = fallbacks(reader, name, text).iter().rev().fold(None, |next, name| {
        let model = models.iter().find(|model| *model.id == **name)?;
        let limits = base.patched(&model.timeouts).patched(&patch).capped(Some(budget.total));
        Some(Arc::new(route(model, limits, next)))
    });
    Ok(Choice::Model(Arc::new(route(model, budget, chain))))
}

/// Reads the names of `fallback`, without those of no model and repeated ones, which are faults.
/// `first` is the feature's own model.
fn fallbacks(reader: &mut Reader<'_>, name: &str, first: &str) -> Vec<String> {
    let path = ["features", name, "fallback"];
    let mut names: Vec<String> = Vec::new();
    for (text, span) in reader.strings(&path).unwrap_or_default() {
        let hint = match text.as_str() {
            "disabled" | cloud::NAME => "only models of this file can be fallbacks",
            _ if text == first || names.contains(&text) => {
                "each model is tried once: remove this one"
            }
            _ if is_defined(reader, &text) => {
                names.push(text);
                continue;
            }
            _ => {
                undefined(reader, &path, &span, &text);
                continue;
            }
        };
        let found = quoted_value(&DeValue::String(text.into()));
        let message = "expected the name of another model in [models]";
        let fault = reader.fault_at(&path, &span, message).found(found);
        reader.report(fault.hint(Some(hint.to_owned())));
    }
    names
}

/// Collects a fault when a feature that can have no fallback has one.
fn refuse_fallback(reader: &mut Reader<'_>, name: &str, why: &str, hint: &str) {
    let path = ["features", name, "fallback"];
    if let Some(entry) = reader.doc.get(&path) {
        reader.error(&path, &entry.key, why).hint = Some(hint.to_owned());
    }
}

fn is_defined(reader: &Reader<'_>, model: &str) -> bool {
    reader.doc.get(&["models", model]).is_some()
}

/// Collects the fault that no model has this name.
fn undefined(reader: &mut Reader<'_>, path: &[&str], span: &Range<usize>, text: &str) -> Reported {
    let names = reader.doc.names(&["models"]);
    let candidates = names.iter().copied().chain(["disabled", cloud::NAME]);
    let hint = if let Some(near) = suggest::nearest(text, candidates) {
        format!("did you mean {near:?}?")
    } else if names.is_empty() {
        format!("no model is defined: begin a table [models.{}]", path_text(&[text]))
    } else {
        format!("defined are {}", names.join(", "))
    };
    let found = quoted_value(&DeValue::String(text.into()));
    let fault = reader.fault_at(path, span, "expected the name of a model in [models]");
    reader.report(fault.found(found).hint(Some(hint)))
}
