//! A Redis that supports one command, EVAL: the test decides what a script returns. It records the
//! calls.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A script that was run: its key, and its arguments as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eval {
    pub(crate) key: String,
    pub(crate) arguments: Vec<u64>,
}

/// Returns two numbers, or `None` for silence.
type Says = dyn Fn(&Eval) -> Option<[u64; 2]> + Send + Sync;

/// The server. It stops, with its connections, when dropped.
pub(crate) struct Redis {
    pub(crate) address: SocketAddr,
    evals: Arc<Mutex<Vec<Eval>>>,
    serving: JoinHandle<()>,
}

impl Redis {
    pub(crate) async fn start(
        says: impl Fn(&Eval) -> Option<[u64; 2]> + Send + Sync + 'static,
    ) -> Self {
        Self::on(([127, 0, 0, 1], 0).into(), says).await
    }

    pub(crate) async fn on(
        address: SocketAddr,
        says: impl Fn(&Eval) -> Option<[u64; 2]> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (evals, says): (Arc<Mutex<Vec<Eval>>>, Arc<Says>) = (Arc::default(), Arc::new(says));
        let kept = Arc::clone(&evals);
        let serving = tokio::spawn(async move {
            // its connections end with it
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&says), Arc::clone(&kept)));
            }
        });
        Self { address, evals, serving }
    }

    pub(crate) fn evals(&self) -> Vec<Eval> {
        self.evals.lock().unwrap().clone()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(stream: TcpStream, says: Arc<Says>, evals: Arc<Mutex<Vec<Eval>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(command) = read_command(&mut stream).await {
        let answer = match command[0].to_ascii_uppercase().as_str() {
            // EVAL script 1 key argument …
            "EVAL" => {
                let arguments =
                    command[4..].iter().map(|argument| argument.parse().unwrap()).collect();
                let eval = Eval { key: command[3].clone(), arguments };
                evals.lock().unwrap().push(eval.clone());
                match says(&eval) {
                    Some([first, second]) => format!("*2\r\n:{first}\r\n:{second}\r\n"),
                    None => continue,
                }
            }
            _ => "+OK\r\n".to_owned(),
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads an array of strings (RESP); `None` at the end.
async fn read_command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut phrase = Vec::new();
    for _ in 0..read_number(stream, '*').await? {
        let mut word = vec![0; read_number(stream, '$').await? + 2];
        stream.read_exact(&mut word).await.ok()?;
        phrase.push(String::from_utf8(word).unwrap().trim_end_matches("\r\n").to_owned());
    }
    Some(phrase)
}

async fn read_number(stream: &mut BufReader<TcpStream>, mark: char) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(mark)?.parse().ok()
}
