//! HTTP/2 towards clients (RFC 9113): by ALPN in TLS, by its preface on a plain connection.
//!
//! hyper implements the protocol; the requests go through the same stack as those of HTTP/1.1. All
//! of a connection is one task, its streams included: when the connection ends, everything that its
//! streams hold is dropped with it, at once. Streams share the socket, so none can be detached from
//! hyper as in `http1`; `body` has the limits that are enforced there.
//!
//! A connection belongs to one client, and everything that it can make us hold is bounded: streams,
//! windows, heads, unsent data, streams that it opens and resets.

mod body;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

use self::body::Http2Body;
use super::drain::{DRAIN_NOTICE, LINGER, Stop, drain_notice};
use crate::relay::RelayBody;
use crate::upstream::Stream;

/// The first bytes of a connection (§3.4). No request of HTTP/1.1 begins with them.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The pause between two checks for the rest of the preface.
const PREFACE_POLL: Duration = Duration::from_millis(10);
/// The protocol's name in ALPN (§3.2).
pub(super) const ALPN: &[u8] = b"h2";

/// Concurrent requests on one connection. 100 is the least that is recommended (§6.5.2), and a
/// proxy that has more opens another connection; what matters is how much a client can make us
/// hold.
const MAX_STREAMS: u32 = 128;
/// Bytes of a request's body that may arrive before any of it is read.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same for all bodies on a connection: requests that wait for a permit do not block the
/// others.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Unsent bytes of a response, per stream. hyper's default is 400 KiB.
const SEND_BUFFER: usize = 32 * 1024;
/// Streams that were reset before hyper had passed their request on (CVE-2023-44487, rapid reset);
/// one more ends the connection.
const MAX_PENDING_RESETS: usize = 20;
/// Streams that had to be reset because of what the client sent (CVE-2025-8671); one more ends the
/// connection.
const MAX_LOCAL_RESETS: usize = 64;
/// The interval of pings. Without them a dead client would go unnoticed while its response is
/// generated.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A client that has not acknowledged a ping by then is disconnected.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a drain waits, once no stream is open, for a client to receive the GOAWAY and read the
/// last bytes.
const GOAWAY_LINGER: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// The response body of the stream that is being polled.
    static STREAM_BODY: Http2Body;
}

/// The configured limits of a connection.
#[derive(Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// The longest head of a request, in bytes.
    pub(super) max_headers: usize,
    /// The longest time without a request.
    pub(super) idle: Duration,
}

/// Whether a client that has just connected uses HTTP/2. On a plain connection this is decided by
/// its first bytes, which are not consumed. Fails when they do not arrive within `limit`, or when
/// Weir stops first.
pub(super) async fn is_http2(
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
        has_preface = timeout(limit, has_preface(stream)) => has_preface?,
        () = drain_notice(stop, Stop::Soon) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn has_preface(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        if count == 0 || count == first.len() || !PREFACE.starts_with(&first[..count]) {
            return Ok(first == PREFACE);
        }
        // the bytes that are there already would wake us again and again
        sleep(PREFACE_POLL).await;
    }
}

/// Serves a connection until it ends, has been idle for too long, or Weir stops; then sends a
/// GOAWAY and lets the streams that are open finish.
pub(super) async fn serve<S>(
    stream: Stream,
    stack: S,
    limits: ConnectionLimits,
    stop: watch::Receiver<Stop>,
) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<RelayBody>, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
{
    let new_streams = NewStreams::default();
    let service = service_fn(move |request| {
        let mut stack = stack.clone();
        async move {
            let (parts, body) = stack.call(request).await?.into_parts();
            let http2_body = STREAM_BODY.try_with(Http2Body::clone).unwrap_or_default();
            http2_body.set(body);
            Ok::<_, Infallible>(Response::from_parts(parts, http2_body))
        }
    });
    let io = TokioIo::new(stream);
    let mut serving = pin!(limits.builder(new_streams.clone()).serve_connection(io, service));
    let mut streams = Streams { new_streams, open: FuturesUnordered::new(), has_served: false };
    let linger = tokio::select! {
        biased;
        ended = streams.run(serving.as_mut(), limits.idle) => match ended {
            Some(ended) => return ended,
            None => LINGER,
        },
        () = goaway_due(stop) => GOAWAY_LINGER,
    };
    serving.as_mut().graceful_shutdown();
    let linger = if streams.has_served { linger } else { DRAIN_NOTICE };
    streams.run(serving, linger).await.unwrap_or(Ok(()))
}

/// Waits until it is time to send a GOAWAY: as soon as Weir stops, since requests that are on their
/// way are still answered (§6.8). A client that connects after that may send requests for
/// [`DRAIN_NOTICE`].
async fn goaway_due(mut stop: watch::Receiver<Stop>) {
    if *stop.borrow() >= Stop::Soon {
        sleep(DRAIN_NOTICE).await;
    }
    let _ = stop.wait_for(|stop| *stop >= Stop::Soon).await;
}

impl ConnectionLimits {
    fn builder(self, new_streams: NewStreams) -> http2::Builder<NewStreams> {
        let mut builder = http2::Builder::new(new_streams);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(self.max_headers).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_LOCAL_RESETS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        builder
    }
}

/// One stream: a request and its response.
type StreamFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The streams of one connection.
struct Streams {
    new_streams: NewStreams,
    open: FuturesUnordered<StreamFuture>,
    /// Whether there has been a stream.
    has_served: bool,
}

impl Streams {
    /// Runs the connection and its streams, and returns how it ended; `None` once there has been no
    /// stream for `idle`.
    async fn run<C: Future>(
        &mut self,
        mut serving: Pin<&mut C>,
        idle: Duration,
    ) -> Option<C::Output> {
        let mut idle_timer = None;
        poll_fn(|cx| {
            loop {
                while let Poll::Ready(Some(())) = self.open.poll_next_unpin(cx) {}
                if let Poll::Ready(ended) = serving.as_mut().poll(cx) {
                    return Poll::Ready(Some(ended));
                }
                let accepted = self.new_streams.take();
                if accepted.is_empty() {
                    break;
                }
                self.has_served = true;
                self.open.extend(accepted);
            }
            if !self.open.is_empty() {
                idle_timer = None;
                return Poll::Pending;
            }
            let timer = idle_timer.get_or_insert_with(|| Box::pin(sleep(idle)));
            timer.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

/// The executor of a connection: collects the streams that hyper accepts.
#[derive(Clone, Default)]
struct NewStreams {
    accepted: Arc<Mutex<Vec<StreamFuture>>>,
}

impl NewStreams {
    /// Returns the streams accepted since the last call.
    fn take(&self) -> Vec<StreamFuture> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<StreamFuture>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for NewStreams {
    fn execute(&self, stream: F) {
        let body = Http2Body::default();
        let polled_body = body.clone();
        let stream = async move {
            let mut stream = pin!(stream);
            poll_fn(|cx| match stream.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                // dropped unfinished, the future resets its stream
                Poll::Pending => polled_body.poll_stalled(cx),
            })
            .await;
        };
        self.lock().push(Box::pin(STREAM_BODY.scope(body, stream)));
    }
}
