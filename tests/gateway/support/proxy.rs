//! An HTTP proxy that supports CONNECT, records the requests, and connects every tunnel to one
//! address.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A running proxy.
pub(crate) struct ConnectProxy {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// Starts a proxy whose tunnels all lead to `to`.
    pub(crate) async fn to(to: SocketAddr) -> Self {
        Self::start(Some(to), "HTTP/1.1 200 Connection established\r\n\r\n").await
    }

    /// Starts a proxy that sends this response to every request and opens no tunnel.
    pub(crate) async fn answers(answer: &'static str) -> Self {
        Self::start(None, answer).await
    }

    async fn start(to: Option<SocketAddr>, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(tcp, to, answer, Arc::clone(&kept)));
            }
        });
        Self { address, received }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }

    /// Returns the targets of all requests so far.
    pub(crate) fn goals(&self) -> Vec<String> {
        let goal = |head: &String| head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.heads().iter().map(goal).collect()
    }
}

async fn serve(
    mut tcp: TcpStream,
    to: Option<SocketAddr>,
    answer: &str,
    received: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tcp.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    received.lock().unwrap().push(String::from_utf8(head).unwrap());
    let _ = tcp.write_all(answer.as_bytes()).await;
    if let Some(to) = to {
        let mut there = TcpStream::connect(to).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut tcp, &mut there).await;
    }
}
