//! Things that are due at equal distances.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// When the next one is due: counted from the first, so that a late one delays no other.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    next: Instant,
    every: Duration,
}

impl Pace {
    /// The first is due after `every`; without a distance nothing is waited for.
    pub fn of(every: Duration) -> Self {
        Self { next: Instant::now(), every }
    }

    /// One of `members` that share so many a second, spread evenly: the `index`-th.
    pub fn share(per_second: f64, members: usize, index: usize) -> Self {
        let every = Duration::from_secs_f64(members as f64 / per_second.max(0.1));
        Self { next: Instant::now() + every.mul_f64(index as f64 / members as f64), every }
    }

    /// Waits until the next one is due.
    pub async fn tick(&mut self) {
        if !self.every.is_zero() {
            self.next += self.every;
            sleep_until(self.next).await;
        }
    }
}
