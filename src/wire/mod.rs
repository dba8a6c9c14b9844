//! Bytes on the wire, without I/O and without a clock: framing, and edits that leave the rest untouched.
//! Everything here takes hostile input: sizes are constructor arguments, and the fuzz targets start here.

mod event_stream;
mod json;
mod payload;
mod sse;

pub use event_stream::{EventStreamFrames, Frame, FrameError, FrameKind};
pub use json::{Edits, place_of};
pub use payload::Payload;
pub use sse::{SseFrames, TooLong, data_of};
