//! One worker: a thread with its own runtime, socket, pool and telemetry. Nothing on a request's
//! path leaves it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::rt::Write as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tower::Service;

use super::admit::Admission;
use super::client_io::ClientIo;
use super::handover::{ChunkWriter, GRACE, Handover, Outgoing, Parked, keeps_alive};
use super::http2;
use super::listener::BACKLOG;
use super::stack::stack;
use super::tls::{Refused, accept};
use super::{Certificates, Identity, LAST_CALL, Settings, Stop};
use crate::api::Api;
use crate::relay::{Ending, Relay, RelayBody};
use crate::server::connection_limit::{Connected, PerClient};
use crate::snapshot::Shared;
use crate::telemetry::{Metrics, WorkerTelemetry};
use crate::upstream::{Registry, Stream, Upstreams};

/// How often buffered log lines are written and old connections closed.
const TICK: Duration = Duration::from_millis(100);
/// After a failed accept (out of descriptors, mostly): time for some to come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a worker is made of.
pub(super) struct Worker {
    pub(super) settings: Settings,
    pub(super) shared: Shared,
    pub(super) certificates: Certificates,
    pub(super) metrics: Arc<Metrics>,
    pub(super) registry: Arc<Registry>,
    pub(super) telemetry: Arc<WorkerTelemetry>,
    pub(super) admission: Arc<Admission>,
    pub(super) clients: Option<Arc<PerClient>>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) stop: watch::Receiver<Stop>,
}

impl Worker {
    /// Accepts and serves until told to stop, then drains.
    pub(super) async fn run(self, listeners: Vec<TcpListener>) {
        let upstreams = Upstreams::new(Arc::clone(&self.registry));
        let api = Arc::new(Api::new(
            self.shared.clone(),
            Relay::new(upstreams),
            Arc::clone(&self.draining),
        ));
        let (end, ending) = Ending::set();
        let mut connections = JoinSet::new();
        let mut stop = self.stop.clone();
        let mut stop = pin!(stop.wait_for(|stop| *stop == Stop::Drain));
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accepted = accept_any(&listeners) => match accepted {
                    Ok((stream, peer)) => self.take(stream, peer, &api, &ending, &mut connections),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = tick.tick() => self.tick(&api, &mut connections),
                _ = &mut stop => break,
            }
        }
        for (stream, peer) in accept_pending(listeners) {
            self.take(stream, peer, &api, &ending, &mut connections);
        }
        self.drain(&api, &end, &mut connections).await;
    }

    /// A new connection among those of its client; `None` when that has too many.
    fn counted(&self, peer: SocketAddr) -> Option<Option<Connected>> {
        let Some(clients) = &self.clients else { return Some(None) };
        let connected = clients.connect(peer.ip().to_canonical());
        if connected.is_none() {
            self.metrics.connections_refused.inc();
            tracing::debug!(client = %peer.ip(), "connection refused: limits.connections_per_client");
        }
        connected.map(Some)
    }

    /// Serves a connection, unless its client has enough of them.
    fn take(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        api: &Arc<Api>,
        ending: &Ending,
        connections: &mut JoinSet<()>,
    ) {
        if let Some(counted) = self.counted(peer) {
            connections.spawn(self.serve(stream, peer, api, ending, counted));
        }
    }

    fn tick(&self, api: &Api, connections: &mut JoinSet<()>) {
        self.telemetry.flush();
        api.relay().upstreams().prune();
        while connections.try_join_next().is_some() {}
    }

    /// Connections end after their current answer. What is left at the limit is told so, and cut
    /// where its client does not take that.
    async fn drain(&self, api: &Api, end: &watch::Sender<bool>, connections: &mut JoinSet<()>) {
        if !self.emptied(api, connections, self.settings.drain).await {
            tracing::warn!(
                left = connections.len(),
                "resilience.drain is over: what still runs is given up"
            );
            end.send_replace(true);
            if !self.emptied(api, connections, GRACE).await {
                tracing::warn!(
                    cut = connections.len(),
                    "clients that do not take their answer's end are cut"
                );
                connections.shutdown().await;
            }
        }
        self.telemetry.flush();
    }

    /// Whether all connections have ended within a time.
    async fn emptied(&self, api: &Api, connections: &mut JoinSet<()>, limit: Duration) -> bool {
        let all = async {
            loop {
                tokio::select! {
                    ended = connections.join_next() => if ended.is_none() { break },
                    () = sleep(TICK) => { self.telemetry.flush(); api.relay().upstreams().prune(); }
                }
            }
        };
        timeout(limit, all).await.is_ok()
    }

    /// The future that serves one connection.
    fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        api: &Arc<Api>,
        ending: &Ending,
        counted: Option<Connected>,
    ) -> impl Future<Output = ()> + Send + use<> {
        // A hint to the kernel; a connection without it is slower, not wrong.
        let _ = stream.set_nodelay(true);
        let client: IpAddr = peer.ip().to_canonical();
        let sink = Arc::clone(&self.telemetry);
        let stack =
            stack(Arc::clone(api), sink, Arc::clone(&self.admission), client, ending.clone());
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.settings.header_timeout)
            .max_buf_size(self.settings.max_headers)
            // ClientIo notices a client that leaves
            .half_close(true);
        let (identity, limit) = (self.certificates.load(), self.settings.header_timeout);
        let bounds = http2::Bounds { max_headers: self.settings.max_headers, idle: limit };
        let metrics = Arc::clone(&self.metrics);
        let stop = self.stop.clone();
        async move {
            let _counted = counted;
            let stream = match identity {
                None => Stream::Plain(stream),
                // boxed: a handshake's state would stay a part of every connection's
                Some(identity) => {
                    match Box::pin(handshake(stream, &identity, limit, stop.clone())).await {
                        Ok(stream) => stream,
                        Err(refused) => {
                            metrics.tls_handshakes_failed.get(&refused.labels()).inc();
                            tracing::debug!(%client, %refused, "connection ended");
                            return;
                        }
                    }
                }
            };
            // Clients leave, send rubbish or let their headers time out: theirs to know, ours to
            // count.
            let ended = match http2::is_spoken(&stream, limit, stop.clone()).await {
                Ok(false) => connection(stream, stack, http, stop).await,
                // boxed for the same reason
                Ok(true) => {
                    Box::pin(http2::serve(stream, stack, bounds, stop)).await.map_err(Into::into)
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = ended {
                tracing::debug!(%client, error, "connection ended");
            }
        }
    }
}

/// The next connection, whichever socket it comes on.
async fn accept_any(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        let mut polled = listeners.iter().map(|listener| listener.poll_accept(cx));
        polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// The connections that the kernel has made for us already: it would reset them when the socket
/// closes. One that is made between the last look and the close is lost, unless a successor holds
/// the socket too.
fn accept_pending(listeners: Vec<TcpListener>) -> Vec<(TcpStream, SocketAddr)> {
    let mut pending = Vec::new();
    // not by the runtime, which may not have heard of them yet
    for listener in listeners.into_iter().filter_map(|listener| listener.into_std().ok()) {
        let accepted = std::iter::from_fn(|| listener.accept().ok()).take(BACKLOG as usize);
        pending.extend(accepted.filter_map(|(stream, peer)| {
            stream.set_nonblocking(true).ok()?;
            Some((TcpStream::from_std(stream).ok()?, peer))
        }));
    }
    pending
}

/// A drain waits for a client that has asked for nothing yet no longer than for any other.
async fn handshake(
    tcp: TcpStream,
    identity: &Identity,
    limit: Duration,
    stop: watch::Receiver<Stop>,
) -> Result<Stream, Refused> {
    tokio::select! {
        accepted = accept(tcp, identity, limit) => accepted,
        () = last_call(stop, Stop::Drain) => Err(Refused::Draining),
    }
}

/// Ready some time after it was told to stop.
pub(super) async fn last_call(mut stop: watch::Receiver<Stop>, from: Stop) {
    let _ = stop.wait_for(|stop| *stop >= from).await;
    sleep(LAST_CALL).await;
}

/// One connection of HTTP/1.1: hyper reads requests and writes heads and short answers; streams are
/// written by us.
async fn connection<S>(
    stream: Stream,
    stack: S,
    http: http1::Builder,
    stop: watch::Receiver<Stop>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: Service<Request<Incoming>, Response = Response<RelayBody>, Error = Infallible, Future: Send>
        + Clone,
{
    let handover = Arc::new(Handover::default());
    let mut io = ClientIo::new(stream, Arc::clone(&handover));
    while let Some((mut parked, back)) = until_stream(io, &stack, &http, &handover, &stop).await? {
        io = back;
        let mut chunks = ChunkWriter::new(parked.in_chunks);
        poll_fn(|cx| chunks.poll(cx, &mut io, &mut parked.body)).await?;
        if !parked.keep_alive {
            poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx)).await?;
            break;
        }
    }
    Ok(())
}

/// hyper's turn: requests with short answers, until one of them has a stream to give, or the
/// connection ends. A function of its own, so that its state is no part of an open stream's.
async fn until_stream<S>(
    io: ClientIo,
    stack: &S,
    http: &http1::Builder,
    handover: &Arc<Handover>,
    stop: &watch::Receiver<Stop>,
) -> Result<Option<(Box<Parked>, ClientIo)>, hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<RelayBody>, Error = Infallible, Future: Send>
        + Clone,
{
    let service = service_fn(|request| answer(stack.clone(), request, handover, stop));
    let mut serving = http.serve_connection(io, service);
    let turn = tokio::select! {
        biased;
        turn = until_handover(&mut serving, handover) => turn,
        () = last_call(stop.clone(), Stop::Soon) => {
            Pin::new(&mut serving).graceful_shutdown();
            until_handover(&mut serving, handover).await
        }
    };
    let Some(parked) = turn? else { return Ok(None) };
    let parts = serving.into_parts();
    let mut io = parts.io;
    io.unread(parts.read_buf);
    Ok(Some((parked, io)))
}

/// Runs the stack; a streamed answer is parked for the connection's task. Once Weir stops, an
/// answer says that it is the connection's last: whoever would ask again on it does not run into
/// its close.
async fn answer<S>(
    mut stack: S,
    request: Request<Incoming>,
    handover: &Arc<Handover>,
    stop: &watch::Receiver<Stop>,
) -> Result<Response<Outgoing>, Infallible>
where
    S: Service<Request<Incoming>, Response = Response<RelayBody>, Error = Infallible>,
{
    let keep_alive = keeps_alive(&request);
    let mut response = stack.call(request).await?;
    let is_last = stop.has_changed().unwrap_or(true);
    if is_last {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(handover.offer(response, keep_alive.map(|keep_alive| keep_alive && !is_last)))
}

/// Runs hyper until its connection ends (`None`) or it has written its part of a streamed answer.
async fn until_handover<F>(
    serving: &mut F,
    handover: &Handover,
) -> Result<Option<Box<Parked>>, hyper::Error>
where
    F: Future<Output = Result<(), hyper::Error>> + Unpin,
{
    poll_fn(|cx| match Pin::new(&mut *serving).poll(cx) {
        Poll::Ready(ended) => Poll::Ready(ended.map(|()| None)),
        Poll::Pending => {
            handover.take().map_or(Poll::Pending, |parked| Poll::Ready(Ok(Some(parked))))
        }
    })
    .await
}
