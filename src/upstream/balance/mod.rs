//! Which replica of a model a request goes to: the cheaper of two that are drawn at random from the
//! available ones.
//!
//! Cheap means: requests wait a short time for their first token there, and few are under way. Two
//! at random rather than the cheapest of all, because workers and gateways that all see the same
//! cheapest replica would all send to it (Mitzenmacher, "The Power of Two Choices in Randomized
//! Load Balancing", 1996). A request counts until its response's body ends: a model server works as
//! long as it streams.
//!
//! An open breaker makes a replica passed over, never refused: when more than half of the reachable
//! replicas fail, the fault is more likely in the requests, or the load, and all of them get
//! requests again.

pub(super) mod affinity;
pub(super) mod attempted;
pub(super) mod inflight;
pub(super) mod peak_ewma;
pub(super) mod reported_load;
pub(super) mod timestamped;

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;
use crate::upstream::balance::affinity::{Affinity, PrefixMatch};
use crate::upstream::health::breaker::Availability;
use crate::wire::Payload;
use attempted::AttemptedSet;

/// How much more load than another replica the one with the cached prefix may have: this many times
/// as much,
const SKEW: f32 = 1.5;
/// and this many requests on top.
const SLACK: f32 = 4.0;

/// A replica and its index in the list.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) index: usize,
    pub(super) endpoint: &'a Arc<Endpoint>,
}

/// Chooses the replica that a request goes to, and records its prefix there; `None` when the list
/// is empty.
pub(super) fn choose<'a>(
    list: &'a [Arc<Endpoint>],
    attempted: AttemptedSet,
    affinity: Option<&Affinity>,
    body: &Payload,
) -> Option<Candidate<'a>> {
    match list {
        [] => None,
        [only] => Some(Candidate { index: 0, endpoint: only }),
        [first, ..] => {
            let prefix = affinity.map(|affinity| affinity.lookup_prefix(body));
            let cached_at = prefix.as_ref().and_then(PrefixMatch::index);
            let chosen = pick(list, attempted, cached_at, first.now())?;
            if let Some(prefix) = prefix {
                prefix.record(chosen.index);
            }
            Some(chosen)
        }
    }
}

/// Chooses as [`choose`] does, at a given time. `cached_at`: the index of the replica that has the
/// request's prefix cached.
fn pick(
    list: &[Arc<Endpoint>],
    attempted: AttemptedSet,
    cached_at: Option<usize>,
    now: Duration,
) -> Option<Candidate<'_>> {
    let candidates = Candidates::collect(list, attempted, now);
    // a half-open replica is probed by a request that has not failed yet, if there is a choice
    let probe =
        candidates.half_open.filter(|_| attempted.is_empty() || candidates.ready.is_empty());
    if let Some(probe) = probe.filter(|probe| probe.endpoint.try_probe(now)) {
        return Some(probe);
    }
    if candidates.are_most_open() {
        return candidates.reachable.any_but_open(now);
    }
    let ready = candidates.ready.cheaper(now);
    let cached = cached_at.and_then(|index| Some(Candidate { index, endpoint: list.get(index)? }));
    if let (Some(ready), Some(cached)) = (ready, cached)
        && !attempted.contains(cached.index)
        && cached.endpoint.availability(now) == Availability::Available
        && cached.endpoint.load(now) <= ready.endpoint.load(now).mul_add(SKEW, SLACK)
    {
        return Some(cached);
    }
    ready
        .or_else(|| candidates.reachable.any_but_open(now))
        .or_else(|| candidates.unreachable.cheaper(now))
        .or_else(|| candidates.attempted.cheaper(now))
}

/// The replicas of a model by availability, two drawn of each kind.
#[derive(Default)]
struct Candidates<'a> {
    /// Available, or in slow start and drawn for a request.
    ready: TwoChoices<'a>,
    /// The ready ones, those in slow start that were not drawn, and those whose breaker is open.
    reachable: TwoChoices<'a>,
    /// The unreachable ones, and those that are half open.
    unreachable: TwoChoices<'a>,
    /// Those that this request has attempted: the last resort.
    attempted: TwoChoices<'a>,
    /// The first that a request may probe.
    half_open: Option<Candidate<'a>>,
    /// How many breakers are open.
    open: usize,
    /// How many breakers are closed, in slow start or after it.
    closed: usize,
}

impl<'a> Candidates<'a> {
    fn collect(list: &'a [Arc<Endpoint>], attempted: AttemptedSet, now: Duration) -> Self {
        let mut candidates = Self::default();
        for (index, endpoint) in list.iter().enumerate() {
            let candidate = Candidate { index, endpoint };
            let availability = endpoint.availability(now);
            match availability {
                Availability::Available | Availability::SlowStart(_) => candidates.closed += 1,
                Availability::Open => candidates.open += 1,
                Availability::HalfOpen | Availability::Unreachable => {}
            }
            if attempted.contains(index) {
                candidates.attempted.consider(candidate);
                continue;
            }
            match availability {
                Availability::Unreachable => candidates.unreachable.consider(candidate),
                Availability::HalfOpen => {
                    candidates.half_open = candidates.half_open.or(Some(candidate));
                    candidates.unreachable.consider(candidate);
                }
                Availability::Available => candidates.ready.consider(candidate),
                Availability::SlowStart(share) if fastrand::f32() < share => {
                    candidates.ready.consider(candidate);
                }
                Availability::SlowStart(_) | Availability::Open => {}
            }
            if !matches!(availability, Availability::Unreachable | Availability::HalfOpen) {
                candidates.reachable.consider(candidate);
            }
        }
        candidates
    }

    /// Returns whether so many breakers are open that something other than the replicas is likely
    /// at fault.
    const fn are_most_open(&self) -> bool {
        self.open > self.closed && !self.reachable.is_empty()
    }
}

/// A reservoir of two of the candidates considered, each pair with the same probability.
#[derive(Default)]
struct TwoChoices<'a> {
    considered: usize,
    chosen: [Option<Candidate<'a>>; 2],
}

impl<'a> TwoChoices<'a> {
    fn consider(&mut self, candidate: Candidate<'a>) {
        let slot =
            if self.considered < 2 { self.considered } else { fastrand::usize(..=self.considered) };
        if let Some(slot) = self.chosen.get_mut(slot) {
            *slot = Some(candidate);
        }
        self.considered += 1;
    }

    const fn is_empty(&self) -> bool {
        self.considered == 0
    }

    /// Returns the cheaper of the two. An idle one comes first whatever its cost: a single slow
    /// response would otherwise keep requests from it for long.
    fn cheaper(&self, now: Duration) -> Option<Candidate<'a>> {
        self.prefer(|a, b| b.is_idle(now).cmp(&a.is_idle(now)).then_with(|| compare(a, b, now)))
    }

    /// Returns one whose breaker is not open, if there is one. Cost does not count: a replica that
    /// fails fast has little load, and would get every request.
    fn any_but_open(&self, now: Duration) -> Option<Candidate<'a>> {
        let is_open = |endpoint: &Endpoint| endpoint.availability(now) == Availability::Open;
        self.prefer(|a, b| is_open(a).cmp(&is_open(b)))
    }

    /// Returns the lesser of the two by `compare`, a random one of equals.
    fn prefer(&self, compare: impl Fn(&Endpoint, &Endpoint) -> Ordering) -> Option<Candidate<'a>> {
        let [first, second] = self.chosen;
        let (Some(a), Some(b)) = (first, second) else { return first };
        let is_first = match compare(a.endpoint, b.endpoint) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => fastrand::bool(),
        };
        Some(if is_first { a } else { b })
    }
}

/// Compares two replicas by first-token wait × (requests under way + this one). By requests alone
/// while one of the waits is not known: a new replica is neither avoided nor flooded.
fn compare(a: &Endpoint, b: &Endpoint, now: Duration) -> Ordering {
    let (load_a, load_b) = (a.load(now) + 1.0, b.load(now) + 1.0);
    match (a.first_token_wait(now), b.first_token_wait(now)) {
        (Some(a), Some(b)) => (a * load_a).total_cmp(&(b * load_b)),
        _ => load_a.total_cmp(&load_b),
    }
}

#[cfg(test)]
mod tests;
