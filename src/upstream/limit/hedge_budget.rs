//! When a second replica of a model is asked beside the first, and how often at most: hedged
//! requests (Dean and Barroso, "The Tail at Scale", 2013). Off unless
//! `resilience.hedging.percentile` is set.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::limit::retry_budget::{REST, RetryBudget};

/// `[resilience.hedging]`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hedging {
    /// `percentile`: the second is asked after the wait for a first content that this share of
    /// answers kept below.
    pub percentile: f64,
    /// `budget`: second requests, as a share of requests.
    pub share: f64,
}

/// How many requests a model's servers may get beyond what clients ask for.
#[derive(Debug)]
pub(crate) struct Extra {
    pub(crate) retries: RetryBudget,
    pub(crate) hedges: Hedges,
}

impl Extra {
    /// None, until a configuration says so.
    pub(crate) fn new(now: Instant) -> Self {
        Self { retries: RetryBudget::new(0.0, REST, now), hedges: Hedges::new(now) }
    }
}

/// Second requests in a burst: none are saved for bad times, since a hedge is no cure for a replica
/// that fails.
const BURST: f64 = 1.0;

/// The state of one model, for all workers. Kept over reloads.
#[derive(Debug)]
pub(crate) struct Hedges {
    /// The percentile in thousandths; 0: off.
    permille: AtomicU32,
    waits: Waits,
    budget: RetryBudget,
}

impl Hedges {
    /// Off, and nothing seen.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            permille: AtomicU32::new(0),
            waits: Waits::default(),
            budget: RetryBudget::new(0.0, BURST, now),
        }
    }

    /// Another configuration's numbers.
    pub(crate) fn set(&self, hedging: Option<Hedging>) {
        let permille = hedging.map_or(0, |hedging| (hedging.percentile * 1000.0) as u32);
        self.permille.store(permille, Ordering::Relaxed);
        self.budget.set_share(hedging.map_or(0.0, |hedging| hedging.share));
    }

    /// A first content came, so long after its request was sent.
    pub(crate) fn observe(&self, waited: Duration) {
        if self.permille.load(Ordering::Relaxed) > 0 {
            self.waits.observe(waited);
        }
    }

    /// A client's request: how long its first replica has before a second is asked. `None`: no
    /// second is.
    pub(crate) fn begin(&self, now: Instant) -> Option<Duration> {
        let permille = self.permille.load(Ordering::Relaxed);
        if permille == 0 {
            return None;
        }
        self.budget.deposit(now);
        self.waits.quantile(permille)
    }

    /// Whether a second request may be sent; then it counts.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        self.budget.withdraw(now)
    }
}

/// Buckets to an octave.
const STEPS: u32 = 4;
/// From 1 ms to 18 hours.
const BUCKETS: usize = 26 * STEPS as usize;
/// So many are remembered at most; then all count half, so that old ones fade.
const MEMORY: u32 = 512;
/// Fewer say nothing.
const ENOUGH: u32 = 20;

/// How long answers took to begin, lately: a histogram of four buckets to an octave, without a
/// lock. What two threads lose between each other is of no weight.
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

    /// The upper end of the bucket that so many thousandths do not exceed.
    fn quantile(&self, permille: u32) -> Option<Duration> {
        let total = self.total.load(Ordering::Relaxed);
        if total < ENOUGH {
            return None;
        }
        let wanted = (u64::from(total) * u64::from(permille)).div_ceil(1000);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += u64::from(count.load(Ordering::Relaxed));
            seen >= wanted
        });
        at.map(upper_end)
    }
}

/// 1 ms and less is the first.
fn bucket(waited: Duration) -> usize {
    let octaves = waited.as_secs_f64().max(0.001) * 1000.0;
    ((octaves.log2() * f64::from(STEPS)).ceil() as usize).min(BUCKETS - 1)
}

fn upper_end(bucket: usize) -> Duration {
    Duration::from_secs_f64((bucket as f64 / f64::from(STEPS)).exp2() / 1000.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::{Hedges, Hedging, MEMORY, Waits, bucket, upper_end};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_bucket_is_at_most_a_fifth_too_high() {
        for waited in [1, 2, 7, 50, 333, 5000, 60_000, 3_600_000].map(MS) {
            let told = upper_end(bucket(waited));
            assert!(
                told >= waited - MS(1) && told <= waited.mul_f64(1.2) + MS(1),
                "{waited:?}: {told:?}"
            );
        }
        assert!(upper_end(bucket(Duration::MAX)) > Duration::from_hours(10));
    }

    #[test]
    fn the_quantile_is_of_what_was_lately() {
        let waits = Waits::default();
        assert_eq!(waits.quantile(950), None, "nothing is known");
        (0..100).for_each(|number| waits.observe(MS(if number % 20 == 0 { 2000 } else { 100 })));
        let p95 = waits.quantile(950).unwrap();
        assert!(p95 >= MS(100) && p95 < MS(125), "{p95:?}");
        assert!(waits.quantile(999).unwrap() >= MS(2000));
        (0..4 * MEMORY).for_each(|_| waits.observe(MS(10)));
        assert!(waits.quantile(999).unwrap() < MS(13), "the old have faded");
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_the_share_is_asked_twice() {
        let hedges = Hedges::new(Instant::now());
        assert_eq!(hedges.begin(Instant::now()), None);
        assert!(!hedges.withdraw(Instant::now()), "off");
        hedges.set(Some(Hedging { percentile: 0.95, share: 0.05 }));
        (0..50).for_each(|_| hedges.observe(MS(100)));
        let mut seconds = 0;
        for _ in 0..1000 {
            assert!(hedges.begin(Instant::now()).is_some());
            seconds += u32::from(hedges.withdraw(Instant::now()));
            advance(MS(10)).await;
        }
        assert!((45..=52).contains(&seconds), "{seconds} of 1000");
        hedges.set(None);
        assert!(hedges.begin(Instant::now()).is_none() && !hedges.withdraw(Instant::now()));
    }
}
