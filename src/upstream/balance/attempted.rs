//! The replicas that a request has attempted, by their index in the list; the first 64 can be
//! recorded.

use std::sync::atomic::{AtomicU64, Ordering};

/// The set of replicas that one sequence of attempts has tried.
#[derive(Clone, Copy, Default)]
pub struct AttemptedSet {
    bits: u64,
}

/// The set that the hedged sequences of attempts of one request share, so that each avoids the
/// replicas of the others.
#[derive(Debug, Default)]
pub struct SharedAttemptedSet {
    bits: AtomicU64,
}

impl AttemptedSet {
    /// Returns whether this index was inserted.
    pub(super) fn contains(self, index: usize) -> bool {
        self.bits & bit(index) != 0
    }

    /// Returns the number of replicas attempted.
    pub const fn count(self) -> usize {
        self.bits.count_ones() as usize
    }

    /// Returns whether no replica was attempted yet.
    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// Returns the union of both sets.
    #[must_use]
    pub fn union(self, other: Option<Self>) -> Self {
        Self { bits: self.bits | other.map_or(0, |other| other.bits) }
    }

    /// Inserts an index. Returns false when it is beyond the first 64: it cannot be recorded, and
    /// would be attempted again.
    pub const fn insert(&mut self, index: usize) -> bool {
        self.bits |= bit(index);
        bit(index) != 0
    }

    /// Returns whether a replica is left to attempt, of this many.
    pub fn has_remaining(self, replicas: usize) -> bool {
        self.count() < replicas.min(64)
    }
}

impl SharedAttemptedSet {
    /// Returns the set as it is now.
    pub fn snapshot(&self) -> AttemptedSet {
        AttemptedSet { bits: self.bits.load(Ordering::Relaxed) }
    }

    /// Inserts an index.
    pub fn insert(&self, index: usize) {
        self.bits.fetch_or(bit(index), Ordering::Relaxed);
    }
}

/// Returns the bit of an index, 0 beyond the first 64.
const fn bit(index: usize) -> u64 {
    if index < 64 { 1 << index } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::{AttemptedSet, SharedAttemptedSet};

    #[test]
    fn a_shared_set_and_an_own_one_are_united() {
        let (shared, mut own) = (SharedAttemptedSet::default(), AttemptedSet::default());
        assert!(shared.snapshot().is_empty() && own.is_empty());
        shared.insert(3);
        shared.insert(64);
        assert!(own.insert(0) && own.has_remaining(3));
        let both = own.union(Some(shared.snapshot()));
        assert!(both.contains(0) && both.contains(3) && !both.contains(1) && !both.contains(64));
        assert_eq!((both.count(), own.count(), own.union(None).count()), (2, 1, 1));
        assert!(own.insert(1) && !own.has_remaining(2), "both were attempted");
        assert!(!own.insert(64), "an index that cannot be recorded is the last");
    }
}
