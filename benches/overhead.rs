//! What the gateway adds to a request: `cargo bench --bench overhead`.
//!
//! A real gateway (`App`, one worker) and a model server of canned answers, both in this process,
//! over loopback sockets. The same request goes to the server directly and through the gateway in
//! turn, one at a time, in rounds: what is added is the median over the rounds of the difference of
//! their medians, so that a neighbour who wakes up in the middle spoils a round and not the result.
//! `compare.sh` measures processes pinned to cores; this needs no second program and no privilege.
#![expect(clippy::unwrap_used, reason = "a bench may stop at a broken fixture")]
#![expect(clippy::expect_used, reason = "a bench may stop at a broken fixture")]
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use weir::app::App;
use weir::config::{self, Environment};

/// Rounds, and requests per way in each.
const ROUNDS: usize = 30;
const REQUESTS: usize = 200;
/// Events of a streamed answer, sent without a pause.
const EVENTS: usize = 20;

fn main() {
    let server = serve_canned_answers();
    let (gateway, stop, thread) = start_gateway(server);
    println!(
        "{:<34}{:>12}{:>12}{:>12}{:>12}",
        "microseconds", "direct p50", "added p50", "direct p99", "added p99"
    );
    for (name, stream) in [("1 KB, whole", false), ("20 events, streamed", true)] {
        println!("{name:<34}{}", compare(server, gateway, stream));
    }
    drop(stop);
    thread.join().unwrap();
}

/// A gateway in front of `server`; it ends when the sender is dropped.
fn start_gateway(server: SocketAddr) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let file = format!(
        "server = {{ listen = \"127.0.0.1:0\", workers = 1 }}\nadmin.listen = \"127.0.0.1:0\"\nauth.mode = \"off\"\n\
         telemetry.level = \"error\"\nfeatures.default = \"m\"\n\
         [models.m]\nidentifier = \"custom_openai/m\"\nfamily = \"general\"\nendpoints = [\"http://{server}/v1\"]\n"
    );
    let config =
        config::from_str(&file, "bench.toml", &Environment::default()).expect("a correct file");
    let app = App::build(config, Box::new(std::io::sink())).unwrap();
    let address = app.public_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(app.run(async move { drop(stopped.await) })).unwrap();
    });
    (address, stop, thread)
}

/// One row of the table.
fn compare(server: SocketAddr, gateway: SocketAddr, stream: bool) -> String {
    let request = request(stream);
    let mut connections = [server, gateway].map(|address| {
        let connection = TcpStream::connect(address).unwrap();
        connection.set_nodelay(true).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        connection
    });
    let (mut all, mut added) = ([Vec::new(), Vec::new()], Vec::new());
    for round in 0..=ROUNDS {
        let medians: [Duration; 2] = std::array::from_fn(|direction| {
            let mut times: Vec<_> =
                (0..REQUESTS).map(|_| ask(&mut connections[direction], &request)).collect();
            // The first round warms up.
            all[direction].extend(times.iter().filter(|_| round > 0));
            at(&mut times, 50)
        });
        if round > 0 {
            added.push(medians[1].saturating_sub(medians[0]));
        }
    }
    let [mut direct, mut through] = all;
    let (direct_p99, through_p99) = (at(&mut direct, 99), at(&mut through, 99));
    [at(&mut direct, 50), at(&mut added, 50), direct_p99, through_p99.saturating_sub(direct_p99)]
        .map(|time| format!("{:>12.1}", time.as_secs_f64() * 1e6))
        .concat()
}

/// The time at this percentage.
fn at(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

fn request(stream: bool) -> Vec<u8> {
    let text = "lorem ipsum ".repeat(75);
    let body = format!(
        "{{\"model\":\"m\",\"stream\":{stream},\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}"
    );
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Sends a request and reads its whole answer.
fn ask(connection: &mut TcpStream, request: &[u8]) -> Duration {
    let started = Instant::now();
    connection.write_all(request).unwrap();
    let mut answer = Vec::with_capacity(16 << 10);
    while !is_whole(&answer) {
        assert!(
            read_more(connection, &mut answer),
            "no whole answer: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    let taken = started.elapsed();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    taken
}

fn read_more(connection: &mut TcpStream, into: &mut Vec<u8>) -> bool {
    let mut piece = [0; 16 << 10];
    let length = connection.read(&mut piece).unwrap_or(0);
    into.extend_from_slice(&piece[..length]);
    length > 0
}

/// Whether a message has arrived to its end: by its length, or by the last chunk.
fn is_whole(message: &[u8]) -> bool {
    let Some(head_end) = message.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&message[..head_end]).to_ascii_lowercase();
    match head.split("content-length: ").nth(1) {
        Some(rest) => {
            let length: usize =
                rest.lines().next().unwrap_or(rest).trim().parse().expect("a length");
            message.len() >= head_end + 4 + length
        }
        None => message.ends_with(b"\r\n0\r\n\r\n"),
    }
}

/// A model server with two answers; a thread per connection.
fn serve_canned_answers() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || answer_all(connection));
        }
    });
    address
}

fn answer_all(mut connection: TcpStream) {
    let (whole, events) = (whole(), events());
    connection.set_nodelay(true).unwrap();
    loop {
        let mut request = Vec::new();
        while !is_whole(&request) {
            if !read_more(&mut connection, &mut request) {
                return;
            }
        }
        let streamed = request.windows(13).any(|bytes| bytes == b"\"stream\":true");
        let answer: &[Vec<u8>] = if streamed { &events } else { &whole };
        for piece in answer {
            if connection.write_all(piece).is_err() {
                return;
            }
        }
    }
}

fn whole() -> [Vec<u8>; 1] {
    let text = "x".repeat(800);
    let body = format!(
        "{{\"id\":\"1\",\"object\":\"chat.completion\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":200,\"completion_tokens\":150}}}}"
    );
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
    [format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()]
}

fn events() -> Vec<Vec<u8>> {
    let chunk = |data: &str| format!("{:x}\r\n{data}\r\n", data.len()).into_bytes();
    let event = |delta: &str, reason: &str| {
        chunk(&format!(
            "data: {{\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{reason}}}]}}\n\n"
        ))
    };
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut pieces = vec![head.as_bytes().to_vec()];
    pieces.extend((0..EVENTS).map(|_| event("{\"content\":\" lorem ipsum\"}", "null")));
    pieces
        .push([event("{}", "\"stop\""), chunk("data: [DONE]\n\n"), b"0\r\n\r\n".to_vec()].concat());
    pieces
}
