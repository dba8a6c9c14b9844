//! Which replica of a model a request goes to: the cheaper of two that are drawn at random.
//!
//! Cheap is: waits for a first token are short there, and few requests are under way. Two at random rather than
//! the cheapest of all, because workers and gateways that all see the same cheapest replica would all run there
//! (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 1996). A request counts until its
//! answer's body ends: a model server works as long as it streams.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;

/// A replica and its place in the list.
type Placed<'a> = (usize, &'a Arc<Endpoint>);

/// The replica to ask, and its place in the list.
pub(super) fn choose(list: &[Arc<Endpoint>], tried: Tried) -> Option<Placed<'_>> {
    match list {
        [] => None,
        [only] => Some((0, only)),
        [first, ..] => pick(list, tried, first.now()),
    }
}

/// The same at a time given. Those that are due come before those that are not, and those before the ones that
/// this request has tried already: the last resort, never refused.
fn pick(list: &[Arc<Endpoint>], tried: Tried, now: Duration) -> Option<Placed<'_>> {
    let mut tiers: [Two<'_>; 3] = Default::default();
    for (place, endpoint) in list.iter().enumerate() {
        let tier = match (tried.has(place), endpoint.is_due(now)) {
            (false, true) => 0,
            (false, false) => 1,
            (true, _) => 2,
        };
        tiers[tier].offer((place, endpoint));
    }
    let chosen = tiers.iter().find_map(|two| two.cheaper(now))?;
    chosen.1.claim(now);
    Some(chosen)
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

    fn cheaper(&self, now: Duration) -> Option<Placed<'a>> {
        let [first, second] = self.drawn;
        let (Some(a), Some(b)) = (first, second) else { return first };
        let is_first = match compare(a.1, b.1, now) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => fastrand::bool(),
        };
        Some(if is_first { a } else { b })
    }
}

/// By wait × (requests under way + this one). By requests alone while one of the waits is not known: a new
/// replica is neither shunned nor flooded.
fn compare(a: &Endpoint, b: &Endpoint, now: Duration) -> Ordering {
    let (requests_a, requests_b) = (a.inflight() + 1, b.inflight() + 1);
    match (a.wait(now), b.wait(now)) {
        (Some(a), Some(b)) => (a * requests_a as f32).total_cmp(&(b * requests_b as f32)),
        _ => requests_a.cmp(&requests_b),
    }
}

/// Which replicas a request has tried, by their place in the list; the first 64 can be told apart.
#[derive(Clone, Copy, Default)]
pub struct Tried(u64);

impl Tried {
    pub(super) fn has(self, place: usize) -> bool {
        place < 64 && self.0 & (1 << place) != 0
    }

    /// How many.
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the first attempt is still to be made.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Notes a place; whether another is left to try.
    pub fn another(&mut self, place: usize, replicas: usize) -> bool {
        self.0 |= if place < 64 { 1 << place } else { 0 };
        self.count() < replicas.min(64) && place < 64
    }
}

#[cfg(test)]
mod tests;
