//! `ResponseStream`: an answer that is still arriving, with the connection and the timers that end
//! with it. It buffers until the first content, so that a failure before it can still be another
//! attempt; afterwards a failure becomes the surface's last frame, or an abort.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep};

use super::mode::BodyMode;
use crate::error::{GatewayError, Kind, Shape, in_band};
use crate::relay::drain_deadline::DrainDeadline;
use crate::telemetry::RequestInfo;
use crate::upstream::{AnswerBody, ExchangeError, Observation, Permit, Timers};
use crate::wire::ChunkBuffer;

/// Bytes buffered before the first content at most: more than any server sends before its first
/// token, and most whole answers.
const MAX_BUFFERED: usize = 64 << 10;
/// The longest time that a stream without content is buffered; then the client gets its pings, too.
const MAX_BUFFER_TIME: Duration = Duration::from_secs(5);

/// A stream that failed after its head on a surface without an error frame: the connection is
/// closed in the middle, since a clean end would be a lie.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
pub struct Abort(&'static str);

/// An answer that is still arriving.
pub struct ResponseStream {
    /// The connection and its timers; `None` once the answer has ended or failed.
    source: Option<Source>,
    mode: BodyMode,
    shape: Shape,
    model: Arc<str>,
    /// Whether the response is committed to this attempt: the client sees its failure.
    committed: bool,
    /// Bytes for the client that were buffered together with the head.
    buffered: Bytes,
    /// A failure that came with bytes before it; returned by the next poll.
    failed: Option<GatewayError>,
    /// The failure's code, once the client's connection is about to be closed for it.
    aborting: Option<&'static str>,
    /// Resolves at the drain deadline, when the answer fails however it is doing.
    drain_deadline: Option<Pin<Box<dyn Future<Output = GatewayError> + Send>>>,
}

/// What is closed when the answer ends: the body on its connection, and the timers.
pub(super) struct Source {
    pub(super) body: AnswerBody,
    pub(super) timers: Timers,
    /// When the request was sent.
    pub(super) sent: Instant,
}

impl ResponseStream {
    pub(super) const fn new(source: Source, mode: BodyMode, shape: Shape, model: Arc<str>) -> Self {
        Self {
            source: Some(source),
            mode,
            shape,
            model,
            committed: false,
            buffered: Bytes::new(),
            failed: None,
            aborting: None,
            drain_deadline: None,
        }
    }

    /// Buffers the answer until its first content: until then a failure can still be another
    /// attempt, or a status. A stream of pings alone is committed at [`MAX_BUFFERED`] bytes or after
    /// [`MAX_BUFFER_TIME`].
    pub(super) async fn buffer_until_content(
        &mut self,
        facts: &mut RequestInfo,
    ) -> Result<(), GatewayError> {
        let mut buffered = ChunkBuffer::default();
        let mut timer = None;
        poll_fn(|cx| self.poll_content(cx, facts, &mut buffered, &mut timer)).await?;
        self.buffered = buffered.into_bytes();
        self.committed = true;
        Ok(())
    }

    /// Keeps the request's permit at its model until the model server's last byte has been read.
    pub(super) fn hold_permit(&mut self, permit: Option<Permit>) {
        if let Some(source) = &mut self.source {
            source.body.hold_permit(permit);
        }
    }

    /// Lets the answer fail at the drain deadline.
    pub(super) fn set_drain_deadline(&mut self, deadline: DrainDeadline) {
        self.drain_deadline = Some(Box::pin(deadline.expired()));
    }

    /// Takes the bytes that were buffered with the head.
    pub(super) const fn take_buffered(&mut self) -> Bytes {
        std::mem::replace(&mut self.buffered, Bytes::new())
    }

    /// Fails the answer when the total timeout or the drain deadline expires while the client does
    /// not read. The next poll returns the error frame, or the abort.
    pub(super) fn poll_client_overdue(
        &mut self,
        cx: &mut Context<'_>,
        facts: &mut RequestInfo,
    ) -> Poll<()> {
        let error = ready!(self.poll_overdue(cx)).remarked("the client did not read");
        match self.fail(&error, facts) {
            Some(frame) => self.buffered = frame,
            None => self.aborting = Some(error.kind().row().code),
        }
        Poll::Ready(())
    }

    fn poll_content(
        &mut self,
        cx: &mut Context<'_>,
        facts: &mut RequestInfo,
        buffered: &mut ChunkBuffer,
        timer: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<Result<(), GatewayError>> {
        loop {
            match self.poll_bytes(cx, facts) {
                Poll::Ready(Ok(Some(bytes))) => {
                    buffered.push(bytes);
                    if self.mode.has_content(facts) || buffered.len() >= MAX_BUFFERED {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(ended) => return Poll::Ready(ended.map(|_| ())),
                Poll::Pending
                    if buffered.is_empty() || matches!(self.mode, BodyMode::Opaque { .. }) =>
                {
                    return Poll::Pending;
                }
                Poll::Pending => {
                    let timer = timer.get_or_insert_with(|| Box::pin(sleep(MAX_BUFFER_TIME)));
                    return timer.as_mut().poll(cx).map(Ok);
                }
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.source.is_none()
            && self.buffered.is_empty()
            && self.failed.is_none()
            && self.aborting.is_none()
    }

    /// Returns the next bytes for the client, or the end. A failure becomes a last frame, or an
    /// abort.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        facts: &mut RequestInfo,
    ) -> Poll<Option<Result<Bytes, Abort>>> {
        if !self.buffered.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.buffered))));
        }
        if let Some(code) = self.aborting.take() {
            return Poll::Ready(Some(Err(Abort(code))));
        }
        match ready!(self.poll_bytes(cx, facts)) {
            Ok(bytes) => Poll::Ready(bytes.map(Ok)),
            Err(error) => match self.fail(&error, facts) {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => {
                    // yields once, so that the server flushes what was written: an error closes the
                    // connection at once
                    self.aborting = Some(error.kind().row().code);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            },
        }
    }

    /// Polls like `poll_next`, but returns a failure as it is.
    fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
        facts: &mut RequestInfo,
    ) -> Poll<Result<Option<Bytes>, GatewayError>> {
        loop {
            let Some(source) = &mut self.source else {
                return Poll::Ready(self.failed.take().map_or(Ok(None), Err));
            };
            let Poll::Ready(read) = source.body.poll_chunk(cx) else {
                let error = ready!(self.poll_expired(cx));
                self.fail_upstream(&error);
                return Poll::Ready(Err(error));
            };
            let now = Instant::now();
            let ended = source.body.is_over();
            let (mut bytes, fed) = match read {
                Some(Ok(chunk)) => {
                    source.timers.restart_idle(now);
                    let was_silent = facts.first_token.is_none();
                    let fed = self.mode.feed(chunk, facts, now);
                    if was_silent && facts.first_token.is_some() {
                        self.on_first_token(now);
                    }
                    fed
                }
                Some(Err(error)) => (Bytes::new(), Err(connection_error(&error))),
                None => (Bytes::new(), Ok(())),
            };
            if let Err(error) = fed {
                self.fail_upstream(&error);
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

    /// Ready when a timeout or the drain deadline has expired while the model server is silent.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<GatewayError> {
        let Some(source) = &mut self.source else { return Poll::Pending };
        match source.timers.poll_expired(cx) {
            Poll::Ready(expired) => Poll::Ready(expired.error(&self.model)),
            Poll::Pending => self.poll_drain_deadline(cx),
        }
    }

    /// Ready when the total timeout or the drain deadline has expired while the client does not
    /// read: the other timeouts would blame the model server for the client's silence.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<GatewayError> {
        let Some(source) = &mut self.source else { return Poll::Pending };
        match source.timers.poll_total(cx) {
            Poll::Ready(expired) => Poll::Ready(expired.error(&self.model)),
            Poll::Pending => self.poll_drain_deadline(cx),
        }
    }

    fn poll_drain_deadline(&mut self, cx: &mut Context<'_>) -> Poll<GatewayError> {
        let Some(ending) = &mut self.drain_deadline else { return Poll::Pending };
        let error = ready!(ending.as_mut().poll(cx));
        self.drain_deadline = None;
        Poll::Ready(error)
    }

    /// Records the time to the first content at the endpoint.
    fn on_first_token(&self, now: Instant) {
        if let Some(source) = &self.source {
            source
                .body
                .endpoint()
                .record(Observation::FirstToken(now.saturating_duration_since(source.sent)));
        }
    }

    /// Closes the connection of an answer that failed, and records the failure at the endpoint if
    /// the response is committed: before that, the attempt records it.
    fn fail_upstream(&mut self, error: &GatewayError) {
        if let Some(source) = self.source.take().filter(|_| self.committed) {
            source.body.endpoint().record_failure(error);
        }
    }

    /// Ends the answer after the model server's last byte, when its connection is back in the pool.
    /// Returns the last bytes; an answer that turns out incomplete fails after them.
    fn end(&mut self, bytes: Bytes, facts: &mut RequestInfo, now: Instant) -> Bytes {
        facts.upstream_ended = Some(now);
        match self.mode.finish(facts) {
            Ok(last) => {
                self.source = None;
                facts.complete = true;
                concat(bytes, last)
            }
            Err(error) => {
                self.fail_upstream(&error);
                self.failed = Some(error);
                bytes
            }
        }
    }

    /// Cancels the request upstream and returns the surface's error frame, if it has one.
    fn fail(&mut self, error: &GatewayError, facts: &mut RequestInfo) -> Option<Bytes> {
        self.source = None;
        facts.upstream_ended.get_or_insert_with(Instant::now);
        facts.failure = Some(error.kind());
        facts.note = error.operator().map(str::to_owned);
        facts.complete = true;
        let framed = matches!(self.mode, BodyMode::SseTap(_) | BodyMode::Transcode(_));
        framed.then(|| in_band(error, self.shape, facts.ids.request_id_str())).flatten()
    }
}

fn concat(bytes: Bytes, last: Bytes) -> Bytes {
    match (bytes.is_empty(), last.is_empty()) {
        (_, true) => bytes,
        (true, false) => last,
        (false, false) => [bytes, last].concat().into(),
    }
}

/// Returns the error of a connection that failed in the middle of an answer.
pub(super) fn connection_error(error: &ExchangeError) -> GatewayError {
    GatewayError::new(Kind::UpstreamBroken, "The model server's answer broke off")
        .internal(error.to_string())
}
