//! `Record`: the facts of one request, filled in as it runs and handed to the sink exactly once,
//! when the response body ends, fails or is dropped. Metrics, the access log and `/status` all read
//! it and nothing else.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::labels::Surface;
use super::{PromptLog, TraceIds};
use crate::error::{Kind, Outcome, Phase, Shape};
use crate::generation::{TokenEstimate, Usage};

/// The receiver of finished records.
pub trait Sink: Send + Sync {
    /// Called when a request has arrived on this surface.
    fn begin(&self, surface: Surface);
    /// Called when the request has ended.
    fn finish(&self, facts: &RequestInfo);
}

/// An account that the tokens of a request are charged to.
pub trait Meter: fmt::Debug + Send + Sync {
    /// Charges the tokens that the model read and wrote, once the request has ended.
    fn charge(&self, tokens: u64);
}

/// The facts of one request.
#[derive(Debug)]
pub struct RequestInfo {
    /// When the request's head had been read.
    pub started: Instant,
    /// The same moment as wall-clock time.
    pub wall: SystemTime,
    /// The request id and the trace id.
    pub ids: TraceIds,
    /// The peer's address, for the access log only.
    pub client: Option<IpAddr>,
    /// The endpoint family.
    pub surface: Surface,
    /// The format of errors for this client.
    pub shape: Shape,
    /// The path, kept only for [`Surface::Unknown`].
    pub path: Option<Box<str>>,
    /// GitLab's feature; `direct` for a model that the client names; `-` before routing.
    pub feature: &'static str,
    /// The model's name in the file; `request` for one that the request brings; `-` before routing.
    pub model: Arc<str>,
    /// The provider kind's label.
    pub provider: &'static str,
    /// Whether the client requested a stream.
    pub stream: bool,
    /// The status sent; 0 before the response head.
    pub status: u16,
    /// The failure, if there was one.
    pub failure: Option<Kind>,
    /// The operator's message of the failure.
    pub note: Option<String>,
    /// Whether the response body was sent to its end; if not and without a failure, the client
    /// disconnected.
    pub complete: bool,
    /// The account that its tokens are charged to, if its caller has a rate limit.
    pub meter: Option<Box<dyn Meter>>,
    /// The time spent in queues for a permit.
    pub queue: QueueTime,
    /// When the first upstream request was about to be sent.
    pub upstream_started: Option<Instant>,
    /// The queue time by then.
    pub queued_before: Duration,
    /// When the last upstream request was about to be sent: the one that is relayed, if any is.
    pub sent: Option<Instant>,
    /// When the upstream's last byte had been read.
    pub upstream_ended: Option<Instant>,
    /// When the first content arrived.
    pub first_token: Option<Instant>,
    /// Retries of the request, at replicas of any model.
    pub retries: u32,
    /// The models that failed before the one in `model` was tried.
    pub failed_models: Vec<FailedModel>,
    /// Tokens as reported; missing counts are estimated once the request has ended.
    pub usage: Usage,
    /// The part of a stream that no reported count covers.
    pub token_estimate: TokenEstimate,
    /// Whether `usage` contains an estimate.
    pub usage_estimated: bool,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// Prompt and response, where they may be logged.
    pub prompt_log: Option<Box<PromptLog>>,
}

/// A model that failed before its response began, so that its fallback was tried.
#[derive(Clone, Debug)]
pub struct FailedModel {
    /// Its name in the file.
    pub model: Arc<str>,
    /// The kind of failure.
    pub failure: Kind,
    /// Retries at its replicas.
    pub retries: u32,
}

impl RequestInfo {
    /// Counts bytes of the response body.
    pub fn record_bytes_out(&mut self, bytes: &[u8]) {
        self.bytes_out += bytes.len() as u64;
        if let Some(prompt_log) = &mut self.prompt_log {
            prompt_log.add_response(bytes);
        }
    }

    /// Notes that a request to a model server is about to be sent.
    pub fn record_send(&mut self, now: Instant) {
        if self.upstream_started.is_none() {
            self.upstream_started = Some(now);
            self.queued_before = self.queue.total(now).unwrap_or_default();
        }
        self.sent = Some(now);
    }

    /// Resets the facts of an attempt that failed before its response began, for the next one.
    pub fn reset_attempt(&mut self) {
        self.failure = None;
        self.sent = None;
        self.upstream_ended = None;
        self.first_token = None;
        self.usage = Usage::default();
        self.token_estimate = TokenEstimate::default();
    }

    /// Returns the facts of a second attempt at the same model, which runs concurrently.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            ids: self.ids.clone(),
            path: None,
            model: Arc::clone(&self.model),
            note: None,
            meter: None,
            queue: QueueTime::default(),
            retries: 0,
            failed_models: Vec::new(),
            prompt_log: None,
            ..*self
        }
    }

    /// Takes over the facts of a concurrent attempt, whose response is the one that is relayed.
    pub fn merge(&mut self, beside: Self) {
        let Self {
            failure,
            note,
            complete,
            sent,
            upstream_ended,
            first_token,
            usage,
            token_estimate,
            ..
        } = beside;
        self.retries += beside.retries;
        (self.failure, self.first_token) = (failure, first_token);
        (self.sent, self.upstream_ended) = (sent, upstream_ended);
        (self.note, self.complete) = (note, complete);
        (self.usage, self.token_estimate) = (usage, token_estimate);
    }

    /// Records the failure of the current model, before its fallback is tried.
    pub fn record_fallback(&mut self, failure: Kind) {
        let retries = self.retries - self.retries_before();
        self.failed_models.push(FailedModel { model: Arc::clone(&self.model), failure, retries });
        self.reset_attempt();
    }

    /// Returns the number of retries at the models that failed before.
    pub fn retries_before(&self) -> u32 {
        self.failed_models.iter().map(|earlier| earlier.retries).sum()
    }

    /// Returns how the request ended.
    pub fn outcome(&self) -> Outcome {
        match self.failure {
            Some(kind) => kind.row().outcome,
            None if self.complete => Outcome::Ok,
            None => Outcome::Cancelled,
        }
    }

    /// Returns the `error_code`, or `None` without a failure.
    pub fn error_code(&self) -> Option<&'static str> {
        self.failure.map(|kind| kind.row().code)
    }

    /// Returns the phase of the failure, or `None` where it has none.
    pub fn phase(&self) -> Option<Phase> {
        self.failure?.row().phase
    }

    /// Returns the time spent on model servers, from the first send to the last byte: all attempts
    /// at all models, without the queue time between them. `None` when nothing was sent.
    pub fn upstream_time(&self, now: Instant) -> Option<Duration> {
        let span =
            self.upstream_ended.unwrap_or(now).saturating_duration_since(self.upstream_started?);
        let queued = self.queue.total(now).unwrap_or_default().saturating_sub(self.queued_before);
        Some(span.saturating_sub(queued))
    }

    /// Returns the time spent on the attempt that was relayed, at the model in `model`, or on its
    /// last one. `None` when none was sent.
    pub fn attempt_time(&self, now: Instant) -> Option<Duration> {
        Some(self.upstream_ended.unwrap_or(now).saturating_duration_since(self.sent?))
    }

    /// Returns Weir's own time: the duration without the upstream and the queue.
    pub fn overhead(&self, now: Instant) -> Duration {
        let total = now.saturating_duration_since(self.started);
        let waiting =
            self.queue.total(now).unwrap_or_default() + self.upstream_time(now).unwrap_or_default();
        total.saturating_sub(waiting)
    }

    /// Returns the time from arrival to the first content, or `None` before it.
    pub fn time_to_first_token(&self) -> Option<Duration> {
        Some(self.first_token?.saturating_duration_since(self.started))
    }
}

/// The time that a request spent in queues for a permit: Weir's own and its model's.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueTime {
    waited: Duration,
    /// When the current wait began.
    since: Option<Instant>,
}

impl QueueTime {
    /// Starts the clock: the request is queued.
    pub fn begin(&mut self) {
        self.since = Some(Instant::now());
    }

    /// Stops the clock: the request has left the queue.
    pub fn end(&mut self) {
        self.waited += self.since.take().map(|since| since.elapsed()).unwrap_or_default();
    }

    /// Returns the sum of all waits, or `None` when the request was never queued.
    pub fn total(&self, now: Instant) -> Option<Duration> {
        let waiting = self.since.map(|since| now.saturating_duration_since(since));
        let total = self.waited + waiting.unwrap_or_default();
        (waiting.is_some() || total > Duration::ZERO).then_some(total)
    }
}

/// Owns the facts of a request; dropping it hands them to the sink.
pub struct Record {
    /// The facts so far.
    pub facts: RequestInfo,
    sink: Arc<dyn Sink>,
}

impl Record {
    /// Opens the record of a request whose head has just been read.
    pub fn open(
        sink: Arc<dyn Sink>,
        surface: Surface,
        ids: TraceIds,
        client: Option<IpAddr>,
    ) -> Self {
        let facts = RequestInfo {
            started: Instant::now(),
            wall: SystemTime::now(),
            ids,
            client,
            surface,
            shape: Shape::default(),
            path: None,
            feature: "-",
            model: no_model(),
            provider: "-",
            stream: false,
            status: 0,
            failure: None,
            note: None,
            complete: false,
            meter: None,
            queue: QueueTime::default(),
            upstream_started: None,
            queued_before: Duration::ZERO,
            sent: None,
            upstream_ended: None,
            first_token: None,
            retries: 0,
            failed_models: Vec::new(),
            usage: Usage::default(),
            token_estimate: TokenEstimate::default(),
            usage_estimated: false,
            bytes_in: 0,
            bytes_out: 0,
            prompt_log: None,
        };
        sink.begin(surface);
        Self { facts, sink }
    }

    /// Opens a record whose sink discards it.
    #[cfg(test)]
    pub fn for_nobody() -> Self {
        struct Discard;

        impl Sink for Discard {
            fn begin(&self, _surface: Surface) {}

            fn finish(&self, _facts: &RequestInfo) {}
        }

        Self::open(Arc::new(Discard), Surface::Unknown, TraceIds::of(&http::HeaderMap::new()), None)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(usage) = self.facts.token_estimate.complete(self.facts.usage) {
            self.facts.usage = usage;
            self.facts.usage_estimated = true;
        }
        if let Some(meter) = self.facts.meter.take() {
            meter.charge(self.facts.usage.input.saturating_add(self.facts.usage.output));
        }
        self.sink.finish(&self.facts);
        // a prompt that reached no model is not logged
        let is_sent = self.facts.upstream_started.is_some();
        if let Some(prompt_log) = self.facts.prompt_log.take().filter(|_| is_sent) {
            prompt_log.emit(self.facts.ids.request_id_str(), &self.facts.model);
        }
    }
}

/// Returns the `model` label of a request before routing; shared, since most error paths use it.
fn no_model() -> Arc<str> {
    static NONE: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| Arc::from("-"));
    Arc::clone(&NONE)
}
