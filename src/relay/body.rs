//! `RelayBody` owns everything that must end with the answer: the connection, the timers, the
//! record. However a stream ends (complete, broken, expired, client gone), it ends here, in one
//! place.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

use super::passthrough::{Tail, Tap};
use super::translate::Translator;
use crate::error::{GatewayError, Kind, Shape, in_band};
use crate::relay::drain_deadline::Ending;
use crate::relay::heartbeat::{Promise, Pulse};
use crate::telemetry::{Facts, Record};
use crate::upstream::{AnswerBody, ExchangeError, Place, Seen, Timers};
use crate::wire::Gather;

/// What is held back before an answer begins: more than any server says before its first token, and
/// most whole answers.
const HOLD: usize = 64 << 10;
/// A client sees nothing of a stream that has not begun for this long; then it gets the pings, too.
const HOLD_FOR: Duration = Duration::from_secs(5);
/// An answer that is there already goes out in pieces of this size: a client gets its time for each
/// of them, not for all.
const PIECE: usize = 16 << 10;

/// The stream failed after its head on a surface that has no words for it: the connection is cut,
/// since a clean end would be a lie.
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

impl Content {
    /// What is still arriving then is given up.
    #[must_use]
    pub fn until(mut self, ending: Ending) -> Self {
        if let Self::Stream(stream) = &mut self {
            stream.ending = Some(Box::pin(ending.reached()));
        }
        self
    }
}

/// The body of every response. Dropping it before its end is the client's leaving: the connection
/// to the model server closes, and the record says `cancelled`.
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
        Self {
            state: State::Made(Made { content, record, _place: place }),
            pulse: None,
            uncounted: 0,
        }
    }

    /// The body of an answer that is still being made: whatever ends with the answer is inside
    /// `making`.
    pub fn making(making: impl Future<Output = Self> + Send + 'static, promise: Promise) -> Self {
        Self {
            state: State::Making(Box::pin(making)),
            pulse: Some(Pulse::start(promise)),
            uncounted: 0,
        }
    }

    /// Breaks silences as promised.
    #[must_use]
    pub fn beating(self, promise: Promise) -> Self {
        Self { pulse: Some(Pulse::start(promise)), ..self }
    }

    /// The bytes that go out with the head, if the answer goes on after them: those that were held
    /// back with it, the first beat, or a long answer's beginning.
    pub fn take_held(&mut self) -> Option<Bytes> {
        let State::Made(made) = &mut self.state else {
            let beat = self.pulse.as_ref().map(Pulse::beat)?;
            self.uncounted += beat.len() as u64;
            return Some(beat);
        };
        let held = match &mut made.content {
            Content::Stream(stream) => std::mem::take(&mut stream.held),
            Content::Whole(bytes) if bytes.len() > PIECE => bytes.split_to(PIECE),
            Content::Whole(_) => return None,
        };
        made.record.facts.answered(&held);
        Some(held).filter(|held| !held.is_empty())
    }

    /// Whether it was there already when its head was made. No limit of the request ends such an
    /// answer: how long its client may take over each piece is the server's to say.
    pub const fn is_whole(&self) -> bool {
        matches!(&self.state, State::Made(Made { content: Content::Whole(_), .. }))
    }

    /// Ready when the total has expired, or the end that is set has come, while the client does not
    /// read. The request has then failed and its upstream is cancelled; the next frame says so, if
    /// the client gets to it.
    pub fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.state {
                // nobody takes its beats, but what makes the answer has limits of its own
                State::Making(making) => self.state = ready!(making.as_mut().poll(cx)).state,
                State::Made(made) => return made.poll_overdue(cx),
            }
        }
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
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Content::Stream(stream) = &mut self.content else { return Poll::Pending };
        let error = ready!(stream.poll_overdue(cx)).remarked("the client did not read");
        match stream.fail(&error, &mut self.record.facts) {
            Some(frame) => stream.held = frame,
            None => stream.aborting = Some(error.kind().row().code),
        }
        Poll::Ready(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Abort>>> {
        let facts = &mut self.record.facts;
        let next = match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => None,
            Content::Whole(bytes) => {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                facts.complete = bytes.is_empty();
                Some(Ok(piece))
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

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
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
    /// Handed on; the end is kept for its token counts. `streams`: the client may want it piece by
    /// piece.
    Whole { tail: Tail, streams: bool },
    /// Handed on event by event, with a look at each.
    Events(Tap),
    /// Decoded and encoded anew.
    Deltas(Translator),
}

impl Flow {
    /// What a chunk becomes for the client; may be nothing yet. A failure may come with bytes
    /// before it.
    fn feed(&mut self, chunk: Bytes, facts: &mut Facts, now: Instant) -> Fed {
        match self {
            Self::Whole { tail, .. } => (tail.feed(chunk, facts, now), Ok(())),
            Self::Events(tap) => tap.feed(chunk, facts, now),
            Self::Deltas(translator) => translator.feed(chunk, facts, now),
        }
    }

    /// Whether the client may have what there is: from now on the answer is this attempt's. Half of
    /// a whole answer is of no use to anybody, so that one begins with its end.
    const fn has_begun(&self, facts: &Facts) -> bool {
        match self {
            Self::Whole { streams, .. } => *streams,
            Self::Events(_) | Self::Deltas(_) => facts.first_token.is_some(),
        }
    }

    /// What is still to be said at the end; fails when the answer is not complete.
    fn finish(&mut self, facts: &mut Facts) -> Result<Bytes, GatewayError> {
        match self {
            Self::Whole { tail, .. } => tail.finish(facts),
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
    /// Whether this attempt is the answer: its failure is told to the client.
    begun: bool,
    /// Bytes for the client that were held back with the head.
    held: Bytes,
    /// A failure that came with bytes before it; told at the next poll.
    failed: Option<GatewayError>,
    /// The failure's code, once the connection is about to be cut for it.
    aborting: Option<&'static str>,
    /// The end that is set to it, whoever may be to blame for its length.
    ending: Option<Pin<Box<dyn Future<Output = GatewayError> + Send>>>,
}

/// What is closed when the answer ends.
pub(super) struct Source {
    pub(super) body: AnswerBody,
    pub(super) timers: Timers,
    /// When the request was about to be sent.
    pub(super) sent: Instant,
}

impl Stream {
    pub(super) const fn new(source: Source, flow: Flow, shape: Shape, model: Arc<str>) -> Self {
        Self {
            source: Some(source),
            flow,
            shape,
            model,
            begun: false,
            held: Bytes::new(),
            failed: None,
            aborting: None,
            ending: None,
        }
    }

    /// Waits until the answer has begun, and holds back what comes before: until then an error can
    /// still be another attempt, or a status. A stream that only clears its throat is let through
    /// at [`HOLD`] or after [`HOLD_FOR`].
    pub(super) async fn fill(&mut self, facts: &mut Facts) -> Result<(), GatewayError> {
        let mut held = Gather::default();
        let mut patience = None;
        poll_fn(|cx| self.poll_begun(cx, facts, &mut held, &mut patience)).await?;
        self.held = held.into_bytes();
        self.begun = true;
        Ok(())
    }

    /// Keeps the request's place at its model until the model server has said all.
    pub(super) fn hold(&mut self, place: Option<Place>) {
        if let Some(source) = &mut self.source {
            source.body.hold(place);
        }
    }

    fn poll_begun(
        &mut self,
        cx: &mut Context<'_>,
        facts: &mut Facts,
        held: &mut Gather,
        patience: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<Result<(), GatewayError>> {
        loop {
            match self.poll_bytes(cx, facts) {
                Poll::Ready(Ok(Some(bytes))) => {
                    held.push(bytes);
                    if self.flow.has_begun(facts) || held.len() >= HOLD {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(ended) => return Poll::Ready(ended.map(|_| ())),
                Poll::Pending if held.is_empty() || matches!(self.flow, Flow::Whole { .. }) => {
                    return Poll::Pending;
                }
                Poll::Pending => {
                    let patience = patience.get_or_insert_with(|| Box::pin(sleep(HOLD_FOR)));
                    return patience.as_mut().poll(cx).map(Ok);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.source.is_none()
            && self.held.is_empty()
            && self.failed.is_none()
            && self.aborting.is_none()
    }

    /// The next bytes for the client, or the end. A failure becomes a last frame, or an abort.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        facts: &mut Facts,
    ) -> Poll<Option<Result<Bytes, Abort>>> {
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
                    // One turn for the server to flush what the client is owed; an error closes at
                    // once.
                    self.aborting = Some(error.kind().row().code);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            },
        }
    }

    /// As `poll_next`, with errors as they are.
    fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
        facts: &mut Facts,
    ) -> Poll<Result<Option<Bytes>, GatewayError>> {
        loop {
            let Some(source) = &mut self.source else {
                return Poll::Ready(self.failed.take().map_or(Ok(None), Err));
            };
            let Poll::Ready(read) = source.body.poll_chunk(cx) else {
                let error = ready!(self.poll_given_up(cx));
                self.lose(&error);
                return Poll::Ready(Err(error));
            };
            let now = Instant::now();
            let ended = source.body.is_over();
            let (mut bytes, fed) = match read {
                Some(Ok(chunk)) => {
                    source.timers.arrived(now);
                    let was_silent = facts.first_token.is_none();
                    let fed = self.flow.feed(chunk, facts, now);
                    if was_silent && facts.first_token.is_some() {
                        self.spoke(now);
                    }
                    fed
                }
                Some(Err(error)) => (Bytes::new(), Err(broken(&error))),
                None => (Bytes::new(), Ok(())),
            };
            if let Err(error) = fed {
                self.lose(&error);
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

    /// Ready when a server that is silent is waited for no longer.
    fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<GatewayError> {
        let Some(source) = &mut self.source else { return Poll::Pending };
        match source.timers.poll_expired(cx) {
            Poll::Ready(expired) => Poll::Ready(expired.error(&self.model)),
            Poll::Pending => self.poll_ending(cx),
        }
    }

    /// The same while the client does not read: the server's silence is not its own then.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<GatewayError> {
        let Some(source) = &mut self.source else { return Poll::Pending };
        match source.timers.poll_total(cx) {
            Poll::Ready(expired) => Poll::Ready(expired.error(&self.model)),
            Poll::Pending => self.poll_ending(cx),
        }
    }

    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<GatewayError> {
        let Some(ending) = &mut self.ending else { return Poll::Pending };
        let error = ready!(ending.as_mut().poll(cx));
        self.ending = None;
        Poll::Ready(error)
    }

    /// The first content has arrived.
    fn spoke(&self, now: Instant) {
        if let Some(source) = &self.source {
            source.body.endpoint().saw(Seen::Spoke(now.saturating_duration_since(source.sent)));
        }
    }

    /// Closes the connection of an answer that failed. What fails before its beginning is the
    /// attempt's to note.
    fn lose(&mut self, error: &GatewayError) {
        if let Some(source) = self.source.take().filter(|_| self.begun) {
            source.body.endpoint().failed(error);
        }
    }

    /// The model server has said all, and its connection has gone back to the pool. An answer that
    /// turns out incomplete fails after its last bytes.
    fn end(&mut self, bytes: Bytes, facts: &mut Facts, now: Instant) -> Bytes {
        facts.upstream_ended = Some(now);
        match self.flow.finish(facts) {
            Ok(last) => {
                self.source = None;
                facts.complete = true;
                join(bytes, last)
            }
            Err(error) => {
                self.lose(&error);
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
    GatewayError::new(Kind::UpstreamBroken, "The model server's answer broke off")
        .internal(error.to_string())
}
