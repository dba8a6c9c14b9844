//! `Route`: the decision for one request. Shared, never copied.

use std::sync::Arc;

use crate::model::{Budget, Model};
use crate::route::{Class, Feature};

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
    /// Who is asked when this model fails and nothing of an answer has begun. Its total is none of
    /// its own: the request's time goes on.
    pub fallback: Option<Arc<Self>>,
}

impl Route {
    /// The `feature` label.
    pub fn feature_label(&self) -> &'static str {
        self.feature.map_or("direct", Feature::name)
    }

    /// The models that are asked one after the other when this one fails.
    pub fn fallbacks(&self) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::successors(self.fallback.as_ref(), |route| route.fallback.as_ref())
    }

    /// The same models for a feature that has no line of its own; its cap holds for all of them.
    #[must_use]
    pub fn lent(&self, feature: Option<Feature>, rule: Rule) -> Self {
        let fallback =
            self.fallback.as_ref().filter(|_| feature.is_none_or(Feature::may_fall_back));
        Self {
            feature,
            model: Arc::clone(&self.model),
            budget: self.budget.capped(feature.and_then(Feature::total_limit)),
            rule,
            fallback: fallback.map(|next| Arc::new(next.lent(feature, rule))),
        }
    }

    /// Who goes first where requests wait for the model; of a model that a client named itself,
    /// somebody reads along.
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
