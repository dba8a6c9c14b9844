//! `Fresh<T>`: a value that is fetched again before it grows old: an issuer's keys, credentials
//! that expire.
//!
//! One task beside the data path fetches, [`Fresh::keep`]. A request never does; one that needs
//! what is not there may wait a little for a fetch that is due. A fetch that fails changes nothing:
//! the last good value stays.

use std::fmt::Display;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// How often, how long and by how many.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two fetches, whoever asks.
    pub min_interval: Duration,
    /// Between two fetches of what does not come: doubles from `min_interval` to this.
    pub max_interval: Duration,
    /// How long a request waits for a fetch.
    pub wait: Duration,
    /// How many requests may wait so.
    pub max_waiting: usize,
}

/// A value, and when to fetch it again.
#[derive(Debug)]
pub struct Fresh<T> {
    value: ArcSwapOption<T>,
    pace: Pace,
    schedule: Mutex<Schedule>,
    wake: Notify,
    /// Counts finished attempts.
    attempts: watch::Sender<u64>,
    waiting: Semaphore,
}

/// What a fetch brought.
#[derive(Debug)]
pub struct Fetch<T> {
    /// The value.
    pub value: T,
    /// When to fetch it again, from now.
    pub again_in: Duration,
}

#[derive(Clone, Debug, Default)]
struct Schedule {
    /// The next fetch, unless it is asked for earlier; `None`: only when it is asked for.
    next: Option<Instant>,
    /// A fetch was asked for and has not ended yet.
    asked: bool,
    last_attempt: Option<Instant>,
    last_success: Option<Instant>,
    failures: u32,
    /// What went wrong last time.
    fault: Option<String>,
}

impl<T> Fresh<T> {
    /// One that was not fetched yet, and will not be before it is asked for.
    pub fn new(pace: Pace) -> Self {
        Self {
            value: ArcSwapOption::empty(),
            pace,
            schedule: Mutex::default(),
            wake: Notify::new(),
            attempts: watch::Sender::new(0),
            waiting: Semaphore::new(pace.max_waiting),
        }
    }

    /// The value, if there ever was one.
    pub fn get(&self) -> Option<Arc<T>> {
        self.value.load_full()
    }

    /// The value, having waited for a fetch when there is none that will do: not at all soon after
    /// the last fetch.
    pub async fn get_if(&self, will_do: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let value = self.get();
        if value.as_deref().is_some_and(will_do) {
            return value;
        }
        let Ok(_place) = self.waiting.try_acquire() else { return value };
        let mut attempts = self.attempts.subscribe();
        if self.ask() {
            // both ends of the wait come to the same: what is there now decides
            let _ = timeout(self.pace.wait, attempts.changed()).await;
        }
        self.get()
    }

    /// Waits until a first fetch has ended, well or not: as long as it takes, which its own limits
    /// bound.
    pub async fn settled(&self) {
        let mut attempts = self.attempts.subscribe();
        self.ask();
        // the sender is ours: this does not fail
        let _ = attempts.wait_for(|attempts| *attempts > 0).await;
    }

    /// Asks for a fetch. False when the last one is too recent.
    pub fn ask(&self) -> bool {
        let mut schedule = self.schedule();
        if !schedule.asked
            && schedule.last_attempt.is_some_and(|at| at.elapsed() < self.pace.min_interval)
        {
            return false;
        }
        schedule.asked = true;
        self.wake.notify_one();
        true
    }

    /// Keeps the value fresh, for ever. May be dropped and begun again: what is due is then done.
    /// `what` names it in the log.
    pub async fn keep<F>(&self, what: &(impl Display + Sync), fetch: impl Fn() -> F + Sync)
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

    /// Takes over what the one before a reload holds, so that a reload forgets nothing.
    pub fn take_over(&self, before: &Self) {
        let theirs = before.schedule().clone();
        self.value.store(before.get());
        let asked = self.schedule().asked;
        *self.schedule() = Schedule { asked: asked || theirs.asked, ..theirs };
    }

    /// Why the last fetch failed, if it did.
    pub fn fault(&self) -> Option<String> {
        self.schedule().fault.clone()
    }

    /// How long ago the value was fetched.
    pub fn age(&self) -> Option<Duration> {
        self.schedule().last_success.map(|at| at.elapsed())
    }

    fn due(&self) -> Option<Instant> {
        let schedule = self.schedule();
        if schedule.asked { Some(Instant::now()) } else { schedule.next }
    }

    fn finish(&self, what: &impl Display, fetched: Result<Fetch<T>, String>) {
        let now = Instant::now();
        let mut schedule = self.schedule();
        (schedule.asked, schedule.last_attempt) = (false, Some(now));
        match fetched {
            Ok(Fetch { value, again_in }) => {
                schedule.next = Some(now + again_in.max(self.pace.min_interval));
                (schedule.failures, schedule.fault, schedule.last_success) = (0, None, Some(now));
                self.value.store(Some(Arc::new(value)));
            }
            Err(fault) => {
                let interval = self.pace.min_interval.saturating_mul(1 << schedule.failures.min(8));
                schedule.next = Some(now + interval.min(self.pace.max_interval));
                schedule.failures += 1;
                // what does not come for a day is told when it begins, not every five minutes
                if schedule.fault.as_ref() != Some(&fault) {
                    let kept = schedule.last_success.is_some();
                    tracing::warn!(kept, "{what} could not be fetched: {fault}");
                }
                schedule.fault = Some(fault);
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

    use super::{Fetch, Fresh, Pace};

    const PACE: Pace = Pace {
        min_interval: Duration::from_secs(10),
        max_interval: Duration::from_secs(60),
        wait: Duration::from_secs(2),
        max_waiting: 2,
    };

    /// Counts fetches; the first `fails` of them fail. Each value lives 100 s.
    fn kept(fails: u32) -> (Arc<Fresh<u32>>, Arc<AtomicU32>) {
        let (fresh, count) = (Arc::new(Fresh::new(PACE)), Arc::new(AtomicU32::new(0)));
        let (keep, counted) = (Arc::clone(&fresh), Arc::clone(&count));
        tokio::spawn(async move {
            let fetch = async || {
                let nth = counted.fetch_add(1, Ordering::Relaxed) + 1;
                sleep(Duration::from_secs(1)).await;
                if nth <= fails { Err("down".to_owned()) } else { Ok(nth) }
            };
            let fetch = || async {
                fetch().await.map(|value| Fetch { value, again_in: Duration::from_secs(100) })
            };
            keep.keep(&"it", fetch).await;
        });
        (fresh, count)
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_fetched_before_it_is_asked_for_and_then_in_time() {
        let (fresh, count) = kept(0);
        sleep(Duration::from_secs(1000)).await;
        assert_eq!((count.load(Ordering::Relaxed), fresh.get()), (0, None));
        fresh.settled().await;
        assert_eq!(fresh.get_if(|_| true).await.as_deref(), Some(&1));
        sleep(Duration::from_secs(102)).await;
        assert_eq!(fresh.get().as_deref(), Some(&2), "nobody asked");
        fresh.settled().await;
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_ask_make_one_fetch_and_few_of_them_wait() {
        let (fresh, count) = kept(0);
        let ask = || async { (fresh.get_if(|_| true).await, Instant::now()) };
        let began = Instant::now();
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        assert_eq!((a.0.as_deref(), b.0.as_deref()), (Some(&1), Some(&1)));
        assert_eq!((c.0, c.1), (None, began), "the third has no place to wait");
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(!fresh.ask(), "too soon after the last one");
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_again_ever_more_slowly_and_the_old_stays() {
        let (fresh, count) = kept(3);
        assert_eq!(fresh.get_if(|_| true).await, None);
        assert_eq!(fresh.fault().as_deref(), Some("down"));
        for (after, expected) in [(11, 2), (21, 3), (41, 4)] {
            sleep(Duration::from_secs(after)).await;
            assert_eq!(count.load(Ordering::Relaxed), expected);
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!((fresh.get().as_deref(), fresh.fault()), (Some(&4), None));
        let next = Arc::new(Fresh::new(PACE));
        next.take_over(&fresh);
        assert_eq!(next.get().as_deref(), Some(&4), "a reload forgets nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_in_time() {
        let fresh = Fresh::<u32>::new(PACE);
        let began = Instant::now();
        assert_eq!(fresh.get_if(|_| true).await, None, "nobody keeps it");
        assert_eq!(began.elapsed(), PACE.wait);
        advance(Duration::from_secs(1)).await;
        assert!(
            timeout(Duration::from_secs(1), fresh.keep(&"it", || async { Err("no".to_owned()) }))
                .await
                .is_err()
        );
        assert_eq!(
            fresh.fault().as_deref(),
            Some("no"),
            "what was asked for is done by who keeps it later"
        );
    }
}
