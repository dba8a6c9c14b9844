//! How many extra requests the servers of one model may get: a share of the clients' requests, so
//! that retries cannot turn an overload into a collapse (Finagle's retry budget, Google's SRE book,
//! "Handling Overload").
//!
//! Each request deposits its share; each retry withdraws one whole token. Savings decay within
//! about half a minute, and a few tokens come back by themselves, so that a quiet gateway may
//! retry, too.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The decay time of savings: within it all but a third of them are lost. Long enough for the
/// requests that wait for their first token at a replica that dies: with two replicas and a share
/// of 0.2, all that it was sent in 12 s.
const MEMORY: Duration = Duration::from_secs(30);
/// The tokens of a model's retry budget at rest.
pub(crate) const REST: f64 = 10.0;

/// The retry budget of one model, for all workers. Kept across reloads.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    bucket: Mutex<Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// The deposit of one request: `resilience.retry_budget`. At 0 nothing may be retried.
    share: f64,
    tokens: f64,
    /// The number that the tokens return to by themselves.
    rest: f64,
    /// When decay and regain were last applied.
    settled_at: Instant,
}

impl RetryBudget {
    /// Creates a budget at rest.
    pub(crate) const fn new(share: f64, rest: f64, now: Instant) -> Self {
        Self { bucket: Mutex::new(Bucket { share, tokens: rest, rest, settled_at: now }) }
    }

    /// Replaces the share.
    pub(crate) fn set_share(&self, share: f64) {
        self.with(|bucket| bucket.share = share);
    }

    /// Deposits the share of a client's request.
    pub(crate) fn deposit(&self, now: Instant) {
        self.with(|bucket| bucket.deposit(now));
    }

    /// Withdraws one request; returns false when the budget is used up.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        self.with(|bucket| bucket.withdraw(now))
    }

    fn with<T>(&self, action: impl FnOnce(&mut Bucket) -> T) -> T {
        action(&mut self.bucket.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Bucket {
    fn deposit(&mut self, now: Instant) {
        self.settle(now);
        self.tokens += self.share;
    }

    fn withdraw(&mut self, now: Instant) -> bool {
        self.settle(now);
        let is_allowed = self.share > 0.0 && self.tokens >= 1.0;
        self.tokens -= if is_allowed { 1.0 } else { 0.0 };
        is_allowed
    }

    /// Moves the tokens towards their rest, once a second.
    fn settle(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.settled_at);
        if elapsed >= Duration::from_secs(1) {
            self.tokens = self.rest
                + (self.tokens - self.rest) * (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
            self.settled_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Bucket, REST};

    /// A bucket and its clock.
    struct Rig {
        bucket: Bucket,
        now: Instant,
    }

    impl Rig {
        fn new(share: f64) -> Self {
            let now = Instant::now();
            Self { bucket: Bucket { share, tokens: REST, rest: REST, settled_at: now }, now }
        }

        /// Runs a second with this many requests, each of which needs a retry if `failing`; returns
        /// how many got one.
        fn run_second(&mut self, requests: u32, failing: bool) -> u32 {
            let Self { bucket, now } = self;
            let retried = (0..requests).filter(|_| {
                bucket.deposit(*now);
                failing && bucket.withdraw(*now)
            });
            let retried = u32::try_from(retried.count()).unwrap();
            *now += Duration::from_secs(1);
            retried
        }
    }

    #[test]
    fn retries_stay_a_share_of_the_requests() {
        let mut rig = Rig::new(0.2);
        let retried: u32 = (0..60).map(|_| rig.run_second(100, true)).sum();
        // 20 % of 6000, and the tokens at rest
        assert!((1200..=1230).contains(&retried), "{retried}");
    }

    #[test]
    fn savings_pay_for_a_replica_that_dies_and_decay() {
        let mut rig = Rig::new(0.2);
        (0..300).for_each(|_| _ = rig.run_second(100, false));
        let burst = rig.run_second(1000, true);
        assert!(
            (700..=850).contains(&burst),
            "the savings of half a minute and the second's own share: {burst}"
        );
        let mut rig = Rig::new(0.2);
        (0..300).for_each(|_| _ = rig.run_second(100, false));
        (0..120).for_each(|_| _ = rig.run_second(0, false));
        let Rig { bucket, now } = &mut rig;
        let left = (0..1000).filter(|_| bucket.withdraw(*now)).count();
        assert!((10..=20).contains(&left), "{left}");
    }

    #[test]
    fn a_quiet_gateway_may_retry_again_and_again() {
        let mut rig = Rig::new(0.2);
        assert_eq!(
            (0..100).filter(|_| rig.bucket.withdraw(rig.now)).count(),
            10,
            "the tokens at rest, and no more"
        );
        rig.now += Duration::from_secs(5);
        assert!(rig.bucket.withdraw(rig.now));
    }

    #[test]
    fn without_a_budget_nothing_is_retried() {
        let mut rig = Rig::new(0.0);
        assert_eq!(rig.run_second(100, true), 0);
    }
}
