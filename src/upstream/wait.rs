//! How long an endpoint lets a request wait for its first token: one number, lock-free, that jumps up at once,
//! comes down slowly and fades when nothing is seen (peak EWMA, as in Finagle and linkerd).
//!
//! Peak, because a server that has become slow is to be left alone before the mean of the last minute shows it;
//! fading, because a server that is left alone would otherwise never show that it is fast again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// In which time an observation loses 63 % of its weight.
const DECAY: Duration = Duration::from_secs(10);
/// After so many times that, nothing is known any more.
const KNOWN_FOR: u32 = 5;

/// Seconds (`f32`) above the milliseconds of the last observation (`u32`, which may wrap). 0: none yet.
#[derive(Debug, Default)]
pub(super) struct Wait(AtomicU64);

impl Wait {
    /// Notes one wait. `now` counts from any fixed moment, here and below.
    pub(super) fn observe(&self, took: Duration, now: Duration) {
        let took = took.as_secs_f32().max(f32::MIN_POSITIVE);
        let next = |word| {
            let next = match unpack(word, now) {
                Some((seconds, kept)) if seconds > took => took + (seconds - took) * kept,
                _ => took,
            };
            Some(pack(next, now))
        };
        // never refused: `next` always has a value
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Seconds; none when nothing was seen of late.
    pub(super) fn seconds(&self, now: Duration) -> Option<f32> {
        unpack(self.0.load(Ordering::Relaxed), now).map(|(seconds, kept)| seconds * kept)
    }

    /// Starts anew: what was seen no longer tells anything.
    pub(super) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

fn pack(seconds: f32, now: Duration) -> u64 {
    u64::from(seconds.to_bits()) << 32 | u64::from(millis(now))
}

/// The seconds as they were noted, and the share of their weight that is left.
fn unpack(word: u64, now: Duration) -> Option<(f32, f32)> {
    let (seconds, at) = (f32::from_bits((word >> 32) as u32), word as u32);
    // an observation of another thread may be a little younger than `now`
    let age = millis(now).wrapping_sub(at) as i32;
    let age = Duration::from_millis(age.max(0).unsigned_abs().into());
    (word != 0 && age < DECAY * KNOWN_FOR).then(|| (seconds, (-age.as_secs_f32() / DECAY.as_secs_f32()).exp()))
}

/// The low 32 bits: differences are right for 24 days.
const fn millis(now: Duration) -> u32 {
    now.as_millis() as u32
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
        assert!(close(wait.seconds(at(111)), 1.0 + 3.0 * 0.3679), "a fast answer takes the decayed peak down");
        assert_eq!(wait.seconds(at(111) + DECAY * KNOWN_FOR), None, "long unseen is unknown");
        wait.observe(Duration::ZERO, at(200));
        assert!(wait.seconds(at(200)).is_some());
        wait.forget();
        assert_eq!(wait.seconds(at(200)), None);
    }

    #[test]
    fn clocks_that_run_apart_or_wrap_do_no_harm() {
        let wait = Wait::default();
        let late = Duration::from_millis(u64::from(u32::MAX) - 500);
        wait.observe(Duration::from_secs(1), late);
        assert!(close(wait.seconds(late + Duration::from_secs(1)), 0.905), "over the wrap");
        assert!(close(wait.seconds(late - Duration::from_millis(3)), 1.0), "a reader that is a little behind");
    }
}
