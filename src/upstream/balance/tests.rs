//! The choice on a simulated clock, and a simulator of model servers that it has to beat round
//! robin on.

use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Tried, pick};
use crate::error::Kind;
use crate::model::{Access, BudgetPatch, EndpointUrl, Model, ProviderKind};
use crate::telemetry::Metrics;
use crate::upstream::balance::reported_load::Load;
use crate::upstream::endpoint::{Endpoint, Entered};
use crate::upstream::{Registry, Resilience, Seen};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// That many replicas of one model.
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
        timeouts: BudgetPatch::default(),
        replicas: crate::model::Replicas::default(),
        room: None,
        priority: false,
        from_request: false,
    });
    let registry = Registry::new(Arc::new(Metrics::new().unwrap()));
    let endpoints =
        registry.endpoints([&model].into_iter(), Arc::default(), &Resilience::default());
    endpoints.of(&model.id).unwrap().to_vec()
}

/// How often each is chosen in a thousand.
fn shares(list: &[Arc<Endpoint>], now: Duration) -> Vec<usize> {
    let mut shares = vec![0; list.len()];
    (0..1000).for_each(|_| shares[pick(list, Tried::default(), None, now).unwrap().0] += 1);
    shares
}

#[test]
fn of_two_the_cheaper_is_taken_and_ties_are_drawn() {
    fastrand::seed(1);
    let (list, now) = (replicas(2), ms(1000));
    let even = shares(&list, now);
    assert!(even.iter().all(|share| (400..600).contains(share)), "{even:?}");
    let busy: Vec<Entered> = (0..3).map(|_| list[0].enter()).collect();
    assert_eq!(shares(&list, now), [0, 1000], "fewer requests under way");
    list[0].saw_at(Seen::Spoke(ms(100)), now);
    assert_eq!(shares(&list, now), [0, 1000], "one wait is not known: requests alone");
    list[1].saw_at(Seen::Spoke(ms(900)), now);
    assert_eq!(shares(&list, now), [1000, 0], "4 × 100 ms is less than 1 × 900 ms");
    let later = now + Duration::from_secs(25);
    list[0].saw_at(Seen::Spoke(ms(100)), later);
    assert_eq!(
        shares(&list, later),
        [0, 1000],
        "what is long past counts little: 900 ms have faded to 74"
    );
    drop(busy);
    assert_eq!(list[0].inflight(), 0);
}

/// Asks one of two each second, as its figures say: who spoke after 0.2 s, and left after 2 s. When
/// the other is asked.
fn asked_again(list: &[Arc<Endpoint>], from: Duration) -> Duration {
    let mut streams: VecDeque<(Duration, Entered)> = VecDeque::new();
    for second in 0..120 {
        let now = from + Duration::from_secs(second);
        while streams.front().is_some_and(|(end, _)| *end <= now) {
            let (end, entered) = streams.pop_front().unwrap();
            drop(entered);
            list[1].inflight.left_at(end);
        }
        if pick(list, Tried::default(), None, now).unwrap().0 == 0 {
            return Duration::from_secs(second);
        }
        list[1].saw_at(Seen::Spoke(ms(200)), now);
        streams.push_back((now + ms(2000), list[1].enter()));
    }
    panic!("never")
}

#[test]
fn one_slow_answer_keeps_requests_away_for_ten_seconds_and_no_longer() {
    let (list, now) = (replicas(2), ms(60_000));
    let slow = list[0].enter();
    list[0].saw_at(Seen::Spoke(ms(20_000)), now);
    drop(slow);
    list[0].inflight.left_at(now);
    let waited = asked_again(&list, now);
    assert_eq!(waited.as_secs(), 10);
    let (sent, spoke) = (now + waited, now + waited + ms(200));
    let sees = list[0].enter();
    list[1].inflight.left_at(sent);
    assert_eq!(shares(&list, sent), [0, 1000], "one request sees how it is now");
    list.iter().for_each(|endpoint| endpoint.saw_at(Seen::Spoke(ms(200)), spoke));
    drop(sees);
    list[0].inflight.left_at(spoke);
    let even = shares(&list, spoke);
    assert!((400..600).contains(&even[0]), "the old peak is forgotten: {even:?}");
    list[0].saw_at(Seen::Spoke(ms(20_000)), spoke);
    assert_eq!(asked_again(&list, spoke).as_secs(), 10, "who is slow again is let be again");
}

#[test]
fn of_many_every_pair_is_drawn_and_the_dearest_never_wins() {
    fastrand::seed(2);
    let list = replicas(5);
    let _busy = list[4].enter();
    let shares = shares(&list, ms(1000));
    assert_eq!(shares[4], 0, "whatever it is drawn with has less to do");
    assert!(shares[..4].iter().all(|share| (190..310).contains(share)), "{shares:?}");
}

#[test]
fn what_was_tried_is_the_last_resort_and_what_was_not_reached_comes_before_it() {
    let (list, now) = (replicas(3), ms(1000));
    let mut tried = Tried::default();
    assert!(tried.another(0, 3));
    list[1].saw_at(Seen::Unreachable, now);
    assert_eq!(pick(&list, tried, None, now).unwrap().0, 2);
    assert!(tried.another(2, 3));
    assert_eq!(pick(&list, tried, None, now).unwrap().0, 1);
    assert!(!tried.another(1, 3));
    assert!(pick(&list, tried, None, now).is_some(), "never none");
    assert!(pick(&[], tried, None, now).is_none());
}

/// Five failures in a row, at a replica of its own time.
fn fail(endpoint: &Endpoint, now: Duration) {
    (0..5).for_each(|_| endpoint.saw_at(Seen::Failed(Kind::UpstreamStatus(500)), now));
}

#[test]
fn one_that_fails_gets_nothing_then_one_request_then_ever_more() {
    fastrand::seed(4);
    let (list, now) = (replicas(2), ms(1000));
    fail(&list[0], now);
    assert_eq!(shares(&list, now), [0, 1000]);
    let due = ms(6000);
    assert_eq!(shares(&list, due), [1, 999], "one request sees");
    list[0].saw_at(Seen::Spoke(ms(10)), due + ms(10));
    let early = shares(&list, due + ms(10));
    assert!((20..90).contains(&early[0]), "a tenth of its half: {early:?}");
    let half = shares(&list, due + ms(5010));
    assert!((200..300).contains(&half[0]), "{half:?}");
    assert!(shares(&list, due + ms(10_010))[0] > 400);
}

#[test]
fn a_request_that_has_failed_already_does_not_see_whether_another_is_back() {
    let (list, now) = (replicas(3), ms(1000));
    fail(&list[0], now);
    let mut tried = Tried::default();
    tried.another(1, 3);
    assert_eq!(pick(&list, tried, None, ms(7000)).unwrap().0, 2);
    tried.another(2, 3);
    assert_eq!(pick(&list, tried, None, ms(7000)).unwrap().0, 0, "unless nobody else is left");
}

#[test]
fn when_most_fail_all_are_asked_but_those_that_are_not_there() {
    fastrand::seed(5);
    let (list, now) = (replicas(6), ms(1000));
    fail(&list[0], now);
    fail(&list[1], now);
    let _busy: Vec<Entered> = (0..5).map(|_| list[2].enter()).collect();
    list[3].saw_at(Seen::Unreachable, now);
    list[4].saw_at(Seen::Unreachable, now);
    list[5].saw_at(Seen::Unreachable, now);
    let shares = shares(&list, now);
    assert!(shares[2] > 600, "the sound one is taken whenever it is drawn: {shares:?}");
    assert!(shares[0] > 100 && shares[1] > 100, "{shares:?}");
    assert_eq!(shares[3..], [0, 0, 0]);
    (0..3).for_each(|place| list[place].saw_at(Seen::Unreachable, now));
    assert!(pick(&list, Tried::default(), None, now).is_some(), "when none is there, any");
}

#[test]
fn one_that_knows_the_beginning_is_asked_unless_it_has_much_more_to_do() {
    let (list, now) = (replicas(3), ms(1000));
    let knows = |place| pick(&list, Tried::default(), Some(place), now).unwrap().0;
    assert!((0..100).all(|_| knows(1) == 1));
    let mut busy: Vec<Entered> = (0..4).map(|_| list[1].enter()).collect();
    assert!((0..100).all(|_| knows(1) == 1), "a little more to do");
    busy.push(list[1].enter());
    assert!((0..100).all(|_| knows(1) != 1), "too much more");
    fail(&list[2], now);
    assert!((0..100).all(|_| knows(2) == 0), "it fails");
    let mut tried = Tried::default();
    tried.another(0, 3);
    assert_eq!(pick(&list, tried, Some(0), now).unwrap().0, 1, "it was tried");
    assert!(knows(7) < 3, "of another list");
}

#[test]
fn what_a_server_tells_of_its_load_counts_until_it_is_old() {
    let list = replicas(2);
    let load =
        |running: u32| Load::read(&format!("vllm:num_requests_running {running}\n")).unwrap();
    list[0].tells(load(20));
    list[1].tells(load(3));
    let _busy: Vec<Entered> = (0..5).map(|_| list[1].enter()).collect();
    let now = list[0].now();
    assert_eq!(shares(&list, now), [0, 1000], "others have filled the first");
    assert_eq!(shares(&list, now + ms(2000)), [1000, 0], "by our own requests once that is old");
}

/// One model server: so many requests at a time, the others queue. Its speed is how much longer all
/// takes.
struct Server {
    slots: usize,
    slow: f64,
    queue: VecDeque<Request>,
}

struct Request {
    arrived: f64,
    /// Until the first token, and from there to the end, in seconds on a server of speed 1.
    prefill: f64,
    decode: f64,
    entered: Entered,
}

/// What happens next, soonest first.
struct Event {
    at: f64,
    server: usize,
    what: What,
}

enum What {
    /// The first token of a request that arrived then.
    Spoke(f64),
    Ended(Entered),
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

/// Eight servers of eight places; `slow` is one number for each. Requests come at random, `load` of
/// what all can bear; one in ten is `skew` times as long as the others. Gives the 99th percentile
/// of the time to the first token, in seconds.
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
            && let Some(Request { arrived, prefill, decode, entered }) = server.queue.pop_front()
        {
            server.slots -= 1;
            let spoke = now + prefill * server.slow;
            events.push(Event { at: spoke, server: n, what: What::Spoke(arrived) });
            events.push(Event {
                at: spoke + decode * server.slow,
                server: n,
                what: What::Ended(entered),
            });
        }
    };
    for turn in 0..20_000 {
        clock += -(1.0 - rng.f64()).ln() / (capacity * load);
        while events.peek().is_some_and(|event| event.at <= clock) {
            let Event { at, server, what } = events.pop().unwrap();
            match what {
                What::Spoke(arrived) => {
                    waits.push(at - arrived);
                    let waited = Duration::from_secs_f64(at - arrived);
                    list[server].saw_at(Seen::Spoke(waited), Duration::from_secs_f64(at));
                }
                What::Ended(entered) => {
                    drop(entered);
                    list[server].inflight.left_at(Duration::from_secs_f64(at));
                    servers[server].slots += 1;
                    start(&mut servers[server], server, &mut events, at);
                }
            }
        }
        let n = choose(&list, Duration::from_secs_f64(clock), turn);
        let size = (if rng.f64() < 0.1 { skew } else { 1.0 }) * (0.5 + rng.f64());
        let (prefill, decode) = (0.2 * size, 1.8 * size);
        servers[n].queue.push_back(Request {
            arrived: clock,
            prefill,
            decode,
            entered: list[n].enter(),
        });
        start(&mut servers[n], n, &mut events, clock);
    }
    waits.sort_by(f64::total_cmp);
    waits[waits.len() * 99 / 100]
}

/// Ours beside round robin.
fn compared(slow: [f64; 8], skew: f64, load: f64) -> (f64, f64) {
    fastrand::seed(3);
    let ours =
        p99(slow, skew, load, |list, now, _| pick(list, Tried::default(), None, now).unwrap().0);
    (ours, p99(slow, skew, load, |list, _, turn| turn % list.len()))
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
