//! One worker's end of telemetry: its buffer of access-log lines and its handles of series. The
//! locks are never contended, since one thread uses them; they make the type `Send`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntGauge;
use tokio::time::Instant;

use super::labels::{RouteLabels, Surface, SurfaceLabels};
use super::record::{RequestInfo, Sink};
use super::series::{RouteKey, RouteSeries};
use super::{AccessLog, LogWriter, Metrics};

/// Bytes after which a batch is sent to the writer, if no flush tick comes before.
const BATCH: usize = 16 * 1024;

/// The sink of one worker's records.
pub struct WorkerTelemetry {
    metrics: Arc<Metrics>,
    writer: LogWriter,
    lines: Mutex<(AccessLog, Vec<u8>)>,
    series: Mutex<HashMap<RouteKey, Arc<RouteSeries>>>,
    /// Requests in flight, by surface.
    inflight: [IntGauge; Surface::ALL.len()],
}

impl WorkerTelemetry {
    /// Returns the sink of one worker thread.
    pub fn new(metrics: Arc<Metrics>, writer: LogWriter) -> Self {
        let inflight = Surface::ALL.map(|surface| metrics.inflight.get(&SurfaceLabels { surface }));
        Self { metrics, writer, lines: Mutex::default(), series: Mutex::default(), inflight }
    }

    /// Sends the buffered lines to the writer. Called by the worker's tick and at its end.
    pub fn flush(&self) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if !lines.1.is_empty() {
            self.writer.send(std::mem::take(&mut lines.1));
        }
    }

    fn log(&self, facts: &RequestInfo, now: Instant) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (log, buffer) = &mut *lines;
        log.line(facts, now, buffer);
        if buffer.len() >= BATCH {
            let next = Vec::with_capacity(BATCH + 1024);
            self.writer.send(std::mem::replace(buffer, next));
        }
    }

    fn series(&self, facts: &RequestInfo) -> Arc<RouteSeries> {
        let mut map = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let (surface, feature, model) = (facts.surface, facts.feature, Arc::clone(&facts.model));
        let route = RouteLabels { surface, feature, model };
        let key = RouteKey { route, provider: facts.provider };
        if let Some(series) = map.get(&key) {
            return Arc::clone(series);
        }
        let series = Arc::new(RouteSeries::of(&self.metrics, &key));
        map.insert(key, Arc::clone(&series));
        series
    }

    const fn inflight(&self, surface: Surface) -> &IntGauge {
        // `Surface::ALL` is in order of declaration
        &self.inflight[surface as usize]
    }
}

impl Sink for WorkerTelemetry {
    fn begin(&self, surface: Surface) {
        self.inflight(surface).inc();
    }

    fn finish(&self, facts: &RequestInfo) {
        let now = Instant::now();
        self.inflight(facts.surface).dec();
        self.series(facts).observe(facts, now);
        let is_plain = facts.failure.is_none()
            && facts.complete
            && facts.retries == 0
            && facts.failed_models.is_empty();
        if !is_plain {
            self.metrics.count_failures(facts);
        }
        self.log(facts, now);
    }
}
