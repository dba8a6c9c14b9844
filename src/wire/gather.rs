//! Bytes that arrive in pieces and are needed as one. A single piece, the usual case, is not
//! copied.

use bytes::{Bytes, BytesMut};

/// Pieces that have arrived so far. The caller bounds their total length.
#[derive(Debug, Default)]
pub struct ChunkBuffer {
    first: Bytes,
    joined: BytesMut,
}

impl ChunkBuffer {
    /// Appends a piece.
    pub fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
            return;
        }
        if self.joined.is_empty() {
            self.joined.extend_from_slice(&self.first);
        }
        self.joined.extend_from_slice(&piece);
    }

    /// Returns the number of bytes so far.
    pub fn len(&self) -> usize {
        self.first.len().max(self.joined.len())
    }

    /// Returns whether no bytes have arrived yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes so far.
    pub fn as_slice(&self) -> &[u8] {
        if self.joined.is_empty() { &self.first } else { &self.joined }
    }

    /// Returns all bytes as one; copied only if there were several pieces.
    pub fn into_bytes(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::ChunkBuffer;

    #[test]
    fn joins_pieces_and_copies_only_when_there_are_several() {
        let piece = Bytes::from_static(b"one");
        let mut gather = ChunkBuffer::default();
        gather.push(Bytes::new());
        gather.push(piece.clone());
        gather.push(Bytes::new());
        assert_eq!((gather.len(), gather.is_empty()), (3, false));
        gather.push(Bytes::from_static(b"two"));
        assert_eq!((gather.len(), gather.into_bytes()), (6, Bytes::from_static(b"onetwo")));
        let mut gather = ChunkBuffer::default();
        gather.push(piece.clone());
        assert_eq!(gather.into_bytes().as_ptr(), piece.as_ptr());
    }
}
