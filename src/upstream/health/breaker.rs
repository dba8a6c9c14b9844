//! Whether an endpoint is passed over for a while: after failures in a row, after too many among
//! its requests, after a connection could not be made, after its health check failed. It comes back
//! by one probe request at a time, and then with a growing share of its traffic (slow start).
//!
//! Sans-I/O: the time is an argument, and each transition is returned to the caller, who logs it.
//! What a choice reads and what a success writes are atomics; the lock is for failures and for
//! recovery.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Kind;

/// `[resilience] breaker`, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerSettings {
    /// This many failures in a row open it.
    pub failures: u32,
    /// This share of failures among the requests of ten seconds opens it, too.
    pub error_rate: f64,
    /// How long it stays open; doubles each time in a row that it opens.
    pub open: Duration,
    /// The longest that it stays open.
    pub open_max: Duration,
    /// The time in which the share of traffic of a recovered endpoint grows to a full one.
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

/// The share of traffic that a recovered endpoint starts with.
const FIRST_SHARE: f32 = 0.1;

/// Whether the balancer may choose an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Availability {
    /// As any other.
    Available,
    /// Recovered of late: gets this share of the requests that it would get otherwise.
    SlowStart(f32),
    /// One request may probe whether it has recovered: the first to call [`Breaker::try_probe`].
    HalfOpen,
    /// Reachable, but its requests fail.
    Open,
    /// Unreachable: nothing that is sent to it can succeed.
    Unreachable,
}

/// A change of the breaker's state, returned once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transition {
    /// The breaker opened, for this long and for this cause.
    Opened(Duration, Cause),
    /// The breaker was open, and stays so for this long: the endpoint still fails.
    StillOpen(Duration),
    /// The breaker closed: the endpoint has recovered.
    Closed,
}

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// This many failures in a row, the last of this kind.
    ConsecutiveFailures(u32, Kind),
    /// This many failures among this many requests, the last of this kind.
    ErrorRate(u32, u32, Kind),
    /// No connection could be made.
    Unreachable,
    /// The health check failed.
    Unhealthy,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = |kind: &Kind| match kind {
            Kind::UpstreamStatus(status) => format!("HTTP {status}"),
            other => other.row().phase.map_or(other.row().code, |phase| phase.label()).to_owned(),
        };
        match self {
            Self::ConsecutiveFailures(1, kind) => {
                write!(f, "failed again as soon as it was back ({})", last(kind))
            }
            Self::ConsecutiveFailures(count, kind) => {
                write!(f, "{count} failures in a row (the last: {})", last(kind))
            }
            Self::ErrorRate(failed, of, kind) => {
                write!(f, "{failed} of {of} requests failed (the last: {})", last(kind))
            }
            Self::Unreachable => f.write_str("cannot be reached"),
            Self::Unhealthy => f.write_str("fails its health check"),
        }
    }
}

/// The circuit breaker of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: AtomicU64,
    /// Failures since the last success.
    consecutive_failures: AtomicU32,
    window: Window,
    outage: Mutex<Outage>,
}

/// The last outage: while the breaker is open, or since it has closed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outage {
    /// How often in a row the breaker has opened for failed requests.
    times_opened: u32,
    /// When it last opened. A success of a request that was sent earlier proves nothing.
    opened_at: Duration,
    /// Why it opened; kept after it has closed.
    pub(crate) cause: Option<Cause>,
    /// When the outage began, or ended.
    pub(crate) since: Duration,
}

/// The state, unpacked from its atomic word.
#[derive(Clone, Copy, Debug, PartialEq)]
enum BreakerState {
    Closed,
    /// Closed since then, and not yet with a full share of the traffic.
    SlowStart(Duration),
    /// No request until then.
    Open {
        until: Duration,
        is_unreachable: bool,
    },
    /// A probe request is under way; after that time another one may be sent.
    HalfOpen {
        until: Duration,
        is_unreachable: bool,
    },
}

impl BreakerState {
    fn pack(self) -> u64 {
        let pack = |tag: u64, at: Duration, is_unreachable: bool| {
            (millis(at) << 3) | (u64::from(is_unreachable) << 2) | tag
        };
        match self {
            Self::Closed => 0,
            Self::SlowStart(since) => pack(1, since, false),
            Self::Open { until, is_unreachable } => pack(2, until, is_unreachable),
            Self::HalfOpen { until, is_unreachable } => pack(3, until, is_unreachable),
        }
    }

    const fn unpack(packed: u64) -> Self {
        let (at, is_unreachable) = (Duration::from_millis(packed >> 3), packed & 4 != 0);
        match packed & 3 {
            0 => Self::Closed,
            1 => Self::SlowStart(at),
            2 => Self::Open { until: at, is_unreachable },
            _ => Self::HalfOpen { until: at, is_unreachable },
        }
    }
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX) & (u64::MAX >> 3)
}

impl Breaker {
    /// Returns whether the balancer may choose the endpoint now.
    pub(crate) fn availability(
        &self,
        now: Duration,
        slow_start: impl FnOnce() -> Duration,
    ) -> Availability {
        match self.state() {
            BreakerState::Closed => Availability::Available,
            BreakerState::SlowStart(since) => match slow_start_share(since, now, slow_start()) {
                share if share < 1.0 => Availability::SlowStart(share),
                _ => Availability::Available,
            },
            BreakerState::Open { until, .. } | BreakerState::HalfOpen { until, .. }
                if now >= until =>
            {
                Availability::HalfOpen
            }
            BreakerState::Open { is_unreachable, .. }
            | BreakerState::HalfOpen { is_unreachable, .. } => {
                if is_unreachable {
                    Availability::Unreachable
                } else {
                    Availability::Open
                }
            }
        }
    }

    /// Reserves the one probe request for the caller; returns false when the breaker is closed, or
    /// another request has it. After `open` without a result, another may have it.
    pub(crate) fn try_probe(&self, now: Duration, settings: &BreakerSettings) -> bool {
        let probe = |packed| match BreakerState::unpack(packed) {
            BreakerState::Open { until, is_unreachable }
            | BreakerState::HalfOpen { until, is_unreachable }
                if now >= until =>
            {
                let until = now + settings.open;
                Some(BreakerState::HalfOpen { until, is_unreachable }.pack())
            }
            _ => None,
        };
        self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, probe).is_ok()
    }

    /// Records that a request that was sent at `sent` returned content.
    pub(crate) fn success(
        &self,
        sent: Duration,
        now: Duration,
        settings: impl FnOnce() -> BreakerSettings,
    ) -> Option<Transition> {
        if self.consecutive_failures.load(Ordering::Relaxed) != 0 {
            self.consecutive_failures.store(0, Ordering::Relaxed);
        }
        self.window.add(false, now);
        if self.state.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut outage = self.outage();
        match self.finish_slow_start(&mut outage, now, &settings()) {
            // the health check decides as long as it runs
            BreakerState::Open { until, .. }
                if outage.cause == Some(Cause::Unhealthy) && now < until =>
            {
                None
            }
            BreakerState::Open { .. } | BreakerState::HalfOpen { .. }
                if sent >= outage.opened_at =>
            {
                Some(self.close(&mut outage, now))
            }
            BreakerState::Closed
            | BreakerState::SlowStart(_)
            | BreakerState::Open { .. }
            | BreakerState::HalfOpen { .. } => None,
        }
    }

    /// Records that a request failed by the endpoint's fault.
    pub(crate) fn failure(
        &self,
        kind: Kind,
        now: Duration,
        settings: &BreakerSettings,
    ) -> Option<Transition> {
        let consecutive_failures =
            self.consecutive_failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let (failed, of) = self.window.add(true, now);
        let mut outage = self.outage();
        let is_rate_exceeded =
            of >= MIN_REQUESTS && f64::from(failed) >= f64::from(of) * settings.error_rate;
        let cause = match self.finish_slow_start(&mut outage, now, settings) {
            BreakerState::Open { until, .. } if now < until => return None,
            BreakerState::Closed
                if consecutive_failures < settings.failures && !is_rate_exceeded =>
            {
                return None;
            }
            BreakerState::Closed if consecutive_failures < settings.failures => {
                Cause::ErrorRate(failed, of, kind)
            }
            BreakerState::Closed
            | BreakerState::SlowStart(_)
            | BreakerState::Open { .. }
            | BreakerState::HalfOpen { .. } => {
                Cause::ConsecutiveFailures(consecutive_failures, kind)
            }
        };
        let open_for =
            settings.open.saturating_mul(1 << outage.times_opened.min(16)).min(settings.open_max);
        outage.times_opened += 1;
        Some(self.open(&mut outage, cause, open_for, now))
    }

    /// Records that no connection could be made.
    pub(crate) fn unreachable(&self, now: Duration, settings: &BreakerSettings) -> Transition {
        self.open(&mut self.outage(), Cause::Unreachable, settings.open, now)
    }

    /// Records that the head of a response arrived: whatever its status, the endpoint is reachable.
    pub(crate) fn reached(&self, now: Duration) -> Option<Transition> {
        if !self.is_unreachable() {
            return None;
        }
        let mut outage = self.outage();
        let has_recovered = self.is_unreachable() && outage.cause == Some(Cause::Unreachable);
        has_recovered.then(|| self.close(&mut outage, now))
    }

    /// Records that the health check failed: open until the next check has certainly been made.
    pub(crate) fn unhealthy(&self, until: Duration, now: Duration) -> Transition {
        self.open(&mut self.outage(), Cause::Unhealthy, until.saturating_sub(now), now)
    }

    /// Records that the health check succeeded, which proves nothing about failed requests.
    pub(crate) fn healthy(&self, now: Duration) -> Option<Transition> {
        if !self.is_unreachable() {
            return None;
        }
        let mut outage = self.outage();
        self.is_unreachable().then(|| self.close(&mut outage, now))
    }

    /// Returns whether nothing that is sent to the endpoint can succeed, as far as is known.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(
            self.state(),
            BreakerState::Open { is_unreachable: true, .. }
                | BreakerState::HalfOpen { is_unreachable: true, .. }
        )
    }

    /// Returns the metric's value: 0 closed, 1 half open, 2 open.
    pub(crate) fn metric_value(&self) -> i64 {
        match self.state() {
            BreakerState::Closed | BreakerState::SlowStart(_) => 0,
            BreakerState::HalfOpen { .. } => 1,
            BreakerState::Open { .. } => 2,
        }
    }

    /// Returns the last outage, which may have ended.
    pub(crate) fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(
        &self,
        outage: &mut Outage,
        cause: Cause,
        open_for: Duration,
        now: Duration,
    ) -> Transition {
        let was_open =
            matches!(self.state(), BreakerState::Open { .. } | BreakerState::HalfOpen { .. });
        let is_unreachable = matches!(cause, Cause::Unreachable | Cause::Unhealthy);
        let is_same = was_open && self.is_unreachable() == is_unreachable;
        outage.opened_at = now;
        outage.since = if is_same { outage.since } else { now };
        // the first cause of an outage is kept, except that the health check's replaces it
        if !is_same || cause == Cause::Unhealthy {
            outage.cause = Some(cause);
        }
        self.store(BreakerState::Open { until: now + open_for, is_unreachable });
        if is_same { Transition::StillOpen(open_for) } else { Transition::Opened(open_for, cause) }
    }

    /// Returns the state, after closing a breaker whose slow start has ended, which clears its
    /// history.
    fn finish_slow_start(
        &self,
        outage: &mut Outage,
        now: Duration,
        settings: &BreakerSettings,
    ) -> BreakerState {
        match self.state() {
            BreakerState::SlowStart(since)
                if slow_start_share(since, now, settings.slow_start) >= 1.0 =>
            {
                outage.times_opened = 0;
                self.store(BreakerState::Closed);
                BreakerState::Closed
            }
            state => state,
        }
    }

    fn close(&self, outage: &mut Outage, now: Duration) -> Transition {
        outage.since = now;
        self.consecutive_failures.store(0, Ordering::Relaxed);
        self.window.clear();
        self.store(BreakerState::SlowStart(now));
        Transition::Closed
    }

    fn state(&self) -> BreakerState {
        BreakerState::unpack(self.state.load(Ordering::Relaxed))
    }

    fn store(&self, state: BreakerState) {
        self.state.store(state.pack(), Ordering::Relaxed);
    }
}

/// Returns the share of traffic of an endpoint that recovered at `since`.
fn slow_start_share(since: Duration, now: Duration, slow_start: Duration) -> f32 {
    let elapsed = now.saturating_sub(since).as_secs_f32();
    if slow_start.is_zero() { 1.0 } else { (elapsed / slow_start.as_secs_f32()).max(FIRST_SHARE) }
}

/// A window with fewer requests does not show a rate.
const MIN_REQUESTS: u32 = 10;
/// The length of a window. It starts anew rather than slides: one word holds it.
const WINDOW: Duration = Duration::from_secs(10);

/// The requests of the current window, and the failures among them.
#[derive(Debug, Default)]
struct Window {
    /// The window's number (`u32`), then the counts of requests and failures (`u16` each).
    packed: AtomicU64,
}

impl Window {
    /// Counts a request; returns the failures and the requests of the window so far.
    fn add(&self, failed: bool, now: Duration) -> (u32, u32) {
        let number = (now.as_millis() / WINDOW.as_millis()) as u32;
        let next = |packed: u64| {
            let (requests, failures) =
                if (packed >> 32) as u32 == number { (packed >> 16, packed) } else { (0, 0) };
            let requests = (requests as u16).saturating_add(1);
            let failures = (failures as u16).saturating_add(failed.into());
            Some(u64::from(number) << 32 | u64::from(requests) << 16 | u64::from(failures))
        };
        let before = self
            .packed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .unwrap_or_else(|packed| packed);
        let packed = next(before).unwrap_or(before);
        (u32::from(packed as u16), u32::from((packed >> 16) as u16))
    }

    fn clear(&self) {
        self.packed.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Availability, Breaker, BreakerSettings, Cause, Transition};
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

    fn availability(breaker: &Breaker, at: u64) -> Availability {
        breaker.availability(s(at), || SETTINGS.slow_start)
    }

    fn fail(breaker: &Breaker, times: u32, at: u64) -> Option<Transition> {
        (0..times).filter_map(|_| breaker.failure(FAULT, s(at), &SETTINGS)).last()
    }

    /// A request that was sent and returned content within this second.
    fn succeed(breaker: &Breaker, at: u64) -> Option<Transition> {
        breaker.success(s(at), s(at), || SETTINGS)
    }

    #[test]
    fn failures_in_a_row_open_it_one_request_probes_and_a_success_closes_it_with_a_slow_start() {
        let breaker = Breaker::default();
        assert_eq!(
            (fail(&breaker, 2, 1), succeed(&breaker, 1), fail(&breaker, 2, 1)),
            (None, None, None)
        );
        assert_eq!(
            fail(&breaker, 1, 1),
            Some(Transition::Opened(s(5), Cause::ConsecutiveFailures(3, FAULT)))
        );
        assert_eq!((availability(&breaker, 5), breaker.metric_value()), (Availability::Open, 2));
        assert!(!breaker.try_probe(s(5), &SETTINGS), "not yet");
        assert_eq!(availability(&breaker, 6), Availability::HalfOpen);
        assert!(breaker.try_probe(s(6), &SETTINGS));
        assert_eq!(
            (availability(&breaker, 6), breaker.metric_value()),
            (Availability::Open, 1),
            "the others wait for its result"
        );
        assert!(!breaker.try_probe(s(6), &SETTINGS), "one request at a time");
        assert_eq!(
            breaker.success(s(0), s(6), || SETTINGS),
            None,
            "that one was sent before it opened"
        );
        assert_eq!(succeed(&breaker, 7), Some(Transition::Closed));
        assert_eq!(
            (availability(&breaker, 7), breaker.metric_value()),
            (Availability::SlowStart(0.1), 0)
        );
        assert_eq!(availability(&breaker, 12), Availability::SlowStart(0.5));
        assert_eq!(availability(&breaker, 17), Availability::Available);
    }

    #[test]
    fn a_probe_without_a_result_is_not_waited_for() {
        let breaker = Breaker::default();
        fail(&breaker, 3, 1);
        assert!(breaker.try_probe(s(6), &SETTINGS) && !breaker.try_probe(s(10), &SETTINGS));
        assert!(breaker.try_probe(s(11), &SETTINGS));
    }

    #[test]
    fn it_stays_open_longer_each_time_in_a_row_up_to_the_limit_and_a_full_slow_start_resets_that() {
        let breaker = Breaker::default();
        assert!(
            matches!(fail(&breaker, 3, 1), Some(Transition::Opened(open_for, _)) if open_for == s(5))
        );
        assert!(breaker.try_probe(s(6), &SETTINGS));
        assert_eq!(fail(&breaker, 1, 6), Some(Transition::StillOpen(s(10))));
        assert!(breaker.try_probe(s(16), &SETTINGS));
        assert_eq!(succeed(&breaker, 16), Some(Transition::Closed));
        // one failure is enough during slow start
        assert_eq!(
            fail(&breaker, 1, 20),
            Some(Transition::Opened(s(15), Cause::ConsecutiveFailures(1, FAULT)))
        );
        assert!(breaker.try_probe(s(35), &SETTINGS));
        assert_eq!(succeed(&breaker, 35), Some(Transition::Closed));
        assert_eq!(fail(&breaker, 2, 50), None, "the slow start has ended");
        assert!(
            matches!(fail(&breaker, 1, 50), Some(Transition::Opened(open_for, _)) if open_for == s(5))
        );
    }

    #[test]
    fn half_of_the_requests_open_it_when_there_are_enough_of_them() {
        let breaker = Breaker::default();
        for _ in 0..4 {
            assert_eq!((succeed(&breaker, 1), fail(&breaker, 1, 1)), (None, None));
        }
        assert_eq!(succeed(&breaker, 1), None);
        assert_eq!(
            fail(&breaker, 1, 1),
            Some(Transition::Opened(s(5), Cause::ErrorRate(5, 10, FAULT)))
        );
        let breaker = Breaker::default();
        for at in 0..100 {
            assert_eq!(
                (succeed(&breaker, at), succeed(&breaker, at), fail(&breaker, 1, at)),
                (None, None, None)
            );
        }
    }

    #[test]
    fn an_endpoint_without_a_connection_is_unreachable_for_five_seconds_at_a_time() {
        let breaker = Breaker::default();
        assert_eq!(breaker.reached(s(1)), None);
        assert_eq!(
            breaker.unreachable(s(1), &SETTINGS),
            Transition::Opened(s(5), Cause::Unreachable)
        );
        assert!(breaker.is_unreachable());
        assert_eq!(availability(&breaker, 5), Availability::Unreachable);
        for at in [6, 11, 16, 21] {
            assert!(breaker.try_probe(s(at), &SETTINGS));
            assert_eq!(
                breaker.unreachable(s(at), &SETTINGS),
                Transition::StillOpen(s(5)),
                "no longer each time: it costs little"
            );
        }
        assert_eq!(breaker.outage().since, s(1));
        assert_eq!(breaker.reached(s(26)), Some(Transition::Closed));
        assert_eq!(
            fail(&breaker, 1, 26).map(|_| breaker.is_unreachable()),
            Some(false),
            "it is reachable and fails"
        );
        assert_eq!(breaker.reached(s(27)), None, "a head is not content");
    }

    #[test]
    fn the_health_check_decides_while_it_runs() {
        let breaker = Breaker::default();
        assert_eq!(breaker.unhealthy(s(31), s(1)), Transition::Opened(s(30), Cause::Unhealthy));
        assert_eq!((succeed(&breaker, 2), breaker.reached(s(2))), (None, None));
        assert_eq!(breaker.unhealthy(s(41), s(11)), Transition::StillOpen(s(30)));
        assert_eq!(breaker.healthy(s(21)), Some(Transition::Closed));
        assert_eq!(breaker.healthy(s(31)), None);
        fail(&breaker, 3, 40);
        assert_eq!(
            (breaker.healthy(s(41)), availability(&breaker, 41)),
            (None, Availability::Open),
            "it does not clear failures"
        );
        // no check runs any longer: a request may probe
        breaker.unhealthy(s(80), s(50));
        assert_eq!(availability(&breaker, 80), Availability::HalfOpen);
        assert_eq!(succeed(&breaker, 81), Some(Transition::Closed));
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
        let probes: usize = std::thread::scope(|scope| {
            let probes: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| usize::from(breaker.try_probe(s(6), &SETTINGS))))
                .collect();
            probes.into_iter().map(|probe| probe.join().unwrap()).sum()
        });
        assert_eq!(probes, 1);
    }
}
