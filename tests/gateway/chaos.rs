//! Every fault of a model server, on every call that reaches one: the error the client gets, that
//! the server's connection is released, one line in the log, one count in the metrics. One table of
//! faults here, one of calls in `support/surfaces.rs`. One replica throughout: `failover.rs` and
//! `replicas.rs` test several.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::upstream::{Received, begun, says};
use crate::support::{
    Answer, Client, End, Gateway, Reply, Surface, Upstream, eventually, one_model, surfaces,
};

/// The expected outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reported {
    /// An error instead of a response, with this code.
    Before(&'static str),
    /// A response that began, and then its failure, as far as its form can carry it.
    After(&'static str),
    /// The model server's own response: no failure to Weir.
    Nothing,
}
use Reported::{After, Before, Nothing};

struct Fault {
    name: &'static str,
    /// Keys of the model's `timeouts`.
    limits: &'static str,
    server: fn(&Received) -> Reply,
    /// The outcome for a client whose whole response is passed on as it arrives, for one whose
    /// response is read to its end first, and for one of a stream.
    reported: [Reported; 3],
    /// Whether the server's connection cannot be reused.
    closes: bool,
}

/// Waits before the fault, so that the beginning has been read.
fn later(request: &Received) -> Reply {
    begun(request).wait(Duration::from_millis(50))
}

fn drip(request: &Received) -> Reply {
    let piece = |reply: Reply, _| match request.wants_stream() {
        true => reply.wait(Duration::from_millis(20)).text("x"),
        false => reply.wait(Duration::from_millis(20)).bytes("x"),
    };
    (0..200).fold(begun(request), piece)
}

/// Sends one event that is far too long; as a whole response it is just a long one.
fn huge(request: &Received) -> Reply {
    if !request.wants_stream() {
        return says(request, &"x".repeat(100 << 10));
    }
    let text = "x".repeat(10 << 20);
    later(request)
        .bytes(format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"))
        .stall()
}

/// Sends without a pause and without an end: a timeout between two reads would never expire. In
/// small pieces, so that no machine reaches the limit of a response's size before the total.
fn endless(request: &Received) -> Reply {
    begun(request).forever(format!(": {}\n\n", "x".repeat(16)).as_bytes())
}

fn error_with_200(request: &Received) -> Reply {
    let error = json!({"error": {"message": "no", "type": "server_error", "code": 500}});
    match request.wants_stream() {
        true => Reply::sse().event(error.to_string()).event("[DONE]").end(),
        false => Reply::json(200, &error),
    }
}

fn faults() -> Vec<Fault> {
    const SHORT: &str = "first_byte = \"150ms\", idle = \"150ms\"";
    const TOTAL: &str = "total = \"600ms\"";
    let fault =
        |name, limits, server, reported, closes| Fault { name, limits, server, reported, closes };
    let before = |code| [Before(code); 3];
    let later_than_the_head = |code| [After(code), Before(code), After(code)];
    let (status, expired, broken) =
        (before("upstream_status"), before("A1000"), before("upstream_broken"));
    let (expired_later, broken_later) =
        (later_than_the_head("A1000"), later_than_the_head("upstream_broken"));
    let too_long = [Nothing, Nothing, After("upstream_broken")];
    vec![
        fault("silence", SHORT, |_| Reply::stalled(), expired, true),
        fault("a head and silence", SHORT, |_| Reply::sse().stall(), expired, true),
        fault("a close before the head", SHORT, |_| Reply::closed(), broken, true),
        fault("a reset before the head", SHORT, |_| Reply::closed().reset(), broken, true),
        fault("429", SHORT, |_| Reply::whole(429, &[("retry-after", "7")], "{}"), status, false),
        fault(
            "500",
            SHORT,
            |_| Reply::json(500, &json!({"error": {"message": "boom"}})),
            status,
            false,
        ),
        fault("an error with 200", SHORT, error_with_200, broken, false),
        fault("garbage", SHORT, |_| Reply::raw("SSH-2.0-OpenSSH_9.6\r\n"), broken, true),
        fault("garbage midway", SHORT, |r| later(r).unframed("no size\r\n"), broken_later, true),
        fault("a pause", SHORT, |r| begun(r).stall(), expired_later, true),
        fault("a drip", TOTAL, drip, expired_later, true),
        fault("a cut", SHORT, |r| later(r).bytes("data: {\"half").then_close(), broken_later, true),
        fault("a reset midway", SHORT, |r| later(r).reset(), broken_later, true),
        fault("10 MB at once", "", huge, too_long, false),
        fault("no end", TOTAL, endless, expired_later, true),
    ]
}

/// Runs one fault on all calls at once; returns what did not hold.
async fn suffer(fault: Fault) -> Vec<String> {
    let upstream = Arc::new(Upstream::start(fault.server).await);
    let file = one_model(&upstream.url())
        .replace("[features]", &format!("timeouts = {{ {} }}\n[features]", fault.limits));
    let gateway = Arc::new(Gateway::start(&format!("{file}[chat]\ntools = \"react\"\n")).await);
    let (fault, mut running) = (Arc::new(fault), JoinSet::new());
    for (index, surface) in surfaces().into_iter().enumerate() {
        let (gateway, upstream, fault) =
            (Arc::clone(&gateway), Arc::clone(&upstream), Arc::clone(&fault));
        running.spawn(async move {
            let id = format!("chaos-{index}");
            let answer = ask(gateway.public, &surface, &id).await;
            let reported = expected(&fault, &surface);
            let of_answer = check(&surface, reported, &answer);
            if answer.is_err() {
                return (reported, vec![format!("{}: {}: {answer:?}", fault.name, surface.name)]);
            }
            if fault.closes {
                upstream.closed(upstream.connection_of(&id).await).await;
            }
            let of_line = check_line(&gateway.log.line(&id).await, &surface, reported);
            let wrong = of_answer.into_iter().chain(of_line);
            (
                reported,
                wrong
                    .map(|what| format!("{}: {}: {what}", fault.name, surface.name))
                    .collect::<Vec<_>>(),
            )
        });
    }
    let (mut wrong, mut failed, mut all) = (Vec::new(), 0_u32, 0_u32);
    while let Some(ended) = running.join_next().await {
        let (reported, of_one) = ended.unwrap();
        failed += u32::from(reported != Nothing);
        all += 1;
        wrong.extend(of_one);
    }
    eventually("nothing in flight", async || {
        let metrics = gateway.metrics().await;
        metrics.sum("weir_inflight", &[]) + metrics.sum("weir_upstream_inflight", &[]) == 0.0
    })
    .await;
    let metrics = gateway.metrics().await;
    let counted = (metrics.sum("weir_requests_total", &[]), metrics.sum("weir_errors_total", &[]));
    if counted != (f64::from(all), f64::from(failed)) {
        wrong.push(format!(
            "{}: {all} requests, {failed} failures, counted {counted:?}",
            fault.name
        ));
    }
    if gateway.log.lines().len() != all as usize {
        wrong.push(format!("{}: {all} requests, {} lines", fault.name, gateway.log.lines().len()));
    }
    wrong
}

async fn ask(public: SocketAddr, surface: &Surface, id: &str) -> Result<Answer, &'static str> {
    let mut client = Client::connect(public).await;
    let answering = async {
        client.send("POST", surface.path, &[("x-request-id", id)], &surface.bytes()).await;
        let head = client.try_head().await.ok_or("a close and no answer")?;
        Ok(client.body(head, false).await)
    };
    tokio::time::timeout(Duration::from_secs(8), answering).await.unwrap_or(Err("no end"))
}

fn expected(fault: &Fault, surface: &Surface) -> Reported {
    let [passed, gathered, streamed] = fault.reported;
    match (surface.is_streamed(), surface.is_gathered()) {
        (true, _) => streamed,
        (false, true) => gathered,
        (false, false) => passed,
    }
}

fn check(surface: &Surface, reported: Reported, answer: &Result<Answer, &str>) -> Option<String> {
    let Ok(answer) = answer else { return Some(format!("expected {reported:?}, got {answer:?}")) };
    let before = |code| surface.tells_before(answer) && answer.header("x-weir-error") == Some(code);
    let holds = match reported {
        Before(code) => before(code),
        // on a busy machine the beginning may not have gone out yet
        After(code) => surface.tells_after(answer) || before(code),
        Nothing => answer.status() == 200 && answer.end == End::Proper,
    };
    let start: String = String::from_utf8_lossy(&answer.body).chars().take(300).collect();
    (!holds)
        .then(|| format!("expected {reported:?}, got {:?} {:?} {start:?}", answer.head, answer.end))
}

fn check_line(line: &Value, surface: &Surface, reported: Reported) -> Option<String> {
    let (code, outcome) = match reported {
        Before("A1000") | After("A1000") => (json!("A1000"), "timeout"),
        Before(code) | After(code) => (json!(code), "upstream_error"),
        Nothing => (Value::Null, "ok"),
    };
    let holds = line["error_code"] == code
        && line["outcome"] == outcome
        && line["surface"] == surface.label;
    (!holds).then(|| format!("expected {reported:?}, logged {line}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_reported_on_every_call() {
    let mut wrong = Vec::new();
    for fault in faults() {
        // one after the other: a busy machine must not be what is tested
        wrong.extend(suffer(fault).await);
    }
    assert!(wrong.is_empty(), "{} did not hold:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn a_refused_connection_is_reported_on_every_call() {
    let gateway = Gateway::start(&one_model("http://127.0.0.1:9/v1")).await;
    for (index, surface) in surfaces().iter().enumerate() {
        let id = format!("refused-{index}");
        let answer = ask(gateway.public, surface, &id).await;
        assert_eq!(check(surface, Before("upstream_connect"), &answer), None, "{}", surface.name);
        assert_eq!(
            check_line(&gateway.log.line(&id).await, surface, Before("upstream_connect")),
            None,
            "{}",
            surface.name
        );
    }
}

#[tokio::test]
async fn a_server_that_comes_and_goes_gives_a_good_answer_or_an_honest_error() {
    let turn = AtomicU32::new(0);
    let upstream = Upstream::start(move |request| match turn.fetch_add(1, Ordering::Relaxed) % 4 {
        0 => Reply::closed(),
        2 => Reply::json(500, &json!({"error": {"message": "boom"}})),
        _ => says(request, "Final Answer: words"),
    })
    .await;
    let gateway = Gateway::with_model(&upstream, "[chat]\ntools = \"react\"\n").await;
    let (mut good, mut bad) = (0, 0);
    for round in 0..4 {
        for surface in surfaces() {
            let answer = ask(gateway.public, &surface, &format!("{round}-{}", surface.name.len()))
                .await
                .unwrap();
            match surface.is_good(&answer, "words") {
                true => good += 1,
                false if surface.tells_before(&answer) => bad += 1,
                false => panic!("{}: {answer:?}", surface.name),
            }
        }
    }
    assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
}
