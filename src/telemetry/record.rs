//! `Record`: the facts of one request, filled in as it goes and handed on exactly once, when the
//! body ends, fails or is dropped. Metrics, the access log and `/status` all read it and nothing
//! else.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::labels::{Outcome, Phase, Surface};
use super::{TraceIds, Words};
use crate::error::{Kind, Shape};
use crate::generation::{Uncounted, Usage};

/// Whom a finished record goes to.
pub trait Sink: Send + Sync {
    /// A request has arrived on this surface.
    fn begin(&self, surface: Surface);
    /// The request is over.
    fn finish(&self, facts: &Facts);
}

/// Whom the tokens of a request are charged to.
pub trait Meter: fmt::Debug + Send + Sync {
    /// The request is over, and this is what its model read and wrote.
    fn charge(&self, tokens: u64);
}

/// Facts of one request.
#[derive(Debug)]
pub struct Facts {
    /// When the request's head had been read.
    pub started: Instant,
    /// The same moment for people.
    pub wall: SystemTime,
    /// Correlation.
    pub ids: TraceIds,
    /// The peer, for the log only.
    pub client: Option<IpAddr>,
    /// What was called.
    pub surface: Surface,
    /// How errors look to this client.
    pub shape: Shape,
    /// The path, kept only where no surface answers it.
    pub path: Option<Box<str>>,
    /// GitLab's feature; `direct` for a model named by the client; `-` before routing.
    pub feature: &'static str,
    /// The model's name in the file, `request` for one that the request brought, `-` before
    /// routing.
    pub model: Arc<str>,
    /// The provider kind's label.
    pub provider: &'static str,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// The status sent; 0 while none was.
    pub status: u16,
    /// What failed, if anything did.
    pub failure: Option<Kind>,
    /// What the operator should know of it.
    pub note: Option<String>,
    /// The body was handed on to its end; without it and without a failure, the client left.
    pub complete: bool,
    /// What its tokens are charged to, if its caller has a rate.
    pub meter: Option<Box<dyn Meter>>,
    /// Waiting for a place.
    pub queue: QueueTime,
    /// When the first upstream request was about to be sent.
    pub upstream_started: Option<Instant>,
    /// How long it had waited for a place by then.
    pub queued_before: Duration,
    /// When the last one was: the one that is answered, if any is.
    pub sent: Option<Instant>,
    /// When the upstream's last byte had been read.
    pub upstream_ended: Option<Instant>,
    /// When the first content arrived.
    pub first_token: Option<Instant>,
    /// Extra sends of the same request, to replicas of any model.
    pub retries: u32,
    /// The models that were asked before the one in `model`, and failed.
    pub earlier: Vec<Earlier>,
    /// Tokens as reported; with what is missing estimated, once the request is over.
    pub usage: Usage,
    /// What of a stream no report of tokens covers.
    pub uncounted: Uncounted,
    /// Whether something in `usage` is an estimate.
    pub usage_estimated: bool,
    /// Request body.
    pub bytes_in: u64,
    /// Response body.
    pub bytes_out: u64,
    /// What was said, where it may be logged.
    pub words: Option<Box<Words>>,
}

/// A model that failed before its answer had begun, so that another was asked.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// Its name in the file.
    pub model: Arc<str>,
    /// Why it failed.
    pub failure: Kind,
    /// Extra sends to its replicas.
    pub retries: u32,
}

impl Facts {
    /// Counts bytes of the answer.
    pub fn answered(&mut self, bytes: &[u8]) {
        self.bytes_out += bytes.len() as u64;
        if let Some(words) = &mut self.words {
            words.answer(bytes);
        }
    }

    /// A request to a model server is about to be sent.
    pub fn sending(&mut self, now: Instant) {
        if self.upstream_started.is_none() {
            self.upstream_started = Some(now);
            self.queued_before = self.queue.total(now).unwrap_or_default();
        }
        self.sent = Some(now);
    }

    /// Forgets what an attempt told that failed before its answer had begun: another one is made.
    pub fn start_over(&mut self) {
        self.failure = None;
        self.sent = None;
        self.upstream_ended = None;
        self.first_token = None;
        self.usage = Usage::default();
        self.uncounted = Uncounted::default();
    }

    /// The account of an attempt that is made beside this one's, at the same model.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            ids: self.ids.clone(),
            path: None,
            model: Arc::clone(&self.model),
            note: None,
            meter: None,
            queue: QueueTime::default(),
            retries: 0,
            earlier: Vec::new(),
            words: None,
            ..*self
        }
    }

    /// The attempt beside this one's answers: what it learnt is what counts.
    pub fn take_over(&mut self, beside: Self) {
        let Self {
            failure,
            note,
            complete,
            sent,
            upstream_ended,
            first_token,
            usage,
            uncounted,
            ..
        } = beside;
        self.retries += beside.retries;
        (self.failure, self.first_token) = (failure, first_token);
        (self.sent, self.upstream_ended) = (sent, upstream_ended);
        (self.note, self.complete, self.usage, self.uncounted) = (note, complete, usage, uncounted);
    }

    /// The model in `model` failed, and another one is asked.
    pub fn fall_back(&mut self, failure: Kind) {
        let retries = self.retries - self.retries_before();
        self.earlier.push(Earlier { model: Arc::clone(&self.model), failure, retries });
        self.start_over();
    }

    /// Extra sends to replicas of the models that were asked before.
    pub fn retries_before(&self) -> u32 {
        self.earlier.iter().map(|earlier| earlier.retries).sum()
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        match self.failure {
            Some(kind) => kind.row().outcome,
            None if self.complete => Outcome::Ok,
            None => Outcome::Cancelled,
        }
    }

    /// `error_code`, when there is one.
    pub fn error_code(&self) -> Option<&'static str> {
        self.failure.map(|kind| kind.row().code)
    }

    /// The limit or stage that failed.
    pub fn phase(&self) -> Option<Phase> {
        self.failure.and_then(Kind::phase)
    }

    /// Time spent waiting for model servers, from the first sending to the last byte: all attempts,
    /// at all models, but not the wait for a place at another one between them.
    pub fn upstream_time(&self, now: Instant) -> Option<Duration> {
        let span =
            self.upstream_ended.unwrap_or(now).saturating_duration_since(self.upstream_started?);
        let queued = self.queue.total(now).unwrap_or_default().saturating_sub(self.queued_before);
        Some(span.saturating_sub(queued))
    }

    /// The same of the attempt that was answered alone, at the model in `model`; of its last one if
    /// none was.
    pub fn attempt_time(&self, now: Instant) -> Option<Duration> {
        Some(self.upstream_ended.unwrap_or(now).saturating_duration_since(self.sent?))
    }

    /// Weir's own time: neither waiting for the model server nor for a place.
    pub fn overhead(&self, now: Instant) -> Duration {
        let total = now.saturating_duration_since(self.started);
        let waited =
            self.queue.total(now).unwrap_or_default() + self.upstream_time(now).unwrap_or_default();
        total.saturating_sub(waited)
    }

    /// From arrival to the first content.
    pub fn time_to_first_token(&self) -> Option<Duration> {
        Some(self.first_token?.saturating_duration_since(self.started))
    }
}

/// How long a request waited for a place, in Weir's own queue and in its model's.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueTime {
    waited: Duration,
    /// It waits still.
    since: Option<Instant>,
}

impl QueueTime {
    /// It begins to wait.
    pub fn begin(&mut self) {
        self.since = Some(Instant::now());
    }

    /// It waits no longer.
    pub fn end(&mut self) {
        self.waited += self.since.take().map(|since| since.elapsed()).unwrap_or_default();
    }

    /// All of it, if it had to wait.
    pub fn total(&self, now: Instant) -> Option<Duration> {
        let waiting = self.since.map(|since| now.saturating_duration_since(since));
        let total = self.waited + waiting.unwrap_or_default();
        (waiting.is_some() || total > Duration::ZERO).then_some(total)
    }
}

/// Owns the facts; dropping it hands them on.
pub struct Record {
    /// The facts so far.
    pub facts: Facts,
    sink: Arc<dyn Sink>,
}

impl Record {
    /// Opens the record of a request whose head was just read.
    pub fn open(
        sink: Arc<dyn Sink>,
        surface: Surface,
        ids: TraceIds,
        client: Option<IpAddr>,
    ) -> Self {
        let facts = Facts {
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
            earlier: Vec::new(),
            usage: Usage::default(),
            uncounted: Uncounted::default(),
            usage_estimated: false,
            bytes_in: 0,
            bytes_out: 0,
            words: None,
        };
        sink.begin(surface);
        Self { facts, sink }
    }

    /// A record that goes to nobody.
    #[cfg(test)]
    pub fn for_nobody() -> Self {
        struct Nobody;

        impl Sink for Nobody {
            fn begin(&self, _surface: Surface) {}

            fn finish(&self, _facts: &Facts) {}
        }

        Self::open(Arc::new(Nobody), Surface::Unknown, TraceIds::of(&http::HeaderMap::new()), None)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(usage) = self.facts.uncounted.estimate(self.facts.usage) {
            self.facts.usage = usage;
            self.facts.usage_estimated = true;
        }
        if let Some(meter) = self.facts.meter.take() {
            meter.charge(self.facts.usage.input.saturating_add(self.facts.usage.output));
        }
        self.sink.finish(&self.facts);
        // of what no model was asked nobody needs the words
        if let Some(words) =
            self.facts.words.take().filter(|_| self.facts.upstream_started.is_some())
        {
            words.tell(self.facts.ids.request_id_str(), &self.facts.model);
        }
    }
}

/// The label of a request that no model was chosen for; shared, since most error paths end with it.
fn no_model() -> Arc<str> {
    static NONE: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| Arc::from("-"));
    Arc::clone(&NONE)
}
