//! The requests in flight at one endpoint: how many there are, and for how long none has finished.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntGauge;

/// How long after the last request an endpoint without requests counts as idle: its current state
/// is then unknown.
const IDLE_AFTER: Duration = Duration::from_secs(10);

/// The in-flight requests of all workers at one endpoint.
#[derive(Debug)]
pub(crate) struct Inflight {
    count: AtomicUsize,
    /// When the last one finished, in milliseconds of the clock that `now` is measured by.
    last_left: AtomicU64,
    gauge: IntGauge,
}

impl Inflight {
    /// Creates a counter at zero; the gauge follows it.
    pub(crate) const fn new(gauge: IntGauge) -> Self {
        Self { count: AtomicUsize::new(0), last_left: AtomicU64::new(0), gauge }
    }

    /// Returns the number of requests in flight.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Counts a request in.
    pub(crate) fn enter(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.gauge.inc();
    }

    /// Counts a request out.
    pub(crate) fn leave(&self, now: Duration) {
        // first, so that a reader that finds no request sees no older time
        self.record_leave(now);
        self.count.fetch_sub(1, Ordering::Release);
        self.gauge.dec();
    }

    /// Records when the last request finished.
    pub(crate) fn record_leave(&self, now: Duration) {
        self.last_left.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns whether the endpoint had been idle for long at that time.
    pub(crate) fn was_idle(&self, then: Duration) -> bool {
        then.saturating_sub(Duration::from_millis(self.last_left.load(Ordering::Relaxed)))
            >= IDLE_AFTER
    }
}
