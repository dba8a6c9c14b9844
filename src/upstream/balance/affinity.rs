//! Which replica has the beginning of a request's prompt cached: a model server keeps what it
//! computed of a prompt, and answers the next one with the same prefix sooner.
//!
//! The prefix is that of the body that is sent, hashed at growing lengths. The table has a fixed
//! size and the newest entry wins, so nothing has to be evicted; an entry that was overwritten
//! costs one cold prompt.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::EndpointUrl;
use crate::wire::Payload;

/// The lengths at which a prefix is hashed. They grow: a long prefix costs few look-ups. A body
/// shorter than the first is not worth it.
const MARKS: [usize; 12] = {
    let mut marks = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
    let mut at = 0;
    while at < marks.len() {
        marks[at] <<= 10;
        at += 1;
    }
    marks
};
/// The prefixes remembered for a model: 128 KiB.
const SLOTS: usize = 1 << 14;

/// The prefix table of one model, shared by all workers.
#[derive(Debug)]
pub(crate) struct Affinity {
    /// The replicas that the indices in `slots` refer to.
    endpoints: Vec<EndpointUrl>,
    /// Random for this process, so that nobody can choose prefixes that collide.
    seed: RandomState,
    /// In each slot the upper 48 bits of a hash, and in the low 16 a replica's index plus one.
    slots: Box<[AtomicU64]>,
}

/// The hashes of a request's prefix, and the table that they are looked up in.
#[derive(Debug)]
pub(crate) struct PrefixMatch<'a> {
    affinity: &'a Affinity,
    hashes: [u64; MARKS.len()],
    marks: usize,
}

impl Affinity {
    /// Creates an empty table.
    pub(crate) fn new(endpoints: Vec<EndpointUrl>) -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { endpoints, seed: RandomState::new(), slots }
    }

    /// Returns whether the table is that of this list: its indices mean nothing for another one.
    pub(crate) fn is_for(&self, endpoints: &[EndpointUrl]) -> bool {
        self.endpoints == endpoints
    }

    /// Hashes the prefix of a body.
    pub(crate) fn lookup_prefix(&self, body: &Payload) -> PrefixMatch<'_> {
        let (mut hasher, mut hashed) = (self.seed.build_hasher(), 0);
        let mut prefix = PrefixMatch { affinity: self, hashes: [0; MARKS.len()], marks: 0 };
        for piece in body.pieces() {
            let mut piece = &piece[..];
            while let Some(mark) = MARKS.get(prefix.marks) {
                let (hashed_part, rest) = piece.split_at(piece.len().min(mark - hashed));
                hasher.write(hashed_part);
                (hashed, piece) = (hashed + hashed_part.len(), rest);
                if hashed < *mark {
                    break;
                }
                prefix.hashes[prefix.marks] = hasher.finish();
                prefix.marks += 1;
            }
        }
        prefix
    }

    fn slot(&self, hash: u64) -> &AtomicU64 {
        &self.slots[hash as usize % SLOTS]
    }
}

impl PrefixMatch<'_> {
    /// Returns the index of the replica that last got the longest part of the prefix, or `None`
    /// when no replica got at least half of it: the part that all requests begin with does not
    /// distinguish them.
    pub(crate) fn index(&self) -> Option<usize> {
        let whole = MARKS[self.marks.checked_sub(1)?];
        let longest_first = (0..self.marks).rev().take_while(|mark| MARKS[*mark] * 2 >= whole);
        longest_first.map(|mark| self.hashes[mark]).find_map(|hash| {
            let packed = self.affinity.slot(hash).load(Ordering::Relaxed);
            if packed >> 16 == hash >> 16 {
                usize::from(packed as u16).checked_sub(1)
            } else {
                None
            }
        })
    }

    /// Records that the request goes to the replica with this index. Does nothing when the index
    /// does not fit in 16 bits.
    pub(crate) fn record(&self, index: usize) {
        let Ok(index) = u16::try_from(index + 1) else { return };
        for hash in &self.hashes[..self.marks] {
            self.affinity.slot(*hash).store(hash >> 16 << 16 | u64::from(index), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Affinity;
    use crate::wire::Payload;

    fn text(length: usize, end: &str) -> Payload {
        let mut text = "x".repeat(length);
        text.push_str(end);
        Bytes::from(text).into()
    }

    #[test]
    fn the_longest_known_prefix_decides_unless_it_is_less_than_half_of_the_body() {
        let affinity = Affinity::new(Vec::new());
        let index = |body: &Payload| affinity.lookup_prefix(body).index();
        assert_eq!(index(&text(5000, "")), None);
        affinity.lookup_prefix(&text(5000, "a")).record(3);
        assert_eq!(index(&text(5000, "b")), Some(3), "the same up to 4 KiB");
        assert_eq!(index(&text(8200, "")), Some(3), "half of it");
        assert_eq!(index(&text(20_000, "")), None, "a quarter of it");
        affinity.lookup_prefix(&text(8200, "")).record(1);
        assert_eq!(index(&text(8300, "c")), Some(1));
        assert_eq!(index(&text(5000, "b")), Some(1), "the newest wins");
        affinity.lookup_prefix(&text(1000, "")).record(2);
        assert_eq!(index(&text(1000, "")), None, "too short to be worth it");
    }

    #[test]
    fn the_pieces_of_a_body_are_hashed_as_one_and_nothing_after_the_last_mark_counts() {
        let affinity = Affinity::new(Vec::new());
        affinity.lookup_prefix(&text(100_000, "a")).record(7);
        assert_eq!(affinity.lookup_prefix(&text(100_000, "b")).index(), Some(7));
        let whole = Bytes::from(vec![b'x'; 70_000]);
        let pieces =
            Payload::from_pieces([whole.slice(..1), whole.slice(1..3000), whole.slice(3000..)]);
        assert_eq!(affinity.lookup_prefix(&pieces).index(), Some(7));
    }

    #[test]
    fn the_table_does_not_grow() {
        let affinity = Affinity::new(Vec::new());
        for n in 0..30_000 {
            affinity.lookup_prefix(&text(1024 - 6, &format!("{n:06}"))).record(n % 8);
        }
        let known = (29_000..30_000).filter(|n| {
            affinity.lookup_prefix(&text(1024 - 6, &format!("{n:06}"))).index() == Some(n % 8)
        });
        assert!(known.count() > 900, "the newest are there");
    }
}
