//! The accept loop of the listeners outside of the data path (admin, the demo's model server): an
//! ordinary runtime, few connections, each bounded in time. The data path has its own loop per
//! worker.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::drain::DRAIN_NOTICE;

/// How long a client may take to send a request's head, and so also how long an idle connection is
/// kept: hyper starts this timer when it begins to wait for a head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a response under way may go on once a connection has to end.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// The pause after a failed accept (no file descriptors): trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The limits of one such listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// Concurrent connections; more wait in the kernel's queue.
    pub connections: usize,
    /// After this time a connection takes no further request, and one under way gets five seconds
    /// more.
    pub lifetime: Duration,
}

/// Serves HTTP/1.1 until `stop` is true or its sender is dropped, then lets responses under way
/// finish for up to five seconds. Every task it spawned has ended when it returns.
pub async fn serve<H, F, B>(
    listener: TcpListener,
    limits: ListenerLimits,
    mut stop: watch::Receiver<bool>,
    handler: H,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut connections = JoinSet::new();
    let mut stopping = stop.clone();
    let mut stopping = pin!(stopping.wait_for(|stop| *stop));
    loop {
        let accepted = tokio::select! {
            _ = &mut stopping => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < limits.connections => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(
                    stream,
                    limits.lifetime,
                    stop.clone(),
                    handler.clone(),
                ));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                let _ = timeout(ACCEPT_PAUSE, stop.wait_for(|stop| *stop)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection. How it ended is not reported: the client sees it.
async fn connection<H, F, B>(
    stream: TcpStream,
    lifetime: Duration,
    mut stop: watch::Receiver<bool>,
    handler: H,
) where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let _ = stream.set_nodelay(true);
    let stopping = stop.clone();
    let service = service_fn(|request| {
        let (responding, is_last) = (handler(request), *stopping.borrow());
        async move {
            let mut response = responding.await;
            if is_last {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = serving.as_mut() => return,
        () = drain_notice(&mut stop) => {}
        () = sleep(lifetime) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = timeout(FINISH_TIMEOUT, serving).await;
}

/// Waits until [`DRAIN_NOTICE`] after `stop`: a client that is about to send a request is answered.
async fn drain_notice(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
    sleep(DRAIN_NOTICE).await;
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use bytes::Bytes;
    use http::Response;
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;
    use tokio::time::timeout;

    use super::{ListenerLimits, serve};

    async fn start(limits: ListenerLimits) -> (SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let answer = |_| async { Response::new(Full::new(Bytes::from_static(b"ok"))) };
        tokio::spawn(serve(listener, limits, stopped, answer));
        (address, stop)
    }

    async fn get(stream: &mut TcpStream) -> usize {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        stream.read(&mut [0; 512]).await.unwrap()
    }

    #[tokio::test]
    async fn further_connections_wait_for_one_to_close() {
        let (address, _stop) =
            start(ListenerLimits { connections: 1, lifetime: Duration::from_secs(60) }).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(get(&mut first).await > 0);
        let mut second = TcpStream::connect(address).await.unwrap();
        assert!(timeout(Duration::from_millis(100), get(&mut second)).await.is_err());
        drop(first);
        let answered =
            timeout(Duration::from_secs(2), second.read(&mut [0; 512])).await.unwrap().unwrap();
        assert!(answered > 0);
    }

    #[tokio::test]
    async fn a_connection_from_before_the_stop_is_answered_with_connection_close() {
        let (address, stop) =
            start(ListenerLimits { connections: 1, lifetime: Duration::from_secs(60) }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(get(&mut stream).await > 0);
        stop.send_replace(true);
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(Duration::from_secs(5), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.contains("connection: close") && answer.ends_with("ok"), "{answer}");
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_lifetime() {
        let (address, _stop) =
            start(ListenerLimits { connections: 1, lifetime: Duration::from_millis(100) }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(get(&mut stream).await > 0);
        assert_eq!(
            timeout(Duration::from_secs(2), stream.read(&mut [0; 16])).await.unwrap().unwrap(),
            0
        );
    }
}
