//! A value that is refreshed before it expires: an issuer's keys, temporary credentials.
//!
//! One task apart from the data path fetches (`run`). A request never does; one that needs a value
//! that is missing may wait a little for a fetch that is due. A failed fetch changes nothing: the
//! last good value stays.

use std::fmt::Display;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// How often a value is fetched, and how many requests wait for it how long.
#[derive(Clone, Copy, Debug)]
pub struct RefreshPolicy {
    /// The shortest time between two fetches, also on request.
    pub min_interval: Duration,
    /// The longest time between two fetches that fail: it doubles from `min_interval` to this.
    pub max_interval: Duration,
    /// How long a request waits for a fetch.
    pub max_wait: Duration,
    /// How many requests may wait at a time.
    pub max_waiters: usize,
}

/// A value with its refresh schedule.
#[derive(Debug)]
pub struct Refreshed<T> {
    value: ArcSwapOption<T>,
    policy: RefreshPolicy,
    schedule: Mutex<Schedule>,
    wake: Notify,
    /// Counts finished attempts.
    attempts: watch::Sender<u64>,
    waiting: Semaphore,
}

/// The result of a fetch.
#[derive(Debug)]
pub struct Fetch<T> {
    /// The value.
    pub value: T,
    /// When to fetch it again, from now.
    pub refresh_in: Duration,
}

#[derive(Clone, Debug, Default)]
struct Schedule {
    /// The next fetch, unless one is requested earlier; `None` to fetch on request only.
    next: Option<Instant>,
    /// A fetch was requested and has not ended yet.
    requested: bool,
    last_attempt: Option<Instant>,
    last_success: Option<Instant>,
    failures: u32,
    /// Why the last fetch failed, if it did.
    last_error: Option<String>,
}

impl<T> Refreshed<T> {
    /// Creates an empty one. Nothing is fetched before a fetch is requested.
    pub fn new(policy: RefreshPolicy) -> Self {
        Self {
            value: ArcSwapOption::empty(),
            policy,
            schedule: Mutex::default(),
            wake: Notify::new(),
            attempts: watch::Sender::new(0),
            waiting: Semaphore::new(policy.max_waiters),
        }
    }

    /// Returns the value, or `None` before the first successful fetch.
    pub fn get(&self) -> Option<Arc<T>> {
        self.value.load_full()
    }

    /// Returns the value if it is valid, else waits for a fetch and returns the value then, valid
    /// or not. Does not wait when the last fetch is too recent or too many requests wait already.
    pub async fn get_if(&self, is_valid: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let value = self.get();
        if value.as_deref().is_some_and(is_valid) {
            return value;
        }
        let Ok(_permit) = self.waiting.try_acquire() else { return value };
        let mut attempts = self.attempts.subscribe();
        if self.request_fetch() {
            // after a timeout as after a fetch, the current value decides
            let _ = timeout(self.policy.max_wait, attempts.changed()).await;
        }
        self.get()
    }

    /// Waits until a first fetch has ended, successfully or not: as long as it takes, which its own
    /// timeouts bound.
    pub async fn wait_for_first(&self) {
        let mut attempts = self.attempts.subscribe();
        self.request_fetch();
        // the sender is ours: this does not fail
        let _ = attempts.wait_for(|attempts| *attempts > 0).await;
    }

    /// Requests a fetch. Returns false when the last one is too recent.
    pub fn request_fetch(&self) -> bool {
        let mut schedule = self.schedule();
        if !schedule.requested
            && schedule.last_attempt.is_some_and(|at| at.elapsed() < self.policy.min_interval)
        {
            return false;
        }
        schedule.requested = true;
        self.wake.notify_one();
        true
    }

    /// Refreshes the value, for ever. May be dropped and run again: a fetch that is due is then
    /// made. `what` names the value in the log.
    pub async fn run<F>(&self, what: &(impl Display + Sync), fetch: impl Fn() -> F + Sync)
    where
        F: Future<Output = Result<Fetch<T>, String>> + Send,
    {
        loop {
            let due = self.due();
            tokio::select! {
                () = async { match due { Some(at) => sleep_until(at).await, None => pending().await } } => {}
                () = self.wake.notified() => {}
            }
            // a wake may be left over from a fetch that has ended since
            if self.due().is_some_and(|at| at <= Instant::now()) {
                let fetched = fetch().await;
                self.finish(what, fetched);
            }
        }
    }

    /// Copies the value and schedule of the one from before a reload, so that a reload forgets
    /// nothing.
    pub fn inherit(&self, before: &Self) {
        let previous = before.schedule().clone();
        self.value.store(before.get());
        let requested = self.schedule().requested;
        *self.schedule() = Schedule { requested: requested || previous.requested, ..previous };
    }

    /// Returns why the last fetch failed, or `None` if it succeeded.
    pub fn last_error(&self) -> Option<String> {
        self.schedule().last_error.clone()
    }

    /// Returns how long ago the value was fetched, or `None` before that.
    pub fn age(&self) -> Option<Duration> {
        self.schedule().last_success.map(|at| at.elapsed())
    }

    fn due(&self) -> Option<Instant> {
        let schedule = self.schedule();
        if schedule.requested { Some(Instant::now()) } else { schedule.next }
    }

    fn finish(&self, what: &impl Display, fetched: Result<Fetch<T>, String>) {
        let now = Instant::now();
        let mut schedule = self.schedule();
        (schedule.requested, schedule.last_attempt) = (false, Some(now));
        match fetched {
            Ok(Fetch { value, refresh_in: again_in }) => {
                schedule.next = Some(now + again_in.max(self.policy.min_interval));
                (schedule.failures, schedule.last_error, schedule.last_success) =
                    (0, None, Some(now));
                self.value.store(Some(Arc::new(value)));
            }
            Err(error) => {
                let interval =
                    self.policy.min_interval.saturating_mul(1 << schedule.failures.min(8));
                schedule.next = Some(now + interval.min(self.policy.max_interval));
                schedule.failures += 1;
                // an outage of a day is logged when it begins, not every five minutes
                if schedule.last_error.as_ref() != Some(&error) {
                    let kept = schedule.last_success.is_some();
                    tracing::warn!(kept, "{what} could not be fetched: {error}");
                }
                schedule.last_error = Some(error);
            }
        }
        drop(schedule);
        self.attempts.send_modify(|attempts| *attempts += 1);
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::time::{Instant, advance, sleep, timeout};

    use super::{Fetch, RefreshPolicy, Refreshed};

    const POLICY: RefreshPolicy = RefreshPolicy {
        min_interval: Duration::from_secs(10),
        max_interval: Duration::from_secs(60),
        max_wait: Duration::from_secs(2),
        max_waiters: 2,
    };

    /// Returns a value whose fetches are counted; the first `fails` of them fail. Each value lives
    /// 100 s.
    fn running(fails: u32) -> (Arc<Refreshed<u32>>, Arc<AtomicU32>) {
        let (refreshed, count) = (Arc::new(Refreshed::new(POLICY)), Arc::new(AtomicU32::new(0)));
        let (runner, counter) = (Arc::clone(&refreshed), Arc::clone(&count));
        tokio::spawn(async move {
            let fetch = async || {
                let nth = counter.fetch_add(1, Ordering::Relaxed) + 1;
                sleep(Duration::from_secs(1)).await;
                if nth <= fails { Err("down".to_owned()) } else { Ok(nth) }
            };
            let fetch = || async {
                fetch().await.map(|value| Fetch { value, refresh_in: Duration::from_secs(100) })
            };
            runner.run(&"it", fetch).await;
        });
        (refreshed, count)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_fetch_is_on_request_and_the_next_before_expiry() {
        let (refreshed, count) = running(0);
        sleep(Duration::from_secs(1000)).await;
        assert_eq!((count.load(Ordering::Relaxed), refreshed.get()), (0, None));
        refreshed.wait_for_first().await;
        assert_eq!(refreshed.get_if(|_| true).await.as_deref(), Some(&1));
        sleep(Duration::from_secs(102)).await;
        assert_eq!(refreshed.get().as_deref(), Some(&2), "without a request");
        refreshed.wait_for_first().await;
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_requests_share_one_fetch_and_a_bounded_number_waits() {
        let (refreshed, count) = running(0);
        let get = || async { (refreshed.get_if(|_| true).await, Instant::now()) };
        let began = Instant::now();
        let (a, b, c) = tokio::join!(get(), get(), get());
        assert_eq!((a.0.as_deref(), b.0.as_deref()), (Some(&1), Some(&1)));
        assert_eq!((c.0, c.1), (None, began), "the third does not wait");
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(!refreshed.request_fetch(), "too soon after the last one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_fetch_is_retried_with_backoff_and_the_old_value_stays() {
        let (refreshed, count) = running(3);
        assert_eq!(refreshed.get_if(|_| true).await, None);
        assert_eq!(refreshed.last_error().as_deref(), Some("down"));
        for (after, expected) in [(11, 2), (21, 3), (41, 4)] {
            sleep(Duration::from_secs(after)).await;
            assert_eq!(count.load(Ordering::Relaxed), expected);
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!((refreshed.get().as_deref(), refreshed.last_error()), (Some(&4), None));
        let next = Arc::new(Refreshed::new(POLICY));
        next.inherit(&refreshed);
        assert_eq!(next.get().as_deref(), Some(&4), "a reload forgets nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_in_time() {
        let refreshed = Refreshed::<u32>::new(POLICY);
        let began = Instant::now();
        assert_eq!(refreshed.get_if(|_| true).await, None, "no task fetches it");
        assert_eq!(began.elapsed(), POLICY.max_wait);
        advance(Duration::from_secs(1)).await;
        assert!(
            timeout(
                Duration::from_secs(1),
                refreshed.run(&"it", || async { Err("no".to_owned()) })
            )
            .await
            .is_err()
        );
        assert_eq!(
            refreshed.last_error().as_deref(),
            Some("no"),
            "a fetch requested earlier is made by a task that runs later"
        );
    }
}
