//! Reading HTTP/1.1 from a buffer: heads, lengths, chunks. Trusts its peer more than a server may:
//! the peers are ourselves and the gateway under test.

use std::io;

use memchr::memmem;

/// An error for bytes that are not what we expect.
pub fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// One past the blank line that ends the head, once it is there.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a header; names compare without case.
pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (key, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        key.eq_ignore_ascii_case(name.as_bytes())
            .then(|| std::str::from_utf8(value.trim_ascii()).ok())?
    })
}

/// How the end of a body is found.
#[derive(Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes are still to come.
    Length(usize),
    /// Chunked, with the decoder's state.
    Chunked(Chunks),
}

impl Framing {
    /// From a head. A body that ends with its connection is not supported: nobody in this rig sends
    /// one.
    pub fn of(head: &[u8]) -> io::Result<Self> {
        if header(head, "transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
        {
            return Ok(Self::Chunked(Chunks::default()));
        }
        let length = header(head, "content-length").unwrap_or("0");
        length.parse().map(Self::Length).map_err(|_| malformed("content-length"))
    }

    /// Moves body bytes from the front of `received` to `body`; true when that was the end of the
    /// body.
    pub fn decode(&mut self, received: &mut Vec<u8>, body: &mut Vec<u8>) -> io::Result<bool> {
        match self {
            Self::Length(left) => {
                let here = received.len().min(*left);
                body.extend(received.drain(..here));
                *left -= here;
                Ok(*left == 0)
            }
            Self::Chunked(chunks) => chunks.decode(received, body),
        }
    }
}

/// State of a chunked body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    /// Bytes of the current chunk that are still to come, its final CRLF included.
    left: usize,
}

impl Chunks {
    fn decode(&mut self, received: &mut Vec<u8>, body: &mut Vec<u8>) -> io::Result<bool> {
        let mut used = 0;
        let ended = loop {
            let rest = &received[used..];
            if self.left > 0 {
                let here = rest.len().min(self.left);
                let data = here.min(self.left.saturating_sub(2));
                body.extend_from_slice(&rest[..data]);
                self.left -= here;
                used += here;
                if self.left > 0 {
                    break false;
                }
                continue;
            }
            let Some(line) = memmem::find(rest, b"\r\n") else { break false };
            let digits = std::str::from_utf8(&rest[..line]).map_err(|_| malformed("chunk size"))?;
            let size = usize::from_str_radix(digits, 16).map_err(|_| malformed("chunk size"))?;
            if size == 0 {
                // No trailers: the last line is the blank one.
                if rest.len() < line + 4 {
                    break false;
                }
                used += line + 4;
                break true;
            }
            self.left = size + 2;
            used += line + 2;
        };
        received.drain(..used);
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::{Framing, header};

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn header_names_have_no_case() {
        assert_eq!(header(HEAD, "transfer-encoding"), Some("chunked"));
        assert_eq!(header(HEAD, "transfer"), None);
    }

    #[test]
    fn chunks_join_however_the_bytes_arrive() {
        let wire = b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nHTTP";
        for step in 1..wire.len() {
            let mut framing = Framing::of(HEAD).unwrap();
            let (mut received, mut body, mut ends) = (Vec::new(), Vec::new(), 0);
            for piece in wire.chunks(step) {
                received.extend_from_slice(piece);
                if ends == 0 && framing.decode(&mut received, &mut body).unwrap() {
                    ends += 1;
                }
            }
            assert_eq!(
                (body.as_slice(), ends, received.as_slice()),
                (&b"abc0123456789"[..], 1, &b"HTTP"[..])
            );
        }
    }
}
