//! The requests under way at one endpoint: how many there are, and how long none has left.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntGauge;

/// An endpoint that no request has left for so long, and that has none, is one of which nobody
/// knows how it is.
const LONG: Duration = Duration::from_secs(10);

/// The requests of all workers.
#[derive(Debug)]
pub(crate) struct Inflight {
    count: AtomicUsize,
    /// When the last one left, in milliseconds of the clock that `now` counts by.
    left: AtomicU64,
    gauge: IntGauge,
}

impl Inflight {
    /// None; the gauge shows how many.
    pub(crate) const fn new(gauge: IntGauge) -> Self {
        Self { count: AtomicUsize::new(0), left: AtomicU64::new(0), gauge }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// One more.
    pub(crate) fn enter(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.gauge.inc();
    }

    /// One less.
    pub(crate) fn leave(&self, now: Duration) {
        // first, so that whoever sees that none is there sees no older time
        self.left_at(now);
        self.count.fetch_sub(1, Ordering::Release);
        self.gauge.dec();
    }

    /// Notes when the last one left.
    pub(crate) fn left_at(&self, now: Duration) {
        self.left.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether none had left for long by then.
    pub(crate) fn was_quiet(&self, then: Duration) -> bool {
        then.saturating_sub(Duration::from_millis(self.left.load(Ordering::Relaxed))) >= LONG
    }
}
