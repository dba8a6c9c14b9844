//! How long an endpoint lets a request wait for its first token: one number, lock-free, that jumps
//! up at once, comes down slowly and fades when nothing is seen (peak EWMA, as in Finagle and
//! linkerd).
//!
//! Peak, because a server that has become slow is to be left alone before the mean of the last
//! minute shows it; fading, because a server that is left alone would otherwise never show that it
//! is fast again.

use std::time::Duration;

use crate::upstream::balance::timestamped::Stamped;

/// In which time an observation loses 63 % of its weight.
const DECAY: Duration = Duration::from_secs(10);
/// After so many times that, nothing is known any more.
const KNOWN_FOR: u32 = 5;

/// Seconds, and when they were last observed.
#[derive(Debug, Default)]
pub(crate) struct Wait(Stamped);

impl Wait {
    /// Notes one wait. `now` counts from any fixed moment, here and below.
    pub(crate) fn observe(&self, took: Duration, now: Duration) {
        let took = took.as_secs_f32();
        self.0.update(now, |before| match before.and_then(known) {
            Some((seconds, kept)) if seconds > took => took + (seconds - took) * kept,
            _ => took,
        });
    }

    /// Seconds; none when nothing was seen of late.
    pub(crate) fn seconds(&self, now: Duration) -> Option<f32> {
        self.0.get(now).and_then(known).map(|(seconds, kept)| seconds * kept)
    }

    /// Starts anew: what was seen no longer tells anything.
    pub(crate) fn forget(&self) {
        self.0.clear();
    }
}

/// The seconds as they were noted, and the share of their weight that is left.
fn known((seconds, age): (f32, Duration)) -> Option<(f32, f32)> {
    (age < DECAY * KNOWN_FOR).then(|| (seconds, (-age.as_secs_f32() / DECAY.as_secs_f32()).exp()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{DECAY, KNOWN_FOR, Wait};

    fn close(seen: Option<f32>, expected: f32) -> bool {
        seen.is_some_and(|seen| (seen / expected - 1.0).abs() < 0.01)
    }

    #[test]
    fn it_jumps_up_comes_down_slowly_and_fades() {
        let (wait, at) = (Wait::default(), Duration::from_secs);
        assert_eq!(wait.seconds(at(100)), None);
        wait.observe(Duration::from_millis(200), at(100));
        assert!(close(wait.seconds(at(100)), 0.2));
        wait.observe(Duration::from_secs(4), at(101));
        assert!(close(wait.seconds(at(101)), 4.0), "a peak counts in full");
        assert!(close(wait.seconds(at(111)), 4.0 * 0.3679), "one decay later");
        wait.observe(Duration::from_secs(1), at(111));
        assert!(
            close(wait.seconds(at(111)), 1.0 + 3.0 * 0.3679),
            "a fast answer takes the decayed peak down"
        );
        assert_eq!(wait.seconds(at(111) + DECAY * KNOWN_FOR), None, "long unseen is unknown");
        wait.observe(Duration::ZERO, at(200));
        assert!(wait.seconds(at(200)).is_some());
        wait.forget();
        assert_eq!(wait.seconds(at(200)), None);
    }
}
