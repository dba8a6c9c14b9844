//! Clients of every kind. Each checks what it receives, word by word.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use memchr::memmem;
use rig::client::Client;
use rig::pace::Pace;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};

use super::model::piece;
use super::{Failure, Rig, WARM_UP};

/// Kept connections that share the rate.
const ASKERS: usize = 50;
/// Those that leave share theirs.
const LEAVERS: usize = 20;
/// Readers that stop reading in the middle of some megabytes.
const SLOW: usize = 2;
const SLOW_PIECES: u32 = 40_000;
/// For a request to arrive at the model.
const ARRIVAL: Duration = Duration::from_secs(5);

thread_local! {
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// A word that nobody else says.
fn word(kind: char) -> String {
    format!("{kind}{}", NEXT.replace(NEXT.get() + 1))
}

/// Clients that run.
pub(crate) struct Running(Vec<JoinHandle<()>>);

impl Running {
    pub(crate) async fn join(self) {
        for client in self.0 {
            let _ = client.await;
        }
    }
}

/// All kinds.
pub(crate) fn start(rig: &Rc<Rig>, address: SocketAddr) -> Running {
    let mut all = Vec::new();
    for index in 0..rig.plan.streams {
        // they begin one after the other, and last ten seconds
        let delay = Duration::from_secs_f64(
            (10.0 * index as f64 / rig.plan.streams as f64).min(rig.plan.seconds / 4.0),
        );
        all.push(spawn_local(streams(Rc::clone(rig), address, delay, "20 500")));
    }
    for index in 0..ASKERS {
        all.push(spawn_local(whole(Rc::clone(rig), address, index)));
    }
    for index in 0..LEAVERS {
        all.push(spawn_local(leave(Rc::clone(rig), address, index)));
    }
    for _ in 0..SLOW {
        all.push(spawn_local(read_slowly(Rc::clone(rig), address)));
    }
    Running(all)
}

/// Those that an upgrade must not lose: kept and new connections, streams of a second.
pub(crate) fn start_few(rig: &Rc<Rig>, address: SocketAddr) -> Running {
    let mut all: Vec<_> =
        (0..ASKERS).map(|index| spawn_local(whole(Rc::clone(rig), address, index))).collect();
    all.extend((0..ASKERS).map(|_| spawn_local(whole_on_new_connections(Rc::clone(rig), address))));
    all.extend(
        (0..ASKERS).map(|_| spawn_local(streams(Rc::clone(rig), address, Duration::ZERO, "20 50"))),
    );
    Running(all)
}

/// Asks until there is an answer.
pub(crate) async fn warm_up(address: &SocketAddr) -> Result<(), Failure> {
    for _ in 0..WARM_UP {
        let mut client = Client::connect(*address).await?;
        client.exchange(&request(&word('u'), "1 0", false), |_| {}).await?;
    }
    Ok(())
}

/// A chat completion in which a word is to be repeated so many times, so many milliseconds apart.
fn request(word: &str, how: &str, stream: bool) -> Vec<u8> {
    let body = format!(
        "{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"soak {word} {how}\"}}],\"stream\":{stream}}}"
    );
    let length = body.len();
    format!("POST /v1/chat/completions HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// The text of an answer, and whether it was complete.
#[derive(Default)]
struct Heard {
    text: String,
    done: bool,
    error: bool,
    rest: Vec<u8>,
}

impl Heard {
    /// More of a stream.
    fn events(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(length) = memmem::find(&self.rest[used..], b"\n\n") {
            let event = &self.rest[used..used + length];
            self.done |= event == b"data: [DONE]";
            self.error |= event.starts_with(b"data: {\"error\"");
            self.text.push_str(content(event).unwrap_or_default());
            used += length + 2;
        }
        self.rest.drain(..used);
    }

    /// More of a whole answer.
    fn body(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    fn whole(&mut self) {
        self.text = content(&self.rest).unwrap_or_default().to_owned();
        self.done = self.rest.ends_with(b"}");
    }
}

fn content(json: &[u8]) -> Option<&str> {
    let from = &json[memmem::find(json, b"\"content\":\"")? + 11..];
    std::str::from_utf8(&from[..memchr::memchr(b'"', from)?]).ok()
}

/// Counts an exchange as good, as an honest failure while a replica was dead, or as lost.
fn judge(
    rig: &Rig,
    kind: &'static str,
    since: Instant,
    word: &str,
    pieces: u32,
    heard: (io::Result<u16>, &Heard),
) {
    let whole: String = (0..pieces).map(|n| piece(word, n)).collect();
    let mut report = rig.report.borrow_mut();
    match heard {
        (Ok(200), heard) if heard.done && !heard.error && heard.text == whole => report.good(kind),
        (Ok(200), heard)
            if heard.error
                && !heard.done
                && whole.starts_with(&heard.text)
                && rig.model.died_since(since) =>
        {
            report.reported(kind);
        }
        (Ok(502..=504), _) if rig.model.died_since(since) => report.reported(kind),
        (Ok(status), heard) => {
            let end: String =
                heard.text.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect();
            report.lose(
                kind,
                &format!("{status}, done {}, error {}, …{end:?}", heard.done, heard.error),
            );
        }
        (Err(error), _) => report.lose(kind, &error.to_string()),
    }
}

/// Streams on one kept connection, one after the other.
async fn streams(rig: Rc<Rig>, address: SocketAddr, delay: Duration, how: &'static str) {
    sleep(delay).await;
    let mut kept = None;
    while !rig.over() {
        let (word, since, mut heard) = (word('s'), Instant::now(), Heard::default());
        let status =
            ask(&mut kept, address, &request(&word, how, true), |bytes| heard.events(bytes)).await;
        judge(&rig, "streams", since, &word, 20, (status, &heard));
    }
}

/// Whole answers on one kept connection, at its share of the rate.
async fn whole(rig: Rc<Rig>, address: SocketAddr, index: usize) {
    let mut pace = Pace::share(rig.plan.rate, ASKERS, index);
    let mut kept = None;
    while !rig.over() {
        pace.tick().await;
        ask_whole(&rig, &mut kept, address).await;
    }
}

async fn whole_on_new_connections(rig: Rc<Rig>, address: SocketAddr) {
    while !rig.over() {
        ask_whole(&rig, &mut None, address).await;
        sleep(Duration::from_millis(50)).await;
    }
}

async fn ask_whole(rig: &Rig, kept: &mut Option<Client>, address: SocketAddr) {
    let (word, since, mut heard) = (word('w'), Instant::now(), Heard::default());
    let status = ask(kept, address, &request(&word, "5 0", false), |bytes| heard.body(bytes)).await;
    heard.whole();
    judge(rig, "whole answers", since, &word, 5, (status, &heard));
}

/// One exchange; the connection is kept unless the answer says otherwise.
async fn ask(
    kept: &mut Option<Client>,
    address: SocketAddr,
    request: &[u8],
    on_body: impl FnMut(&[u8]),
) -> io::Result<u16> {
    let mut client = match kept.take() {
        Some(client) => client,
        None => Client::connect(address).await?,
    };
    let status = client.exchange(request, on_body).await?;
    *kept = Some(client).filter(Client::is_kept);
    Ok(status)
}

/// Clients that leave, before the head or after the first words, with a goodbye or without.
async fn leave(rig: Rc<Rig>, address: SocketAddr, index: usize) {
    let mut pace = Pace::share(rig.plan.partings, LEAVERS, index);
    let mut count = index;
    while !rig.over() {
        pace.tick().await;
        count += 1;
        let since = Instant::now();
        match leave_once(&rig, address, count).await {
            Ok(()) => rig.report.borrow_mut().good("partings"),
            // one that did not get so far; the dead replica may have been why
            Err(_) if rig.model.died_since(since) => rig.report.borrow_mut().reported("partings"),
            Err(error) => rig.report.borrow_mut().lose("partings", &error.to_string()),
        }
    }
}

async fn leave_once(rig: &Rig, address: SocketAddr, count: usize) -> io::Result<()> {
    let (word, midway) = (word('p'), count.is_multiple_of(2));
    let socket = TcpStream::connect(address).await?;
    if count.is_multiple_of(3) {
        // no goodbye: a reset
        socket.set_zero_linger()?;
    }
    let mut client = Client::on(socket)?;
    client.send(&request(&word, "2 60000", midway)).await?;
    let until = Instant::now() + ARRIVAL;
    while !rig.model.has(&word) {
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        sleep(Duration::from_millis(1)).await;
    }
    if midway && client.head().await? != 200 {
        return Err(io::Error::other("no stream to leave"));
    }
    rig.model.leaves(&word);
    Ok(())
}

/// Takes some of a long stream, then nothing for a while, then the rest.
async fn read_slowly(rig: Rc<Rig>, address: SocketAddr) {
    while !rig.over() {
        let (word, since, mut heard) = (word('r'), Instant::now(), Heard::default());
        let status = read_one_slowly(address, &word, &mut heard).await;
        judge(&rig, "slow readers", since, &word, SLOW_PIECES, (status, &heard));
    }
}

async fn read_one_slowly(address: SocketAddr, word: &str, heard: &mut Heard) -> io::Result<u16> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 << 10)?;
    let mut client = Client::on(socket.connect(address).await?)?;
    client.send(&request(word, &format!("{SLOW_PIECES} 0"), true)).await?;
    let status = client.head().await?;
    for turn in 0_u32.. {
        if turn == 3 {
            sleep(Duration::from_secs(3)).await;
        }
        if !client.more(|bytes| heard.events(bytes)).await? {
            break;
        }
    }
    Ok(status)
}
