//! A request body as the pieces it was cut into: large pieces are shared, not copied, so a retry
//! costs reference counts and a 20 MB chat history is held once.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Bodies up to this size are joined into one piece: one copy is cheaper than more writes.
const JOIN: usize = 64 * 1024;

/// A body in one or more pieces. Cloning shares the bytes.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Payload {
    /// From pieces in order; empty ones are dropped.
    pub fn of(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces: Vec<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        let len = pieces.iter().map(Bytes::len).sum();
        if pieces.len() < 2 || len > JOIN {
            return Self { pieces, len };
        }
        let mut joined = BytesMut::with_capacity(len);
        pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
        Self { pieces: vec![joined.freeze()], len }
    }

    /// Bytes in all: the `Content-Length`.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// No bytes at all.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces in order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// What stands in this range, shared.
    pub fn slices(&self, range: Range<usize>) -> impl Iterator<Item = Bytes> {
        let mut at = 0;
        self.pieces.iter().filter_map(move |piece| {
            let start = at;
            at += piece.len();
            let (from, to) = (range.start.max(start), range.end.min(at));
            (from < to).then(|| piece.slice(from - start..to - start))
        })
    }

    /// One contiguous copy, or the one piece itself.
    pub fn to_bytes(&self) -> Bytes {
        match self.pieces.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::of([bytes])
    }
}

impl From<&Bytes> for Payload {
    fn from(bytes: &Bytes) -> Self {
        bytes.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{JOIN, Payload};

    #[test]
    fn a_range_is_found_in_whatever_pieces_it_stands() {
        let (long, end) = (Bytes::from(vec![b'x'; JOIN]), Bytes::from_static(b"end"));
        let payload = Payload::of([Bytes::from_static(b"{a"), long.clone(), end]);
        let slices = |range| payload.slices(range).collect::<Vec<Bytes>>();
        assert_eq!(slices(0..1), ["{"]);
        assert_eq!(slices(1..4), ["a", "xx"]);
        assert_eq!(slices(2 + JOIN..payload.len()), ["end"]);
        assert_eq!(slices(2..2 + JOIN)[0].as_ptr(), long.as_ptr(), "shared, not copied");
        assert_eq!((slices(5..5).len(), slices(0..usize::MAX).len()), (0, 3));
    }
}
