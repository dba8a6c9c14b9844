//! A number and when it was noted, in one atomic word: what endpoints remember of themselves
//! without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// An `f32` above the milliseconds at which it was noted (`u32`, which may wrap). 0: nothing was.
#[derive(Debug, Default)]
pub(crate) struct Stamped(AtomicU64);

impl Stamped {
    /// The number and its age. `now` counts from any fixed moment, here and below.
    pub(crate) fn get(&self, now: Duration) -> Option<(f32, Duration)> {
        unpack(self.0.load(Ordering::Relaxed), now)
    }

    /// Notes a number.
    pub(crate) fn put(&self, number: f32, now: Duration) {
        self.0.store(pack(number, now), Ordering::Relaxed);
    }

    /// Notes a number that comes of the one before, which another thread may replace meanwhile.
    pub(crate) fn update(&self, now: Duration, next: impl Fn(Option<(f32, Duration)>) -> f32) {
        let next = |word| Some(pack(next(unpack(word, now)), now));
        // never refused: `next` always has a value
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Forgets it.
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

fn pack(number: f32, now: Duration) -> u64 {
    u64::from(number.to_bits()) << 32 | u64::from(millis(now))
}

fn unpack(word: u64, now: Duration) -> Option<(f32, Duration)> {
    let (number, at) = (f32::from_bits((word >> 32) as u32), word as u32);
    // what another thread has noted may be a little younger than `now`
    let age = millis(now).wrapping_sub(at) as i32;
    (word != 0).then(|| (number, Duration::from_millis(age.max(0).unsigned_abs().into())))
}

/// The low 32 bits: differences are right for 24 days.
const fn millis(now: Duration) -> u32 {
    now.as_millis() as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Stamped;

    #[test]
    fn clocks_that_run_apart_or_wrap_do_no_harm() {
        let stamped = Stamped::default();
        let late = Duration::from_millis(u64::from(u32::MAX) - 500);
        assert_eq!(stamped.get(late), None);
        stamped.put(1.5, late);
        let second = Duration::from_secs(1);
        assert_eq!(stamped.get(late + second), Some((1.5, second)), "over the wrap");
        assert_eq!(
            stamped.get(late - Duration::from_millis(3)),
            Some((1.5, Duration::ZERO)),
            "a reader behind"
        );
        stamped.update(late + second, |before| {
            before.map_or(0.0, |(number, age)| number + age.as_secs_f32())
        });
        assert_eq!(stamped.get(late + second), Some((2.5, Duration::ZERO)));
        stamped.clear();
        assert_eq!(stamped.get(late), None);
    }
}
