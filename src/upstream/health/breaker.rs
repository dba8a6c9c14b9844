//! Whether an endpoint is let be for a while: after failures in a row, after too many among its
//! requests, after it could not be reached, after its health check failed. It comes back by one
//! request at a time that sees, and then with a share of its traffic that grows.
//!
//! Sans-I/O: the time is an argument, and what has changed is told to the caller, who logs it. What
//! a choice reads and what a success writes are atomics; the lock is for failures and for what
//! comes back.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Kind;

/// `[resilience] breaker`, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerSettings {
    /// So many failures in a row open it.
    pub failures: u32,
    /// This share of failures among the requests of ten seconds opens it, too.
    pub error_rate: f64,
    /// How long it stays open; doubles with every time in a row.
    pub open: Duration,
    /// At most.
    pub open_max: Duration,
    /// In which time the share of traffic of an endpoint that is back grows to the whole.
    pub slow_start: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            error_rate: 0.5,
            open: Duration::from_secs(5),
            open_max: Duration::from_secs(60),
            slow_start: Duration::from_secs(10),
        }
    }
}

/// The share that an endpoint begins with when it is back.
const FIRST_SHARE: f32 = 0.1;

/// How a choice takes an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Standing {
    /// As any other.
    In,
    /// It is back of late: with this share of what it would get.
    Rising(f32),
    /// One request may see whether it is back: the one that claims it.
    Due,
    /// It fails requests.
    Failing,
    /// It is not there: nothing that is sent to it can succeed.
    Away,
}

/// What has changed, once per change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is let be for so long, and why.
    Out(Duration, Cause),
    /// It was out already and still fails: let be for so long.
    Still(Duration),
    /// It is back.
    Back,
}

/// Why an endpoint is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// So many failures in a row, the last of this kind.
    Streak(u32, Kind),
    /// So many failures among so many requests, the last of this kind.
    Rate(u32, u32, Kind),
    /// No connection.
    Unreachable,
    /// Its health check failed.
    Unhealthy,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = |kind: &Kind| match kind {
            Kind::UpstreamStatus(status) => format!("HTTP {status}"),
            other => other.row().phase.map_or(other.row().code, |phase| phase.label()).to_owned(),
        };
        match self {
            Self::Streak(1, kind) => {
                write!(f, "failed again as soon as it was back ({})", last(kind))
            }
            Self::Streak(count, kind) => {
                write!(f, "{count} failures in a row (the last: {})", last(kind))
            }
            Self::Rate(failed, of, kind) => {
                write!(f, "{failed} of {of} requests failed (the last: {})", last(kind))
            }
            Self::Unreachable => f.write_str("cannot be reached"),
            Self::Unhealthy => f.write_str("fails its health check"),
        }
    }
}

/// One endpoint's.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    gate: AtomicU64,
    /// Failures since the last success.
    streak: AtomicU32,
    window: Window,
    outage: Mutex<Outage>,
}

/// What is known of the last time that it was out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outage {
    /// How often in a row it was let be for failing.
    times: u32,
    /// When it was last. A success of an older request proves nothing.
    at: Duration,
    /// Why; kept when it is back.
    pub(crate) cause: Option<Cause>,
    /// When it went out, or came back.
    pub(crate) since: Duration,
}

/// The gate, unpacked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gate {
    In,
    /// Since then.
    Rising(Duration),
    /// Until then, and whether it is away rather than failing.
    Out(Duration, bool),
    /// A request is there to see; after that time another one may.
    Probed(Duration, bool),
}

impl Gate {
    fn pack(self) -> u64 {
        let word =
            |tag: u64, at: Duration, away: bool| (millis(at) << 3) | (u64::from(away) << 2) | tag;
        match self {
            Self::In => 0,
            Self::Rising(at) => word(1, at, false),
            Self::Out(at, away) => word(2, at, away),
            Self::Probed(at, away) => word(3, at, away),
        }
    }

    const fn of(word: u64) -> Self {
        let (at, away) = (Duration::from_millis(word >> 3), word & 4 != 0);
        match word & 3 {
            0 => Self::In,
            1 => Self::Rising(at),
            2 => Self::Out(at, away),
            _ => Self::Probed(at, away),
        }
    }
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX) & (u64::MAX >> 3)
}

impl Breaker {
    /// How a choice takes it now.
    pub(crate) fn standing(
        &self,
        now: Duration,
        slow_start: impl FnOnce() -> Duration,
    ) -> Standing {
        match self.gate() {
            Gate::In => Standing::In,
            Gate::Rising(since) => match share(since, now, slow_start()) {
                share if share < 1.0 => Standing::Rising(share),
                _ => Standing::In,
            },
            Gate::Out(until, _) | Gate::Probed(until, _) if now >= until => Standing::Due,
            Gate::Out(_, true) | Gate::Probed(_, true) => Standing::Away,
            Gate::Out(_, false) | Gate::Probed(_, false) => Standing::Failing,
        }
    }

    /// Takes the one place of the request that sees; another may when it has told nothing for
    /// `open`.
    pub(crate) fn claim(&self, now: Duration, settings: &BreakerSettings) -> bool {
        let claim = |word| match Gate::of(word) {
            Gate::Out(until, away) | Gate::Probed(until, away) if now >= until => {
                Some(Gate::Probed(now + settings.open, away).pack())
            }
            _ => None,
        };
        self.gate.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).is_ok()
    }

    /// A request that was sent at `sent` brought content.
    pub(crate) fn success(
        &self,
        sent: Duration,
        now: Duration,
        settings: impl FnOnce() -> BreakerSettings,
    ) -> Option<Change> {
        if self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
        self.window.add(false, now);
        if self.gate.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut outage = self.outage();
        match self.settled(&mut outage, now, &settings()) {
            // what the check says counts for as long as it is made
            Gate::Out(until, _) if outage.cause == Some(Cause::Unhealthy) && now < until => None,
            Gate::Out(..) | Gate::Probed(..) if sent >= outage.at => {
                Some(self.back(&mut outage, now))
            }
            Gate::In | Gate::Rising(_) | Gate::Out(..) | Gate::Probed(..) => None,
        }
    }

    /// A request failed, by the endpoint's fault.
    pub(crate) fn failure(
        &self,
        kind: Kind,
        now: Duration,
        settings: &BreakerSettings,
    ) -> Option<Change> {
        let streak = self.streak.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let (failed, of) = self.window.add(true, now);
        let mut outage = self.outage();
        let is_many =
            of >= MIN_REQUESTS && f64::from(failed) >= f64::from(of) * settings.error_rate;
        let cause = match self.settled(&mut outage, now, settings) {
            Gate::Out(until, _) if now < until => return None,
            Gate::In if streak < settings.failures && !is_many => return None,
            Gate::In if streak < settings.failures => Cause::Rate(failed, of, kind),
            Gate::In | Gate::Rising(_) | Gate::Out(..) | Gate::Probed(..) => {
                Cause::Streak(streak, kind)
            }
        };
        let length = settings.open.saturating_mul(1 << outage.times.min(16)).min(settings.open_max);
        outage.times += 1;
        Some(self.out(&mut outage, cause, length, now))
    }

    /// No connection came about.
    pub(crate) fn unreachable(&self, now: Duration, settings: &BreakerSettings) -> Change {
        self.out(&mut self.outage(), Cause::Unreachable, settings.open, now)
    }

    /// The head of an answer came: whatever it says, the endpoint is there.
    pub(crate) fn reached(&self, now: Duration) -> Option<Change> {
        if !self.is_away() {
            return None;
        }
        let mut outage = self.outage();
        let is_back = self.is_away() && outage.cause == Some(Cause::Unreachable);
        is_back.then(|| self.back(&mut outage, now))
    }

    /// Its health check failed: out until the next one is sure to have been made.
    pub(crate) fn unhealthy(&self, until: Duration, now: Duration) -> Change {
        self.out(&mut self.outage(), Cause::Unhealthy, until.saturating_sub(now), now)
    }

    /// Its health check succeeded, which says nothing of what fails requests.
    pub(crate) fn healthy(&self, now: Duration) -> Option<Change> {
        if !self.is_away() {
            return None;
        }
        let mut outage = self.outage();
        self.is_away().then(|| self.back(&mut outage, now))
    }

    /// Whether nothing that is sent there can succeed, as far as is known.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.gate(), Gate::Out(_, true) | Gate::Probed(_, true))
    }

    /// 0 closed, 1 half open, 2 open: the metric.
    pub(crate) fn state(&self) -> i64 {
        match self.gate() {
            Gate::In | Gate::Rising(_) => 0,
            Gate::Probed(..) => 1,
            Gate::Out(..) => 2,
        }
    }

    /// What is known of the last time that it was out; it may be back.
    pub(crate) fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn out(&self, outage: &mut Outage, cause: Cause, length: Duration, now: Duration) -> Change {
        let was_out = matches!(self.gate(), Gate::Out(..) | Gate::Probed(..));
        let is_away = matches!(cause, Cause::Unreachable | Cause::Unhealthy);
        let is_same = was_out && self.is_away() == is_away;
        outage.at = now;
        outage.since = if is_same { outage.since } else { now };
        // what began the outage is told, but for the check, which has the last word
        if !is_same || cause == Cause::Unhealthy {
            outage.cause = Some(cause);
        }
        self.put(Gate::Out(now + length, is_away));
        if is_same { Change::Still(length) } else { Change::Out(length, cause) }
    }

    /// The gate; one that has risen to the whole is in, and what was is forgiven.
    fn settled(&self, outage: &mut Outage, now: Duration, settings: &BreakerSettings) -> Gate {
        match self.gate() {
            Gate::Rising(since) if share(since, now, settings.slow_start) >= 1.0 => {
                outage.times = 0;
                self.put(Gate::In);
                Gate::In
            }
            gate => gate,
        }
    }

    fn back(&self, outage: &mut Outage, now: Duration) -> Change {
        outage.since = now;
        self.streak.store(0, Ordering::Relaxed);
        self.window.clear();
        self.put(Gate::Rising(now));
        Change::Back
    }

    fn gate(&self) -> Gate {
        Gate::of(self.gate.load(Ordering::Relaxed))
    }

    fn put(&self, gate: Gate) {
        self.gate.store(gate.pack(), Ordering::Relaxed);
    }
}

fn share(since: Duration, now: Duration, slow_start: Duration) -> f32 {
    let gone = now.saturating_sub(since).as_secs_f32();
    if slow_start.is_zero() { 1.0 } else { (gone / slow_start.as_secs_f32()).max(FIRST_SHARE) }
}

/// Fewer requests in a window say nothing of a rate.
const MIN_REQUESTS: u32 = 10;
/// How long a window is. It begins anew, rather than slides: one word holds it.
const WINDOW: Duration = Duration::from_secs(10);

/// Requests of the window and failures among them: its number (`u32`), then both counts (`u16`).
#[derive(Debug, Default)]
struct Window(AtomicU64);

impl Window {
    /// Counts one; gives the failures and the requests of the window so far.
    fn add(&self, failed: bool, now: Duration) -> (u32, u32) {
        let number = (now.as_millis() / WINDOW.as_millis()) as u32;
        let next = |word: u64| {
            let (requests, failures) =
                if (word >> 32) as u32 == number { (word >> 16, word) } else { (0, 0) };
            let requests = (requests as u16).saturating_add(1);
            let failures = (failures as u16).saturating_add(failed.into());
            Some(u64::from(number) << 32 | u64::from(requests) << 16 | u64::from(failures))
        };
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .unwrap_or_else(|word| word);
        let word = next(before).unwrap_or(before);
        (u32::from(word as u16), u32::from((word >> 16) as u16))
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Breaker, BreakerSettings, Cause, Change, Standing};
    use crate::error::Kind;

    const SETTINGS: BreakerSettings = BreakerSettings {
        failures: 3,
        error_rate: 0.5,
        open: Duration::from_secs(5),
        open_max: Duration::from_secs(15),
        slow_start: Duration::from_secs(10),
    };
    const FAULT: Kind = Kind::UpstreamStatus(500);

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn standing(breaker: &Breaker, at: u64) -> Standing {
        breaker.standing(s(at), || SETTINGS.slow_start)
    }

    fn fail(breaker: &Breaker, times: u32, at: u64) -> Option<Change> {
        (0..times).filter_map(|_| breaker.failure(FAULT, s(at), &SETTINGS)).last()
    }

    /// A request that was sent and brought content within this second.
    fn succeed(breaker: &Breaker, at: u64) -> Option<Change> {
        breaker.success(s(at), s(at), || SETTINGS)
    }

    #[test]
    fn failures_in_a_row_open_it_one_request_sees_and_a_success_brings_it_back_by_and_by() {
        let breaker = Breaker::default();
        assert_eq!(
            (fail(&breaker, 2, 1), succeed(&breaker, 1), fail(&breaker, 2, 1)),
            (None, None, None)
        );
        assert_eq!(fail(&breaker, 1, 1), Some(Change::Out(s(5), Cause::Streak(3, FAULT))));
        assert_eq!((standing(&breaker, 5), breaker.state()), (Standing::Failing, 2));
        assert!(!breaker.claim(s(5), &SETTINGS), "not yet");
        assert_eq!(standing(&breaker, 6), Standing::Due);
        assert!(breaker.claim(s(6), &SETTINGS));
        assert_eq!(
            (standing(&breaker, 6), breaker.state()),
            (Standing::Failing, 1),
            "the others wait for its word"
        );
        assert!(!breaker.claim(s(6), &SETTINGS), "one request at a time");
        assert_eq!(
            breaker.success(s(0), s(6), || SETTINGS),
            None,
            "that one was sent before it failed"
        );
        assert_eq!(succeed(&breaker, 7), Some(Change::Back));
        assert_eq!((standing(&breaker, 7), breaker.state()), (Standing::Rising(0.1), 0));
        assert_eq!(standing(&breaker, 12), Standing::Rising(0.5));
        assert_eq!(standing(&breaker, 17), Standing::In);
    }

    #[test]
    fn a_request_that_sees_and_never_tells_is_not_waited_for() {
        let breaker = Breaker::default();
        fail(&breaker, 3, 1);
        assert!(breaker.claim(s(6), &SETTINGS) && !breaker.claim(s(10), &SETTINGS));
        assert!(breaker.claim(s(11), &SETTINGS));
    }

    #[test]
    fn every_time_in_a_row_it_stays_open_longer_up_to_the_limit_and_a_good_time_is_a_new_beginning()
    {
        let breaker = Breaker::default();
        assert!(matches!(fail(&breaker, 3, 1), Some(Change::Out(length, _)) if length == s(5)));
        assert!(breaker.claim(s(6), &SETTINGS));
        assert_eq!(fail(&breaker, 1, 6), Some(Change::Still(s(10))));
        assert!(breaker.claim(s(16), &SETTINGS));
        assert_eq!(succeed(&breaker, 16), Some(Change::Back));
        // one failure is enough while it is coming back
        assert_eq!(fail(&breaker, 1, 20), Some(Change::Out(s(15), Cause::Streak(1, FAULT))));
        assert!(breaker.claim(s(35), &SETTINGS));
        assert_eq!(succeed(&breaker, 35), Some(Change::Back));
        assert_eq!(fail(&breaker, 2, 50), None, "it has been well for as long as it takes");
        assert!(matches!(fail(&breaker, 1, 50), Some(Change::Out(length, _)) if length == s(5)));
    }

    #[test]
    fn half_of_the_requests_open_it_when_there_are_enough_of_them() {
        let breaker = Breaker::default();
        for _ in 0..4 {
            assert_eq!((succeed(&breaker, 1), fail(&breaker, 1, 1)), (None, None));
        }
        assert_eq!(succeed(&breaker, 1), None);
        assert_eq!(fail(&breaker, 1, 1), Some(Change::Out(s(5), Cause::Rate(5, 10, FAULT))));
        let breaker = Breaker::default();
        for at in 0..100 {
            assert_eq!(
                (succeed(&breaker, at), succeed(&breaker, at), fail(&breaker, 1, at)),
                (None, None, None)
            );
        }
    }

    #[test]
    fn an_endpoint_that_cannot_be_reached_is_away_for_five_seconds_at_a_time() {
        let breaker = Breaker::default();
        assert_eq!(breaker.reached(s(1)), None);
        assert_eq!(breaker.unreachable(s(1), &SETTINGS), Change::Out(s(5), Cause::Unreachable));
        assert!(breaker.is_away());
        assert_eq!(standing(&breaker, 5), Standing::Away);
        for at in [6, 11, 16, 21] {
            assert!(breaker.claim(s(at), &SETTINGS));
            assert_eq!(
                breaker.unreachable(s(at), &SETTINGS),
                Change::Still(s(5)),
                "no longer each time: it costs little"
            );
        }
        assert_eq!(breaker.outage().since, s(1));
        assert_eq!(breaker.reached(s(26)), Some(Change::Back));
        assert_eq!(
            fail(&breaker, 1, 26).map(|_| breaker.is_away()),
            Some(false),
            "it is there and fails"
        );
        assert_eq!(breaker.reached(s(27)), None, "a head is no content");
    }

    #[test]
    fn the_health_check_has_the_last_word_while_it_is_made() {
        let breaker = Breaker::default();
        assert_eq!(breaker.unhealthy(s(31), s(1)), Change::Out(s(30), Cause::Unhealthy));
        assert_eq!((succeed(&breaker, 2), breaker.reached(s(2))), (None, None));
        assert_eq!(breaker.unhealthy(s(41), s(11)), Change::Still(s(30)));
        assert_eq!(breaker.healthy(s(21)), Some(Change::Back));
        assert_eq!(breaker.healthy(s(31)), None);
        fail(&breaker, 3, 40);
        assert_eq!(
            (breaker.healthy(s(41)), standing(&breaker, 41)),
            (None, Standing::Failing),
            "it heals no failures"
        );
        // checks are no longer made: a request may see
        breaker.unhealthy(s(80), s(50));
        assert_eq!(standing(&breaker, 80), Standing::Due);
        assert_eq!(succeed(&breaker, 81), Some(Change::Back));
    }

    #[test]
    fn many_at_once_open_it_once() {
        let breaker = std::sync::Arc::new(Breaker::default());
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let breaker = std::sync::Arc::clone(&breaker);
                std::thread::spawn(move || {
                    (0..1000).filter(|_| fail(&breaker, 1, 1).is_some()).count()
                })
            })
            .collect();
        assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>(), 1);
        let claims: usize = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| usize::from(breaker.claim(s(6), &SETTINGS))))
                .collect();
            claims.into_iter().map(|claim| claim.join().unwrap()).sum()
        });
        assert_eq!(claims, 1);
    }
}
