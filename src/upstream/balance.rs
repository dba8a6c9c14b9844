//! Which replica of a model a request goes to.

use std::sync::Arc;

use super::endpoint::Endpoint;

/// The replica with the fewest requests under way, among those that are due if there is one; ties are broken at
/// random, so that workers do not move in step. Its place in the list comes with it.
pub(super) fn choose(list: &[Arc<Endpoint>], tried: Tried) -> Option<(usize, &Arc<Endpoint>)> {
    let offset = if list.len() > 1 { fastrand::usize(..list.len()) } else { 0 };
    let rotated = list.iter().enumerate().cycle().skip(offset).take(list.len());
    let best = rotated.min_by_key(|(place, e)| (tried.has(*place), !e.is_due(), e.inflight()))?;
    best.1.claim();
    Some(best)
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
