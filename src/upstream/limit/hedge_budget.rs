//! When a request is sent to a second replica of a model as well, and how often at most: hedged
//! requests (Dean and Barroso, "The Tail at Scale", 2013). Off unless
//! `resilience.hedging.percentile` is set.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::limit::retry_budget::{REST, RetryBudget};

/// The settings of `[resilience.hedging]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hedging {
    /// `percentile`: the hedged request is sent after this percentile of the wait for the first
    /// content.
    pub percentile: f64,
    /// `budget`: hedged requests, as a share of requests.
    pub share: f64,
}

/// The requests that a model's servers may get in addition to those of clients.
#[derive(Debug)]
pub(crate) struct RetryAndHedgeBudgets {
    pub(crate) retries: RetryBudget,
    pub(crate) hedges: Hedges,
}

impl RetryAndHedgeBudgets {
    /// Creates budgets that allow nothing until a configuration is set.
    pub(crate) fn new(now: Instant) -> Self {
        Self { retries: RetryBudget::new(0.0, REST, now), hedges: Hedges::new(now) }
    }
}

/// The burst of hedged requests: none are saved for bad times, since hedging is no cure for a
/// replica that fails.
const BURST: f64 = 1.0;

/// The hedging state of one model, for all workers. Kept across reloads.
#[derive(Debug)]
pub(crate) struct Hedges {
    /// The percentile in thousandths; 0 turns hedging off.
    permille: AtomicU32,
    waits: Waits,
    budget: RetryBudget,
}

impl Hedges {
    /// Creates the state with hedging off and without observations.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            permille: AtomicU32::new(0),
            waits: Waits::default(),
            budget: RetryBudget::new(0.0, BURST, now),
        }
    }

    /// Replaces the settings.
    pub(crate) fn set(&self, hedging: Option<Hedging>) {
        let permille = hedging.map_or(0, |hedging| (hedging.percentile * 1000.0) as u32);
        self.permille.store(permille, Ordering::Relaxed);
        self.budget.set_share(hedging.map_or(0.0, |hedging| hedging.share));
    }

    /// Records that the first content arrived this long after its request was sent.
    pub(crate) fn observe(&self, waited: Duration) {
        if self.permille.load(Ordering::Relaxed) > 0 {
            self.waits.observe(waited);
        }
    }

    /// Deposits a client's request, and returns how long its first replica has before a hedged
    /// request is sent; `None` when none is to be sent.
    pub(crate) fn begin(&self, now: Instant) -> Option<Duration> {
        let permille = self.permille.load(Ordering::Relaxed);
        if permille == 0 {
            return None;
        }
        self.budget.deposit(now);
        self.waits.quantile(permille)
    }

    /// Withdraws one hedged request; returns false when the budget is used up.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        self.budget.withdraw(now)
    }
}

/// The resolution of the histogram.
const BUCKETS_PER_OCTAVE: u32 = 4;
/// The range of the histogram: 1 ms to 18 hours.
const BUCKETS: usize = 26 * BUCKETS_PER_OCTAVE as usize;
/// The most observations that are kept; then all counts are halved, so that old ones fade.
const MEMORY: u32 = 512;
/// Fewer observations give no percentile.
const MIN_OBSERVATIONS: u32 = 20;

/// The recent waits for the first content: a histogram of four buckets per octave, without a lock.
/// The updates that two threads may lose do not matter.
#[derive(Debug)]
struct Waits {
    counts: [AtomicU32; BUCKETS],
    total: AtomicU32,
}

impl Default for Waits {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU32::new(0)), total: AtomicU32::new(0) }
    }
}

impl Waits {
    fn observe(&self, waited: Duration) {
        self.counts[bucket(waited)].fetch_add(1, Ordering::Relaxed);
        if self.total.fetch_add(1, Ordering::Relaxed) + 1 >= MEMORY {
            let halved = self.counts.iter().map(|count| {
                let half = count.load(Ordering::Relaxed) / 2;
                count.store(half, Ordering::Relaxed);
                half
            });
            self.total.store(halved.sum(), Ordering::Relaxed);
        }
    }

    /// Returns the upper bound of the bucket with this quantile in thousandths, or `None` with too
    /// few observations.
    fn quantile(&self, permille: u32) -> Option<Duration> {
        let total = self.total.load(Ordering::Relaxed);
        if total < MIN_OBSERVATIONS {
            return None;
        }
        let rank = (u64::from(total) * u64::from(permille)).div_ceil(1000);
        let mut counted = 0;
        let at = self.counts.iter().position(|count| {
            counted += u64::from(count.load(Ordering::Relaxed));
            counted >= rank
        });
        at.map(upper_bound)
    }
}

/// Returns the bucket of a wait; 1 ms and less is in the first.
fn bucket(waited: Duration) -> usize {
    let octaves = waited.as_secs_f64().max(0.001) * 1000.0;
    ((octaves.log2() * f64::from(BUCKETS_PER_OCTAVE)).ceil() as usize).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    Duration::from_secs_f64((bucket as f64 / f64::from(BUCKETS_PER_OCTAVE)).exp2() / 1000.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::{Hedges, Hedging, MEMORY, Waits, bucket, upper_bound};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn an_upper_bound_is_at_most_a_fifth_too_high() {
        for waited in [1, 2, 7, 50, 333, 5000, 60_000, 3_600_000].map(MS) {
            let reported = upper_bound(bucket(waited));
            assert!(
                reported >= waited - MS(1) && reported <= waited.mul_f64(1.2) + MS(1),
                "{waited:?}: {reported:?}"
            );
        }
        assert!(upper_bound(bucket(Duration::MAX)) > Duration::from_hours(10));
    }

    #[test]
    fn the_quantile_is_that_of_recent_observations() {
        let waits = Waits::default();
        assert_eq!(waits.quantile(950), None, "no observations");
        (0..100).for_each(|number| waits.observe(MS(if number % 20 == 0 { 2000 } else { 100 })));
        let p95 = waits.quantile(950).unwrap();
        assert!(p95 >= MS(100) && p95 < MS(125), "{p95:?}");
        assert!(waits.quantile(999).unwrap() >= MS(2000));
        (0..4 * MEMORY).for_each(|_| waits.observe(MS(10)));
        assert!(waits.quantile(999).unwrap() < MS(13), "the old ones have faded");
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_the_share_is_hedged() {
        let hedges = Hedges::new(Instant::now());
        assert_eq!(hedges.begin(Instant::now()), None);
        assert!(!hedges.withdraw(Instant::now()), "off");
        hedges.set(Some(Hedging { percentile: 0.95, share: 0.05 }));
        (0..50).for_each(|_| hedges.observe(MS(100)));
        let mut hedged = 0;
        for _ in 0..1000 {
            assert!(hedges.begin(Instant::now()).is_some());
            hedged += u32::from(hedges.withdraw(Instant::now()));
            advance(MS(10)).await;
        }
        assert!((45..=52).contains(&hedged), "{hedged} of 1000");
        hedges.set(None);
        assert!(hedges.begin(Instant::now()).is_none() && !hedges.withdraw(Instant::now()));
    }
}
