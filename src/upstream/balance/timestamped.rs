//! A number and when it was set, in one atomic word: the observations that endpoints keep without a
//! lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// An `f32` with a timestamp.
#[derive(Debug, Default)]
pub(crate) struct TimestampedF32 {
    /// The bits of the number above its timestamp in milliseconds (`u32`, which may wrap); 0 when
    /// it is not set.
    packed: AtomicU64,
}

impl TimestampedF32 {
    /// Returns the number and its age, or `None` when it is not set. `now` counts from any fixed
    /// moment, here and below.
    pub(crate) fn get(&self, now: Duration) -> Option<(f32, Duration)> {
        unpack(self.packed.load(Ordering::Relaxed), now)
    }

    /// Sets the number.
    pub(crate) fn set(&self, number: f32, now: Duration) {
        self.packed.store(pack(number, now), Ordering::Relaxed);
    }

    /// Replaces the number by one computed from the last, again if another thread has replaced that
    /// meanwhile.
    pub(crate) fn update(&self, now: Duration, next: impl Fn(Option<(f32, Duration)>) -> f32) {
        let next = |packed| Some(pack(next(unpack(packed, now)), now));
        // always succeeds: `next` always returns a value
        let _ = self.packed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Unsets the number.
    pub(crate) fn clear(&self) {
        self.packed.store(0, Ordering::Relaxed);
    }
}

fn pack(number: f32, now: Duration) -> u64 {
    u64::from(number.to_bits()) << 32 | u64::from(millis(now))
}

fn unpack(packed: u64, now: Duration) -> Option<(f32, Duration)> {
    let (number, at) = (f32::from_bits((packed >> 32) as u32), packed as u32);
    // a number that another thread has set may be a little younger than `now`
    let age = millis(now).wrapping_sub(at) as i32;
    (packed != 0).then(|| (number, Duration::from_millis(age.max(0).unsigned_abs().into())))
}

/// Returns the low 32 bits: differences are right for 24 days.
const fn millis(now: Duration) -> u32 {
    now.as_millis() as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::TimestampedF32;

    #[test]
    fn clocks_that_run_apart_or_wrap_do_no_harm() {
        let value = TimestampedF32::default();
        let late = Duration::from_millis(u64::from(u32::MAX) - 500);
        assert_eq!(value.get(late), None);
        value.set(1.5, late);
        let second = Duration::from_secs(1);
        assert_eq!(value.get(late + second), Some((1.5, second)), "over the wrap");
        assert_eq!(
            value.get(late - Duration::from_millis(3)),
            Some((1.5, Duration::ZERO)),
            "a reader behind"
        );
        value.update(late + second, |before| {
            before.map_or(0.0, |(number, age)| number + age.as_secs_f32())
        });
        assert_eq!(value.get(late + second), Some((2.5, Duration::ZERO)));
        value.clear();
        assert_eq!(value.get(late), None);
    }
}
