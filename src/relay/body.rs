//! `RelayBody` owns everything that must end with the answer: the connection, the timers, the
//! record. However a stream ends (complete, broken, expired, client gone), it ends here, on one code
//! path.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::stream::{Abort, ResponseStream};
use crate::relay::drain_deadline::DrainDeadline;
use crate::relay::heartbeat::{EarlyResponse, Heartbeat};
use crate::telemetry::Record;

/// Bytes of a whole answer that are written at a time: the client's write timeout applies to each
/// chunk, not to the whole.
const CHUNK: usize = 16 << 10;

/// The body of a response.
pub enum Content {
    /// A body that is complete in memory.
    Whole(Bytes),
    /// A body that is still arriving.
    Stream(Box<ResponseStream>),
}

impl Content {
    /// Lets an answer that is still arriving at the drain deadline fail.
    #[must_use]
    pub fn with_drain_deadline(mut self, ending: DrainDeadline) -> Self {
        if let Self::Stream(stream) = &mut self {
            stream.set_drain_deadline(ending);
        }
        self
    }
}

/// The body of every response. hyper drops it before its end when the client disconnects: the
/// connection to the model server closes, and the record's outcome is `cancelled`.
pub struct RelayBody {
    state: State,
    heartbeat: Option<Heartbeat>,
    /// Bytes sent before there was a record to count them in.
    unrecorded: u64,
}

#[expect(clippy::large_enum_variant, reason = "boxing would cost every short answer an allocation")]
enum State {
    /// The head was sent before there was an answer.
    Pending(Pending),
    Ready(Ready),
}

type Pending = Pin<Box<dyn Future<Output = RelayBody> + Send>>;

/// An answer, with its record and the permit of the request; both end with it.
struct Ready {
    content: Content,
    record: Record,
    _permit: Option<OwnedSemaphorePermit>,
}

impl RelayBody {
    /// Creates the body of an answer. The record, and the request's in-flight permit, end with it.
    pub fn new(content: Content, mut record: Record, permit: Option<OwnedSemaphorePermit>) -> Self {
        if let Content::Whole(bytes) = &content
            && bytes.is_empty()
        {
            record.facts.complete = true;
        }
        Self {
            state: State::Ready(Ready { content, record, _permit: permit }),
            heartbeat: None,
            unrecorded: 0,
        }
    }

    /// Creates the body of a response whose head is sent before its answer exists. `making` owns
    /// everything that ends with the answer, and resolves to its body.
    pub fn pending(
        making: impl Future<Output = Self> + Send + 'static,
        promise: EarlyResponse,
    ) -> Self {
        Self {
            state: State::Pending(Box::pin(making)),
            heartbeat: Some(Heartbeat::start(promise)),
            unrecorded: 0,
        }
    }

    /// Adds keep-alive bytes to every silence of the stream.
    #[must_use]
    pub fn with_heartbeat(self, promise: EarlyResponse) -> Self {
        Self { heartbeat: Some(Heartbeat::start(promise)), ..self }
    }

    /// Takes the bytes to write together with the head, if more follow them: those that were
    /// buffered with it, the first keep-alive bytes, or the first chunk of a long answer. `None`
    /// where the head goes alone, or with the whole answer.
    pub fn take_buffered(&mut self) -> Option<Bytes> {
        let State::Ready(made) = &mut self.state else {
            let beat = self.heartbeat.as_ref().map(Heartbeat::keep_alive)?;
            self.unrecorded += beat.len() as u64;
            return Some(beat);
        };
        let first = match &mut made.content {
            Content::Stream(stream) => stream.take_buffered(),
            Content::Whole(bytes) if bytes.len() > CHUNK => bytes.split_to(CHUNK),
            Content::Whole(_) => return None,
        };
        made.record.facts.record_bytes_out(&first);
        Some(first).filter(|first| !first.is_empty())
    }

    /// Returns whether the answer was complete in memory when its head was made. No timeout of the
    /// request ends such an answer: the server's write timeout bounds each chunk.
    pub const fn is_whole(&self) -> bool {
        matches!(&self.state, State::Ready(Ready { content: Content::Whole(_), .. }))
    }

    /// Ready when the total timeout or the drain deadline has expired while the client does not
    /// read. The request has then failed and is cancelled upstream; the next frame is the error, if
    /// the client reads that far.
    pub fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.state {
                // its keep-alive bytes are not read, but what makes the answer has its own timeouts
                State::Pending(making) => self.state = ready!(making.as_mut().poll(cx)).state,
                State::Ready(made) => return made.poll_overdue(cx),
            }
        }
    }

    /// Returns the next bytes of the answer, without keep-alive bytes.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        loop {
            match &mut self.state {
                State::Pending(making) => self.state = ready!(making.as_mut().poll(cx)).state,
                State::Ready(made) => {
                    made.record.facts.bytes_out += std::mem::take(&mut self.unrecorded);
                    return made.poll_next(cx);
                }
            }
        }
    }
}

impl Ready {
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Content::Stream(stream) = &mut self.content else { return Poll::Pending };
        stream.poll_client_overdue(cx, &mut self.record.facts)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        let facts = &mut self.record.facts;
        let next = match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => None,
            Content::Whole(bytes) => {
                let chunk = bytes.split_to(bytes.len().min(CHUNK));
                facts.complete = bytes.is_empty();
                Some(Ok(chunk))
            }
            Content::Stream(stream) => ready!(stream.poll_next(cx, facts)),
        };
        if let Some(Ok(bytes)) = &next {
            facts.record_bytes_out(bytes);
        }
        Poll::Ready(next)
    }
}

impl Body for RelayBody {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let this = &mut *self;
        if let Poll::Ready(next) = this.poll_answer(cx) {
            this.heartbeat.iter_mut().for_each(Heartbeat::sent);
            return Poll::Ready(next.map(|next| next.map(Frame::data)));
        }
        let Some(heartbeat) = &mut this.heartbeat else { return Poll::Pending };
        let beat = ready!(heartbeat.poll_keep_alive(cx));
        this.unrecorded += beat.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(beat))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Pending(_) => false,
            State::Ready(made) => match &made.content {
                Content::Whole(bytes) => bytes.is_empty(),
                Content::Stream(stream) => stream.is_over(),
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Ready(made) => match &made.content {
                Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
                // A passed-through Content-Length header says more than we know.
                Content::Stream(_) => SizeHint::default(),
            },
            State::Pending(_) => SizeHint::default(),
        }
    }
}
