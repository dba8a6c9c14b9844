//! One worker's end of telemetry: its buffer of log lines and its map of metric handles. Locks here
//! are never contended, since one thread uses them; they exist so that the type is `Send`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::labels::Surface;
use super::metrics::Series;
use super::record::{Facts, Sink};
use super::{AccessLog, LogWriter, Metrics};

/// A batch goes to the writer when it is this long, or when the flush tick comes.
const BATCH: usize = 16 * 1024;

type SeriesKey = (Surface, &'static str, Arc<str>);

/// Where this worker's records go.
pub struct WorkerTelemetry {
    metrics: Arc<Metrics>,
    writer: LogWriter,
    lines: Mutex<(AccessLog, Vec<u8>)>,
    series: Mutex<HashMap<SeriesKey, Arc<Series>>>,
}

impl WorkerTelemetry {
    /// For one worker thread.
    pub fn new(metrics: Arc<Metrics>, writer: LogWriter) -> Self {
        Self { metrics, writer, lines: Mutex::default(), series: Mutex::default() }
    }

    /// Sends what is buffered. Called by the worker's tick and at its end.
    pub fn flush(&self) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if !lines.1.is_empty() {
            self.writer.send(std::mem::take(&mut lines.1));
        }
    }

    fn log(&self, facts: &Facts, now: Instant) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (log, buffer) = &mut *lines;
        log.line(facts, now, buffer);
        if buffer.len() >= BATCH {
            let next = Vec::with_capacity(BATCH + 1024);
            self.writer.send(std::mem::replace(buffer, next));
        }
    }

    fn series(&self, facts: &Facts) -> Arc<Series> {
        let mut map = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (facts.surface, facts.feature, Arc::clone(&facts.model));
        Arc::clone(map.entry(key).or_insert_with(|| Arc::new(self.metrics.series(facts))))
    }
}

impl Sink for WorkerTelemetry {
    fn begin(&self, surface: Surface) {
        self.metrics.inflight(surface).inc();
    }

    fn finish(&self, facts: &Facts) {
        let now = Instant::now();
        self.metrics.inflight(facts.surface).dec();
        self.series(facts).finish(facts, now);
        if facts.failure.is_some()
            || !facts.complete
            || facts.retries > 0
            || !facts.earlier.is_empty()
        {
            self.metrics.failed(facts);
        }
        self.log(facts, now);
    }
}
