//! Accepting connections and serving them: one worker per core, each with its own runtime,
//! listening socket (`SO_REUSEPORT`) and upstream pool; and apart from them the admin listener.

mod admin;
mod connection_limit;
mod drain;
mod http1;
mod http2;
mod listener;
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
use connection_limit::PerClientConnectionLimit;
pub use drain::Stop;
use stack::Admission;
pub use tls::{Certificates, Identity, IdentityError, PemFiles};
use worker::Worker;

/// The settings that a reload cannot change: those of listeners, connections and workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `server.listen`
    pub listen: SocketAddr,
    /// `server.workers`: threads of the data path.
    pub workers: usize,
    /// `admin.listen`
    pub admin: SocketAddr,
    /// `limits.max_headers`: the longest head of a request, in bytes.
    pub max_headers: usize,
    /// `limits.header_timeout`
    pub header_timeout: Duration,
    /// `limits.connections_per_client`: open connections per address, over all workers.
    pub connections_per_client: Option<usize>,
    /// `limits.in_flight`: requests in flight, over all workers.
    pub in_flight: usize,
    /// `limits.queue`: requests that may wait for one of those to finish.
    pub queue: usize,
    /// `limits.queue_wait`: the longest wait in that queue.
    pub queue_wait: Duration,
    /// `resilience.drain`: how long responses may go on after SIGTERM.
    pub drain: Duration,
    /// `resilience.drain_delay`: how long new connections are accepted after SIGTERM.
    pub drain_delay: Duration,
}

/// The state that all workers share.
#[derive(Clone)]
pub struct Parts {
    /// The running configuration.
    pub shared: Shared,
    /// Endpoint state.
    pub registry: Arc<Registry>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The TLS identity of the public port, if it has one.
    pub certificates: Certificates,
    /// The writer of the access log.
    pub log: LogWriter,
    /// Set when the drain begins.
    pub draining: Arc<AtomicBool>,
}

/// The data path, bound and not yet running.
pub struct Server {
    settings: Settings,
    /// The listening sockets of each worker.
    listeners: Vec<Vec<TcpListener>>,
    parts: Parts,
}

impl Server {
    /// Binds the public port, or takes over sockets that are bound to it. Fails when the address
    /// cannot be bound.
    pub fn bind(settings: Settings, parts: Parts, inherited: Vec<TcpListener>) -> io::Result<Self> {
        let listeners = listener::bind(settings.listen, settings.workers, inherited)?;
        Ok(Self { settings, listeners, parts })
    }

    /// Returns the address it listens on, with the port that was chosen for port 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let first = self.listeners.iter().flatten().next();
        first.map_or_else(|| Err(io::ErrorKind::NotFound.into()), TcpListener::local_addr)
    }

    /// Returns duplicates of the listening sockets, for the process that replaces this one.
    pub fn sockets(&self) -> io::Result<Vec<TcpListener>> {
        self.listeners.iter().flatten().map(TcpListener::try_clone).collect()
    }

    /// Starts the workers. They end after [`Stop::Drain`], once their connections have drained.
    /// Fails when the system refuses a thread or a runtime.
    pub fn start(self, stop: &watch::Receiver<Stop>) -> io::Result<Vec<JoinHandle<()>>> {
        let Self { settings, listeners, parts } = self;
        let admission =
            Arc::new(Admission::new(settings.in_flight, settings.queue, settings.queue_wait));
        let connection_limit = settings
            .connections_per_client
            .map(|limit| Arc::new(PerClientConnectionLimit::new(limit)));
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
                connection_limit: connection_limit.clone(),
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
