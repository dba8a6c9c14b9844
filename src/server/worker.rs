//! One worker: a thread with its own runtime, listening socket, upstream pool and telemetry. No
//! request leaves its worker.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1 as hyper_http1;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::connection_limit::{ConnectionGuard, PerClientConnectionLimit};
use super::drain::{LINGER_EXPIRED, Stop, drain_notice};
use super::listener::BACKLOG;
use super::stack::{Admission, stack};
use super::tls::{HandshakeError, accept};
use super::{Certificates, Identity, Settings, http1, http2};
use crate::api::Api;
use crate::relay::{DrainDeadline, Relay};
use crate::snapshot::Shared;
use crate::telemetry::{Metrics, WorkerTelemetry};
use crate::upstream::{Registry, Stream, Upstreams};

/// The interval at which buffered log lines are written and old upstream connections closed.
const TICK: Duration = Duration::from_millis(100);
/// The pause after a failed accept (mostly for lack of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A worker that is not running yet.
pub(super) struct Worker {
    pub(super) settings: Settings,
    pub(super) shared: Shared,
    pub(super) certificates: Certificates,
    pub(super) metrics: Arc<Metrics>,
    pub(super) registry: Arc<Registry>,
    pub(super) telemetry: Arc<WorkerTelemetry>,
    pub(super) admission: Arc<Admission>,
    pub(super) connection_limit: Option<Arc<PerClientConnectionLimit>>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) stop: watch::Receiver<Stop>,
}

impl Worker {
    /// Accepts and serves connections until [`Stop::Drain`], then drains.
    pub(super) async fn run(self, listeners: Vec<TcpListener>) {
        let upstreams = Upstreams::new(Arc::clone(&self.registry));
        let api = Arc::new(Api::new(
            self.shared.clone(),
            Relay::new(upstreams),
            Arc::clone(&self.draining),
        ));
        let (expire, deadline) = DrainDeadline::channel();
        let mut connections = JoinSet::new();
        let mut stop = self.stop.clone();
        let mut stop = pin!(stop.wait_for(|stop| *stop == Stop::Drain));
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accepted = accept_any(&listeners) => match accepted {
                    Ok((stream, peer)) => {
                        self.admit(stream, peer, &api, &deadline, &mut connections);
                    }
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
            self.admit(stream, peer, &api, &deadline, &mut connections);
        }
        self.drain(&api, &expire, &mut connections).await;
    }

    /// Spawns the task of a connection; drops the connection when its client has reached
    /// `limits.connections_per_client`.
    fn admit(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        api: &Arc<Api>,
        deadline: &DrainDeadline,
        connections: &mut JoinSet<()>,
    ) {
        let client = peer.ip().to_canonical();
        let guard = self.connection_limit.as_ref().and_then(|limit| limit.try_admit(client));
        if self.connection_limit.is_some() && guard.is_none() {
            self.metrics.connections_refused.inc();
            tracing::debug!(%client, "connection refused: limits.connections_per_client");
            return;
        }
        connections.spawn(self.serve(stream, client, api, deadline, guard));
    }

    fn tick(&self, api: &Api, connections: &mut JoinSet<()>) {
        self.telemetry.flush();
        api.relay().upstreams().prune();
        while connections.try_join_next().is_some() {}
    }

    /// Waits until each connection has ended after its current response. Responses that are left
    /// after `resilience.drain` fail; connections whose client does not read that are closed.
    async fn drain(&self, api: &Api, expire: &watch::Sender<bool>, connections: &mut JoinSet<()>) {
        if !self.all_closed(api, connections, self.settings.drain).await {
            tracing::warn!(
                left = connections.len(),
                "resilience.drain is over: the requests still in flight fail"
            );
            expire.send_replace(true);
            if !self.all_closed(api, connections, LINGER_EXPIRED).await {
                tracing::warn!(
                    cut = connections.len(),
                    "connections closed: their clients did not read the end of the response"
                );
                connections.shutdown().await;
            }
        }
        self.telemetry.flush();
    }

    /// Waits until all connections have ended; `false` when that takes longer than `limit`.
    async fn all_closed(&self, api: &Api, connections: &mut JoinSet<()>, limit: Duration) -> bool {
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

    /// Returns the future that serves one connection. `guard` counts it among its client's.
    fn serve(
        &self,
        stream: TcpStream,
        client: IpAddr,
        api: &Arc<Api>,
        deadline: &DrainDeadline,
        guard: Option<ConnectionGuard>,
    ) -> impl Future<Output = ()> + Send + use<> {
        // A hint to the kernel; a connection without it is slower, not wrong.
        let _ = stream.set_nodelay(true);
        let sink = Arc::clone(&self.telemetry);
        let stack =
            stack(Arc::clone(api), sink, Arc::clone(&self.admission), client, deadline.clone());
        let mut http = hyper_http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.settings.header_timeout)
            .max_buf_size(self.settings.max_headers)
            // ClientIo notices a client that disconnects
            .half_close(true);
        let (identity, limit) = (self.certificates.load(), self.settings.header_timeout);
        let limits =
            http2::ConnectionLimits { max_headers: self.settings.max_headers, idle: limit };
        let metrics = Arc::clone(&self.metrics);
        let stop = self.stop.clone();
        async move {
            let _guard = guard;
            let stream = match identity {
                None => Stream::Plain(stream),
                // boxed: a handshake's state would remain part of every connection's
                Some(identity) => {
                    match Box::pin(handshake(stream, &identity, limit, stop.clone())).await {
                        Ok(stream) => stream,
                        Err(error) => {
                            metrics.tls_handshakes_failed.get(&error.labels()).inc();
                            tracing::debug!(%client, %error, "connection ended");
                            return;
                        }
                    }
                }
            };
            // Clients disconnect, send garbage or let their headers time out: no error of ours.
            let ended = match http2::is_http2(&stream, limit, stop.clone()).await {
                Ok(false) => http1::serve(stream, stack, http, stop).await,
                // boxed for the same reason
                Ok(true) => {
                    Box::pin(http2::serve(stream, stack, limits, stop)).await.map_err(Into::into)
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = ended {
                tracing::debug!(%client, error, "connection ended");
            }
        }
    }
}

/// Accepts the next connection of any of these sockets.
async fn accept_any(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        let mut polled = listeners.iter().map(|listener| listener.poll_accept(cx));
        polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// Accepts the connections that the kernel has established already: it would reset them when the
/// socket closes. One that is established between the last accept and the close is lost, unless a
/// new process holds the socket too.
fn accept_pending(listeners: Vec<TcpListener>) -> Vec<(TcpStream, SocketAddr)> {
    let mut pending = Vec::new();
    // not by the runtime, which may not have been notified of them yet
    for listener in listeners.into_iter().filter_map(|listener| listener.into_std().ok()) {
        let accepted = std::iter::from_fn(|| listener.accept().ok()).take(BACKLOG as usize);
        pending.extend(accepted.filter_map(|(stream, peer)| {
            stream.set_nonblocking(true).ok()?;
            Some((TcpStream::from_std(stream).ok()?, peer))
        }));
    }
    pending
}

/// Performs the handshake of a new connection. Once Weir drains, it fails after [`drain_notice`],
/// like any connection without a request.
async fn handshake(
    tcp: TcpStream,
    identity: &Identity,
    limit: Duration,
    stop: watch::Receiver<Stop>,
) -> Result<Stream, HandshakeError> {
    tokio::select! {
        accepted = accept(tcp, identity, limit) => accepted,
        () = drain_notice(stop, Stop::Drain) => Err(HandshakeError::Draining),
    }
}
