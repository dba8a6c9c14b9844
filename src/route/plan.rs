//! `Route`: the decision for one request. Shared, never copied.

use std::sync::Arc;

use super::{Budget, Class, Feature, Model};

/// Which model answers, for which feature, within which limits, and why.
#[derive(Debug)]
pub struct Route {
    /// GitLab's feature, or none for a model that the client named itself.
    pub feature: Option<Feature>,
    /// The model.
    pub model: Arc<Model>,
    /// The four limits.
    pub budget: Budget,
    /// Which rule chose the model.
    pub rule: Rule,
}

impl Route {
    /// The `feature` label.
    pub fn feature_label(&self) -> &'static str {
        self.feature.map_or("direct", Feature::name)
    }

    /// Who goes first where requests wait for the model; of a model that a client named itself, somebody reads along.
    pub fn class(&self) -> Class {
        self.feature.map_or(Class::Chat, Feature::class)
    }
}

/// The rule of precedence that decided (config.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `[features]` names the feature itself.
    Feature,
    /// `[features]` names its parent.
    Parent,
    /// The request named the model.
    Request,
    /// The caller's token is bound to the model.
    Token,
    /// `features.default`.
    Default,
    /// An OpenAI-style request named a model of the file.
    Named,
}
