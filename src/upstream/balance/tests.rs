//! The choice on a simulated clock, and a simulator of model servers on which it has to beat round
//! robin.

use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{AttemptedSet, pick};
use crate::error::Kind;
use crate::model::{Access, EndpointUrl, Model, ProviderKind, TimeoutsPatch};
use crate::telemetry::Metrics;
use crate::upstream::balance::reported_load::ReportedLoad;
use crate::upstream::endpoint::{Endpoint, InFlightGuard};
use crate::upstream::{Observation, Registry, Resilience};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Returns this many replicas of one model.
pub(crate) fn replicas(count: usize) -> Vec<Arc<Endpoint>> {
    let model = Arc::new(Model {
        id: "m".into(),
        provider: ProviderKind::OpenAi,
        upstream_name: "up".into(),
        family: Arc::default(),
        endpoints: (0..count)
            .map(|n| EndpointUrl::parse(&format!("http://gpu-{n}:8000/v1")).unwrap())
            .collect(),
        api_key: None,
        access: Access::Key,
        timeouts: TimeoutsPatch::default(),
        replicas: crate::model::ReplicaSettings::default(),
        concurrency: None,
        priority: false,
        from_request: false,
    });
    let registry = Registry::new(Arc::new(Metrics::new().unwrap()));
    let endpoints =
        registry.endpoints([&model].into_iter(), Arc::default(), &Resilience::default());
    endpoints.of(&model.id).unwrap().to_vec()
}

/// Returns how often each replica is chosen in a thousand choices.
fn shares(list: &[Arc<Endpoint>], now: Duration) -> Vec<usize> {
    let mut shares = vec![0; list.len()];
    (0..1000)
        .for_each(|_| shares[pick(list, AttemptedSet::default(), None, now).unwrap().index] += 1);
    shares
}

#[test]
fn of_two_the_cheaper_is_taken_and_ties_are_drawn() {
    fastrand::seed(1);
    let (list, now) = (replicas(2), ms(1000));
    let even = shares(&list, now);
    assert!(even.iter().all(|share| (400..600).contains(share)), "{even:?}");
    let busy: Vec<InFlightGuard> = (0..3).map(|_| list[0].enter()).collect();
    assert_eq!(shares(&list, now), [0, 1000], "fewer requests under way");
    list[0].record_at(Observation::FirstToken(ms(100)), now);
    assert_eq!(shares(&list, now), [0, 1000], "one wait is unknown: requests alone");
    list[1].record_at(Observation::FirstToken(ms(900)), now);
    assert_eq!(shares(&list, now), [1000, 0], "4 × 100 ms is less than 1 × 900 ms");
    let later = now + Duration::from_secs(25);
    list[0].record_at(Observation::FirstToken(ms(100)), later);
    assert_eq!(
        shares(&list, later),
        [0, 1000],
        "an old observation counts little: 900 ms have faded to 74"
    );
    drop(busy);
    assert_eq!(list[0].inflight(), 0);
}

/// Sends one request a second to one of two replicas: the second returns its first token after 0.2
/// s, and ends its response after 2 s. Returns when the first is chosen.
fn time_until_chosen(list: &[Arc<Endpoint>], from: Duration) -> Duration {
    let mut streams: VecDeque<(Duration, InFlightGuard)> = VecDeque::new();
    for second in 0..120 {
        let now = from + Duration::from_secs(second);
        while streams.front().is_some_and(|(end, _)| *end <= now) {
            let (end, guard) = streams.pop_front().unwrap();
            drop(guard);
            list[1].inflight.record_leave(end);
        }
        if pick(list, AttemptedSet::default(), None, now).unwrap().index == 0 {
            return Duration::from_secs(second);
        }
        list[1].record_at(Observation::FirstToken(ms(200)), now);
        streams.push_back((now + ms(2000), list[1].enter()));
    }
    panic!("the first is never chosen")
}

#[test]
fn one_slow_response_keeps_requests_away_for_ten_seconds_and_no_longer() {
    let (list, now) = (replicas(2), ms(60_000));
    let slow = list[0].enter();
    list[0].record_at(Observation::FirstToken(ms(20_000)), now);
    drop(slow);
    list[0].inflight.record_leave(now);
    let waited = time_until_chosen(&list, now);
    assert_eq!(waited.as_secs(), 10);
    let (sent, first_token) = (now + waited, now + waited + ms(200));
    let probe = list[0].enter();
    list[1].inflight.record_leave(sent);
    assert_eq!(shares(&list, sent), [0, 1000], "one request finds out how it is now");
    list.iter()
        .for_each(|endpoint| endpoint.record_at(Observation::FirstToken(ms(200)), first_token));
    drop(probe);
    list[0].inflight.record_leave(first_token);
    let even = shares(&list, first_token);
    assert!((400..600).contains(&even[0]), "the old peak is forgotten: {even:?}");
    list[0].record_at(Observation::FirstToken(ms(20_000)), first_token);
    assert_eq!(time_until_chosen(&list, first_token).as_secs(), 10, "slow again, avoided again");
}

#[test]
fn of_many_every_pair_is_drawn_and_the_most_expensive_never_wins() {
    fastrand::seed(2);
    let list = replicas(5);
    let _busy = list[4].enter();
    let shares = shares(&list, ms(1000));
    assert_eq!(shares[4], 0, "whatever it is drawn with has less load");
    assert!(shares[..4].iter().all(|share| (190..310).contains(share)), "{shares:?}");
}

#[test]
fn attempted_replicas_come_last_and_unreachable_ones_before_them() {
    let (list, now) = (replicas(3), ms(1000));
    let mut attempted = AttemptedSet::default();
    assert!(attempted.insert(0) && attempted.has_remaining(3));
    list[1].record_at(Observation::Unreachable, now);
    assert_eq!(pick(&list, attempted, None, now).unwrap().index, 2);
    assert!(attempted.insert(2) && attempted.has_remaining(3));
    assert_eq!(pick(&list, attempted, None, now).unwrap().index, 1);
    assert!(attempted.insert(1) && !attempted.has_remaining(3));
    assert!(pick(&list, attempted, None, now).is_some(), "never none");
    assert!(pick(&[], attempted, None, now).is_none());
}

/// Five failures in a row, each at `now`.
fn fail(endpoint: &Endpoint, now: Duration) {
    (0..5).for_each(|_| endpoint.record_at(Observation::Failed(Kind::UpstreamStatus(500)), now));
}

#[test]
fn a_failing_replica_gets_nothing_then_one_request_then_a_growing_share() {
    fastrand::seed(4);
    let (list, now) = (replicas(2), ms(1000));
    fail(&list[0], now);
    assert_eq!(shares(&list, now), [0, 1000]);
    let half_open = ms(6000);
    assert_eq!(shares(&list, half_open), [1, 999], "one request probes");
    list[0].record_at(Observation::FirstToken(ms(10)), half_open + ms(10));
    let early = shares(&list, half_open + ms(10));
    assert!((20..90).contains(&early[0]), "a tenth of its half: {early:?}");
    let half = shares(&list, half_open + ms(5010));
    assert!((200..300).contains(&half[0]), "{half:?}");
    assert!(shares(&list, half_open + ms(10_010))[0] > 400);
}

#[test]
fn a_request_that_has_failed_before_does_not_probe() {
    let (list, now) = (replicas(3), ms(1000));
    fail(&list[0], now);
    let mut attempted = AttemptedSet::default();
    attempted.insert(1);
    assert_eq!(pick(&list, attempted, None, ms(7000)).unwrap().index, 2);
    attempted.insert(2);
    assert_eq!(pick(&list, attempted, None, ms(7000)).unwrap().index, 0, "unless no other is left");
}

#[test]
fn when_most_fail_all_get_requests_except_the_unreachable_ones() {
    fastrand::seed(5);
    let (list, now) = (replicas(6), ms(1000));
    fail(&list[0], now);
    fail(&list[1], now);
    let _busy: Vec<InFlightGuard> = (0..5).map(|_| list[2].enter()).collect();
    list[3].record_at(Observation::Unreachable, now);
    list[4].record_at(Observation::Unreachable, now);
    list[5].record_at(Observation::Unreachable, now);
    let shares = shares(&list, now);
    assert!(shares[2] > 600, "the healthy one is taken whenever it is drawn: {shares:?}");
    assert!(shares[0] > 100 && shares[1] > 100, "{shares:?}");
    assert_eq!(shares[3..], [0, 0, 0]);
    (0..3).for_each(|index| list[index].record_at(Observation::Unreachable, now));
    assert!(
        pick(&list, AttemptedSet::default(), None, now).is_some(),
        "when none is reachable, any"
    );
}

#[test]
fn the_replica_with_the_cached_prefix_is_chosen_unless_its_load_is_much_higher() {
    let (list, now) = (replicas(3), ms(1000));
    let chosen_with_prefix_at =
        |index| pick(&list, AttemptedSet::default(), Some(index), now).unwrap().index;
    assert!((0..100).all(|_| chosen_with_prefix_at(1) == 1));
    let mut busy: Vec<InFlightGuard> = (0..4).map(|_| list[1].enter()).collect();
    assert!((0..100).all(|_| chosen_with_prefix_at(1) == 1), "a little more load");
    busy.push(list[1].enter());
    assert!((0..100).all(|_| chosen_with_prefix_at(1) != 1), "too much more");
    fail(&list[2], now);
    assert!((0..100).all(|_| chosen_with_prefix_at(2) == 0), "it fails");
    let mut attempted = AttemptedSet::default();
    attempted.insert(0);
    assert_eq!(pick(&list, attempted, Some(0), now).unwrap().index, 1, "it was attempted");
    assert!(chosen_with_prefix_at(7) < 3, "an index beyond the list");
}

#[test]
fn a_reported_load_counts_until_it_is_stale() {
    let list = replicas(2);
    let load = |running: u32| {
        ReportedLoad::parse(&format!("vllm:num_requests_running {running}\n")).unwrap()
    };
    list[0].report_load(load(20));
    list[1].report_load(load(3));
    let _busy: Vec<InFlightGuard> = (0..5).map(|_| list[1].enter()).collect();
    let now = list[0].now();
    assert_eq!(shares(&list, now), [0, 1000], "other clients have filled the first");
    assert_eq!(
        shares(&list, now + ms(2000)),
        [1000, 0],
        "by our own requests once the report is stale"
    );
}

/// One model server: `slots` requests at a time, the others queue. `slow` is the factor by which
/// all its work takes longer.
struct Server {
    slots: usize,
    slow: f64,
    queue: VecDeque<Request>,
}

struct Request {
    arrived: f64,
    /// The time to the first token, and from there to the end, in seconds on a server whose factor
    /// is 1.
    prefill: f64,
    decode: f64,
    guard: InFlightGuard,
}

/// The next event, soonest first.
struct Event {
    at: f64,
    server: usize,
    kind: EventKind,
}

enum EventKind {
    /// The first token of a request that arrived at this time.
    FirstToken(f64),
    Ended(InFlightGuard),
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.total_cmp(&self.at)
    }
}

/// Simulates eight servers of eight slots; `slow` has one factor for each. Requests arrive at
/// random, `load` is their share of the total capacity; one in ten is `skew` times as long as the
/// others. Returns the 99th percentile of the time to the first token, in seconds.
fn p99(
    slow: [f64; 8],
    skew: f64,
    load: f64,
    choose: impl Fn(&[Arc<Endpoint>], Duration, usize) -> usize,
) -> f64 {
    const SLOTS: usize = 8;
    let mut rng = fastrand::Rng::with_seed(7);
    let list = replicas(slow.len());
    let mut servers = slow.map(|slow| Server { slots: SLOTS, slow, queue: VecDeque::new() });
    let mean = (0.2 + 1.8) * (0.9 + 0.1 * skew);
    let capacity: f64 = slow.iter().map(|slow| SLOTS as f64 / (mean * slow)).sum();
    let (mut events, mut waits, mut clock) = (BinaryHeap::<Event>::new(), Vec::new(), 0.0);
    let start = |server: &mut Server, n: usize, events: &mut BinaryHeap<Event>, now: f64| {
        while server.slots > 0
            && let Some(Request { arrived, prefill, decode, guard }) = server.queue.pop_front()
        {
            server.slots -= 1;
            let first_token = now + prefill * server.slow;
            events.push(Event { at: first_token, server: n, kind: EventKind::FirstToken(arrived) });
            events.push(Event {
                at: first_token + decode * server.slow,
                server: n,
                kind: EventKind::Ended(guard),
            });
        }
    };
    for number in 0..20_000 {
        clock += -(1.0 - rng.f64()).ln() / (capacity * load);
        while events.peek().is_some_and(|event| event.at <= clock) {
            let Event { at, server, kind } = events.pop().unwrap();
            match kind {
                EventKind::FirstToken(arrived) => {
                    waits.push(at - arrived);
                    let waited = Duration::from_secs_f64(at - arrived);
                    list[server]
                        .record_at(Observation::FirstToken(waited), Duration::from_secs_f64(at));
                }
                EventKind::Ended(guard) => {
                    drop(guard);
                    list[server].inflight.record_leave(Duration::from_secs_f64(at));
                    servers[server].slots += 1;
                    start(&mut servers[server], server, &mut events, at);
                }
            }
        }
        let n = choose(&list, Duration::from_secs_f64(clock), number);
        let size = (if rng.f64() < 0.1 { skew } else { 1.0 }) * (0.5 + rng.f64());
        let (prefill, decode) = (0.2 * size, 1.8 * size);
        servers[n].queue.push_back(Request {
            arrived: clock,
            prefill,
            decode,
            guard: list[n].enter(),
        });
        start(&mut servers[n], n, &mut events, clock);
    }
    waits.sort_by(f64::total_cmp);
    waits[waits.len() * 99 / 100]
}

/// Returns our percentile and that of round robin.
fn compared(slow: [f64; 8], skew: f64, load: f64) -> (f64, f64) {
    fastrand::seed(3);
    let ours = p99(slow, skew, load, |list, now, _| {
        pick(list, AttemptedSet::default(), None, now).unwrap().index
    });
    (ours, p99(slow, skew, load, |list, _, number| number % list.len()))
}

#[test]
fn the_slowest_waits_are_shorter_than_with_round_robin() {
    let even = [1.0; 8];
    let one_slow = [10.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    for (name, slow, skew, load) in [
        ("requests of which one in ten is ten times as long", even, 10.0, 0.8),
        ("one replica ten times as slow", one_slow, 1.0, 0.7),
        ("both", one_slow, 10.0, 0.7),
    ] {
        let (ours, round_robin) = compared(slow, skew, load);
        eprintln!("{name}: {ours:.2} s, round robin {round_robin:.2} s");
        assert!(ours <= 0.7 * round_robin, "{name}: {ours:.2} s, round robin {round_robin:.2} s");
    }
}
