//! How many extra requests the model servers of one model may get: a share of what clients ask for,
//! so that retries cannot turn an overload into a collapse (Finagle's retry budget, Google's SRE
//! book, "Handling Overload").
//!
//! Each request deposits its share; each retry takes one whole token. What was saved is forgotten
//! within about half a minute, and a few tokens come back by themselves, so that a quiet gateway
//! may retry, too.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long savings last: within it all but a third of them are forgotten. Long enough for what
/// waits for its first token at a replica that dies: with two replicas and a share of 0.2, all that
/// it was sent in 12 s.
const MEMORY: Duration = Duration::from_secs(30);
/// Tokens of a model's retries at rest.
pub(crate) const REST: f64 = 10.0;

/// The budget of one model, for all workers. Kept over reloads.
#[derive(Debug)]
pub(crate) struct RetryBudget(Mutex<Bucket>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// What one request deposits: `resilience.retry_budget`. Nothing may be retried when it is 0.
    share: f64,
    tokens: f64,
    /// What they come back to by themselves.
    rest: f64,
    /// Up to when tokens were forgotten or regained.
    at: Instant,
}

impl RetryBudget {
    /// At rest.
    pub(crate) const fn new(share: f64, rest: f64, now: Instant) -> Self {
        Self(Mutex::new(Bucket { share, tokens: rest, rest, at: now }))
    }

    /// Another configuration's share.
    pub(crate) fn set_share(&self, share: f64) {
        self.with(|bucket| bucket.share = share);
    }

    /// A client's request.
    pub(crate) fn deposit(&self, now: Instant) {
        self.with(|bucket| bucket.deposit(now));
    }

    /// Whether one more request may be sent; then it counts.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        self.with(|bucket| bucket.withdraw(now))
    }

    fn with<T>(&self, of: impl FnOnce(&mut Bucket) -> T) -> T {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Bucket {
    fn deposit(&mut self, now: Instant) {
        self.age(now);
        self.tokens += self.share;
    }

    fn withdraw(&mut self, now: Instant) -> bool {
        self.age(now);
        let may = self.share > 0.0 && self.tokens >= 1.0;
        self.tokens -= if may { 1.0 } else { 0.0 };
        may
    }

    /// Draws the tokens towards their rest, once a second.
    fn age(&mut self, now: Instant) {
        let past = now.saturating_duration_since(self.at);
        if past >= Duration::from_secs(1) {
            self.tokens = self.rest
                + (self.tokens - self.rest) * (-past.as_secs_f64() / MEMORY.as_secs_f64()).exp();
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Bucket, REST};

    /// A bucket and its clock.
    struct Rig(Bucket, Instant);

    impl Rig {
        fn new(share: f64) -> Self {
            let now = Instant::now();
            Self(Bucket { share, tokens: REST, rest: REST, at: now }, now)
        }

        /// So many requests in a second, each of which wants a retry if `failing`; how many got
        /// one.
        fn second(&mut self, requests: u32, failing: bool) -> u32 {
            let Self(bucket, now) = self;
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
    fn retries_stay_a_share_of_what_is_asked() {
        let mut rig = Rig::new(0.2);
        let retried: u32 = (0..60).map(|_| rig.second(100, true)).sum();
        // 20 % of 6000, and what is there at rest
        assert!((1200..=1230).contains(&retried), "{retried}");
    }

    #[test]
    fn good_times_pay_for_a_replica_that_dies_and_are_forgotten() {
        let mut rig = Rig::new(0.2);
        (0..300).for_each(|_| _ = rig.second(100, false));
        let burst = rig.second(1000, true);
        assert!(
            (700..=850).contains(&burst),
            "the savings of half a minute and the second's own share: {burst}"
        );
        let mut rig = Rig::new(0.2);
        (0..300).for_each(|_| _ = rig.second(100, false));
        (0..120).for_each(|_| _ = rig.second(0, false));
        let Rig(bucket, now) = &mut rig;
        let left = (0..1000).filter(|_| bucket.withdraw(*now)).count();
        assert!((10..=20).contains(&left), "{left}");
    }

    #[test]
    fn a_quiet_gateway_may_retry_again_and_again() {
        let mut rig = Rig::new(0.2);
        assert_eq!(
            (0..100).filter(|_| rig.0.withdraw(rig.1)).count(),
            10,
            "what is there at rest, and no more"
        );
        rig.1 += Duration::from_secs(5);
        assert!(rig.0.withdraw(rig.1));
    }

    #[test]
    fn without_a_budget_nothing_is_retried() {
        let mut rig = Rig::new(0.0);
        assert_eq!(rig.second(100, true), 0);
    }
}
