//! Enforces the timeouts of a `Budget` on one request: four timeouts, one timer.
//!
//! The timer is re-armed lazily: a chunk only moves `phase_at`; the sleep is touched when it fires.
//! So a stream of a thousand chunks costs one timer registration per idle period, not one per
//! chunk.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{GatewayError, Phase};
use crate::model::Timeouts;

/// A timeout that has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The phase that took too long.
    pub phase: Phase,
    /// The timeout's length.
    pub limit: Duration,
}

impl Expired {
    /// Converts it to the error A1000, with the model's name.
    pub fn error(self, model: &str) -> GatewayError {
        GatewayError::expired(self.phase, self.limit, model)
    }
}

/// The deadlines of one request.
#[derive(Debug)]
pub struct Timers {
    budget: Timeouts,
    total_at: Instant,
    phase: Phase,
    phase_at: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timers {
    /// Starts the total timeout of a request that arrived at `started`.
    pub fn start(budget: Timeouts, started: Instant) -> Self {
        let total_at = started + budget.total;
        Self { budget, total_at, phase: Phase::Total, phase_at: total_at, sleep: None }
    }

    /// Begins a phase now.
    pub fn begin_phase(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_at = Instant::now() + self.budget.limit(phase);
    }

    /// Restarts the idle timeout: data arrived at `now`.
    pub fn restart_idle(&mut self, now: Instant) {
        self.phase = Phase::Idle;
        self.phase_at = now + self.budget.idle;
    }

    /// Begins a phase and runs a future until it is ready, or fails when the phase or the total
    /// timeout expires. The caller pins the future: an async function would hold it twice.
    pub async fn run<F: Future + Unpin>(
        &mut self,
        phase: Phase,
        future: F,
    ) -> Result<F::Output, Expired> {
        self.begin_phase(phase);
        self.resume(future).await
    }

    /// Runs a future within the phase that is already under way; fails as [`Self::run`] does.
    pub async fn resume<F: Future + Unpin>(&mut self, mut future: F) -> Result<F::Output, Expired> {
        poll_fn(|cx| match Pin::new(&mut future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_expired(cx).map(Err),
        })
        .await
    }

    /// Becomes ready when the total timeout has expired: the only one that runs while the client
    /// does not read.
    pub fn poll_total(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        self.phase = Phase::Total;
        self.phase_at = self.total_at;
        self.poll_expired(cx)
    }

    /// Becomes ready when a timeout has expired.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        let at = self.phase_at.min(self.total_at);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        loop {
            let fired = sleep.as_mut().poll(cx).is_ready();
            // A task whose source never waits has used up its budget when it gets here, and then no
            // timer fires.
            if Instant::now() >= at {
                let phase = if self.total_at <= self.phase_at { Phase::Total } else { self.phase };
                return Poll::Ready(Expired { phase, limit: self.budget.limit(phase) });
            }
            if !fired {
                return Poll::Pending;
            }
            sleep.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::pin::pin;
    use std::task::ready;
    use std::time::Duration;

    use tokio::task::consume_budget;
    use tokio::time::{Instant, sleep};

    use super::Timers;
    use crate::error::Phase;
    use crate::model::Timeouts;

    fn budget() -> Timeouts {
        let s = Duration::from_secs;
        Timeouts { connect: s(1), first_byte: s(5), idle: s(2), total: s(9) }
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_timeout_within_the_total_one() {
        let started = Instant::now();
        let mut timers = Timers::start(budget(), started);
        assert_eq!(
            timers.run(Phase::Connect, pending::<()>()).await.unwrap_err().phase,
            Phase::Connect
        );
        assert_eq!(started.elapsed().as_secs(), 1);
        assert!(timers.run(Phase::FirstByte, pin!(sleep(Duration::from_secs(4)))).await.is_ok());
        for _ in 0..2 {
            timers.restart_idle(Instant::now());
            assert!(timers.resume(pin!(sleep(Duration::from_millis(1500)))).await.is_ok());
        }
        timers.restart_idle(Instant::now());
        let expired = timers.resume(pending::<()>()).await.unwrap_err();
        assert_eq!(
            (expired.phase, expired.limit.as_secs(), started.elapsed().as_secs()),
            (Phase::Total, 9, 9)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn silence_after_progress_is_idle() {
        let started = Instant::now();
        let mut timers = Timers::start(budget(), started);
        timers.begin_phase(Phase::FirstByte);
        assert!(timers.resume(pin!(sleep(Duration::from_secs(1)))).await.is_ok());
        timers.restart_idle(Instant::now());
        assert_eq!(timers.resume(pending::<()>()).await.unwrap_err().phase, Phase::Idle);
        assert_eq!(started.elapsed().as_secs(), 3);
    }

    #[tokio::test]
    async fn a_source_that_never_waits_expires_too() {
        let mut timers = Timers::start(
            Timeouts { total: Duration::from_millis(50), ..budget() },
            Instant::now(),
        );
        let busy = poll_fn(|cx| -> std::task::Poll<()> {
            loop {
                ready!(pin!(consume_budget()).poll(cx));
            }
        });
        let expired = tokio::time::timeout(Duration::from_secs(5), timers.resume(busy)).await;
        assert_eq!(expired.expect("it ends").unwrap_err().phase, Phase::Total);
    }
}
