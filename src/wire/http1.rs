//! The client's side of HTTP/1.1 (RFC 9112): one request head out, one response head and one framed
//! body in. Bytes in, bytes out; the connection is `upstream/http/connection.rs`.
//!
//! Our own instead of hyper's client: that one costs a task, two channel hops per event and 26 KiB
//! per connection, which was most of the cost of an open stream (`manual/decisions/upstream.rs`).

use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// Maximum size of a response head in bytes.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 128;
/// Maximum size of a chunk's size line with its extensions, and of a trailer section, in bytes.
const MAX_LINE: usize = 8 << 10;

/// Error of bytes that are not HTTP/1.1, or of a response whose body cannot be framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotHttp(pub &'static str);

/// Appends a request head; `path` is in parts that are concatenated. The caller's headers are
/// complete but for the length, which a GET without a body has none of (RFC 9110 §8.6).
pub fn write_request_head(
    out: &mut BytesMut,
    method: &str,
    path: &[&str],
    headers: &HeaderMap,
    length: usize,
) {
    out.put_slice(method.as_bytes());
    out.put_slice(b" ");
    path.iter().for_each(|part| out.put_slice(part.as_bytes()));
    out.put_slice(b" HTTP/1.1\r\n");
    for (name, value) in headers {
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
    if length > 0 || method != "GET" {
        out.put_slice(b"content-length: ");
        out.put_slice(itoa::Buffer::new().format(length).as_bytes());
        out.put_slice(b"\r\n");
    }
    out.put_slice(b"\r\n");
}

/// Head of a response.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status; never 1xx, since interim responses are skipped.
    pub status: StatusCode,
    /// Headers as sent.
    pub headers: HeaderMap,
    /// Framing of the body.
    pub framing: Framing,
    /// Whether the connection may be reused after the body.
    pub keep_alive: bool,
}

/// Takes a whole response head from the front of `buffer`; returns `None` until it has arrived.
pub fn read_response_head(buffer: &mut BytesMut) -> Result<Option<ResponseHead>, NotHttp> {
    loop {
        let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut slots);
        let length = match response.parse(buffer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if buffer.len() > MAX_HEAD => {
                return Err(NotHttp("the response head is too long"));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(NotHttp("the response has too many headers"));
            }
            Err(_) => return Err(NotHttp("the response is not HTTP/1.1")),
        };
        let status = response
            .code
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or(NotHttp("no status"))?;
        let is_http10 = response.version == Some(0);
        let spans: Vec<HeaderSpan> =
            response.headers.iter().map(|header| HeaderSpan::of(buffer, header)).collect();
        let head = buffer.split_to(length).freeze();
        if status.is_informational() {
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(NotHttp("the server switched to another protocol"));
            }
            continue;
        }
        let headers = collect_headers(&head, &spans)?;
        let framing = Framing::of(status, &headers)?;
        let has_option = |option: &str| has_token(&headers, &header::CONNECTION, option);
        let is_persistent = !has_option("close") && (!is_http10 || has_option("keep-alive"));
        let keep_alive = is_persistent && framing != Framing::UntilClose;
        return Ok(Some(ResponseHead { status, headers, framing, keep_alive }));
    }
}

/// Byte spans of a header's name and value: offsets, since the parser's borrow ends before the
/// bytes are frozen.
struct HeaderSpan {
    name: Range<usize>,
    value: Range<usize>,
}

impl HeaderSpan {
    fn of(buffer: &[u8], header: &httparse::Header<'_>) -> Self {
        let base = buffer.as_ptr().addr();
        let name = header.name.as_ptr().addr() - base;
        let value = header.value.as_ptr().addr().wrapping_sub(base);
        // an empty value may be a static empty slice
        let value = if header.value.is_empty() { name } else { value };
        Self { name: name..name + header.name.len(), value: value..value + header.value.len() }
    }
}

/// Builds the header map; values share the head's bytes.
fn collect_headers(head: &Bytes, spans: &[HeaderSpan]) -> Result<HeaderMap, NotHttp> {
    let mut headers = HeaderMap::with_capacity(spans.len() + 2);
    for HeaderSpan { name, value } in spans {
        let name =
            HeaderName::from_bytes(&head[name.clone()]).map_err(|_| NotHttp("a header's name"))?;
        let value = HeaderValue::from_maybe_shared(head.slice(value.clone()))
            .map_err(|_| NotHttp("a header's value"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Framing of a body (RFC 9112 §6.3), with the number of bytes that are still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Fixed length: this many bytes are left.
    Length(u64),
    /// Chunked coding.
    Chunked(Chunked),
    /// Every byte until the connection closes.
    UntilClose,
}

impl Framing {
    fn of(status: StatusCode, headers: &HeaderMap) -> Result<Self, NotHttp> {
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(Self::Length(0));
        }
        let lengths = headers.get_all(header::CONTENT_LENGTH);
        if let Some(encoding) = headers.get(header::TRANSFER_ENCODING) {
            // a length too, or a coding that was not requested: request smuggling (§6.1, §6.3)
            let is_chunked = encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
            let is_single = headers.get_all(header::TRANSFER_ENCODING).iter().count() == 1;
            return if is_chunked && is_single && lengths.iter().next().is_none() {
                Ok(Self::Chunked(Chunked::START))
            } else {
                Err(NotHttp("the response's framing is ambiguous"))
            };
        }
        let mut length = None;
        for value in lengths {
            let text = value.to_str().unwrap_or_default().trim();
            let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let parsed = text
                .parse::<u64>()
                .ok()
                .filter(|_| is_number)
                .ok_or(NotHttp("the response's length is no number"))?;
            if length.is_some_and(|length| length != parsed) {
                return Err(NotHttp("the response has two lengths"));
            }
            length = Some(parsed);
        }
        Ok(length.map_or(Self::UntilClose, Self::Length))
    }

    /// Returns whether the body is complete. A body that lasts until the connection closes never
    /// is.
    pub const fn is_complete(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => matches!(chunked.state, ChunkState::Over),
            Self::UntilClose => false,
        }
    }

    /// Decodes bytes of the connection and appends the body's to `out`. Bytes after the body's end
    /// are an error: a connection never has two requests in flight.
    pub fn decode(&mut self, read: &[u8], out: &mut BytesMut) -> Result<(), NotHttp> {
        match self {
            Self::UntilClose => out.extend_from_slice(read),
            Self::Length(left) => {
                if read.len() as u64 > *left {
                    return Err(NotHttp("more bytes than the response's length"));
                }
                *left -= read.len() as u64;
                out.extend_from_slice(read);
            }
            Self::Chunked(chunked) => chunked.decode(read, out)?,
        }
        Ok(())
    }
}

/// Decoder of the chunked coding (RFC 9112 §7.1), wherever the bytes are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    state: ChunkState,
    /// Bytes that are left of the current chunk.
    left: u64,
    /// Length so far of the current line, or of the trailer section.
    line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    /// In a size; whether it has a digit yet.
    Size(bool),
    /// After the size: extensions, ignored, up to the line's end.
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty one.
    TrailerStart,
    Trailer,
    LastLf,
    Over,
}

impl Chunked {
    const START: Self = Self { state: ChunkState::Size(false), left: 0, line: 0 };

    fn decode(&mut self, mut read: &[u8], out: &mut BytesMut) -> Result<(), NotHttp> {
        while let Some((&byte, rest)) = read.split_first() {
            if self.state == ChunkState::Data {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(read.len());
                out.extend_from_slice(&read[..taken]);
                self.left -= taken as u64;
                read = &read[taken..];
                if self.left == 0 {
                    self.state = ChunkState::DataCr;
                }
                continue;
            }
            self.state = self.step(byte)?;
            read = rest;
        }
        Ok(())
    }

    /// Returns the state after one byte of the framing around the data. Fails when the framing is
    /// broken or a line is too long.
    fn step(&mut self, byte: u8) -> Result<ChunkState, NotHttp> {
        const BAD: NotHttp = NotHttp("a chunk's framing is broken");
        self.line += 1;
        if self.line > MAX_LINE {
            return Err(NotHttp("a chunk's line is too long"));
        }
        Ok(match (self.state, byte) {
            (ChunkState::Size(_), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                // sixteen digits fit; a seventeenth would overflow
                self.left = self.left.checked_mul(16).ok_or(BAD)? + u64::from(digit);
                ChunkState::Size(true)
            }
            (ChunkState::Size(true), b';' | b' ' | b'\t') => ChunkState::Extension,
            (ChunkState::Size(true) | ChunkState::Extension, b'\r') => ChunkState::SizeLf,
            (ChunkState::Extension, b) if b != b'\n' => ChunkState::Extension,
            (ChunkState::SizeLf, b'\n') => {
                self.line = 0;
                if self.left == 0 { ChunkState::TrailerStart } else { ChunkState::Data }
            }
            (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
            (ChunkState::DataLf, b'\n') => {
                self.line = 0;
                ChunkState::Size(false)
            }
            (ChunkState::TrailerStart, b'\r') => ChunkState::LastLf,
            (ChunkState::TrailerStart | ChunkState::Trailer, b) if b != b'\n' && b != b'\r' => {
                ChunkState::Trailer
            }
            (ChunkState::Trailer, b'\r') => ChunkState::Trailer,
            (ChunkState::Trailer, b'\n') => ChunkState::TrailerStart,
            (ChunkState::LastLf, b'\n') => ChunkState::Over,
            _ => return Err(BAD),
        })
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, expected: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(expected))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use http::{HeaderMap, HeaderValue};

    use super::{Framing, NotHttp, ResponseHead, read_response_head, write_request_head};

    fn head(text: &str) -> Result<Option<ResponseHead>, NotHttp> {
        read_response_head(&mut BytesMut::from(text))
    }

    fn body(framing: &mut Framing, pieces: &[&[u8]]) -> Result<String, NotHttp> {
        let mut out = BytesMut::new();
        pieces.iter().try_for_each(|piece| framing.decode(piece, &mut out))?;
        Ok(String::from_utf8(out.to_vec()).unwrap())
    }

    fn chunked() -> Framing {
        head("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap().unwrap().framing
    }

    #[test]
    fn writes_a_head() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("h:1"));
        let mut out = BytesMut::new();
        write_request_head(&mut out, "POST", &["/v1", "/x"], &headers, 7);
        assert_eq!(out, "POST /v1/x HTTP/1.1\r\nhost: h:1\r\ncontent-length: 7\r\n\r\n");
    }

    #[test]
    fn takes_a_head_when_it_is_whole_and_leaves_the_rest() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nEmpty:\r\ncontent-length: 3\r\n\r\nxyz";
        for cut in 0..text.len() - 3 {
            assert!(head(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let mut buffer = BytesMut::from(text);
        let head = read_response_head(&mut buffer).unwrap().unwrap();
        assert_eq!(
            (head.status.as_u16(), head.framing, head.keep_alive),
            (200, Framing::Length(3), true)
        );
        assert_eq!(
            (&head.headers["a"], &head.headers["empty"]),
            (&HeaderValue::from_static("b"), &HeaderValue::from_static(""))
        );
        assert_eq!(buffer, "xyz");
    }

    #[test]
    fn detects_when_a_connection_ends() {
        let keep = |text: &str| head(text).unwrap().unwrap().keep_alive;
        assert!(!keep("HTTP/1.1 200 OK\r\nConnection: Close\r\ncontent-length: 0\r\n\r\n"));
        assert!(!keep("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(keep("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n"));
        assert!(!keep("HTTP/1.1 200 OK\r\n\r\n"));
    }

    #[test]
    fn refuses_ambiguous_framing() {
        let refused =
            |headers: &str| head(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n")).is_err();
        assert!(refused("content-length: 1\r\ntransfer-encoding: chunked"));
        assert!(refused("content-length: 1\r\ncontent-length: 2"));
        assert!(refused("content-length: +1"));
        assert!(refused("transfer-encoding: gzip, chunked"));
        assert!(head("SSH-2.0-OpenSSH\r\n\r\n").is_err());
        assert!(head("HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
    }

    #[test]
    fn chunks_come_out_the_same_however_they_are_split() {
        let text =
            b"4\r\nWiki\r\n6;ext=1\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nT: x\r\n\r\n";
        let whole = "Wikipedia in \r\n\r\nchunks.";
        let mut framing = chunked();
        assert_eq!(body(&mut framing, &[text]).unwrap(), whole);
        assert!(framing.is_complete());
        for cut in 0..text.len() {
            let mut framing = chunked();
            assert_eq!(body(&mut framing, &[&text[..cut], &text[cut..]]).unwrap(), whole, "{cut}");
            assert!(framing.is_complete());
        }
        let mut framing = chunked();
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(body(&mut framing, &bytes).unwrap(), whole);
    }

    #[test]
    fn broken_chunks_are_errors() {
        for bad in [
            &b"x"[..],
            b"\r\n",
            b"1\n",
            b"1\r\nab",
            b"1\r\na\n",
            b"FFFFFFFFFFFFFFFFF\r\n",
            b"0\r\n\r\nmore",
        ] {
            assert!(body(&mut chunked(), &[bad]).is_err(), "{bad:?}");
        }
        let long = vec![b'0'; 10_000];
        assert!(body(&mut chunked(), &[&long]).is_err());
        assert!(body(&mut Framing::Length(2), &[b"abc"]).is_err());
    }
}
