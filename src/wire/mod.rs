//! Bytes on the wire, without I/O and without a clock: framing, and edits that leave the rest untouched.
//! Everything here takes hostile input: sizes are constructor arguments, and the fuzz targets start here.

mod json;
mod payload;
mod sse;

pub use json::{Edits, place_of};
pub use payload::Payload;
pub use sse::{SseFrames, TooLong, data_of};
