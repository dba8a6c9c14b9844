//! The index file's alphabet: varints and strings, written and read with every length checked.

use std::ops::Range;

/// Appends a number, seven bits a byte, low ones first.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a text behind its length.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Reads from a place on; `None` when what is there is not what was written.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A number of things of which each takes a byte at least: so a wrong one cannot make us
    /// reserve memory.
    pub(super) fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.bytes.len() - self.at).then_some(count)
    }

    /// Where the next bytes are, by the length in front of them.
    pub(super) fn span(&mut self) -> Option<Range<usize>> {
        let length = self.count()?;
        let from = self.at;
        self.at += length;
        Some(from..self.at)
    }

    /// The same, of bytes that are text.
    pub(super) fn text(&mut self) -> Option<Range<usize>> {
        let span = self.span()?;
        std::str::from_utf8(&self.bytes[span.clone()]).ok().map(|_| span)
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, put_number, put_text};

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        numbers.iter().for_each(|number| put_number(&mut out, *number));
        put_text(&mut out, "é");
        let mut cursor = Cursor::new(&out, 0);
        numbers.iter().for_each(|number| assert_eq!(cursor.number(), Some(*number)));
        assert_eq!(&out[cursor.text().unwrap()], "é".as_bytes());
        assert!(cursor.is_at_end() && cursor.number().is_none());
    }

    #[test]
    fn lengths_beyond_the_end_are_none() {
        assert_eq!(Cursor::new(&[5, 1, 2], 0).span(), None);
        assert_eq!(Cursor::new(&[1, 0xff], 0).text(), None);
        assert_eq!(Cursor::new(&[0xff; 11], 0).number(), None);
    }
}
