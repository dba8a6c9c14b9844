//! `Route`: the routing decision for one request. Shared, never copied.

use std::sync::Arc;

use crate::model::{Model, Timeouts};
use crate::route::{Feature, PriorityClass};

/// Routing decision: the model that answers, for which feature, with which timeouts, and why.
#[derive(Debug)]
pub struct Route {
    /// GitLab's feature; `None` for a model that the client named itself.
    pub feature: Option<Feature>,
    /// Model that answers.
    pub model: Arc<Model>,
    /// Timeouts of the request.
    pub timeouts: Timeouts,
    /// Rule that chose the model.
    pub rule: Rule,
    /// Route that is used when this model fails before a response has begun. It has no total of its
    /// own: the request's total deadline still applies.
    pub fallback: Option<Arc<Self>>,
}

impl Route {
    /// Returns the `feature` label.
    pub fn feature_label(&self) -> &'static str {
        self.feature.map_or("direct", Feature::name)
    }

    /// Iterates over the fallbacks, in the order in which they are used when this model fails.
    pub fn fallbacks(&self) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::successors(self.fallback.as_ref(), |route| route.fallback.as_ref())
    }

    /// Returns the same models for a feature that has no line of its own; the feature's total limit
    /// applies to all of them.
    #[must_use]
    pub fn for_feature(&self, feature: Option<Feature>, rule: Rule) -> Self {
        let fallback =
            self.fallback.as_ref().filter(|_| feature.is_none_or(Feature::can_fall_back));
        Self {
            feature,
            model: Arc::clone(&self.model),
            timeouts: self.timeouts.capped(feature.and_then(Feature::total_limit)),
            rule,
            fallback: fallback.map(|next| Arc::new(next.for_feature(feature, rule))),
        }
    }

    /// Returns the priority class of requests that wait for the model: the feature's, or chat for a
    /// model that the client named itself.
    pub fn class(&self) -> PriorityClass {
        self.feature.map_or(PriorityClass::Chat, Feature::class)
    }
}

/// Rule of precedence that chose the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `[features]` has the feature itself.
    Feature,
    /// `[features]` has the feature's parent.
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
