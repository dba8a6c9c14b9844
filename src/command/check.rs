//! `weir check`: the warnings, the source of each value, and the routing table.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::Out;
use super::out::{align, plural};
use crate::config::{Config, Origin, Setting, show_duration};
use crate::model::{CredentialKind, Model, Timeouts};
use crate::route::{Choice, Feature, RequestModels, Route, Rule};
use crate::telemetry::rfc3339;
use crate::upstream::Validity;

/// Prints a configuration without faults: its warnings, settings and routes.
pub(super) fn run(config: &Config, path: &Path, out: &mut Out) {
    config.warnings.iter().for_each(|warning| out.fault(warning));
    out.line("Settings");
    settings(config).iter().for_each(|line| out.line(format_args!("  {line}")));
    let tls = tls(config, SystemTime::now());
    if !tls.is_empty() {
        out.line("\nTLS");
        tls.iter().for_each(|line| out.line(format_args!("  {line}")));
    }
    let access = access(config);
    if !access.is_empty() {
        out.line("\nBedrock and Azure");
        access.iter().for_each(|line| out.line(format_args!("  {line}")));
    }
    out.line("\nRouting (limits: connect / first byte / idle / total)");
    routing(config).iter().for_each(|line| out.line(format_args!("  {line}")));
    let models = plural(config.models.len(), "model");
    out.line(format_args!(
        "\n{}: fine, {models}, {}",
        path.display(),
        plural(config.warnings.len(), "warning")
    ));
}

/// Returns the rows of the values outside of models and features, which are shown in the routing
/// table and by `weir explain`.
fn settings(config: &Config) -> Vec<String> {
    let is_general = |key: &str| {
        !key.starts_with("models.")
            && (!key.starts_with("features.") || key.starts_with("features.request"))
    };
    let workers = ("server.workers", config.server.workers.to_string());
    let mut rows: Vec<Vec<String>> = config
        .provenance
        .iter()
        .filter(|(key, _)| is_general(key))
        .map(|(key, setting)| {
            vec![key.to_owned(), setting.value.clone(), config.provenance.show(&setting.origin)]
        })
        .collect();
    if config.provenance.origin(workers.0) == Origin::Default {
        rows.push(vec![workers.0.to_owned(), workers.1, "default (one per core)".to_owned()]);
    }
    rows.sort();
    align(&rows)
}

/// Returns the rows about the certificates that are presented to clients and to model servers.
fn tls(config: &Config, now: SystemTime) -> Vec<String> {
    let until = |validity: Validity| {
        let days = plural(usize::try_from(validity.days_left(now)).unwrap_or(usize::MAX), "day");
        format!("until {}, {days} left", rfc3339(validity.until))
    };
    let mut rows = Vec::new();
    if let Some(identity) = &config.tls {
        let clients = if identity.is_mutual() {
            "must show a certificate (client_ca)"
        } else {
            "need no certificate"
        };
        rows.push(vec!["certificate".to_owned(), until(identity.validity())]);
        rows.push(vec!["clients".to_owned(), clients.to_owned()]);
    }
    let egress = config.outward.settings();
    let shared = egress.models.identity().map(|identity| ("to model servers".to_owned(), identity));
    let own = config.models.iter().filter_map(|model| {
        let tls = egress.by_model.get(&model.id)?;
        Some((format!("to models.{}", model.id), tls.identity()?))
    });
    rows.extend(
        shared
            .into_iter()
            .chain(own)
            .map(|(peer, identity)| vec![peer, until(identity.validity())]),
    );
    align(&rows)
}

/// Returns the rows about access to Bedrock and Azure models: the region and the credentials; and
/// what the environment sets for models that requests define.
fn access(config: &Config) -> Vec<String> {
    let is_cloud = |model: &&Arc<Model>| {
        matches!(model.provider.credentials(), CredentialKind::Aws | CredentialKind::Azure)
    };
    let from_requests = (config.request_models != RequestModels::Ignore).then_some("request");
    let names = config.models.iter().filter(is_cloud).map(|model| &*model.id).chain(from_requests);
    let rows = names.flat_map(|name| {
        let label = if name == "request" { "models of requests" } else { name };
        let row = move |(key, setting): (&str, &Setting)| {
            vec![
                label.to_owned(),
                key.to_owned(),
                setting.value.clone(),
                config.provenance.show(&setting.origin),
            ]
        };
        config.provenance.access_of(name).map(row)
    });
    align(&rows.collect::<Vec<_>>())
}

fn routing(config: &Config) -> Vec<String> {
    let head = ["feature", "model", "provider", "endpoints", "limits", "decided by"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(Feature::all().map(|feature| row(config, feature)));
    rows.push(default_row(config));
    align(&rows)
}

fn row(config: &Config, feature: Feature) -> Vec<String> {
    let own = config.table.feature_choice(feature);
    let (choice, key, note) = match (own, feature.parent()) {
        (Some((choice, Rule::Parent)), Some(parent)) => (choice, key_of(parent.name()), ""),
        (Some((choice, _)), _) => (choice, key_of(feature.name()), ""),
        (None, _) => match config.table.default_choice() {
            Some(choice) => (choice, key_of("default"), ", if the request names none"),
            None => return without_rule(config, feature.name()),
        },
    };
    let inherited = own.is_none_or(|(_, rule)| rule == Rule::Parent);
    let cap = if inherited { feature.total_limit() } else { None };
    let by = format!("{} {key}{note}", config.provenance.source(&key));
    cells(feature.name(), choice, |route| route.timeouts.capped(cap), by)
}

fn default_row(config: &Config) -> Vec<String> {
    let key = key_of("default");
    match config.table.default_choice() {
        Some(choice) => cells(
            "default",
            choice,
            |route| route.timeouts,
            format!("{} {key}", config.provenance.source(&key)),
        ),
        None => without_rule(config, "default"),
    }
}

/// Returns the row of a feature without a rule in the file: only a request can name a model.
fn without_rule(config: &Config, name: &str) -> Vec<String> {
    let ignored = config.request_models == RequestModels::Ignore;
    let by = if ignored { "no line: 422" } else { "no line: the request's own model, else 422" };
    let dash = || "-".to_owned();
    vec![name.to_owned(), dash(), dash(), dash(), dash(), by.to_owned()]
}

fn cells(
    name: &str,
    choice: &Choice,
    budget: impl Fn(&Route) -> Timeouts,
    by: String,
) -> Vec<String> {
    let dash = || "-".to_owned();
    match choice {
        Choice::Disabled => {
            vec![name.to_owned(), "disabled".to_owned(), dash(), dash(), dash(), by]
        }
        Choice::Model(route) => {
            let endpoints: Vec<String> =
                route.model.endpoints.iter().map(ToString::to_string).collect();
            let model = route.model.id.to_string();
            let provider = route.model.provider.label().to_owned();
            vec![name.to_owned(), model, provider, endpoints.join(", "), limits(budget(route)), by]
        }
    }
}

fn limits(budget: Timeouts) -> String {
    [budget.connect, budget.first_byte, budget.idle, budget.total].map(show_duration).join(" / ")
}

fn key_of(name: &str) -> String {
    format!("features.{name}")
}
