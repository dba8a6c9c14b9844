//! The models of a feature, asked one after the other as long as nothing of an answer has begun. A
//! fallback may speak another dialect and be of another family, so each handler asks it from the
//! beginning, with a prompt of its own.

use std::sync::Arc;

use super::Context;
use crate::error::{Elsewhere, GatewayError, Kind};
use crate::route::Route;

impl Context<'_> {
    /// The model to ask instead of the one that failed, noted for metrics and log; or what the
    /// client is told.
    ///
    /// A fallback that refuses the request (its window is too small, its server has no such thing)
    /// is passed over, and does not count: that the request is wrong is for the first model to say.
    /// So is one that the caller may not use.
    pub(super) fn instead(
        &mut self,
        failed: &Route,
        error: GatewayError,
    ) -> Result<Arc<Route>, GatewayError> {
        let kind = error.kind();
        let refused = kind.row().elsewhere == Elsewhere::Nowhere;
        if refused && (self.failed.is_none() || matches!(kind, Kind::Expired(_))) {
            return Err(error);
        }
        let told = if refused { self.failed.take().unwrap_or(error) } else { error };
        let Some(next) = failed.fallbacks().find(|next| self.caller.may_use(&next.model).is_ok())
        else {
            return Err(told);
        };
        self.failed = Some(told);
        self.facts.fall_back(kind);
        self.routed(next);
        Ok(Arc::clone(next))
    }
}
