//! `weir explain FEATURE`: how one feature is routed, and which line of the file decides each part.

use std::process::ExitCode;

use super::Out;
use super::out::{align, suggestion};
use crate::config::{Config, show_duration};
use crate::error::Phase;
use crate::model::CredentialKind;
use crate::route::{Choice, Feature, PriorityClass, RequestModels, Route, Rule};

/// Prints the route of a feature or of `default`.
pub(super) fn run(config: &Config, name: &str, out: &mut Out) -> ExitCode {
    let feature = Feature::parse(name);
    if feature.is_none() && name != "default" {
        let names = Feature::all().map(Feature::name).chain(["default"]);
        out.remark(format_args!(
            "{name:?} is not a feature of GitLab's: {}",
            suggestion(name, names)
        ));
        return ExitCode::FAILURE;
    }
    match feature {
        Some(feature) => out.line(format_args!("{name}: {}", feature.title())),
        None => out.line("default: requests without a line in [features] that name no model"),
    }
    rows(config, feature).iter().for_each(|line| out.line(format_args!("  {line}")));
    ExitCode::SUCCESS
}

/// Returns the choice for a feature, the key of `[features]` that decides it, and the rule; `None`
/// if no key does.
fn deciding(config: &Config, feature: Option<Feature>) -> Option<(&Choice, &'static str, Rule)> {
    let own = feature.and_then(|feature| {
        let (choice, rule) = config.table.feature_choice(feature)?;
        let of = if rule == Rule::Parent { feature.parent()? } else { feature };
        Some((choice, of.name(), rule))
    });
    own.or_else(|| Some((config.table.default_choice()?, "default", Rule::Default)))
}

fn rows(config: &Config, feature: Option<Feature>) -> Vec<String> {
    let row = |what: &str, value: &str, by: String| vec![what.to_owned(), value.to_owned(), by];
    let Some((choice, line, rule)) = deciding(config, feature) else {
        let (value, by) = match config.request_models {
            RequestModels::Ignore => {
                ("none: 422", "no line of [features], and request_models is \"ignore\"")
            }
            _ => ("the request's own, else 422", "no line of [features]"),
        };
        return align(&[row("model", value, by.to_owned())]);
    };
    let key = format!("features.{line}");
    let decided = format!("{} {key}", config.provenance.source(&key));
    let (rule, by) = rule_of(config, feature, rule, &decided);
    let mut rows = vec![row("rule", &rule, by)];
    match choice {
        Choice::Disabled => rows.push(row("model", "disabled: requests are refused", decided)),
        Choice::Model(route) => {
            rows.push(row("model", &route.model.id, decided));
            if route.model.provider.is_gateway() {
                cloud_rows(config, route, &mut rows);
            } else {
                model_rows(config, route, feature, &mut rows);
            }
            limit_rows(config, route, feature, line, &mut rows);
            if feature.is_none_or(Feature::can_fall_back) {
                fallback_rows(config, route, line, &mut rows);
            }
        }
    }
    align(&rows)
}

/// Returns the rule of precedence that decides with what precedes it, and the line that sets it.
fn rule_of(
    config: &Config,
    feature: Option<Feature>,
    rule: Rule,
    decided: &str,
) -> (String, String) {
    let Some(feature) = feature.filter(|_| rule == Rule::Default) else {
        let rule = if rule == Rule::Parent { "as its parent" } else { "a line of its own" };
        return (rule.to_owned(), decided.to_owned());
    };
    let named = match config.request_models {
        RequestModels::Allow => Some("the request names a model"),
        RequestModels::Listed => Some("the request names a model at an endpoint of this file"),
        RequestModels::Ignore => None,
    };
    // users' tokens are accepted for nothing else
    let bound =
        (feature == Feature::CODE_COMPLETIONS).then_some("the user's token is bound to another");
    let unless: Vec<&str> = named.into_iter().chain(bound).collect();
    if unless.is_empty() {
        return ("default".to_owned(), decided.to_owned());
    }
    let key = "features.request_models";
    (
        format!("default, unless {}", unless.join(" or ")),
        format!("{} {key}", config.provenance.source(key)),
    )
}

/// Adds the rows of GitLab's cloud, of which only the address is configured.
fn cloud_rows(config: &Config, route: &Route, rows: &mut Vec<Vec<String>>) {
    let mut row = |what: &str, value: String, by: &str| {
        rows.push(vec![what.to_owned(), value, by.to_owned()])
    };
    row(
        "dialect",
        "GitLab's own: requests are passed on unchanged".to_owned(),
        "GitLab AI vendor model",
    );
    row(
        "token",
        "the caller's own; never a static key of this file".to_owned(),
        "GitLab AI vendor model",
    );
    for endpoint in &route.model.endpoints {
        let key = "gitlab.cloud_url";
        row("endpoint", endpoint.to_string(), &format!("{} {key}", config.provenance.source(key)));
    }
}

fn model_rows(
    config: &Config,
    route: &Route,
    feature: Option<Feature>,
    rows: &mut Vec<Vec<String>>,
) {
    let model = &route.model;
    let source = |key: &str| config.provenance.source(&config.provenance.model_key(&model.id, key));
    let mut row =
        |what: &str, value: String, by: String| rows.push(vec![what.to_owned(), value, by]);
    row("identifier", model.upstream_name.to_string(), source("identifier"));
    row("family", model.family.name.to_string(), source("family"));
    row("dialect", model.provider.label().to_owned(), source("identifier"));
    let of = if config.provenance.is_in_file(&config.provenance.model_key(&model.id, "endpoints")) {
        "endpoints"
    } else {
        "endpoint"
    };
    let is_bedrock = model.provider.credentials() == CredentialKind::Aws;
    let public = is_bedrock && source(of) == "default";
    for endpoint in &model.endpoints {
        let by = if public { "default: the region's public one".to_owned() } else { source(of) };
        row("endpoint", endpoint.to_string(), by);
    }
    if !is_bedrock {
        let key = if model.api_key.is_some() { "set" } else { "none" };
        row("api_key", key.to_owned(), source("api_key"));
    }
    if model.priority {
        let class = feature.map_or(PriorityClass::Chat, Feature::class);
        row(
            "priority",
            format!("{} in the server's queue; 0 goes first", class.priority()),
            source("priority"),
        );
    }
    for (key, setting) in config.provenance.access_of(&model.id) {
        if !matches!(key, "endpoint" | "api_key") {
            row(key, setting.value.clone(), config.provenance.show(&setting.origin));
        }
    }
}

fn limit_rows(
    config: &Config,
    route: &Route,
    feature: Option<Feature>,
    line: &str,
    rows: &mut Vec<Vec<String>>,
) {
    let own = feature.is_some_and(|feature| feature.name() == line);
    let cap = feature.and_then(Feature::total_limit);
    let budget = if own { route.timeouts } else { route.timeouts.capped(cap) };
    for (name, phase) in PHASES {
        let layers = [
            format!("features.{line}.timeouts.{name}"),
            config.provenance.model_key(&route.model.id, &format!("timeouts.{name}")),
            format!("timeouts.{name}"),
        ];
        let deciding =
            layers.iter().find(|key| config.provenance.is_in_file(key)).unwrap_or(&layers[2]);
        let own_total = own && *deciding == layers[0];
        let is_capped = phase == Phase::Total && !own_total && cap == Some(budget.total);
        let by = if is_capped {
            "GitLab's own timeout for this feature ends soon after".to_owned()
        } else {
            format!("{} {deciding}", config.provenance.source(deciding))
        };
        rows.push(vec![name.to_owned(), show_duration(budget.limit(phase)), by]);
    }
}

/// Adds the fallback models in order, without their details: `weir explain` of a feature that uses
/// such a model shows them.
fn fallback_rows(config: &Config, route: &Route, line: &str, rows: &mut Vec<Vec<String>>) {
    let key = format!("features.{line}.fallback");
    for next in route.fallbacks() {
        let model = &next.model;
        let value =
            format!("{} ({}, family {})", model.id, model.provider.label(), model.family.name);
        rows.push(vec![
            "fallback".to_owned(),
            value,
            format!("{} {key}", config.provenance.source(&key)),
        ]);
    }
}

const PHASES: [(&str, Phase); 4] = [
    ("connect", Phase::Connect),
    ("first_byte", Phase::FirstByte),
    ("idle", Phase::Idle),
    ("total", Phase::Total),
];
