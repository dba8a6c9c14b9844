//! How long requests wait for their first token at an endpoint: one number, lock-free, that jumps
//! up at once, comes down slowly and fades without observations (peak EWMA, as in Finagle and
//! linkerd).
//!
//! Peak, because a server that has become slow is to be avoided before the mean of the last minute
//! shows it; fading, because a server that is avoided would otherwise never show that it is fast
//! again.

use std::time::Duration;

use crate::upstream::balance::timestamped::TimestampedF32;

/// The time in which an observation loses 63 % of its weight.
const DECAY: Duration = Duration::from_secs(10);
/// The number of decay times after which the wait is unknown.
const KNOWN_FOR: u32 = 5;

/// The wait, in seconds and with the time of the last observation.
#[derive(Debug, Default)]
pub(crate) struct PeakEwma {
    seconds: TimestampedF32,
}

impl PeakEwma {
    /// Records one wait. `now` counts from any fixed moment, here and below.
    pub(crate) fn observe(&self, waited: Duration, now: Duration) {
        let waited = waited.as_secs_f32();
        self.seconds.update(now, |last| match last.and_then(decayed) {
            Some((seconds, weight)) if seconds > waited => waited + (seconds - waited) * weight,
            _ => waited,
        });
    }

    /// Returns the wait in seconds, or `None` when there was no observation of late.
    pub(crate) fn seconds(&self, now: Duration) -> Option<f32> {
        self.seconds.get(now).and_then(decayed).map(|(seconds, weight)| seconds * weight)
    }

    /// Drops all observations.
    pub(crate) fn reset(&self) {
        self.seconds.clear();
    }
}

/// Returns the seconds as they were recorded and the share of their weight that is left, or `None`
/// when none is.
fn decayed((seconds, age): (f32, Duration)) -> Option<(f32, f32)> {
    (age < DECAY * KNOWN_FOR).then(|| (seconds, (-age.as_secs_f32() / DECAY.as_secs_f32()).exp()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{DECAY, KNOWN_FOR, PeakEwma};

    fn close(measured: Option<f32>, expected: f32) -> bool {
        measured.is_some_and(|measured| (measured / expected - 1.0).abs() < 0.01)
    }

    #[test]
    fn it_jumps_up_comes_down_slowly_and_fades() {
        let (ewma, at) = (PeakEwma::default(), Duration::from_secs);
        assert_eq!(ewma.seconds(at(100)), None);
        ewma.observe(Duration::from_millis(200), at(100));
        assert!(close(ewma.seconds(at(100)), 0.2));
        ewma.observe(Duration::from_secs(4), at(101));
        assert!(close(ewma.seconds(at(101)), 4.0), "a peak counts in full");
        assert!(close(ewma.seconds(at(111)), 4.0 * 0.3679), "one decay later");
        ewma.observe(Duration::from_secs(1), at(111));
        assert!(
            close(ewma.seconds(at(111)), 1.0 + 3.0 * 0.3679),
            "a fast response takes the decayed peak down"
        );
        assert_eq!(ewma.seconds(at(111) + DECAY * KNOWN_FOR), None, "long unseen is unknown");
        ewma.observe(Duration::ZERO, at(200));
        assert!(ewma.seconds(at(200)).is_some());
        ewma.reset();
        assert_eq!(ewma.seconds(at(200)), None);
    }
}
