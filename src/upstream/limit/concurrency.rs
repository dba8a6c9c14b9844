//! The concurrency limit of one model, over all workers: `max_parallel` permits, a bounded queue by
//! class (editors' completions first, FIFO within a class), and no wait longer than `max_wait`.
//!
//! A permit is held until the response's body ends. The state outlives a reload; new settings apply
//! at once, also to the requests that wait already, except for how long they wait.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::error::{GatewayError, Kind};
use crate::model::{ConcurrencySettings, ModelId};
use crate::route::PriorityClass;

/// The concurrency limit of one model.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    model: ModelId,
    state: Mutex<State>,
    waiting: IntGauge,
}

#[derive(Debug)]
struct State {
    /// `None` for no limit; permits are counted all the same, since a reload may set one.
    settings: Option<ConcurrencySettings>,
    in_use: usize,
    queue: Queue<oneshot::Sender<Permit>>,
}

/// The permission to send one request to the model. Dropping it grants the next one.
#[derive(Debug)]
pub struct Permit {
    limit: Arc<ConcurrencyLimit>,
}

/// The result of [`ConcurrencyLimit::acquire`].
pub(crate) enum Acquire {
    /// A permit was free.
    Permit(Permit),
    /// The request has to wait for one.
    Queued(Waiter),
}

/// A request in the queue. Dropping it leaves the queue.
pub(crate) struct Waiter {
    limit: Arc<ConcurrencyLimit>,
    class: PriorityClass,
    ticket: u64,
    granted: oneshot::Receiver<Permit>,
    deadline: Instant,
}

impl ConcurrencyLimit {
    /// Creates the limit of one model; the gauge `waiting` follows the length of the queue.
    pub(crate) fn new(
        model: ModelId,
        settings: Option<ConcurrencySettings>,
        waiting: IntGauge,
    ) -> Self {
        Self {
            model,
            state: Mutex::new(State { settings, in_use: 0, queue: Queue::default() }),
            waiting,
        }
    }

    /// Replaces the settings.
    pub(crate) fn set(self: &Arc<Self>, settings: Option<ConcurrencySettings>) {
        let (next, truncated) = {
            let mut state = self.lock();
            state.settings = settings;
            let next = state.take_next();
            let max = state.settings.map_or(0, |settings| settings.max_queue);
            let truncated: Vec<_> = std::iter::from_fn(|| state.queue.truncate(max)).collect();
            self.publish_waiting(&state);
            (next, truncated)
        };
        drop(truncated);
        self.grant(next);
    }

    /// Returns a permit, or a position in the queue: behind the requests of the same class, before
    /// those of lower ones. When the queue is full, the last request of the lowest class is evicted
    /// if that class is lower than this one; else this fails.
    pub(crate) fn acquire(self: &Arc<Self>, class: PriorityClass) -> Result<Acquire, GatewayError> {
        let mut state = self.lock();
        let Some(settings) = state.exhausted() else {
            return Ok(Acquire::Permit(self.new_permit(&mut state)));
        };
        let evicted = if state.queue.len() < settings.max_queue {
            None
        } else {
            state.queue.evict_lowest(class)
        };
        if evicted.is_none() && state.queue.len() >= settings.max_queue {
            return Err(self.overloaded("max_queue"));
        }
        let (sender, granted) = oneshot::channel();
        let ticket = state.queue.push(class, sender);
        self.publish_waiting(&state);
        drop(state);
        let deadline = Instant::now() + settings.max_wait;
        Ok(Acquire::Queued(Waiter { limit: Arc::clone(self), class, ticket, granted, deadline }))
    }

    /// Returns a permit if one is free, else an error: this neither waits nor evicts.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Result<Permit, GatewayError> {
        let mut state = self.lock();
        if state.exhausted().is_some() {
            Err(self.overloaded("max_queue"))
        } else {
            Ok(self.new_permit(&mut state))
        }
    }

    fn new_permit(self: &Arc<Self>, state: &mut State) -> Permit {
        state.in_use += 1;
        Permit { limit: Arc::clone(self) }
    }

    /// Sends permits to the waiters that they were freed for. A waiter that has left at this moment
    /// returns its permit as it is dropped.
    fn grant(self: &Arc<Self>, next: Vec<oneshot::Sender<Permit>>) {
        for sender in next {
            drop(sender.send(Permit { limit: Arc::clone(self) }));
        }
    }

    fn overloaded(&self, key: &str) -> GatewayError {
        let model = &self.model;
        let why = format!(
            "The model {model} is full (models.{model}.max_parallel, {key}): try again later"
        );
        GatewayError::new(Kind::Overloaded, why)
    }

    fn publish_waiting(&self, state: &State) {
        self.waiting.set(i64::try_from(state.queue.len()).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the settings if all permits are in use.
    fn exhausted(&self) -> Option<ConcurrencySettings> {
        self.settings.filter(|settings| self.in_use >= settings.max_parallel)
    }

    /// Takes the free permits for the next waiters.
    fn take_next(&mut self) -> Vec<oneshot::Sender<Permit>> {
        let mut next = Vec::new();
        while self.settings.is_none_or(|settings| self.in_use < settings.max_parallel)
            && let Some(sender) = self.queue.pop()
        {
            self.in_use += 1;
            next.push(sender);
        }
        next
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let next = {
            let mut state = self.limit.lock();
            state.in_use -= 1;
            let next = state.take_next();
            self.limit.publish_waiting(&state);
            next
        };
        self.limit.grant(next);
    }
}

impl Waiter {
    /// Waits for the permit; fails when that takes longer than `max_wait`, or when the request is
    /// evicted.
    pub(crate) async fn wait(mut self) -> Result<Permit, GatewayError> {
        match timeout_at(self.deadline, &mut self.granted).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(self.limit.overloaded("max_queue")),
            Err(_) => Err(self.limit.overloaded("max_wait")),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.limit.lock();
        let left = state.queue.remove(self.class, self.ticket);
        self.limit.publish_waiting(&state);
        drop(state);
        drop(left);
    }
}

/// The waiting requests: a queue for each class, each with the tickets in ascending order.
#[derive(Debug)]
struct Queue<T> {
    by_class: [VecDeque<(u64, T)>; PriorityClass::COUNT],
    next: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { by_class: Default::default(), next: 0 }
    }
}

impl<T> Queue<T> {
    fn len(&self) -> usize {
        self.by_class.iter().map(VecDeque::len).sum()
    }

    fn push(&mut self, class: PriorityClass, value: T) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.by_class[class as usize].push_back((ticket, value));
        ticket
    }

    /// Removes the first of the highest class.
    fn pop(&mut self) -> Option<T> {
        self.by_class.iter_mut().find_map(VecDeque::pop_front).map(|(_, value)| value)
    }

    /// Removes the last of the lowest class, if that is lower than this one.
    fn evict_lowest(&mut self, class: PriorityClass) -> Option<T> {
        self.by_class[class as usize + 1..]
            .iter_mut()
            .rev()
            .find_map(VecDeque::pop_back)
            .map(|(_, value)| value)
    }

    /// Removes the last of the lowest class, if there are more than `max`.
    fn truncate(&mut self, max: usize) -> Option<T> {
        let too_long = self.len() > max;
        too_long
            .then(|| self.by_class.iter_mut().rev().find_map(VecDeque::pop_back))
            .flatten()
            .map(|(_, value)| value)
    }

    fn remove(&mut self, class: PriorityClass, ticket: u64) -> Option<T> {
        let waiters = &mut self.by_class[class as usize];
        let at = waiters.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        waiters.remove(at).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use prometheus::IntGauge;
    use tokio::time::{Instant, advance};

    use super::{Acquire, ConcurrencyLimit, Permit, Queue, Waiter};
    use crate::error::Kind;
    use crate::model::ConcurrencySettings;
    use crate::route::PriorityClass;

    const SETTINGS: ConcurrencySettings =
        ConcurrencySettings { max_parallel: 1, max_queue: 2, max_wait: Duration::from_secs(3) };

    fn limit(settings: ConcurrencySettings) -> Arc<ConcurrencyLimit> {
        Arc::new(ConcurrencyLimit::new(
            "m".into(),
            Some(settings),
            IntGauge::new("waiting", "waiting").unwrap(),
        ))
    }

    fn permit(limit: &Arc<ConcurrencyLimit>) -> Permit {
        match limit.acquire(PriorityClass::Chat).unwrap() {
            Acquire::Permit(permit) => permit,
            Acquire::Queued(_) => panic!("no permit"),
        }
    }

    fn queue(limit: &Arc<ConcurrencyLimit>, class: PriorityClass) -> Waiter {
        match limit.acquire(class).unwrap() {
            Acquire::Permit(_) => panic!("not full"),
            Acquire::Queued(waiting) => waiting,
        }
    }

    #[test]
    fn the_highest_class_is_first_and_each_is_in_order() {
        let mut queue = Queue::default();
        let classes = [
            PriorityClass::Batch,
            PriorityClass::Chat,
            PriorityClass::Completion,
            PriorityClass::Batch,
            PriorityClass::Completion,
            PriorityClass::Chat,
        ];
        let tickets: Vec<u64> =
            classes.iter().enumerate().map(|(number, class)| queue.push(*class, number)).collect();
        assert_eq!(queue.remove(PriorityClass::Chat, tickets[1]), Some(1));
        assert_eq!(queue.remove(PriorityClass::Chat, tickets[1]), None);
        let order: Vec<usize> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [2, 4, 5, 0, 3]);
    }

    #[tokio::test]
    async fn the_next_waiter_gets_its_permit_when_one_is_dropped() {
        let limit = limit(SETTINGS);
        let first = permit(&limit);
        let mut second = Box::pin(queue(&limit, PriorityClass::Chat).wait());
        assert_eq!(limit.waiting.get(), 1);
        tokio::select! {
            biased;
            _ = &mut second => panic!("two at a time"),
            () = tokio::task::yield_now() => {}
        }
        drop(first);
        let second = second.await.unwrap();
        assert_eq!((limit.lock().in_use, limit.waiting.get()), (1, 0));
        drop(second);
        assert_eq!(limit.lock().in_use, 0);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_higher_class_evicts_the_lowest() {
        let limit = limit(SETTINGS);
        let _in_flight = permit(&limit);
        let _chat = queue(&limit, PriorityClass::Chat);
        let batch = queue(&limit, PriorityClass::Batch);
        let refused = limit.acquire(PriorityClass::Batch).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), Kind::Overloaded);
        let _completion = queue(&limit, PriorityClass::Completion);
        assert!(batch.wait().await.unwrap_err().public().contains("max_queue"));
        assert!(limit.acquire(PriorityClass::Batch).is_err(), "full again");
        let _another = queue(&limit, PriorityClass::Completion);
        assert!(limit.acquire(PriorityClass::Completion).is_err(), "no lower class is left");
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_waits_longer_than_max_wait() {
        let limit = limit(SETTINGS);
        let _in_flight = permit(&limit);
        let (since, waiting) = (Instant::now(), queue(&limit, PriorityClass::Chat));
        assert!(waiting.wait().await.unwrap_err().public().contains("max_wait"));
        assert_eq!((since.elapsed(), limit.waiting.get()), (SETTINGS.max_wait, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_leaves_is_skipped_and_keeps_no_permit() {
        let limit = limit(SETTINGS);
        let first = permit(&limit);
        let (left, stays) =
            (queue(&limit, PriorityClass::Completion), queue(&limit, PriorityClass::Chat));
        drop(left);
        drop(first);
        let second = stays.wait().await.unwrap();
        let granted_and_dropped = queue(&limit, PriorityClass::Chat);
        drop(second);
        drop(granted_and_dropped);
        advance(SETTINGS.max_wait).await;
        assert_eq!((limit.lock().in_use, limit.waiting.get()), (0, 0));
    }

    #[tokio::test]
    async fn try_acquire_neither_waits_nor_overtakes_nor_evicts() {
        let limit = limit(ConcurrencySettings { max_queue: 1, ..SETTINGS });
        let first = limit.try_acquire().unwrap();
        let waits = queue(&limit, PriorityClass::Batch);
        assert_eq!(limit.try_acquire().map(|_| ()).unwrap_err().kind(), Kind::Overloaded);
        assert_eq!(limit.waiting.get(), 1);
        drop(first);
        assert!(limit.try_acquire().is_err(), "the waiter comes first");
        drop(waits.wait().await.unwrap());
        assert!(limit.try_acquire().is_ok());
    }

    #[tokio::test]
    async fn new_settings_apply_at_once() {
        let limit = limit(SETTINGS);
        let first = permit(&limit);
        let (second, third) =
            (queue(&limit, PriorityClass::Chat), queue(&limit, PriorityClass::Batch));
        limit.set(Some(ConcurrencySettings { max_parallel: 2, max_queue: 0, ..SETTINGS }));
        let second = second.wait().await.unwrap();
        assert!(third.wait().await.is_err(), "the queue got shorter");
        limit.set(Some(ConcurrencySettings { max_parallel: 1, ..SETTINGS }));
        drop(first);
        let fourth = queue(&limit, PriorityClass::Chat);
        drop(second);
        let _fourth = fourth.wait().await.unwrap();
        let fifth = queue(&limit, PriorityClass::Chat);
        limit.set(None);
        let _fifth = fifth.wait().await.unwrap();
        let _sixth = permit(&limit);
        assert_eq!(limit.lock().in_use, 3, "permits are counted without a limit, too");
    }
}
