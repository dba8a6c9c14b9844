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
pub use gather::ChunkBuffer;
pub use http1::{Chunked, Framing, NotHttp, ResponseHead, read_response_head, write_request_head};
pub use json::{Edits, JsonStart, find_last_member, span_of};
pub use ndjson::write_json_line;
pub use payload::Payload;
pub use sse::{EventTooLong, SseFrames, event_data};
