//! The models of a feature, tried one after the other as long as no part of a response was sent. A
//! fallback may have another dialect and be of another family, so each handler starts over with it,
//! with a prompt of its own.

use std::sync::Arc;

use super::Context;
use crate::error::{GatewayError, Kind, RetryScope};
use crate::route::Route;

impl Context<'_> {
    /// Returns the next model to try after `failed`, and records it for metrics and log; or returns
    /// the error for the client if no model is left or another one cannot help.
    ///
    /// A fallback that refuses the request (its context window is too small, its server lacks the
    /// feature) is skipped and its error is dropped: only the first model decides that a request is
    /// invalid. A fallback that the caller may not use is skipped, too.
    pub(super) fn next_fallback(
        &mut self,
        failed: &Route,
        error: GatewayError,
    ) -> Result<Arc<Route>, GatewayError> {
        let kind = error.kind();
        let refused = kind.row().retry_scope == RetryScope::Never;
        if refused && (self.failed.is_none() || matches!(kind, Kind::Expired(_))) {
            return Err(error);
        }
        let reported = if refused { self.failed.take().unwrap_or(error) } else { error };
        let Some(next) = failed.fallbacks().find(|next| self.caller.can_use(&next.model).is_ok())
        else {
            return Err(reported);
        };
        self.failed = Some(reported);
        self.facts.record_fallback(kind);
        self.record_route(next);
        Ok(Arc::clone(next))
    }
}
