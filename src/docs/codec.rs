//! The encoding of the index file: varints and strings, with every length checked.

use std::ops::Range;

/// Appends a varint: seven bits a byte, low ones first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a text with its length in front.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// A reader of encoded bytes. Its methods return `None` when the bytes are cut short or invalid.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position }
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.position)?;
            self.position += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// Reads a number of elements, each of which takes at least a byte: so a wrong count cannot
    /// make us reserve memory.
    pub(super) fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.varint()?).ok()?;
        (count <= self.bytes.len() - self.position).then_some(count)
    }

    /// Reads a length and returns the span of the bytes that follow.
    pub(super) fn span(&mut self) -> Option<Range<usize>> {
        let length = self.count()?;
        let start = self.position;
        self.position += length;
        Some(start..self.position)
    }

    /// Reads the span of a text and checks that it is UTF-8.
    pub(super) fn text(&mut self) -> Option<Range<usize>> {
        let span = self.span()?;
        std::str::from_utf8(&self.bytes[span.clone()]).ok().map(|_| span)
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.position == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, put_text, put_varint};

    #[test]
    fn written_values_are_read_back() {
        let mut out = Vec::new();
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        numbers.iter().for_each(|number| put_varint(&mut out, *number));
        put_text(&mut out, "é");
        let mut cursor = Cursor::new(&out, 0);
        numbers.iter().for_each(|number| assert_eq!(cursor.varint(), Some(*number)));
        assert_eq!(&out[cursor.text().unwrap()], "é".as_bytes());
        assert!(cursor.is_at_end() && cursor.varint().is_none());
    }

    #[test]
    fn lengths_beyond_the_end_are_none() {
        assert_eq!(Cursor::new(&[5, 1, 2], 0).span(), None);
        assert_eq!(Cursor::new(&[1, 0xff], 0).text(), None);
        assert_eq!(Cursor::new(&[0xff; 11], 0).varint(), None);
    }
}
