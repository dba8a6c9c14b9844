//! The attempts of one request at one model: one replica after the other, until the response is
//! committed, the total timeout expires, or the model's retry budget is used up.
//!
//! Each attempt starts from nothing: connection, timers, decoder, encoder. What the request's record
//! holds of a failed attempt is reset with it.

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;
use tokio::time::Instant;

use super::{Call, read_to_end};
use crate::error::{GatewayError, Kind, Phase, RetryScope};
use crate::model::Timeouts;
use crate::provider::{Dialect, Outbound, dialect};
use crate::telemetry::RequestInfo;
use crate::upstream::{
    AttemptedSet, ChosenReplica, Endpoint, Inbound, Permit, Sending, SharedAttemptedSet, Timers,
    Upstreams,
};

/// The most that is read of a model server's error body, in bytes.
const MAX_FAULT_BODY: usize = 64 << 10;

/// The attempts so far, and what the next one needs.
pub(super) struct Attempts<'a> {
    upstreams: &'a Upstreams,
    call: Call<'a>,
    dialect: &'static dyn Dialect,
    /// The replicas in the file; empty for a model that the request names by address.
    replicas: &'a [Arc<Endpoint>],
    attempted: AttemptedSet,
    /// The replicas that this and a parallel sequence of attempts have tried, with hedging.
    shared: Option<&'a SharedAttemptedSet>,
    /// Whether these are hedged attempts, which do not queue: they run only if a permit is free.
    is_hedge: bool,
    /// The permit at the model: one for all attempts, until an answer takes it.
    permit: Option<Permit>,
    /// The replica of the attempt in progress.
    current: Option<ChosenReplica>,
    /// The smallest `Retry-After` of a replica so far, in seconds.
    soonest: Option<u64>,
}

impl<'a> Attempts<'a> {
    /// Creates the attempts of a call; none is made yet.
    pub(super) fn new(upstreams: &'a Upstreams, call: Call<'a>) -> Self {
        let model = &call.route.model;
        let replicas =
            call.endpoints.of(&model.id).filter(|_| !model.from_request).unwrap_or_default();
        Self {
            upstreams,
            call,
            dialect: dialect(model.provider),
            replicas,
            attempted: AttemptedSet::default(),
            shared: None,
            is_hedge: false,
            permit: None,
            current: None,
            soonest: None,
        }
    }

    /// Avoids the replicas of the attempts that share `attempted`, and adds its own.
    pub(super) fn sharing(self, attempted: &'a SharedAttemptedSet) -> Self {
        Self { shared: Some(attempted), ..self }
    }

    /// Marks these as the hedged attempts.
    pub(super) fn hedged(self) -> Self {
        Self { is_hedge: true, ..self }
    }

    /// Returns the replicas in the file.
    pub(super) const fn replicas(&self) -> &'a [Arc<Endpoint>] {
        self.replicas
    }

    pub(super) const fn dialect(&self) -> &'static dyn Dialect {
        self.dialect
    }

    pub(super) const fn call(&self) -> Call<'a> {
        self.call
    }

    /// Makes one attempt: sends to a replica that was not tried yet, and classifies the head of its
    /// answer. A refusal because of a clock offset is retried once at the same replica, with the
    /// corrected time.
    pub(super) async fn send(
        &mut self,
        outbound: &mut Outbound,
        facts: &mut RequestInfo,
    ) -> Result<(Inbound, Timers), GatewayError> {
        let (model, dialect) = (&self.call.route.model, self.dialect);
        let renewed = model.access.refreshable();
        if let Some(renewed) = &renewed {
            // boxed, since it rarely waits: every request's future would otherwise reserve its space
            Box::pin(renewed.wait_until_valid(SystemTime::now())).await;
        }
        let mut timers = Timers::start(self.next_timeouts(facts), facts.started);
        if self.permit.is_none() {
            let Call { route, endpoints, .. } = self.call;
            self.permit = match self.is_hedge {
                true => self.upstreams.try_acquire(route, endpoints)?,
                false => self.upstreams.acquire(route, endpoints, &mut timers, facts).await?,
            };
        }
        let (endpoints, tried) = (
            self.call.endpoints,
            self.attempted.union(self.shared.map(SharedAttemptedSet::snapshot)),
        );
        let chosen =
            self.upstreams.choose(model, endpoints, self.replicas, tried, &outbound.body)?;
        let ChosenReplica { index, endpoint } = self.current.insert(chosen);
        self.shared.iter().for_each(|attempted| attempted.insert(*index));
        if self.replicas.len() > 1 && tried.is_empty() {
            endpoint.deposit_retry(facts.started);
        }
        let mut corrected = false;
        loop {
            let sending = Sending { model, endpoint, dialect, outbound: &mut *outbound };
            let inbound = self.upstreams.send(sending, &mut timers, facts).await?;
            if inbound.status.is_success() || model.provider.is_gateway() {
                return Ok((inbound, timers));
            }
            let Inbound { status, headers, body, .. } = inbound;
            // the status is enough where its body cannot be read
            let body =
                read_to_end(body, MAX_FAULT_BODY, model, &mut timers).await.unwrap_or_default();
            facts.upstream_ended = Some(Instant::now());
            match dialect
                .clock_offset(status, &headers, &body, SystemTime::now())
                .filter(|_| !corrected)
            {
                Some(offset) => endpoint.set_clock_offset(offset),
                None => {
                    if let (401 | 403, Some(renewed)) = (status.as_u16(), renewed) {
                        renewed.invalidate();
                    }
                    return Err(dialect.error_from_response(status, &headers, &body));
                }
            }
            corrected = true;
            facts.retries += 1;
        }
    }

    /// Takes the permit: from now on the committed answer holds it.
    pub(super) const fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// Records a failed attempt and prepares the next one. Returns the error for the client where
    /// there is none: the failure is final, no replica is left, or the retry budget is used up.
    pub(super) fn prepare_next(
        &mut self,
        error: GatewayError,
        facts: &mut RequestInfo,
    ) -> Result<(), GatewayError> {
        let error = match &self.call.route.model.api_key {
            Some(key) => error.withholding(key.expose()),
            None => error,
        };
        let Some(ChosenReplica { index, endpoint }) = self.current.take() else {
            return Err(error);
        };
        // nothing was sent, so that a retry adds no load to a model server: it costs no budget
        let is_unsent =
            matches!(error.kind(), Kind::UpstreamConnect | Kind::Expired(Phase::Connect));
        if !is_unsent {
            endpoint.record_failure(&error);
        }
        let error = self.min_retry_after(error);
        self.attempted = self.attempted.union(self.shared.map(SharedAttemptedSet::snapshot));
        let is_retryable = error.kind().row().retry_scope == RetryScope::OtherReplica;
        let was_recorded = self.attempted.insert(index);
        let is_another_left = was_recorded && self.attempted.has_remaining(self.replicas.len());
        if !(is_retryable && is_another_left) {
            return Err(error);
        }
        if !is_unsent && !endpoint.withdraw_retry(Instant::now()) {
            return Err(error.remarked("the retry budget is used up"));
        }
        facts.reset_attempt();
        facts.retries += 1;
        Ok(())
    }

    /// Returns the timeouts of the next attempt. A silent replica is given up after half of the time
    /// left, if another replica or model remains.
    fn next_timeouts(&self, facts: &RequestInfo) -> Timeouts {
        let route = self.call.route;
        let is_last = self.attempted.count() + 1 >= self.replicas.len() && route.fallback.is_none();
        if is_last {
            return route.timeouts;
        }
        let half = route.timeouts.total.saturating_sub(facts.started.elapsed()) / 2;
        Timeouts { first_byte: route.timeouts.first_byte.min(half), ..route.timeouts }
    }

    /// Returns the error with the smallest `Retry-After` of all replicas so far.
    fn min_retry_after(&mut self, error: GatewayError) -> GatewayError {
        let Some(seconds) = error.retry_after_seconds() else { return error };
        let soonest = self.soonest.map_or(seconds, |before| before.min(seconds));
        self.soonest = Some(soonest);
        if soonest < seconds { error.retry_after(Some(HeaderValue::from(soonest))) } else { error }
    }
}
