//! Hedged requests (`resilience.hedging`): a second sequence of attempts in parallel to one that
//! takes longer than most. The first to produce content answers; the other is dropped, which closes
//! its connection.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use crate::error::GatewayError;

/// Which of the two finished.
pub(super) enum Winner<T> {
    Primary(T),
    Hedge(T),
}

/// Runs `first`, and from `wait` on `second` in parallel, if `may_start` allows it then. Returns the
/// first success; if both fail, the failure of `first`. Both are bounded by the request's own
/// timeouts.
pub(super) async fn race<T>(
    first: impl Future<Output = Result<T, GatewayError>> + Send,
    second: impl Future<Output = Result<T, GatewayError>> + Send,
    wait: Duration,
    may_start: impl FnOnce() -> bool,
) -> Winner<Result<T, GatewayError>> {
    let (mut first, mut second) = (Box::pin(first), Box::pin(second));
    if let Ok(done) = timeout(wait, &mut first).await {
        return Winner::Primary(done);
    }
    if !may_start() {
        return Winner::Primary(first.await);
    }
    let either = poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Winner::Primary(done)),
        Poll::Pending => second.as_mut().poll(cx).map(Winner::Hedge),
    });
    match either.await {
        Winner::Primary(Err(error)) => {
            second.await.map_or(Winner::Primary(Err(error)), |answer| Winner::Hedge(Ok(answer)))
        }
        Winner::Hedge(Err(_)) => Winner::Primary(first.await),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::{Winner, race};
    use crate::error::{GatewayError, Kind};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    async fn after(time: u64, result: Result<u8, Kind>) -> Result<u8, GatewayError> {
        sleep(MS(time)).await;
        result.map_err(|kind| GatewayError::new(kind, "failed"))
    }

    /// Returns which finished, its result, and when, in milliseconds.
    async fn run(
        first: (u64, Result<u8, Kind>),
        second: (u64, Result<u8, Kind>),
        may: bool,
    ) -> (String, u64) {
        let started = Instant::now();
        let won = race(after(first.0, first.1), after(second.0, second.1), MS(100), || may).await;
        let shown = |done: Result<u8, GatewayError>| done.map_err(|error| error.kind());
        let text = match won {
            Winner::Primary(done) => format!("first {:?}", shown(done)),
            Winner::Hedge(done) => format!("second {:?}", shown(done)),
        };
        (text, u64::try_from(started.elapsed().as_millis()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_begins_when_the_first_takes_long_and_the_quicker_answers() {
        let at = |text: &str, ms| (text.to_owned(), ms);
        assert_eq!(run((50, Ok(1)), (0, Ok(2)), true).await, at("first Ok(1)", 50));
        assert_eq!(run((900, Ok(1)), (40, Ok(2)), true).await, at("second Ok(2)", 140));
        assert_eq!(run((120, Ok(1)), (40, Ok(2)), true).await, at("first Ok(1)", 120));
        assert_eq!(
            run((900, Ok(1)), (40, Ok(2)), false).await,
            at("first Ok(1)", 900),
            "the budget is used up"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_waits_for_the_other_and_two_are_the_firsts() {
        let at = |text: &str, ms| (text.to_owned(), ms);
        let failed = Err(Kind::UpstreamBroken);
        assert_eq!(run((120, failed), (400, Ok(2)), true).await, at("second Ok(2)", 500));
        assert_eq!(run((900, Ok(1)), (40, failed), true).await, at("first Ok(1)", 900));
        assert_eq!(
            run((900, failed), (40, Err(Kind::Internal)), true).await,
            at("first Err(UpstreamBroken)", 900)
        );
        assert_eq!(
            run((50, failed), (0, Ok(2)), true).await,
            at("first Err(UpstreamBroken)", 50),
            "not a retry"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_loser_is_dropped() {
        let held = std::sync::Arc::new(());
        let of_first = std::sync::Arc::clone(&held);
        let first = async move {
            let _held = of_first;
            pending::<()>().await;
            Ok(1)
        };
        let won = race(first, after(10, Ok(2)), MS(100), || true).await;
        assert!(matches!(won, Winner::Hedge(Ok(2))));
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
    }
}
