//! A request body as the pieces it was cut into: large pieces are shared, not copied, so a retry
//! costs reference counts, and a 20 MB chat history is in memory once.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Maximum size of a body that is joined into one piece: one copy is cheaper than several writes.
const JOIN: usize = 64 * 1024;

/// Request body in any number of pieces. Cloning shares the bytes.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Payload {
    /// Creates a body of these pieces in order; empty ones are dropped.
    pub fn from_pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces: Vec<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        let len = pieces.iter().map(Bytes::len).sum();
        if pieces.len() < 2 || len > JOIN {
            return Self { pieces, len };
        }
        let mut joined = BytesMut::with_capacity(len);
        pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
        Self { pieces: vec![joined.freeze()], len }
    }

    /// Returns the length in bytes: the `Content-Length`.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the body is empty.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the pieces in order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// Iterates over the bytes of a range as slices of the pieces, which are shared.
    pub fn slices(&self, range: Range<usize>) -> impl Iterator<Item = Bytes> {
        let mut at = 0;
        self.pieces.iter().filter_map(move |piece| {
            let start = at;
            at += piece.len();
            let (from, to) = (range.start.max(start), range.end.min(at));
            (from < to).then(|| piece.slice(from - start..to - start))
        })
    }

    /// Returns the body as contiguous bytes: a copy, unless it is a single piece.
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
        Self::from_pieces([bytes])
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
    fn a_range_may_span_several_pieces() {
        let (long, end) = (Bytes::from(vec![b'x'; JOIN]), Bytes::from_static(b"end"));
        let payload = Payload::from_pieces([Bytes::from_static(b"{a"), long.clone(), end]);
        let slices = |range| payload.slices(range).collect::<Vec<Bytes>>();
        assert_eq!(slices(0..1), ["{"]);
        assert_eq!(slices(1..4), ["a", "xx"]);
        assert_eq!(slices(2 + JOIN..payload.len()), ["end"]);
        assert_eq!(slices(2..2 + JOIN)[0].as_ptr(), long.as_ptr(), "shared, not copied");
        assert_eq!((slices(5..5).len(), slices(0..usize::MAX).len()), (0, 3));
    }
}
