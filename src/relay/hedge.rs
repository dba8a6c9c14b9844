//! A second line of attempts beside the first, when that takes longer than most do
//! (`resilience.hedging`): whose content is there first answers, and the other is dropped, which
//! closes its connection.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use crate::error::GatewayError;

/// Who answered.
pub(super) enum By<T> {
    First(T),
    Second(T),
}

/// Runs `first`; when it is not done after `wait` and there may be a second, that too, until one of
/// them has an answer. If neither has, it is the first's failure that is told. Both are bounded by
/// the request's own limits.
pub(super) async fn race<T>(
    first: impl Future<Output = Result<T, GatewayError>> + Send,
    second: impl Future<Output = Result<T, GatewayError>> + Send,
    wait: Duration,
    may_begin: impl FnOnce() -> bool,
) -> By<Result<T, GatewayError>> {
    let (mut first, mut second) = (Box::pin(first), Box::pin(second));
    if let Ok(done) = timeout(wait, &mut first).await {
        return By::First(done);
    }
    if !may_begin() {
        return By::First(first.await);
    }
    let either = poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(By::First(done)),
        Poll::Pending => second.as_mut().poll(cx).map(By::Second),
    });
    match either.await {
        By::First(Err(error)) => {
            second.await.map_or(By::First(Err(error)), |answer| By::Second(Ok(answer)))
        }
        By::Second(Err(_)) => By::First(first.await),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::{By, race};
    use crate::error::{GatewayError, Kind};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    async fn after(time: u64, result: Result<u8, Kind>) -> Result<u8, GatewayError> {
        sleep(MS(time)).await;
        result.map_err(|kind| GatewayError::new(kind, "failed"))
    }

    /// Who answered what, and when.
    async fn run(
        first: (u64, Result<u8, Kind>),
        second: (u64, Result<u8, Kind>),
        may: bool,
    ) -> (String, u64) {
        let started = Instant::now();
        let won = race(after(first.0, first.1), after(second.0, second.1), MS(100), || may).await;
        let told = |done: Result<u8, GatewayError>| done.map_err(|error| error.kind());
        let text = match won {
            By::First(done) => format!("first {:?}", told(done)),
            By::Second(done) => format!("second {:?}", told(done)),
        };
        (text, u64::try_from(started.elapsed().as_millis()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_begins_when_the_first_takes_long_and_the_quicker_answers() {
        let told = |text: &str, at| (text.to_owned(), at);
        assert_eq!(run((50, Ok(1)), (0, Ok(2)), true).await, told("first Ok(1)", 50));
        assert_eq!(run((900, Ok(1)), (40, Ok(2)), true).await, told("second Ok(2)", 140));
        assert_eq!(run((120, Ok(1)), (40, Ok(2)), true).await, told("first Ok(1)", 120));
        assert_eq!(
            run((900, Ok(1)), (40, Ok(2)), false).await,
            told("first Ok(1)", 900),
            "the budget is used up"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_waits_for_the_other_and_two_are_the_firsts() {
        let told = |text: &str, at| (text.to_owned(), at);
        let failed = Err(Kind::UpstreamBroken);
        assert_eq!(run((120, failed), (400, Ok(2)), true).await, told("second Ok(2)", 500));
        assert_eq!(run((900, Ok(1)), (40, failed), true).await, told("first Ok(1)", 900));
        assert_eq!(
            run((900, failed), (40, Err(Kind::Internal)), true).await,
            told("first Err(UpstreamBroken)", 900)
        );
        assert_eq!(
            run((50, failed), (0, Ok(2)), true).await,
            told("first Err(UpstreamBroken)", 50),
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
        assert!(matches!(won, By::Second(Ok(2))));
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
    }
}
