//! HTTP/2 towards clients (RFC 9113): by ALPN in TLS, by its preface on a plain connection.
//!
//! hyper speaks the protocol; the requests go through the same stack as those of HTTP/1.1. All of a
//! connection is one task, its streams included: when the connection goes, whatever its streams
//! hold goes with it, at once. Streams share the socket, so none can leave hyper as in `handover`;
//! `outlet` is what stands in for that.
//!
//! A connection is one client's, and everything that it can make us hold is bounded: streams,
//! windows, heads, what waits to be written, streams that it opens and resets.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tower::Service;

use super::handover::LINGER;
use super::worker::last_call;
use super::{LAST_CALL, Stop};
use crate::relay::RelayBody;
use crate::server::http2_body::Outlet;
use crate::upstream::Stream;

/// The first bytes of a connection (§3.4). No request of HTTP/1.1 begins like that.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between two looks for the rest of it.
const LOOK: Duration = Duration::from_millis(10);
/// Its name in ALPN (§3.2).
pub(super) const ALPN: &[u8] = b"h2";

/// Requests at once on one connection. 100 is the least that is recommended (§6.5.2), and a proxy
/// that has more opens another connection; it is what a client may make us hold that matters.
const STREAMS: u32 = 128;
/// Bytes of a request's body that may come unasked.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same of all bodies on a connection: some that wait for their place do not hold up the
/// others.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that wait to be written, of each stream. hyper's own would be 400 KiB.
const SEND_BUFFER: usize = 32 * 1024;
/// Streams that were reset before we saw their request (CVE-2023-44487, rapid reset); one more ends
/// the connection.
const UNSEEN_RESETS: usize = 20;
/// Streams that had to be reset for what their client sent (CVE-2025-8671); one more ends the
/// connection.
const FAULTY_STREAMS: usize = 64;
/// A client that is there answers a ping. Without one a dead machine would be noticed by nobody
/// while an answer is made.
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// How long a drain waits, once no stream runs, for a client to hear the goodbye and take the last
/// bytes.
const HEARD: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// Of the stream that is being run.
    static OUTLET: Outlet;
}

/// What the configuration says of a connection.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of one request's head.
    pub(super) max_headers: usize,
    /// Without a request.
    pub(super) idle: Duration,
}

/// Whether a client that has just connected speaks HTTP/2. On a plain connection its first bytes
/// say so, within the limit; they stay to be read.
pub(super) async fn is_spoken(
    stream: &Stream,
    limit: Duration,
    stop: watch::Receiver<Stop>,
) -> io::Result<bool> {
    let stream = match stream {
        Stream::Tls(stream) => return Ok(stream.get_ref().1.alpn_protocol() == Some(ALPN)),
        Stream::Plain(stream) => stream,
    };
    tokio::select! {
        biased;
        looked = timeout(limit, has_preface(stream)) => looked?,
        () = last_call(stop, Stop::Soon) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn has_preface(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        if count == 0 || count == first.len() || !PREFACE.starts_with(&first[..count]) {
            return Ok(first == PREFACE);
        }
        // what is there already would wake us again and again
        sleep(LOOK).await;
    }
}

/// Serves a connection until it ends, has been idle for too long, or Weir stops; then it says
/// goodbye (GOAWAY), and what has begun may end.
pub(super) async fn serve<S>(
    stream: Stream,
    stack: S,
    bounds: Bounds,
    stop: watch::Receiver<Stop>,
) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<RelayBody>, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
{
    let arrivals = Arrivals::default();
    let service = service_fn(move |request| {
        let mut stack = stack.clone();
        async move {
            let (parts, body) = stack.call(request).await?.into_parts();
            let outlet = OUTLET.try_with(Outlet::clone).unwrap_or_default();
            outlet.fill(body);
            Ok::<_, Infallible>(Response::from_parts(parts, outlet))
        }
    });
    let io = TokioIo::new(stream);
    let mut serving = pin!(bounds.builder(arrivals.clone()).serve_connection(io, service));
    let mut streams = Streams { arrivals, running: FuturesUnordered::new(), has_served: false };
    let patience = tokio::select! {
        biased;
        ended = streams.run(serving.as_mut(), bounds.idle) => match ended {
            Some(ended) => return ended,
            None => LINGER,
        },
        () = farewell(stop) => HEARD,
    };
    serving.as_mut().graceful_shutdown();
    let patience = if streams.has_served { patience } else { LAST_CALL };
    streams.run(serving, patience).await.unwrap_or(Ok(()))
}

/// Ready when it is time to say goodbye: as soon as Weir stops, since what is on its way is still
/// answered (§6.8). Whoever comes after that gets to ask.
async fn farewell(mut stop: watch::Receiver<Stop>) {
    if *stop.borrow() >= Stop::Soon {
        sleep(LAST_CALL).await;
    }
    let _ = stop.wait_for(|stop| *stop >= Stop::Soon).await;
}

impl Bounds {
    fn builder(self, arrivals: Arrivals) -> http2::Builder<Arrivals> {
        let mut builder = http2::Builder::new(arrivals);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(self.max_headers).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(UNSEEN_RESETS)
            .max_local_error_reset_streams(FAULTY_STREAMS)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WITHIN);
        builder
    }
}

/// A request and its answer.
type Exchange = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The streams of one connection.
struct Streams {
    arrivals: Arrivals,
    running: FuturesUnordered<Exchange>,
    has_served: bool,
}

impl Streams {
    /// Runs the connection and its streams. `None` once there has been no stream for so long.
    async fn run<C: Future>(
        &mut self,
        mut serving: Pin<&mut C>,
        idle: Duration,
    ) -> Option<C::Output> {
        let mut silence = None;
        poll_fn(|cx| {
            loop {
                while let Poll::Ready(Some(())) = self.running.poll_next_unpin(cx) {}
                if let Poll::Ready(ended) = serving.as_mut().poll(cx) {
                    return Poll::Ready(Some(ended));
                }
                let arrived = self.arrivals.take();
                if arrived.is_empty() {
                    break;
                }
                self.has_served = true;
                self.running.extend(arrived);
            }
            if !self.running.is_empty() {
                silence = None;
                return Poll::Pending;
            }
            silence.get_or_insert_with(|| Box::pin(sleep(idle))).as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

/// Where hyper puts a connection's new streams: its executor.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<Vec<Exchange>>>);

impl Arrivals {
    fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Arrivals {
    fn execute(&self, exchange: F) {
        let outlet = Outlet::default();
        let watched = outlet.clone();
        let exchange = async move {
            let mut exchange = pin!(exchange);
            poll_fn(|cx| match exchange.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                // dropped with its stream unfinished, it resets it
                Poll::Pending => watched.poll_overdue(cx),
            })
            .await;
        };
        let exchange = Box::pin(OUTLET.scope(outlet, exchange));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
    }
}
