//! The attempts of one request at one model: one replica after the other, as long as nothing of an
//! answer has begun, the total limit has not expired, and the model's retry budget allows it.
//!
//! Each attempt is made anew: connection, timers, flow, decoder, encoder. What the request's record
//! learnt from an attempt that failed is forgotten with it.

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;
use tokio::time::Instant;

use super::{Call, collect};
use crate::error::{Elsewhere, GatewayError, Kind};
use crate::model::Budget;
use crate::provider::{Dialect, Outbound, dialect};
use crate::telemetry::Facts;
use crate::telemetry::labels::Phase;
use crate::upstream::{Endpoint, Inbound, Place, Sending, Timers, Tried, TriedTogether, Upstreams};

/// A model server's error body is read up to this size.
const MAX_FAULT_BODY: usize = 64 << 10;

/// The attempts so far.
pub(super) struct Attempts<'a> {
    upstreams: &'a Upstreams,
    call: Call<'a>,
    dialect: &'static dyn Dialect,
    /// Those that the file names; none for a model that a request brought.
    replicas: &'a [Arc<Endpoint>],
    tried: Tried,
    /// What these and the attempts beside them have tried, if there are any.
    beside: Option<&'a TriedTogether>,
    /// Whether they are an extra, for which nobody is to wait: they have a place only if one is
    /// free.
    is_extra: bool,
    /// The place at the model: one for all attempts, until an answer begins.
    room: Option<Place>,
    /// Whom the attempt under way asks, and its place in the list.
    asked: Option<(usize, Arc<Endpoint>)>,
    /// The smallest `Retry-After` that a replica gave. Seconds.
    soonest: Option<u64>,
}

impl<'a> Attempts<'a> {
    /// None yet.
    pub(super) fn new(upstreams: &'a Upstreams, call: Call<'a>) -> Self {
        let model = &call.route.model;
        let replicas =
            call.endpoints.of(&model.id).filter(|_| !model.from_request).unwrap_or_default();
        Self {
            upstreams,
            call,
            dialect: dialect(model.provider),
            replicas,
            tried: Tried::default(),
            beside: None,
            is_extra: false,
            room: None,
            asked: None,
            soonest: None,
        }
    }

    /// Keeps out of the way of the attempts that share `tried`.
    pub(super) fn beside(self, tried: &'a TriedTogether) -> Self {
        Self { beside: Some(tried), ..self }
    }

    /// The second line of them.
    pub(super) fn extra(self) -> Self {
        Self { is_extra: true, ..self }
    }

    /// Those that the file names.
    pub(super) const fn replicas(&self) -> &'a [Arc<Endpoint>] {
        self.replicas
    }

    pub(super) const fn dialect(&self) -> &'static dyn Dialect {
        self.dialect
    }

    pub(super) const fn call(&self) -> Call<'a> {
        self.call
    }

    /// Makes one attempt: sends to a replica that was not tried yet, and judges the head of its
    /// answer. A refusal that a wrong clock explains is asked once more by the right time, at the
    /// replica whose clock it was.
    pub(super) async fn send(
        &mut self,
        outbound: &mut Outbound,
        facts: &mut Facts,
    ) -> Result<(Inbound, Timers), GatewayError> {
        let (model, dialect) = (&self.call.route.model, self.dialect);
        let renewed = model.access.renewed();
        if let Some(renewed) = &renewed {
            // boxed, since it is rare that it waits: every request's future would otherwise hold
            // its space
            Box::pin(renewed.ready(SystemTime::now())).await;
        }
        let mut timers = Timers::start(self.budget(facts), facts.started);
        if self.room.is_none() {
            let Call { route, endpoints, .. } = self.call;
            self.room = match self.is_extra {
                true => self.upstreams.free_place(route, endpoints)?,
                false => self.upstreams.place(route, endpoints, &mut timers, facts).await?,
            };
        }
        let (endpoints, tried) =
            (self.call.endpoints, self.tried.and(self.beside.map(TriedTogether::so_far)));
        let chosen =
            self.upstreams.choose(model, endpoints, self.replicas, tried, &outbound.body)?;
        self.beside.iter().for_each(|tried| tried.note(chosen.0));
        let (_, endpoint) = self.asked.insert(chosen);
        if self.replicas.len() > 1 && tried.is_none() {
            endpoint.earn_retry(facts.started);
        }
        let mut corrected = false;
        loop {
            let sending = Sending { model, endpoint, dialect, outbound: &mut *outbound };
            let inbound = self.upstreams.send(sending, &mut timers, facts).await?;
            if inbound.status.is_success() || model.provider.is_gateway() {
                return Ok((inbound, timers));
            }
            let Inbound { status, headers, body, .. } = inbound;
            // The status says enough when the body that goes with it cannot be read.
            let body = collect(body, MAX_FAULT_BODY, model, &mut timers).await.unwrap_or_default();
            facts.upstream_ended = Some(Instant::now());
            match dialect
                .clock_offset(status, &headers, &body, SystemTime::now())
                .filter(|_| !corrected)
            {
                Some(offset) => endpoint.set_clock(offset),
                None => {
                    if let (401 | 403, Some(renewed)) = (status.as_u16(), renewed) {
                        renewed.doubt();
                    }
                    return Err(dialect.fault(status, &headers, &body));
                }
            }
            corrected = true;
            facts.retries += 1;
        }
    }

    /// The answer has begun, and takes the place with it.
    pub(super) const fn leave(&mut self) -> Option<Place> {
        self.room.take()
    }

    /// The attempt failed, and nothing of an answer has begun: on return another one may be made,
    /// else this is what the client is told.
    pub(super) fn another(
        &mut self,
        error: GatewayError,
        facts: &mut Facts,
    ) -> Result<(), GatewayError> {
        let error = match &self.call.route.model.api_key {
            Some(key) => error.withholding(key.expose()),
            None => error,
        };
        let Some((place, endpoint)) = self.asked.take() else { return Err(error) };
        // nothing was sent, so that no model server gets more to do: a replica that is down costs
        // no budget
        let is_free = matches!(error.kind(), Kind::UpstreamConnect | Kind::Expired(Phase::Connect));
        if !is_free {
            endpoint.failed(&error);
        }
        let error = self.soonest(error);
        self.tried = self.tried.and(self.beside.map(TriedTogether::so_far));
        let may_help = error.kind().row().elsewhere == Elsewhere::Replica;
        if !(may_help && self.tried.another(place, self.replicas.len())) {
            return Err(error);
        }
        if !is_free && !endpoint.may_retry(Instant::now()) {
            return Err(error.remarked("the retry budget is used up"));
        }
        facts.start_over();
        facts.retries += 1;
        Ok(())
    }

    /// The limits of the next attempt. A replica that stays silent leaves half of the time for
    /// another one or another model, if there is one.
    fn budget(&self, facts: &Facts) -> Budget {
        let route = self.call.route;
        let is_last = self.tried.count() + 1 >= self.replicas.len() && route.fallback.is_none();
        if is_last {
            return route.budget;
        }
        let half = route.budget.total.saturating_sub(facts.started.elapsed()) / 2;
        Budget { first_byte: route.budget.first_byte.min(half), ..route.budget }
    }

    /// When to come back is when the first of the replicas says.
    fn soonest(&mut self, error: GatewayError) -> GatewayError {
        let Some(seconds) = error.retry_after_seconds() else { return error };
        let soonest = self.soonest.map_or(seconds, |before| before.min(seconds));
        self.soonest = Some(soonest);
        if soonest < seconds { error.retry_after(Some(HeaderValue::from(soonest))) } else { error }
    }
}
