//! `RelayBody` owns everything that must end with the answer: the connection, the timers, the record. However a stream ends (complete, broken, expired, client gone), it ends here, in one place.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::passthrough::{Tail, Tap};
use super::pulse::{Promise, Pulse};
use super::translate::Translator;
use crate::error::{GatewayError, Kind, Shape, in_band};
use crate::telemetry::{Facts, Record};
use crate::upstream::{AnswerBody, ExchangeError, Timers};

/// The stream failed after its head on a surface that has no words for it: the connection is cut, since a
/// clean end would be a lie.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
pub struct Abort(&'static str);

/// What a response carries.
pub enum Content {
    /// A body that is there already.
    Whole(Bytes),
    /// A body that is still arriving.
    Stream(Box<Stream>),
}

/// The body of every response. Dropping it before its end is the client's leaving: the connection to the
/// model server closes, and the record says `cancelled`.
pub struct RelayBody {
    state: State,
    pulse: Option<Pulse>,
    /// Bytes sent before there was a record to count them in.
    uncounted: u64,
}

#[expect(clippy::large_enum_variant, reason = "boxing would cost every short answer an allocation")]
enum State {
    /// The head went out before there was an answer.
    Making(Making),
    Made(Made),
}

type Making = Pin<Box<dyn Future<Output = RelayBody> + Send>>;

/// An answer, with what ends when it ends.
struct Made {
    content: Content,
    record: Record,
    _place: Option<OwnedSemaphorePermit>,
}

impl RelayBody {
    /// From here on the record, and the request's place among those in flight, end with the body.
    pub fn new(content: Content, mut record: Record, place: Option<OwnedSemaphorePermit>) -> Self {
        if let Content::Whole(bytes) = &content
            && bytes.is_empty()
        {
            record.facts.complete = true;
        }
        Self { state: State::Made(Made { content, record, _place: place }), pulse: None, uncounted: 0 }
    }

    /// The body of an answer that is still being made: whatever ends with the answer is inside `making`.
    pub fn making(making: impl Future<Output = Self> + Send + 'static, promise: Promise) -> Self {
        Self { state: State::Making(Box::pin(making)), pulse: Some(Pulse::start(promise)), uncounted: 0 }
    }

    /// Breaks silences as promised.
    #[must_use]
    pub fn beating(self, promise: Promise) -> Self {
        Self { pulse: Some(Pulse::start(promise)), ..self }
    }

    /// The bytes that go out with the head, if the answer is a stream that goes on: those that were held back
    /// with it, or the first beat.
    pub fn take_held(&mut self) -> Option<Bytes> {
        let State::Made(made) = &mut self.state else {
            let beat = self.pulse.as_ref().map(Pulse::beat)?;
            self.uncounted += beat.len() as u64;
            return Some(beat);
        };
        let Content::Stream(stream) = &mut made.content else { return None };
        let held = std::mem::take(&mut stream.held);
        made.record.facts.answered(&held);
        Some(held).filter(|held| !held.is_empty())
    }

    /// Ready when the total has expired while the client does not read. The request has then failed and its
    /// upstream is cancelled; the next frame says so, if the client gets to it.
    pub fn poll_total(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Made(made) = &mut self.state else { return Poll::Pending };
        let Content::Stream(stream) = &mut made.content else { return Poll::Pending };
        let Some(source) = &mut stream.source else { return Poll::Pending };
        let expired = ready!(source.timers.poll_total(cx));
        let error = expired.error(&stream.model).internal("the client did not read");
        match stream.fail(&error, &mut made.record.facts) {
            Some(frame) => stream.held = frame,
            None => stream.aborting = Some(error.kind().row().code),
        }
        Poll::Ready(())
    }

    /// The next bytes of the answer, beats aside.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        loop {
            match &mut self.state {
                State::Making(making) => self.state = ready!(making.as_mut().poll(cx)).state,
                State::Made(made) => {
                    made.record.facts.bytes_out += std::mem::take(&mut self.uncounted);
                    return made.poll_next(cx);
                }
            }
        }
    }
}

impl Made {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        let facts = &mut self.record.facts;
        let next = match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => None,
            Content::Whole(bytes) => {
                facts.complete = true;
                Some(Ok(std::mem::take(bytes)))
            }
            Content::Stream(stream) => ready!(stream.poll_next(cx, facts)),
        };
        if let Some(Ok(bytes)) = &next {
            facts.answered(bytes);
        }
        Poll::Ready(next)
    }
}

impl Body for RelayBody {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let this = &mut *self;
        if let Poll::Ready(next) = this.poll_answer(cx) {
            this.pulse.iter_mut().for_each(Pulse::sent);
            return Poll::Ready(next.map(|next| next.map(Frame::data)));
        }
        let Some(pulse) = &mut this.pulse else { return Poll::Pending };
        let beat = ready!(pulse.poll_beat(cx));
        this.uncounted += beat.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(beat))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Making(_) => false,
            State::Made(made) => match &made.content {
                Content::Whole(bytes) => bytes.is_empty(),
                Content::Stream(stream) => stream.is_over(),
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Made(made) => match &made.content {
                Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
                // A passed-through Content-Length header says more than we know.
                Content::Stream(_) => SizeHint::default(),
            },
            State::Making(_) => SizeHint::default(),
        }
    }
}

/// What happens to the bytes on their way.
pub(super) enum Flow {
    /// Handed on; the end is kept for its token counts.
    Whole(Tail),
    /// Handed on event by event, with a look at each.
    Events(Tap),
    /// Decoded and encoded anew.
    Deltas(Translator),
}

impl Flow {
    /// What a chunk becomes for the client; may be nothing yet. A failure may come with bytes before it.
    fn feed(&mut self, chunk: Bytes, facts: &mut Facts, now: Instant) -> Fed {
        match self {
            Self::Whole(tail) => (tail.feed(chunk, facts, now), Ok(())),
            Self::Events(tap) => tap.feed(chunk, facts, now),
            Self::Deltas(translator) => translator.feed(chunk, facts, now),
        }
    }

    /// What is still to be said at the end; fails when the answer is not complete.
    fn finish(&mut self, facts: &mut Facts) -> Result<Bytes, GatewayError> {
        match self {
            Self::Whole(tail) => {
                tail.finish(facts);
                Ok(Bytes::new())
            }
            Self::Events(tap) => tap.finish(facts),
            Self::Deltas(translator) => translator.finish(facts),
        }
    }
}

/// Bytes for the client, and whether the answer goes on after them.
pub(super) type Fed = (Bytes, Result<(), GatewayError>);

/// A body that is still arriving.
pub struct Stream {
    /// Gone once the answer has ended, one way or the other.
    source: Option<Source>,
    flow: Flow,
    shape: Shape,
    model: Arc<str>,
    /// Bytes for the client that were held back with the head.
    held: Bytes,
    /// A failure that came with bytes before it; told at the next poll.
    failed: Option<GatewayError>,
    /// The failure's code, once the connection is about to be cut for it.
    aborting: Option<&'static str>,
}

/// What is closed when the answer ends.
struct Source {
    body: AnswerBody,
    timers: Timers,
}

impl Stream {
    pub(super) const fn new(body: AnswerBody, timers: Timers, flow: Flow, shape: Shape, model: Arc<str>) -> Self {
        Self {
            source: Some(Source { body, timers }),
            flow,
            shape,
            model,
            held: Bytes::new(),
            failed: None,
            aborting: None,
        }
    }

    /// Waits for the first bytes for the client, while an error can still be a status.
    pub(super) async fn fill(&mut self, facts: &mut Facts) -> Result<(), GatewayError> {
        let first = poll_fn(|cx| self.poll_bytes(cx, facts)).await?;
        self.held = first.unwrap_or_default();
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.source.is_none() && self.held.is_empty() && self.failed.is_none() && self.aborting.is_none()
    }

    /// The next bytes for the client, or the end. A failure becomes a last frame, or an abort.
    fn poll_next(&mut self, cx: &mut Context<'_>, facts: &mut Facts) -> Poll<Option<Result<Bytes, Abort>>> {
        if !self.held.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.held))));
        }
        if let Some(code) = self.aborting.take() {
            return Poll::Ready(Some(Err(Abort(code))));
        }
        match ready!(self.poll_bytes(cx, facts)) {
            Ok(bytes) => Poll::Ready(bytes.map(Ok)),
            Err(error) => match self.fail(&error, facts) {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => {
                    // One turn for the server to flush what the client is owed; an error closes at once.
                    self.aborting = Some(error.kind().row().code);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            },
        }
    }

    /// As `poll_next`, with errors as they are.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, facts: &mut Facts) -> Poll<Result<Option<Bytes>, GatewayError>> {
        loop {
            let Some(source) = &mut self.source else { return Poll::Ready(self.failed.take().map_or(Ok(None), Err)) };
            let Poll::Ready(read) = source.body.poll_chunk(cx) else {
                let expired = ready!(source.timers.poll_expired(cx));
                return Poll::Ready(Err(expired.error(&self.model)));
            };
            let now = Instant::now();
            let ended = source.body.is_over();
            let (mut bytes, fed) = match read {
                Some(Ok(chunk)) => {
                    source.timers.arrived(now);
                    self.flow.feed(chunk, facts, now)
                }
                Some(Err(error)) => (Bytes::new(), Err(broken(&error))),
                None => (Bytes::new(), Ok(())),
            };
            if let Err(error) = fed {
                self.source = None;
                self.failed = Some(error);
                if bytes.is_empty() {
                    continue;
                }
                return Poll::Ready(Ok(Some(bytes)));
            }
            if ended {
                bytes = self.end(bytes, facts, now);
            }
            if !bytes.is_empty() {
                return Poll::Ready(Ok(Some(bytes)));
            }
        }
    }

    /// The model server has said all, and its connection has gone back to the pool. An answer that turns out
    /// incomplete fails after its last bytes.
    fn end(&mut self, bytes: Bytes, facts: &mut Facts, now: Instant) -> Bytes {
        facts.upstream_ended = Some(now);
        self.source = None;
        match self.flow.finish(facts) {
            Ok(last) => {
                facts.complete = true;
                join(bytes, last)
            }
            Err(error) => {
                self.failed = Some(error);
                bytes
            }
        }
    }

    /// Cancels the upstream and says what happened in the surface's own words, if it has any.
    fn fail(&mut self, error: &GatewayError, facts: &mut Facts) -> Option<Bytes> {
        self.source = None;
        facts.upstream_ended.get_or_insert_with(Instant::now);
        facts.failure = Some(error.kind());
        facts.note = error.operator().map(str::to_owned);
        facts.complete = true;
        let framed = matches!(self.flow, Flow::Events(_) | Flow::Deltas(_));
        framed.then(|| in_band(error, self.shape, facts.ids.request_id_str())).flatten()
    }
}

fn join(bytes: Bytes, last: Bytes) -> Bytes {
    match (bytes.is_empty(), last.is_empty()) {
        (_, true) => bytes,
        (true, false) => last,
        (false, false) => [bytes, last].concat().into(),
    }
}

/// The model server's connection failed in the middle of its answer.
pub(super) fn broken(error: &ExchangeError) -> GatewayError {
    GatewayError::new(Kind::UpstreamBroken, "The model server's answer broke off").internal(error.to_string())
}
