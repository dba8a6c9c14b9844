//! Accepting connections and serving them: one worker per core, each with its own runtime,
//! listening socket (`SO_REUSEPORT`) and upstream pool; and beside them the admin listener.

mod admin;
mod admit;
mod answer;
mod client_io;
mod connection_limit;
mod handover;
mod http2;
mod http2_body;
mod listener;
mod observe;
pub mod side_listener;
mod stack;
mod tls;
pub mod upgrade;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::snapshot::Shared;
use crate::telemetry::{LogWriter, Metrics, WorkerTelemetry};
use crate::upstream::Registry;
pub use admin::Admin;
use admit::Admission;
use connection_limit::PerClient;
pub use tls::{Certificates, Identity, IdentityError, PemFiles};
use worker::Worker;

/// How long a connection that has nothing to do is kept once Weir stops. Its client may be about to
/// ask again: it is answered, and told not to. At once, some would ask in the moment of the close.
const LAST_CALL: Duration = Duration::from_secs(1);

/// What a reload cannot change, and what concerns connections rather than requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `server.listen`
    pub listen: SocketAddr,
    /// `server.workers`: threads of the data path.
    pub workers: usize,
    /// `admin.listen`
    pub admin: SocketAddr,
    /// `limits.max_headers`: bytes of one request head.
    pub max_headers: usize,
    /// `limits.header_timeout`
    pub header_timeout: Duration,
    /// `limits.connections_per_client`: open connections of one address, over all workers.
    pub connections_per_client: Option<usize>,
    /// `limits.in_flight`: requests being answered, over all workers.
    pub in_flight: usize,
    /// `limits.queue`: requests that may wait for a place.
    pub queue: usize,
    /// `limits.queue_wait`: for at most this long.
    pub queue_wait: Duration,
    /// `resilience.drain`: how long answers may go on after SIGTERM.
    pub drain: Duration,
    /// `resilience.drain_delay`: how long new connections are taken after SIGTERM.
    pub drain_delay: Duration,
}

/// Told to the workers at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Serve.
    #[default]
    No,
    /// Serve whoever comes, but let each connection end with its next answer.
    Soon,
    /// Accept nothing more, end what runs.
    Drain,
}

/// What all workers share.
#[derive(Clone)]
pub struct Parts {
    /// The running configuration.
    pub shared: Shared,
    /// Endpoint state.
    pub registry: Arc<Registry>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What the public port speaks.
    pub certificates: Certificates,
    /// Where access-log lines go.
    pub log: LogWriter,
    /// Set when the drain begins.
    pub draining: Arc<AtomicBool>,
}

/// The data path, bound and not yet running.
pub struct Server {
    settings: Settings,
    /// Of each worker.
    listeners: Vec<Vec<TcpListener>>,
    parts: Parts,
}

impl Server {
    /// Binds the public port, or takes over sockets that are bound to it.
    pub fn bind(settings: Settings, parts: Parts, inherited: Vec<TcpListener>) -> io::Result<Self> {
        let listeners = listener::bind(settings.listen, settings.workers, inherited)?;
        Ok(Self { settings, listeners, parts })
    }

    /// Where it listens, with the port that port 0 became.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let first = self.listeners.iter().flatten().next();
        first.map_or_else(|| Err(io::ErrorKind::NotFound.into()), TcpListener::local_addr)
    }

    /// Copies of the listening sockets, for a successor.
    pub fn sockets(&self) -> io::Result<Vec<TcpListener>> {
        self.listeners.iter().flatten().map(TcpListener::try_clone).collect()
    }

    /// Starts the workers. They end after `stop` says so and their connections have drained.
    pub fn start(self, stop: &watch::Receiver<Stop>) -> io::Result<Vec<JoinHandle<()>>> {
        let Self { settings, listeners, parts } = self;
        let admission =
            Arc::new(Admission::new(settings.in_flight, settings.queue, settings.queue_wait));
        let clients = settings.connections_per_client.map(|most| Arc::new(PerClient::new(most)));
        let start = |(index, listeners): (usize, Vec<TcpListener>)| {
            let worker = Worker {
                settings: settings.clone(),
                shared: parts.shared.clone(),
                certificates: parts.certificates.clone(),
                metrics: Arc::clone(&parts.metrics),
                registry: Arc::clone(&parts.registry),
                telemetry: Arc::new(WorkerTelemetry::new(
                    Arc::clone(&parts.metrics),
                    parts.log.clone(),
                )),
                admission: Arc::clone(&admission),
                clients: clients.clone(),
                draining: Arc::clone(&parts.draining),
                stop: stop.clone(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            std::thread::Builder::new().name(format!("weir-{index}")).spawn(move || {
                runtime.block_on(async {
                    match listeners.into_iter().map(tokio::net::TcpListener::from_std).collect() {
                        Ok(listeners) => worker.run(listeners).await,
                        Err(error) => tracing::error!(%error, "a worker could not use its socket"),
                    }
                });
            })
        };
        listeners.into_iter().enumerate().map(start).collect()
    }
}
