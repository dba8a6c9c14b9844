//! Which replica has seen the beginning of a request before: a model server keeps what it computed
//! of a prompt, and the next one that begins alike is answered sooner there.
//!
//! The beginning is that of the body that is sent, hashed at growing lengths. The memory is one
//! table of fixed size in which the newest entry wins, so nothing has to be forgotten; an entry
//! that was overwritten costs one cold prompt.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::EndpointUrl;
use crate::wire::Payload;

/// Lengths at which a beginning is hashed. Growing: a long one costs few look-ups. Less than the
/// first is not worth it.
const MARKS: [usize; 12] = {
    let mut marks = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
    let mut at = 0;
    while at < marks.len() {
        marks[at] <<= 10;
        at += 1;
    }
    marks
};
/// Beginnings remembered for a model: 128 KiB.
const SLOTS: usize = 1 << 14;

/// The memory of one model, for all workers.
#[derive(Debug)]
pub(crate) struct Affinity {
    /// Whose places are noted.
    endpoints: Vec<EndpointUrl>,
    /// Of this process alone, so that nobody can choose beginnings that collide.
    seed: RandomState,
    /// A hash without its low 16 bits, and a replica's place in the list, plus one.
    slots: Box<[AtomicU64]>,
}

/// A request's beginning, and the memory that it is looked up in.
#[derive(Debug)]
pub(crate) struct Kin<'a> {
    affinity: &'a Affinity,
    hashes: [u64; MARKS.len()],
    marks: usize,
}

impl Affinity {
    /// One that remembers nothing.
    pub(crate) fn new(endpoints: Vec<EndpointUrl>) -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { endpoints, seed: RandomState::new(), slots }
    }

    /// Whether it is of this list: places mean nothing in another.
    pub(crate) fn is_of(&self, endpoints: &[EndpointUrl]) -> bool {
        self.endpoints == endpoints
    }

    /// Hashes the beginning of a body.
    pub(crate) fn kin(&self, body: &Payload) -> Kin<'_> {
        let (mut hasher, mut hashed) = (self.seed.build_hasher(), 0);
        let mut kin = Kin { affinity: self, hashes: [0; MARKS.len()], marks: 0 };
        for piece in body.pieces() {
            let mut piece = &piece[..];
            while let Some(mark) = MARKS.get(kin.marks) {
                let (taken, rest) = piece.split_at(piece.len().min(mark - hashed));
                hasher.write(taken);
                (hashed, piece) = (hashed + taken.len(), rest);
                if hashed < *mark {
                    break;
                }
                kin.hashes[kin.marks] = hasher.finish();
                kin.marks += 1;
            }
        }
        kin
    }

    fn slot(&self, hash: u64) -> &AtomicU64 {
        &self.slots[hash as usize % SLOTS]
    }
}

impl Kin<'_> {
    /// The place of the replica that saw the longest part of it, if that is half of it at least:
    /// what all requests begin with says little.
    pub(crate) fn place(&self) -> Option<usize> {
        let whole = MARKS[self.marks.checked_sub(1)?];
        let longest_first = (0..self.marks).rev().take_while(|mark| MARKS[*mark] * 2 >= whole);
        longest_first.map(|mark| self.hashes[mark]).find_map(|hash| {
            let word = self.affinity.slot(hash).load(Ordering::Relaxed);
            if word >> 16 == hash >> 16 { usize::from(word as u16).checked_sub(1) } else { None }
        })
    }

    /// It goes to this one.
    pub(crate) fn note(&self, place: usize) {
        let Ok(place) = u16::try_from(place + 1) else { return };
        for hash in &self.hashes[..self.marks] {
            self.affinity.slot(*hash).store(hash >> 16 << 16 | u64::from(place), Ordering::Relaxed);
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
    fn the_longest_known_beginning_decides_unless_it_is_little_of_the_whole() {
        let affinity = Affinity::new(Vec::new());
        let place = |body: &Payload| affinity.kin(body).place();
        assert_eq!(place(&text(5000, "")), None);
        affinity.kin(&text(5000, "a")).note(3);
        assert_eq!(place(&text(5000, "b")), Some(3), "alike up to 4 KiB");
        assert_eq!(place(&text(8200, "")), Some(3), "half of it");
        assert_eq!(place(&text(20_000, "")), None, "a quarter of it");
        affinity.kin(&text(8200, "")).note(1);
        assert_eq!(place(&text(8300, "c")), Some(1));
        assert_eq!(place(&text(5000, "b")), Some(1), "the newest wins");
        affinity.kin(&text(1000, "")).note(2);
        assert_eq!(place(&text(1000, "")), None, "too short to be worth it");
    }

    #[test]
    fn pieces_are_one_beginning_and_what_lies_behind_the_last_mark_does_not_count() {
        let affinity = Affinity::new(Vec::new());
        affinity.kin(&text(100_000, "a")).note(7);
        assert_eq!(affinity.kin(&text(100_000, "b")).place(), Some(7));
        let whole = Bytes::from(vec![b'x'; 70_000]);
        let pieces = Payload::of([whole.slice(..1), whole.slice(1..3000), whole.slice(3000..)]);
        assert_eq!(affinity.kin(&pieces).place(), Some(7));
    }

    #[test]
    fn the_table_does_not_grow() {
        let affinity = Affinity::new(Vec::new());
        for n in 0..30_000 {
            affinity.kin(&text(1024 - 6, &format!("{n:06}"))).note(n % 8);
        }
        let known = (29_000..30_000)
            .filter(|n| affinity.kin(&text(1024 - 6, &format!("{n:06}"))).place() == Some(n % 8));
        assert!(known.count() > 900, "the newest are there");
    }
}
