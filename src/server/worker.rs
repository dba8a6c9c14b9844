//! One worker: a thread with its own runtime, socket, pool and telemetry. Nothing on a request's path leaves
//! it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
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
use super::handover::{ChunkWriter, Handover, Outgoing, Parked, keeps_alive};
use super::per_client::{Connected, PerClient};
use super::stack::stack;
use super::tls::{Refused, accept};
use super::{Certificates, Identity, Settings, Stop};
use crate::api::Api;
use crate::relay::{Relay, RelayBody};
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
    pub(super) async fn run(self, listener: TcpListener) {
        let upstreams = Upstreams::new(Arc::clone(&self.registry));
        let api = Arc::new(Api::new(self.shared.clone(), Relay::new(upstreams), Arc::clone(&self.draining)));
        let mut connections = JoinSet::new();
        let mut stop = self.stop.clone();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => if let Some(counted) = self.counted(peer) {
                        connections.spawn(self.serve(stream, peer, &api, counted));
                    },
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = tick.tick() => self.tick(&api, &mut connections),
                _ = stop.changed() => break,
            }
        }
        drop(listener);
        self.drain(&api, &mut connections).await;
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

    fn tick(&self, api: &Api, connections: &mut JoinSet<()>) {
        self.telemetry.flush();
        api.relay().upstreams().prune();
        while connections.try_join_next().is_some() {}
    }

    /// Connections end after their current answer; what is left at the limit is cut.
    async fn drain(&self, api: &Api, connections: &mut JoinSet<()>) {
        let all = async {
            loop {
                tokio::select! {
                    ended = connections.join_next() => if ended.is_none() { break },
                    () = sleep(TICK) => { self.telemetry.flush(); api.relay().upstreams().prune(); }
                }
            }
        };
        if timeout(self.settings.drain, all).await.is_err() {
            tracing::warn!(cut = connections.len(), "resilience.drain is over: connections are cut");
            connections.shutdown().await;
        }
        self.telemetry.flush();
    }

    /// The future that serves one connection.
    fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        api: &Arc<Api>,
        counted: Option<Connected>,
    ) -> impl Future<Output = ()> + Send + use<> {
        // A hint to the kernel; a connection without it is slower, not wrong.
        let _ = stream.set_nodelay(true);
        let client: IpAddr = peer.ip().to_canonical();
        let sink = Arc::clone(&self.telemetry);
        let stack = stack(Arc::clone(api), sink, Arc::clone(&self.admission), client);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.settings.header_timeout)
            .max_buf_size(self.settings.max_headers)
            // ClientIo notices a client that leaves
            .half_close(true);
        let (identity, limit) = (self.certificates.load(), self.settings.header_timeout);
        let metrics = Arc::clone(&self.metrics);
        let mut stop = self.stop.clone();
        async move {
            let _counted = counted;
            let stream = match identity {
                None => Stream::Plain(stream),
                // boxed: a handshake's state would stay a part of every connection's
                Some(identity) => match Box::pin(handshake(stream, &identity, limit, &mut stop)).await {
                    Ok(stream) => stream,
                    Err(refused) => {
                        metrics.tls_handshakes_failed.with_label_values(&[refused.label()]).inc();
                        tracing::debug!(%client, %refused, "connection ended");
                        return;
                    }
                },
            };
            // Clients leave, send rubbish or let their headers time out: theirs to know, ours to count.
            if let Err(error) = connection(stream, stack, http, stop).await {
                tracing::debug!(%client, error, "connection ended");
            }
        }
    }
}

/// A drain does not wait for a client that has not asked for anything yet.
async fn handshake(
    tcp: TcpStream,
    identity: &Identity,
    limit: Duration,
    stop: &mut watch::Receiver<Stop>,
) -> Result<Stream, Refused> {
    tokio::select! {
        accepted = accept(tcp, identity, limit) => accepted,
        _ = stop.wait_for(|stop| *stop != Stop::No) => Err(Refused::Draining),
    }
}

/// One connection: hyper reads requests and writes heads and short answers; streams are written by us.
async fn connection<S>(
    stream: Stream,
    stack: S,
    http: http1::Builder,
    mut stop: watch::Receiver<Stop>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: Service<Request<Incoming>, Response = Response<RelayBody>, Error = Infallible, Future: Send> + Clone,
{
    let handover = Arc::new(Handover::default());
    let mut io = ClientIo::new(stream, Arc::clone(&handover));
    let mut stopping = false;
    loop {
        let service = service_fn(|request| answer(stack.clone(), request, &handover));
        let mut serving = http.serve_connection(io, service);
        let turn = tokio::select! {
            biased;
            turn = until_handover(&mut serving, &handover) => turn,
            _ = stop.changed(), if !stopping => {
                stopping = true;
                Pin::new(&mut serving).graceful_shutdown();
                until_handover(&mut serving, &handover).await
            }
        };
        let Some(mut parked) = turn? else { return Ok(()) };
        let parts = serving.into_parts();
        io = parts.io;
        io.unread(parts.read_buf);
        let mut chunks = ChunkWriter::new();
        poll_fn(|cx| chunks.poll(cx, &mut io, &mut parked.body)).await?;
        stopping |= stop.has_changed().unwrap_or(true);
        if stopping || !parked.keep_alive {
            poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx)).await?;
            return Ok(());
        }
    }
}

/// Runs the stack; a streamed answer is parked for the connection's task.
async fn answer<S>(
    mut stack: S,
    request: Request<Incoming>,
    handover: &Arc<Handover>,
) -> Result<Response<Outgoing>, Infallible>
where
    S: Service<Request<Incoming>, Response = Response<RelayBody>, Error = Infallible>,
{
    let keep_alive = keeps_alive(&request);
    let response = stack.call(request).await?;
    Ok(match keep_alive {
        Some(keep_alive) => handover.offer(response, keep_alive),
        None => response.map(Outgoing::whole),
    })
}

/// Runs hyper until its connection ends (`None`) or it has written its part of a streamed answer.
async fn until_handover<F>(serving: &mut F, handover: &Handover) -> Result<Option<Parked>, hyper::Error>
where
    F: Future<Output = Result<(), hyper::Error>> + Unpin,
{
    poll_fn(|cx| match Pin::new(&mut *serving).poll(cx) {
        Poll::Ready(ended) => Poll::Ready(ended.map(|()| None)),
        Poll::Pending => handover.take().map_or(Poll::Pending, |parked| Poll::Ready(Ok(Some(parked)))),
    })
    .await
}
