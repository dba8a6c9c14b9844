//! Bytes on the wire, without I/O and without a clock: framing, and edits that leave all other
//! bytes untouched. Everything here accepts hostile input: size limits are constructor arguments,
//! and the fuzz targets start here.

mod event_stream;
mod gather;
mod http1;
mod json;
mod ndjson;
mod payload;
mod sse;

pub use event_stream::{EventStreamFrames, Frame, FrameError, FrameKind};
pub use gather::Gather;
pub use http1::{Chunked, Framing, Head, NotHttp, read_head, write_head};
pub use json::{Edits, JsonStart, last_member, place_of};
pub use ndjson::write_line;
pub use payload::Payload;
pub use sse::{SseFrames, TooLong, data_of};
