//! AWS's event stream: splitting a byte stream into frames (contract::providers §d1.12, §d1.13,
//! §d1.14, §d1.15).
//!
//! A frame is
//! `total_len u32be | headers_len u32be | prelude_crc | headers | payload | message_crc`. Lengths
//! and the prelude's CRC are checked here as soon as the twelve bytes have arrived, so that a
//! stream does not wait for a corrupt length; AWS's own decoder then parses the whole frame and
//! checks the second CRC. It never gets less than a frame: AWS's streaming decoder was rejected
//! since it loses the prelude of an incomplete one.

use aws_smithy_eventstream::frame::read_message_from;
use aws_smithy_types::event_stream::Message;
use bytes::{Bytes, BytesMut};

/// Size of a frame's prelude in bytes: two lengths and their CRC.
const PRELUDE: usize = 12;
/// Size of a frame without headers and payload, in bytes.
const SMALLEST: u32 = 16;

/// Reason why bytes are not an event stream. After one the stream cannot be read any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Frame that exceeds the limit given to [`EventStreamFrames::new`].
    #[error("a frame of {len} bytes, more than {max}")]
    TooLong {
        /// Length in the frame's prelude.
        len: u32,
        /// Limit in bytes.
        max: usize,
    },
    /// Lengths that are impossible.
    #[error("a frame of {total} bytes with {headers} bytes of headers")]
    Lengths {
        /// Length of the whole frame.
        total: u32,
        /// Length of its headers.
        headers: u32,
    },
    /// Wrong CRC of the prelude.
    #[error("the CRC of a frame's lengths is wrong")]
    PreludeCrc,
    /// Wrong CRC of the frame, or headers that do not parse.
    #[error("a corrupt frame: {0}")]
    Corrupt(String),
    /// Missing or unknown `:message-type`.
    #[error("a frame without a known :message-type")]
    Kind,
}

/// Kind of a frame: its `:message-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Part of the response.
    Event,
    /// Failure that the service's model defines.
    Exception,
    /// Any other failure.
    Error,
}

/// Frame whose CRCs have both been checked.
#[derive(Debug)]
pub struct Frame {
    kind: FrameKind,
    message: Message,
}

impl Frame {
    /// Returns the kind of the frame.
    pub const fn kind(&self) -> FrameKind {
        self.kind
    }

    /// Returns the `:event-type`, `:exception-type` or `:error-code`; empty when the frame has
    /// none.
    pub fn name(&self) -> &str {
        let header = match self.kind {
            FrameKind::Event => ":event-type",
            FrameKind::Exception => ":exception-type",
            FrameKind::Error => ":error-code",
        };
        text(&self.message, header).unwrap_or_default()
    }

    /// Returns the `:error-message` of an error frame, whose payload is empty.
    pub fn error_message(&self) -> Option<&str> {
        text(&self.message, ":error-message")
    }

    /// Returns the payload; for Bedrock it is JSON.
    pub fn payload(&self) -> &Bytes {
        self.message.payload()
    }
}

fn text<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let header = message.headers().iter().find(|header| header.name().as_str() == name)?;
    header.value().as_string().ok().map(|value| value.as_str())
}

/// Splitter of chunks into frames.
#[derive(Debug)]
pub struct EventStreamFrames {
    pending: BytesMut,
    max: usize,
}

impl EventStreamFrames {
    /// Creates a splitter. `max` bounds one frame in bytes, and with it the memory of one stream.
    pub fn new(max: usize) -> Self {
        Self { pending: BytesMut::new(), max }
    }

    /// Appends the next chunk of the stream.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.pending.extend_from_slice(chunk);
    }

    /// Returns the next whole frame, or `None` until more has been fed. Fails on the first corrupt
    /// or oversized frame.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(total) = self.length()? else { return Ok(None) };
        if self.pending.len() < total {
            return Ok(None);
        }
        let mut bytes = self.pending.split_to(total).freeze();
        let message = read_message_from(&mut bytes)
            .map_err(|error| FrameError::Corrupt(error.to_string()))?;
        let kind = match text(&message, ":message-type") {
            Some("event") => FrameKind::Event,
            Some("exception") => FrameKind::Exception,
            Some("error") => FrameKind::Error,
            _ => return Err(FrameError::Kind),
        };
        Ok(Some(Frame { kind, message }))
    }

    /// Returns the bytes that are not a whole frame yet: at the end of the body, a truncated frame.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Returns the length of the first frame in bytes, or `None` until its prelude has arrived.
    /// Fails when the prelude is corrupt or the length exceeds the limit.
    fn length(&self) -> Result<Option<usize>, FrameError> {
        let Some((total, rest)) = self.pending.split_first_chunk::<4>() else { return Ok(None) };
        let total = u32::from_be_bytes(*total);
        let len = usize::try_from(total).unwrap_or(usize::MAX);
        if len > self.max {
            return Err(FrameError::TooLong { len: total, max: self.max });
        }
        let Some((headers, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let headers = u32::from_be_bytes(*headers);
        if total < SMALLEST || headers > total - SMALLEST {
            return Err(FrameError::Lengths { total, headers });
        }
        let Some((crc, _)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        if crc32fast::hash(&self.pending[..PRELUDE - 4]) != u32::from_be_bytes(*crc) {
            return Err(FrameError::PreludeCrc);
        }
        Ok(Some(len))
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_eventstream::frame::write_message_to;
    use aws_smithy_types::event_stream::{Header, HeaderValue, Message};

    use super::{EventStreamFrames, FrameError, FrameKind};

    /// Two frames of AWS's Python encoder (smithy-aws-event-stream), as Bedrock sends them.
    const AWS_FRAMES: &str = "0000009e00000057fe1b824f0b3a6576656e742d74797065070011636f6e74656e74426c6f636b44656c74610d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b22636f6e74656e74426c6f636b496e646578223a302c2264656c7461223a7b2274657874223a224869227d2c2270223a22616263227d9343f0100000008e00000061514180540f3a657863657074696f6e2d747970650700137468726f74746c696e67457863657074696f6e0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d74797065070009657863657074696f6e7b226d657373616765223a22546f6f206d616e7920746f6b656e73227dc81b1ec1";
    const FIRST: usize = 0x9e;

    fn aws_frames() -> Vec<u8> {
        (0..AWS_FRAMES.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&AWS_FRAMES[i..i + 2], 16).unwrap())
            .collect()
    }

    fn frame(headers: &[(&'static str, &'static str)], payload: &'static [u8]) -> Vec<u8> {
        let header = |(name, value): &(&'static str, &'static str)| {
            Header::new(*name, HeaderValue::String((*value).into()))
        };
        let message = Message::new_from_parts(headers.iter().map(header).collect(), payload);
        let mut bytes = Vec::new();
        write_message_to(&message, &mut bytes).unwrap();
        bytes
    }

    fn all(chunks: &[&[u8]], max: usize) -> Result<Vec<(FrameKind, String, Vec<u8>)>, FrameError> {
        let (mut frames, mut out) = (EventStreamFrames::new(max), Vec::new());
        for chunk in chunks {
            frames.feed(chunk);
            while let Some(frame) = frames.next_frame()? {
                out.push((frame.kind(), frame.name().to_owned(), frame.payload().to_vec()));
            }
        }
        Ok(out)
    }

    #[test]
    fn reads_aws_frames_however_the_bytes_arrive() {
        let bytes = aws_frames();
        let whole = all(&[&bytes], 1 << 20).unwrap();
        let delta = br#"{"contentBlockIndex":0,"delta":{"text":"Hi"},"p":"abc"}"#.to_vec();
        assert_eq!(whole[0], (FrameKind::Event, "contentBlockDelta".into(), delta));
        assert_eq!(
            (whole[1].0, whole[1].1.as_str()),
            (FrameKind::Exception, "throttlingException")
        );
        for cut in 0..bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(all(&[a, b], 1 << 20).unwrap(), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(all(&single, 1 << 20).unwrap(), whole);
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let bytes = aws_frames();
        for i in 0..FIRST * 8 {
            let mut bad = bytes.clone();
            bad[i / 8] ^= 1 << (i % 8);
            let read = all(&[&bad], 1 << 20);
            assert!(read.is_err(), "bit {i} was not detected: {read:?}");
        }
    }

    #[test]
    fn a_corrupt_length_fails_at_once() {
        let mut bytes = aws_frames();
        bytes[2] ^= 0x40;
        assert_eq!(all(&[&bytes[..12]], 1 << 20), Err(FrameError::PreludeCrc));
    }

    #[test]
    fn the_last_crc_is_checked() {
        let mut bytes = aws_frames();
        bytes[FIRST - 1] ^= 0xff;
        assert!(matches!(all(&[&bytes], 1 << 20), Err(FrameError::Corrupt(_))));
    }

    #[test]
    fn bounds_one_frame_by_its_prelude() {
        let twenty_megabytes = 20_000_000_u32.to_be_bytes();
        let error = all(&[&twenty_megabytes], 16 << 20).unwrap_err();
        assert_eq!(error, FrameError::TooLong { len: 20_000_000, max: 16 << 20 });
        assert_eq!(error.to_string(), "a frame of 20000000 bytes, more than 16777216");
    }

    #[test]
    fn impossible_lengths_are_refused() {
        assert_eq!(
            all(&[&[0, 0, 0, 15, 0, 0, 0, 0]], 100),
            Err(FrameError::Lengths { total: 15, headers: 0 })
        );
        assert_eq!(
            all(&[&[0, 0, 0, 20, 0, 0, 0, 5]], 100),
            Err(FrameError::Lengths { total: 20, headers: 5 })
        );
        assert!(matches!(
            all(&[b"{\"message\":\"no\"}"], 16 << 20),
            Err(FrameError::TooLong { .. })
        ));
    }

    #[test]
    fn frames_without_a_message_type_are_refused() {
        assert_eq!(all(&[&frame(&[], b"{}")], 100).unwrap_err(), FrameError::Kind);
        let unnamed = frame(&[(":message-type", "event")], b"");
        assert_eq!(all(&[&unnamed], 100).unwrap(), [(FrameKind::Event, String::new(), Vec::new())]);
        let error = frame(
            &[(":message-type", "error"), (":error-code", "500"), (":error-message", "no")],
            b"",
        );
        let mut frames = EventStreamFrames::new(1000);
        frames.feed(&error);
        let frame = frames.next_frame().unwrap().unwrap();
        assert_eq!((frame.name(), frame.error_message()), ("500", Some("no")));
    }

    #[test]
    fn a_cut_frame_stays_pending() {
        let bytes = aws_frames();
        let mut frames = EventStreamFrames::new(1000);
        frames.feed(&bytes[..FIRST + 9]);
        assert!(frames.next_frame().unwrap().is_some());
        assert!(frames.next_frame().unwrap().is_none());
        assert_eq!(frames.pending().len(), 9);
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes = aws_frames();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            // a valid prelude now and then, so that the header parser is reached
            if random.bool() {
                let crc = crc32fast::hash(&bytes[..8]).to_be_bytes();
                bytes[8..12].copy_from_slice(&crc);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            drop(all(&[&bytes], 1 << 16));
        }
    }
}
