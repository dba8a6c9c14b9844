//! `load MODE --to 127.0.0.1:PORT [flags]`: asks a gateway, and prints what it saw as one line of
//! JSON.
//!
//! | mode | does | flags |
//! |---|---|---|
//! | `ready` | asks until the first 200, every half millisecond | `--seconds` to give up after |
//! | `closed` | each connection asks again once it was answered | `--connections` (1: latency; many: throughput) |
//! | `open` | requests start at a fixed rate, whatever the answers do; latency counts from the time a request was due | `--rate` a second, `--connections` |
//! | `stream` | like `closed`, but asks for streams | `--connections`, `--ramp` milliseconds over which they start |
//!
//! All modes: `--path` (`/v1/chat/completions`), `--model`, `--size` of the body in bytes,
//! `--seconds`, `--requests` to stop after. Exchanges under way when the time is up are finished
//! and counted. Times are microseconds. In `stream`, `chunk_us` is one-way: from `mock` writing a
//! chunk to its arrival here; `coalesced` counts chunks that arrived together with an earlier one
//! of their stream.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem;
use rig::client::Client;
use rig::{Failure, Flags, Samples, loopback, now};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::sleep;

const SECOND: u64 = 1_000_000_000;

/// What to ask, how long and how often.
struct Job {
    address: SocketAddr,
    request: Vec<u8>,
    stream: bool,
    /// Nanoseconds.
    started: u64,
    /// Nanoseconds.
    until: u64,
    requests: u64,
    /// Between two requests of an open loop, in nanoseconds.
    interval: Option<f64>,
    /// Requests of an open loop that are due.
    due: Arc<Semaphore>,
    issued: Cell<u64>,
    seen: RefCell<Seen>,
}

/// What came of it.
#[derive(Default)]
struct Seen {
    answered: u64,
    bytes: u64,
    chunks: u64,
    coalesced: u64,
    latency: Samples,
    first: Samples,
    chunk: Samples,
    gap: Samples,
    errors: BTreeMap<String, u64>,
}

fn main() -> Result<(), Failure> {
    let mut phrase = std::env::args().skip(1);
    let mode = phrase.next().unwrap_or_default();
    let mut flags = Flags::parse(phrase)?;
    let address = loopback(&flags.take("to", "127.0.0.1:18900".to_owned())?)?;
    let stream = mode == "stream";
    let path = flags.take("path", "/v1/chat/completions".to_owned())?;
    let model = flags.take("model", "mock-n100-d20000".to_owned())?;
    let request = request(address, &path, &model, flags.take("size", 1024)?, stream);
    let seconds = flags.take("seconds", 5.0_f64)?.min(120.0);
    let connections = flags.take("connections", 1_usize)?.min(20_000);
    let rate = flags.take("rate", 1000.0_f64)?;
    let ramp = flags.take("ramp", 500.0_f64)? / 1000.0 / connections as f64;
    let requests = flags.take("requests", u64::MAX)?;
    flags.finish()?;
    let started = now();
    let job = Job {
        address,
        request,
        stream,
        started,
        until: started + (seconds * SECOND as f64) as u64,
        requests,
        interval: (mode == "open").then_some(SECOND as f64 / rate),
        due: Arc::new(Semaphore::new(0)),
        issued: Cell::new(0),
        seen: RefCell::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match mode.as_str() {
        "ready" => runtime.block_on(ready(&job))?,
        "closed" => run(&runtime, job, connections, 0.0),
        "stream" => run(&runtime, job, connections, ramp),
        "open" => {
            pace(&job)?;
            run(&runtime, job, connections, 0.0);
        }
        _ => return Err("expected ready, closed, open or stream".into()),
    }
    Ok(())
}

/// A chat completion whose body has this many bytes.
fn request(address: SocketAddr, path: &str, model: &str, size: usize, stream: bool) -> Vec<u8> {
    let body = |text: &str| {
        format!(
            "{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"}},{{\"role\":\"user\",\"content\":\"{text}\"}}],\"max_tokens\":256,\"temperature\":0.2{}}}",
            if stream { ",\"stream\":true" } else { "" }
        )
    };
    let filler = size.saturating_sub(body("").len());
    let text: String = "lorem ipsum dolor sit amet ".chars().cycle().take(filler).collect();
    let body = body(&text);
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\naccept: */*\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn ready(job: &Job) -> Result<(), Failure> {
    while now() < job.until {
        if let Ok(mut client) = Client::connect(job.address).await
            && client.exchange(&job.request, |_| ()).await.is_ok_and(|status| status == 200)
        {
            println!(
                "{{\"mode\":\"ready\",\"seconds\":{:.6}}}",
                (now() - job.started) as f64 / SECOND as f64
            );
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Err(format!("{} did not answer 200 in time", job.address).into())
}

/// Starts the thread that says when requests of an open loop are due. A thread, since tokio's
/// timers tick in milliseconds; a semaphore, since it holds any backlog in one number.
fn pace(job: &Job) -> Result<(), Failure> {
    let (started, until, due) = (job.started, job.until, Arc::clone(&job.due));
    let interval =
        job.interval.filter(|interval| interval.is_normal()).ok_or("--rate must be more than 0")?;
    std::thread::spawn(move || {
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        for index in 0_u64.. {
            let time = started + (index as f64 * interval) as u64;
            if time >= until {
                break;
            }
            std::thread::sleep(Duration::from_nanos(time.saturating_sub(now())));
            due.add_permits(1);
        }
        due.close();
    });
    Ok(())
}

fn run(runtime: &tokio::runtime::Runtime, job: Job, connections: usize, ramp: f64) {
    let job = Rc::new(job);
    let tasks = LocalSet::new();
    for index in 0..connections {
        let job = Rc::clone(&job);
        tasks.spawn_local(async move {
            sleep(Duration::from_secs_f64(ramp * index as f64)).await;
            connection(&job).await;
        });
    }
    runtime.block_on(tasks);
    println!("{}", job.seen.borrow_mut().summary((now() - job.started) as f64 / SECOND as f64));
}

async fn connection(job: &Job) {
    let mut client = None;
    while let Some(due) = job.next().await {
        let connected = match client.take() {
            Some(connected) => Ok(connected),
            None => Client::connect(job.address).await,
        };
        let outcome = match connected {
            Ok(mut connected) => match job.ask(&mut connected, due).await {
                Ok(200) => {
                    client = Some(connected);
                    continue;
                }
                Ok(status) => format!("status {status}"),
                Err(error) => format!("exchange: {error}"),
            },
            Err(error) => format!("connect: {error}"),
        };
        *job.seen.borrow_mut().errors.entry(outcome).or_default() += 1;
        sleep(Duration::from_millis(20)).await;
    }
}

impl Job {
    /// Waits until the next request may be sent; returns since when it was due, or `None` at the
    /// end.
    async fn next(&self) -> Option<u64> {
        if self.interval.is_some() {
            self.due.acquire().await.ok()?.forget();
        }
        let index = self.issued.get();
        let time = now();
        if index >= self.requests || (self.interval.is_none() && time >= self.until) {
            return None;
        }
        self.issued.set(index + 1);
        Some(self.interval.map_or(time, |interval| self.started + (index as f64 * interval) as u64))
    }

    async fn ask(&self, client: &mut Client, due: u64) -> std::io::Result<u16> {
        let sent = now();
        let mut events = Events { sent, last: sent, unfinished: Vec::new(), done: false };
        let status = client
            .exchange(&self.request, |bytes| {
                let mut seen = self.seen.borrow_mut();
                seen.bytes += bytes.len() as u64;
                if self.stream {
                    events.read(bytes, &mut seen);
                }
            })
            .await?;
        if self.stream && status == 200 && !events.done {
            return Err(std::io::Error::other("the stream had no end"));
        }
        if status == 200 {
            let mut seen = self.seen.borrow_mut();
            seen.answered += 1;
            seen.latency.add(now() - due);
        }
        Ok(status)
    }
}

/// One stream being read.
struct Events {
    sent: u64,
    last: u64,
    unfinished: Vec<u8>,
    done: bool,
}

impl Events {
    fn read(&mut self, bytes: &[u8], seen: &mut Seen) {
        let arrived = now();
        self.unfinished.extend_from_slice(bytes);
        let (mut used, mut together) = (0, 0);
        while let Some(length) = memmem::find(&self.unfinished[used..], b"\n\n") {
            let event = &self.unfinished[used..used + length];
            used += length + 2;
            self.done |= event.starts_with(b"data: [DONE]");
            let Some(written) = stamp(event) else { continue };
            if self.last == self.sent {
                seen.first.add(arrived - self.sent);
            } else {
                seen.gap.add(arrived - self.last);
            }
            self.last = arrived;
            seen.chunk.add(arrived.saturating_sub(written));
            seen.chunks += 1;
            together += 1;
        }
        seen.coalesced += u64::saturating_sub(together, 1);
        self.unfinished.drain(..used);
    }
}

/// When `mock` wrote this event.
fn stamp(event: &[u8]) -> Option<u64> {
    let digits = &event[memchr::memchr(b'@', event)? + 1..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

impl Seen {
    fn summary(&mut self, seconds: f64) -> String {
        let errors: u64 = self.errors.values().sum();
        let mut json = format!(
            "{{\"seconds\":{seconds:.3},\"answered\":{},\"per_second\":{:.0},\"errors\":{errors},\"bytes\":{},\"chunks\":{},\"coalesced\":{}",
            self.answered,
            self.answered as f64 / seconds,
            self.bytes,
            self.chunks,
            self.coalesced
        );
        self.latency.summarize("latency_us", &mut json);
        self.first.summarize("first_chunk_us", &mut json);
        self.chunk.summarize("chunk_us", &mut json);
        self.gap.summarize("gap_us", &mut json);
        if errors > 0 {
            let _ = write!(json, ",\"error_kinds\":{:?}", format!("{:?}", self.errors));
        }
        json + "}"
    }
}
