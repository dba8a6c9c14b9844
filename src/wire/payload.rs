//! A request body as the pieces it was cut into: large pieces are shared, not copied, so a retry costs
//! reference counts and a 20 MB chat history is held once.

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
