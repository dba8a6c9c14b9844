//! Two replicas of a model that repeats itself: for a word, it sends that word and a number,
//! again and again, so that every byte of an answer can be checked, and whose it is. A replica can
//! be killed.
//!
//! The prompt is `KIND WORD PIECES MILLISECONDS`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use memchr::memmem;
use rig::server::Requests;
use rig::{Samples, now};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use super::Rig;

/// Both replicas.
pub(crate) struct Model {
    replicas: [Replica; 2],
    /// Words of requests under way whose clients are going to leave; when they did, in nanoseconds,
    /// or 0.
    leaving: RefCell<HashMap<String, u64>>,
    /// How long it took the gateway to leave too.
    pub(crate) followed: RefCell<Samples>,
    /// When a replica was last back from the dead.
    revived: Cell<Option<Instant>>,
    /// The newest name in requests to the model: `up-7` is the file's seventh.
    pub(crate) newest: Cell<u32>,
}

struct Replica {
    address: SocketAddr,
    alive: watch::Sender<bool>,
    accepting: RefCell<Option<JoinHandle<()>>>,
}

impl Model {
    pub(crate) async fn start() -> io::Result<Rc<Self>> {
        let (first, second) = (listen(None)?, listen(None)?);
        let replica = |listener: &TcpListener| {
            Ok::<_, io::Error>(Replica {
                address: listener.local_addr()?,
                alive: watch::Sender::new(true),
                accepting: RefCell::default(),
            })
        };
        let model = Rc::new(Self {
            replicas: [replica(&first)?, replica(&second)?],
            leaving: RefCell::default(),
            followed: RefCell::default(),
            revived: Cell::default(),
            newest: Cell::new(0),
        });
        for (index, listener) in [first, second].into_iter().enumerate() {
            model.accept(index, listener);
        }
        Ok(model)
    }

    pub(crate) fn addresses(&self) -> [SocketAddr; 2] {
        [self.replicas[0].address, self.replicas[1].address]
    }

    /// Whether the request with this word is under way.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.leaving.borrow().contains_key(word)
    }

    /// The client with this word leaves now.
    pub(crate) fn leaves(&self, word: &str) {
        if let Some(at) = self.leaving.borrow_mut().get_mut(word) {
            *at = now();
        }
    }

    /// Clients that left and whose request is still being answered.
    pub(crate) fn not_followed(&self) -> usize {
        self.leaving.borrow().len()
    }

    /// Whether a replica was dead at any time since then.
    pub(crate) fn died_since(&self, since: Instant) -> bool {
        self.replicas.iter().any(|replica| !*replica.alive.borrow())
            || self.revived.get().is_some_and(|at| at >= since)
    }

    fn accept(self: &Rc<Self>, index: usize, listener: TcpListener) {
        let model = Rc::clone(self);
        let accepting = spawn_local(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (model, mut alive) =
                    (Rc::clone(&model), model.replicas[index].alive.subscribe());
                spawn_local(async move {
                    let _ = connection.set_nodelay(true);
                    tokio::select! {
                        _ = model.serve(connection) => {}
                        _ = alive.wait_for(|alive| !*alive) => {}
                    }
                });
            }
        });
        *self.replicas[index].accepting.borrow_mut() = Some(accepting);
    }

    /// Closes the port and every connection of a replica.
    fn kill(&self, index: usize) {
        if let Some(accepting) = self.replicas[index].accepting.take() {
            accepting.abort();
        }
        self.replicas[index].alive.send_replace(false);
    }

    fn revive(self: &Rc<Self>, index: usize) -> io::Result<()> {
        let listener = listen(Some(self.replicas[index].address))?;
        self.replicas[index].alive.send_replace(true);
        self.revived.set(Some(Instant::now()));
        self.accept(index, listener);
        Ok(())
    }

    async fn serve(&self, mut socket: TcpStream) -> io::Result<()> {
        let mut requests = Requests::default();
        while let Some(request) = requests.next(&mut socket).await? {
            let Some(received) = Received::read(request.body) else {
                return Ok(());
            };
            self.newest.set(self.newest.get().max(received.generation));
            let _leaving = received.word.starts_with('p').then(|| Leaving::enter(self, &received.word));
            answer(&mut socket, &received).await?;
        }
        Ok(())
    }
}

/// A request whose client is going to leave. It ends with its connection, also when the replica
/// dies.
struct Leaving<'a> {
    model: &'a Model,
    word: String,
}

impl<'a> Leaving<'a> {
    fn enter(model: &'a Model, word: &str) -> Self {
        model.leaving.borrow_mut().insert(word.to_owned(), 0);
        Self { model, word: word.to_owned() }
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if let Some(left @ 1..) = self.model.leaving.borrow_mut().remove(&self.word) {
            self.model.followed.borrow_mut().add(now() - left);
        }
    }
}

fn listen(address: Option<SocketAddr>) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))))?;
    socket.listen(4096)
}

/// What a prompt asks for.
struct Received {
    word: String,
    pieces: u32,
    pause: Duration,
    stream: bool,
    usage: bool,
    generation: u32,
}

impl Received {
    fn read(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let between = |from: &str, to: char| text.split_once(from)?.1.split(to).next();
        let mut prompt = between("\"content\":\"soak ", '"')?.split(' ');
        Some(Self {
            word: prompt.next()?.to_owned(),
            pieces: prompt.next()?.parse().ok()?,
            pause: Duration::from_millis(prompt.next()?.parse().ok()?),
            stream: memmem::find(body, b"\"stream\":true").is_some(),
            usage: memmem::find(body, b"\"include_usage\":true").is_some(),
            generation: between("\"model\":\"up-", '"')?.parse().ok()?,
        })
    }
}

/// The n-th piece of the answer for a word.
pub(crate) fn piece(word: &str, n: u32) -> String {
    format!("{word}:{n} ")
}

/// Answers; fails when the gateway leaves.
async fn answer(socket: &mut TcpStream, received: &Received) -> io::Result<()> {
    if received.stream { stream(socket, received).await } else { whole(socket, received).await }
}

async fn whole(socket: &mut TcpStream, received: &Received) -> io::Result<()> {
    pause(socket, received.pause).await?;
    let text: String = (0..received.pieces).map(|n| piece(&received.word, n)).collect();
    let body = format!(
        "{{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"up\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}}}"
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all((head + &body).as_bytes()).await
}

async fn stream(socket: &mut TcpStream, received: &Received) -> io::Result<()> {
    const HEAD: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut out = HEAD.to_owned();
    for n in 0..received.pieces {
        event(&mut out, &format!("{{\"content\":\"{}\"}}", piece(&received.word, n)), "null");
        socket.write_all(out.as_bytes()).await?;
        out.clear();
        pause(socket, received.pause).await?;
    }
    event(&mut out, "{}", "\"stop\"");
    if received.usage {
        chunk(
            &mut out,
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"up\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}\n\n",
        );
    }
    chunk(&mut out, "data: [DONE]\n\n");
    out.push_str("0\r\n\r\n");
    socket.write_all(out.as_bytes()).await
}

fn event(out: &mut String, delta: &str, finish: &str) {
    chunk(
        out,
        &format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"up\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        ),
    );
}

fn chunk(out: &mut String, data: &str) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{:x}\r\n{data}\r\n", data.len());
}

/// Time passes, unless the gateway leaves: then this fails, at once.
async fn pause(socket: &mut TcpStream, time: Duration) -> io::Result<()> {
    if time.is_zero() {
        return Ok(());
    }
    match timeout(time, socket.read_u8()).await {
        Err(_) => Ok(()),
        Ok(_) => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Twice in the load the second replica dies, and is back a while later.
pub(crate) async fn kill_and_restart(rig: Rc<Rig>) {
    for _ in 0..2 {
        sleep(Duration::from_secs_f64(rig.plan.seconds / 4.0)).await;
        rig.report.borrow_mut().kills += 1;
        rig.model.kill(1);
        sleep(Duration::from_secs_f64(rig.plan.seconds / 10.0)).await;
        if let Err(error) = rig.model.revive(1) {
            rig.report.borrow_mut().lose("the rig's replica", &error.to_string());
        }
    }
}
