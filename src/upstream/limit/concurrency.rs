//! How many requests are at one model at a time, over all workers: `max_parallel` places, a bounded
//! queue by class (who waits at a cursor goes first, FIFO within a class), and no wait longer than
//! `max_wait`.
//!
//! A place is held until the answer's body ends. The state outlives a reload; new numbers hold at
//! once, for those that wait already but for how long they do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::error::{GatewayError, Kind};
use crate::model::{ModelId, Room};
use crate::route::Class;

/// The places of one model.
#[derive(Debug)]
pub struct Places {
    model: ModelId,
    state: Mutex<State>,
    waiting: IntGauge,
}

#[derive(Debug)]
struct State {
    /// None: no limit; those under way are counted all the same, since a reload may set one.
    room: Option<Room>,
    taken: usize,
    queue: Queue<oneshot::Sender<Place>>,
}

/// A request's place at its model. Dropping it lets the next one in.
#[derive(Debug)]
pub struct Place(Arc<Places>);

/// What is got at once.
pub(crate) enum Asked {
    /// A place.
    Place(Place),
    /// One in the queue.
    Queued(Waiting),
}

/// A request in the queue. Dropping it leaves the queue.
pub(crate) struct Waiting {
    places: Arc<Places>,
    class: Class,
    ticket: u64,
    turn: oneshot::Receiver<Place>,
    until: Instant,
}

impl Places {
    /// Of this model; `waiting` shows the length of the queue.
    pub(crate) fn new(model: ModelId, room: Option<Room>, waiting: IntGauge) -> Self {
        Self {
            model,
            state: Mutex::new(State { room, taken: 0, queue: Queue::default() }),
            waiting,
        }
    }

    /// Puts other numbers in force.
    pub(crate) fn set(self: &Arc<Self>, room: Option<Room>) {
        let (next, shed) = {
            let mut state = self.lock();
            state.room = room;
            let next = state.admit();
            let most = state.room.map_or(0, |room| room.queue);
            let shed: Vec<_> = std::iter::from_fn(|| state.queue.shorten(most)).collect();
            self.show(&state);
            (next, shed)
        };
        drop(shed);
        self.hand_on(next);
    }

    /// A place, or one in the queue: behind those of its class, before those of lower ones. When
    /// the queue is full, the last of the lowest class has to go, if that is lower than the one
    /// that comes.
    pub(crate) fn ask(self: &Arc<Self>, class: Class) -> Result<Asked, GatewayError> {
        let mut state = self.lock();
        let Some(room) = state.full() else { return Ok(Asked::Place(self.take(&mut state))) };
        let pushed_out =
            if state.queue.len() < room.queue { None } else { state.queue.push_out(class) };
        if pushed_out.is_none() && state.queue.len() >= room.queue {
            return Err(self.refusal("max_queue"));
        }
        let (sender, turn) = oneshot::channel();
        let ticket = state.queue.push(class, sender);
        self.show(&state);
        drop(state);
        let until = Instant::now() + room.wait;
        Ok(Asked::Queued(Waiting { places: Arc::clone(self), class, ticket, turn, until }))
    }

    /// A place if one is free: who comes so waits for none, and pushes nobody out.
    pub(crate) fn free(self: &Arc<Self>) -> Result<Place, GatewayError> {
        let mut state = self.lock();
        if state.full().is_some() {
            Err(self.refusal("max_queue"))
        } else {
            Ok(self.take(&mut state))
        }
    }

    fn take(self: &Arc<Self>, state: &mut State) -> Place {
        state.taken += 1;
        Place(Arc::clone(self))
    }

    /// Places for whoever they were freed for. One that left in this moment gives its own back as
    /// it is dropped.
    fn hand_on(self: &Arc<Self>, next: Vec<oneshot::Sender<Place>>) {
        for sender in next {
            drop(sender.send(Place(Arc::clone(self))));
        }
    }

    fn refusal(&self, key: &str) -> GatewayError {
        let model = &self.model;
        let why = format!(
            "The model {model} is full (models.{model}.max_parallel, {key}): try again later"
        );
        GatewayError::new(Kind::Overloaded, why)
    }

    fn show(&self, state: &State) {
        self.waiting.set(i64::try_from(state.queue.len()).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The limit, if it is reached.
    fn full(&self) -> Option<Room> {
        self.room.filter(|room| self.taken >= room.parallel)
    }

    /// Takes the places that are free for those whose turn it is.
    fn admit(&mut self) -> Vec<oneshot::Sender<Place>> {
        let mut next = Vec::new();
        while self.room.is_none_or(|room| self.taken < room.parallel)
            && let Some(sender) = self.queue.pop()
        {
            self.taken += 1;
            next.push(sender);
        }
        next
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.lock();
            state.taken -= 1;
            let next = state.admit();
            self.0.show(&state);
            next
        };
        self.0.hand_on(next);
    }
}

impl Waiting {
    /// The place, when it is this one's turn; an error when that is not in time, or when it was
    /// pushed out.
    pub(crate) async fn place(mut self) -> Result<Place, GatewayError> {
        match timeout_at(self.until, &mut self.turn).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(self.places.refusal("max_queue")),
            Err(_) => Err(self.places.refusal("max_wait")),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        let left = state.queue.remove(self.class, self.ticket);
        self.places.show(&state);
        drop(state);
        drop(left);
    }
}

/// Who waits: one line for each class, each with the tickets in ascending order.
#[derive(Debug)]
struct Queue<T> {
    lines: [VecDeque<(u64, T)>; Class::COUNT],
    next: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { lines: Default::default(), next: 0 }
    }
}

impl<T> Queue<T> {
    fn len(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum()
    }

    fn push(&mut self, class: Class, value: T) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.lines[class as usize].push_back((ticket, value));
        ticket
    }

    /// The first of the highest class.
    fn pop(&mut self) -> Option<T> {
        self.lines.iter_mut().find_map(VecDeque::pop_front).map(|(_, value)| value)
    }

    /// The last of the lowest class, if that is lower than this one.
    fn push_out(&mut self, class: Class) -> Option<T> {
        self.lines[class as usize + 1..]
            .iter_mut()
            .rev()
            .find_map(VecDeque::pop_back)
            .map(|(_, value)| value)
    }

    /// The last of the lowest class, if there are more than `most`.
    fn shorten(&mut self, most: usize) -> Option<T> {
        let too_long = self.len() > most;
        too_long
            .then(|| self.lines.iter_mut().rev().find_map(VecDeque::pop_back))
            .flatten()
            .map(|(_, value)| value)
    }

    fn remove(&mut self, class: Class, ticket: u64) -> Option<T> {
        let line = &mut self.lines[class as usize];
        let at = line.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        line.remove(at).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use prometheus::IntGauge;
    use tokio::time::{Instant, advance};

    use super::{Asked, Place, Places, Queue, Waiting};
    use crate::error::Kind;
    use crate::model::Room;
    use crate::route::Class;

    const ROOM: Room = Room { parallel: 1, queue: 2, wait: Duration::from_secs(3) };

    fn places(room: Room) -> Arc<Places> {
        Arc::new(Places::new("m".into(), Some(room), IntGauge::new("waiting", "waiting").unwrap()))
    }

    fn place(places: &Arc<Places>) -> Place {
        match places.ask(Class::Chat).unwrap() {
            Asked::Place(place) => place,
            Asked::Queued(_) => panic!("no place"),
        }
    }

    fn queue(places: &Arc<Places>, class: Class) -> Waiting {
        match places.ask(class).unwrap() {
            Asked::Place(_) => panic!("not full"),
            Asked::Queued(waiting) => waiting,
        }
    }

    #[test]
    fn the_highest_class_is_first_and_each_is_in_order() {
        let mut queue = Queue::default();
        let classes = [
            Class::Batch,
            Class::Chat,
            Class::Completion,
            Class::Batch,
            Class::Completion,
            Class::Chat,
        ];
        let tickets: Vec<u64> =
            classes.iter().enumerate().map(|(number, class)| queue.push(*class, number)).collect();
        assert_eq!(queue.remove(Class::Chat, tickets[1]), Some(1));
        assert_eq!(queue.remove(Class::Chat, tickets[1]), None);
        let order: Vec<usize> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [2, 4, 5, 0, 3]);
    }

    #[tokio::test]
    async fn the_next_goes_in_when_one_ends_and_not_before() {
        let places = places(ROOM);
        let first = place(&places);
        let mut second = Box::pin(queue(&places, Class::Chat).place());
        assert_eq!(places.waiting.get(), 1);
        tokio::select! {
            biased;
            _ = &mut second => panic!("two at a time"),
            () = tokio::task::yield_now() => {}
        }
        drop(first);
        let second = second.await.unwrap();
        assert_eq!((places.lock().taken, places.waiting.get()), (1, 0));
        drop(second);
        assert_eq!(places.lock().taken, 0);
    }

    #[tokio::test]
    async fn a_full_queue_sheds_and_a_higher_class_pushes_the_lowest_out() {
        let places = places(ROOM);
        let _under_way = place(&places);
        let _chat = queue(&places, Class::Chat);
        let batch = queue(&places, Class::Batch);
        let refused = places.ask(Class::Batch).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), Kind::Overloaded);
        let _completion = queue(&places, Class::Completion);
        assert!(batch.place().await.unwrap_err().public().contains("max_queue"));
        assert!(places.ask(Class::Batch).is_err(), "full again");
        let _another = queue(&places, Class::Completion);
        assert!(places.ask(Class::Completion).is_err(), "nobody lower is left");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_max_wait() {
        let places = places(ROOM);
        let _under_way = place(&places);
        let (since, waiting) = (Instant::now(), queue(&places, Class::Chat));
        assert!(waiting.place().await.unwrap_err().public().contains("max_wait"));
        assert_eq!((since.elapsed(), places.waiting.get()), (ROOM.wait, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_is_skipped_and_keeps_no_place() {
        let places = places(ROOM);
        let first = place(&places);
        let (left, stays) = (queue(&places, Class::Completion), queue(&places, Class::Chat));
        drop(left);
        drop(first);
        let second = stays.place().await.unwrap();
        let called_and_gone = queue(&places, Class::Chat);
        drop(second);
        drop(called_and_gone);
        advance(ROOM.wait).await;
        assert_eq!((places.lock().taken, places.waiting.get()), (0, 0));
    }

    #[tokio::test]
    async fn who_takes_only_what_is_free_disturbs_nobody() {
        let places = places(Room { queue: 1, ..ROOM });
        let first = places.free().unwrap();
        let waits = queue(&places, Class::Batch);
        assert_eq!(places.free().map(|_| ()).unwrap_err().kind(), Kind::Overloaded);
        assert_eq!(places.waiting.get(), 1);
        drop(first);
        assert!(places.free().is_err(), "whoever waits is before");
        drop(waits.place().await.unwrap());
        assert!(places.free().is_ok());
    }

    #[tokio::test]
    async fn other_numbers_hold_at_once() {
        let places = places(ROOM);
        let first = place(&places);
        let (second, third) = (queue(&places, Class::Chat), queue(&places, Class::Batch));
        places.set(Some(Room { parallel: 2, queue: 0, ..ROOM }));
        let second = second.place().await.unwrap();
        assert!(third.place().await.is_err(), "the queue got shorter");
        places.set(Some(Room { parallel: 1, ..ROOM }));
        drop(first);
        let fourth = queue(&places, Class::Chat);
        drop(second);
        let _fourth = fourth.place().await.unwrap();
        let fifth = queue(&places, Class::Chat);
        places.set(None);
        let _fifth = fifth.place().await.unwrap();
        let _sixth = place(&places);
        assert_eq!(places.lock().taken, 3, "they are counted without a limit, too");
    }
}
