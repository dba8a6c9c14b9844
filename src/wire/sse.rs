//! Server-sent events: splitting a byte stream into events (WHATWG HTML §9.2.5). Events remain
//! bytes; a chunk of whole events is passed on without a copy.
//!
//! Line ends are `\n` and `\r\n`; a lone `\r`, which the standard allows and no model server sends,
//! is an ordinary byte here.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::memchr;

/// Error of an event that exceeds the size limit, which the field holds in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {0} bytes")]
pub struct EventTooLong(pub usize);

/// Splitter of chunks into events. Each event includes the blank line that ends it.
#[derive(Debug)]
pub struct SseFrames {
    /// Unread rest of one chunk: its events are slices of it.
    chunk: Bytes,
    /// Start of an event that spans chunks, and the bytes after it; `chunk` is empty then.
    joined: BytesMut,
    /// Number of pending bytes that contain no event's end: a long event is not searched again with
    /// every chunk.
    searched: usize,
    max: usize,
}

impl SseFrames {
    /// Creates a splitter. `max` bounds one event in bytes, and with it the memory of one stream.
    pub fn new(max: usize) -> Self {
        Self { chunk: Bytes::new(), joined: BytesMut::new(), searched: 0, max }
    }

    /// Appends the next chunk of the stream.
    pub fn feed(&mut self, chunk: Bytes) {
        if self.pending().is_empty() {
            self.chunk = chunk;
            return;
        }
        let start = std::mem::take(&mut self.chunk);
        self.joined.extend_from_slice(&start);
        self.joined.extend_from_slice(&chunk);
    }

    /// Returns the next whole event, or `None` until more has been fed. Fails when the event
    /// exceeds the limit.
    pub fn next_event(&mut self) -> Result<Option<Bytes>, EventTooLong> {
        let pending = self.pending();
        let end = event_end(pending, self.searched);
        if end.unwrap_or(pending.len()) > self.max {
            return Err(EventTooLong(self.max));
        }
        // the last two bytes may be the beginning of a blank line
        self.searched = if end.is_some() { 0 } else { pending.len().saturating_sub(2) };
        Ok(end.map(|end| self.split_to(end)))
    }

    /// Returns the bytes that are not a whole event yet.
    pub fn pending(&self) -> &[u8] {
        if self.joined.is_empty() { &self.chunk } else { &self.joined }
    }

    /// Takes the incomplete rest, at the end of the stream.
    pub fn take_rest(&mut self) -> Bytes {
        self.searched = 0;
        self.split_to(self.pending().len())
    }

    fn split_to(&mut self, end: usize) -> Bytes {
        if self.joined.is_empty() {
            return self.chunk.split_to(end);
        }
        if end < self.joined.len() {
            return self.joined.split_to(end).freeze();
        }
        // an open stream between two events keeps no buffer
        std::mem::take(&mut self.joined).freeze()
    }
}

/// Returns the index after the blank line that ends the first event, or `None`. No event ends
/// before `from`.
fn event_end(bytes: &[u8], mut from: usize) -> Option<usize> {
    while let Some(newline) = memchr(b'\n', bytes.get(from..)?) {
        let next = from + newline + 1;
        match (bytes.get(next), bytes.get(next + 1)) {
            (Some(b'\n'), _) => return Some(next + 1),
            (Some(b'\r'), Some(b'\n')) => return Some(next + 2),
            _ => from = next,
        }
    }
    None
}

/// Returns the `data` of an event: its lines joined by `\n`, each without one leading space. `None`
/// when the event has no data (a comment, a bare `event:`).
pub fn event_data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut data: Option<Cow<'_, [u8]>> = None;
    for line in event.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(value) = line.strip_prefix(b"data") else {
            continue;
        };
        let value = match value {
            [] => value,
            [b':', b' ', rest @ ..] | [b':', rest @ ..] => rest,
            _ => continue,
        };
        data = Some(match data {
            None => Cow::Borrowed(value),
            Some(before) => {
                let mut joined = before.into_owned();
                joined.push(b'\n');
                joined.extend_from_slice(value);
                Cow::Owned(joined)
            }
        });
    }
    data
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{EventTooLong, SseFrames, event_data};

    fn all(chunks: &[&str], max: usize) -> Result<Vec<String>, EventTooLong> {
        let mut frames = SseFrames::new(max);
        let mut events = Vec::new();
        for chunk in chunks {
            frames.feed(Bytes::copy_from_slice(chunk.as_bytes()));
            while let Some(event) = frames.next_event()? {
                events.push(String::from_utf8(event.to_vec()).unwrap());
            }
        }
        Ok(events)
    }

    #[test]
    fn splits_at_blank_lines_however_the_bytes_arrive() {
        let text = "data: a\n\n: ping\n\ndata: b\r\n\r\nevent: x\ndata: c\n\nrest";
        let whole = all(&[text], 100).unwrap();
        assert_eq!(
            whole,
            ["data: a\n\n", ": ping\n\n", "data: b\r\n\r\n", "event: x\ndata: c\n\n"]
        );
        let bytes: Vec<&str> = text.split("").filter(|s| !s.is_empty()).collect();
        assert_eq!(all(&bytes, 100).unwrap(), whole);
    }

    #[test]
    fn whole_events_are_not_copied() {
        let chunk = Bytes::from_static(b"data: a\n\ndata: b\n\n");
        let mut frames = SseFrames::new(100);
        frames.feed(chunk.clone());
        assert_eq!(frames.next_event().unwrap().unwrap().as_ptr(), chunk.as_ptr());
    }

    /// If the event were copied or searched again with every piece, this would take hours.
    #[test]
    fn a_long_event_in_small_pieces_is_searched_once() {
        let (mut frames, piece) =
            (SseFrames::new(4 << 20), Bytes::from_static(b"data: 0123456789"));
        for _ in 0..(4 << 20) / piece.len() {
            frames.feed(piece.clone());
            assert_eq!(frames.next_event(), Ok(None));
        }
        frames.feed(piece);
        assert_eq!(frames.next_event(), Err(EventTooLong(4 << 20)));
    }

    #[test]
    fn bounds_one_event() {
        assert_eq!(all(&["data: 123456789"], 10), Err(EventTooLong(10)));
        assert_eq!(all(&["data: 123456789\n\n"], 10), Err(EventTooLong(10)));
    }

    #[test]
    fn data_lines_join() {
        let data = |event: &str| {
            event_data(event.as_bytes()).map(|d| String::from_utf8(d.into_owned()).unwrap())
        };
        assert_eq!(data("data: {\"a\":1}\n\n").as_deref(), Some("{\"a\":1}"));
        assert_eq!(data("data:x\r\ndata:  y\r\n\r\n").as_deref(), Some("x\n y"));
        assert_eq!(data("data\n\n").as_deref(), Some(""));
        assert_eq!(data(": ping\n\n"), None);
        assert_eq!(data("database: no\n\n"), None);
    }
}
