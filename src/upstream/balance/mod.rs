//! Which replica of a model a request goes to: the cheaper of two that are drawn at random from
//! those that are in.
//!
//! Cheap is: waits for a first token are short there, and few requests are under way. Two at random
//! rather than the cheapest of all, because workers and gateways that all see the same cheapest
//! replica would all run there (Mitzenmacher, "The Power of Two Choices in Randomized Load
//! Balancing", 1996). A request counts until its answer's body ends: a model server works as long
//! as it streams.
//!
//! A replica that is out is passed over, never refused: when more than half of those that are there
//! fail, it is rather the requests that are at fault, or the load, and all of them are asked again.

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
use crate::upstream::balance::affinity::{Affinity, Kin};
use crate::upstream::health::breaker::Standing;
use crate::wire::Payload;
use attempted::Tried;

/// How much more than another the replica that knows a request's beginning may have to do: so many
/// times as much,
const SKEW: f32 = 1.5;
/// and so many requests on top.
const SLACK: f32 = 4.0;

/// A replica and its place in the list.
type Placed<'a> = (usize, &'a Arc<Endpoint>);

/// The replica to ask, and its place in the list.
pub(super) fn choose<'a>(
    list: &'a [Arc<Endpoint>],
    tried: Tried,
    affinity: Option<&Affinity>,
    body: &Payload,
) -> Option<Placed<'a>> {
    match list {
        [] => None,
        [only] => Some((0, only)),
        [first, ..] => {
            let kin = affinity.map(|affinity| affinity.kin(body));
            let chosen = pick(list, tried, kin.as_ref().and_then(Kin::place), first.now())?;
            if let Some(kin) = kin {
                kin.note(chosen.0);
            }
            Some(chosen)
        }
    }
}

/// The same at a time given. `known`: the place of the replica that has seen such a request before.
fn pick(
    list: &[Arc<Endpoint>],
    tried: Tried,
    known: Option<usize>,
    now: Duration,
) -> Option<Placed<'_>> {
    let drawn = Drawn::from(list, tried, now);
    // one that may be back is seen to by a request that has not failed yet, if there is a choice
    let due = drawn.due.filter(|_| tried.is_none() || drawn.ready.is_empty());
    if let Some(due) = due.filter(|due| due.1.claim(now)) {
        return Some(due);
    }
    if drawn.are_most_failing() {
        return drawn.there.any_but_failing(now);
    }
    let ready = drawn.ready.cheaper(now);
    let known = known.and_then(|place| Some((place, list.get(place)?)));
    if let (Some(ready), Some(known)) = (ready, known)
        && !tried.has(known.0)
        && known.1.standing(now) == Standing::In
        && known.1.load(now) <= ready.1.load(now).mul_add(SKEW, SLACK)
    {
        return Some(known);
    }
    let ready = ready.or_else(|| drawn.there.any_but_failing(now));
    ready.or_else(|| drawn.away.cheaper(now)).or_else(|| drawn.tried.cheaper(now))
}

/// Two of each kind.
#[derive(Default)]
struct Drawn<'a> {
    /// Those to ask.
    ready: Two<'a>,
    /// Those, those that are to have less for now, and those that fail.
    there: Two<'a>,
    /// Those that are not there.
    away: Two<'a>,
    /// Those that this request has tried: the last resort.
    tried: Two<'a>,
    /// One that a request may see to.
    due: Option<Placed<'a>>,
    failing: usize,
    sound: usize,
}

impl<'a> Drawn<'a> {
    fn from(list: &'a [Arc<Endpoint>], tried: Tried, now: Duration) -> Self {
        let mut drawn = Self::default();
        for placed @ (place, endpoint) in list.iter().enumerate() {
            let standing = endpoint.standing(now);
            match standing {
                Standing::In | Standing::Rising(_) => drawn.sound += 1,
                Standing::Failing => drawn.failing += 1,
                Standing::Due | Standing::Away => {}
            }
            if tried.has(place) {
                drawn.tried.offer(placed);
                continue;
            }
            match standing {
                Standing::Away => drawn.away.offer(placed),
                Standing::Due => {
                    drawn.due = drawn.due.or(Some(placed));
                    drawn.away.offer(placed);
                }
                Standing::In => drawn.ready.offer(placed),
                Standing::Rising(share) if fastrand::f32() < share => drawn.ready.offer(placed),
                Standing::Rising(_) | Standing::Failing => {}
            }
            if !matches!(standing, Standing::Away | Standing::Due) {
                drawn.there.offer(placed);
            }
        }
        drawn
    }

    /// Whether it is likelier that something else is at fault than so many replicas.
    const fn are_most_failing(&self) -> bool {
        self.failing > self.sound && !self.there.is_empty()
    }
}

/// Two of those offered, each pair as likely as any other.
#[derive(Default)]
struct Two<'a> {
    offered: usize,
    drawn: [Option<Placed<'a>>; 2],
}

impl<'a> Two<'a> {
    fn offer(&mut self, placed: Placed<'a>) {
        let slot = if self.offered < 2 { self.offered } else { fastrand::usize(..=self.offered) };
        if let Some(slot) = self.drawn.get_mut(slot) {
            *slot = Some(placed);
        }
        self.offered += 1;
    }

    const fn is_empty(&self) -> bool {
        self.offered == 0
    }

    /// By cost; before that, one that is there for nothing: a single slow answer would keep
    /// requests from it for long.
    fn cheaper(&self, now: Duration) -> Option<Placed<'a>> {
        self.better(|a, b| {
            b.is_forgotten(now).cmp(&a.is_forgotten(now)).then_with(|| compare(a, b, now))
        })
    }

    /// Not by cost: whoever fails fast has little to do, and would get everything.
    fn any_but_failing(&self, now: Duration) -> Option<Placed<'a>> {
        let is_failing = |endpoint: &Endpoint| endpoint.standing(now) == Standing::Failing;
        self.better(|a, b| is_failing(a).cmp(&is_failing(b)))
    }

    fn better(&self, compare: impl Fn(&Endpoint, &Endpoint) -> Ordering) -> Option<Placed<'a>> {
        let [first, second] = self.drawn;
        let (Some(a), Some(b)) = (first, second) else { return first };
        let is_first = match compare(a.1, b.1) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => fastrand::bool(),
        };
        Some(if is_first { a } else { b })
    }
}

/// By wait × (requests under way + this one). By requests alone while one of the waits is not
/// known: a new replica is neither shunned nor flooded.
fn compare(a: &Endpoint, b: &Endpoint, now: Duration) -> Ordering {
    let (load_a, load_b) = (a.load(now) + 1.0, b.load(now) + 1.0);
    match (a.wait(now), b.wait(now)) {
        (Some(a), Some(b)) => (a * load_a).total_cmp(&(b * load_b)),
        _ => load_a.total_cmp(&load_b),
    }
}

#[cfg(test)]
mod tests;
