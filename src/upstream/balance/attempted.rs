//! Which replicas a request has tried, by their place in the list; the first 64 can be told apart.

use std::sync::atomic::{AtomicU64, Ordering};

/// What one line of attempts has tried.
#[derive(Clone, Copy, Default)]
pub struct Tried(u64);

/// What several lines of attempts at one request have tried, each to keep out of the others' way.
#[derive(Debug, Default)]
pub struct TriedTogether(AtomicU64);

impl Tried {
    pub(super) fn has(self, place: usize) -> bool {
        self.0 & bit(place) != 0
    }

    /// How many.
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the first attempt is still to be made.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Option<Self>) -> Self {
        Self(self.0 | other.map_or(0, |other| other.0))
    }

    /// Notes a place; whether another is left to try.
    pub fn another(&mut self, place: usize, replicas: usize) -> bool {
        self.0 |= bit(place);
        self.count() < replicas.min(64) && place < 64
    }
}

impl TriedTogether {
    /// So far.
    pub fn so_far(&self) -> Tried {
        Tried(self.0.load(Ordering::Relaxed))
    }

    /// Notes a place.
    pub fn note(&self, place: usize) {
        self.0.fetch_or(bit(place), Ordering::Relaxed);
    }
}

/// None for a place that cannot be told apart.
const fn bit(place: usize) -> u64 {
    if place < 64 { 1 << place } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::{Tried, TriedTogether};

    #[test]
    fn what_one_line_tries_the_other_knows() {
        let (together, mut alone) = (TriedTogether::default(), Tried::default());
        assert!(together.so_far().is_none() && alone.is_none());
        together.note(3);
        together.note(64);
        assert!(alone.another(0, 3));
        let both = alone.and(Some(together.so_far()));
        assert!(both.has(0) && both.has(3) && !both.has(1) && !both.has(64));
        assert_eq!((both.count(), alone.count(), alone.and(None).count()), (2, 1, 1));
        assert!(!alone.another(1, 2), "both were tried");
        assert!(!alone.another(64, 100), "who cannot be told apart is the last");
    }
}
