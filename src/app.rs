//! `App`: every long-lived part, built once, top to bottom; run, reload, drain. The only place that
//! knows how the parts fit together.

use std::future::Future;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::api::initial_series;
use crate::auth::{Issuers, Meters, Refresher};
use crate::config::{Config, Fault, Faults};
use crate::credentials::{Credentials, Keeper};
use crate::server::upgrade::{Predecessor, Sockets, Succession, SuccessionError, Successor};
use crate::server::{Admin, Certificates, Parts, Server, Settings, Stop};
use crate::snapshot::{LastReload, Reloads, Shared, Snapshot};
use crate::telemetry::labels::{ReloadLabels, ReloadOutcome};
use crate::telemetry::{LogWriter, Metrics, OperatorLog};
use crate::upstream::{Fetcher, Registry, SharedOutward, Watch, Watcher};

/// Why Weir did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port.
    #[error("{key} = \"{address}\": {error}{}", hint(.error))]
    Listen {
        /// `server.listen` or `admin.listen`.
        key: &'static str,
        /// What it says.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// A thread or a runtime.
    #[error("the system refused a thread or a runtime: {0}")]
    System(#[from] io::Error),
    /// The process that was to be replaced.
    #[error("--replace: {0}")]
    Succession(#[from] SuccessionError),
    /// Metric names clash, which a test rules out.
    #[error("metrics: {0}")]
    Metrics(String),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (something else listens there: `ss -ltnp` names it)",
        io::ErrorKind::PermissionDenied => {
            " (ports below 1024 need a privilege: take a higher one)"
        }
        _ => "",
    }
}

/// A gateway whose ports are bound.
pub struct App {
    server: Server,
    admin: (Admin, TcpListener),
    reloader: Reloader,
    refresher: Refresher,
    keeper: Keeper,
    watcher: Watcher,
    draining: Arc<AtomicBool>,
    drain_delay: Duration,
    log_thread: JoinHandle<()>,
    public: SocketAddr,
    /// The process whose place this one takes.
    predecessor: Option<Predecessor>,
    warnings: Vec<String>,
}

/// Puts configurations in force. One per process, shared.
#[derive(Clone)]
pub struct Reloader {
    shared: Shared,
    lasting: Arc<Lasting>,
    metrics: Arc<Metrics>,
    reloads: Reloads,
    operator_log: OperatorLog,
    generation: Arc<AtomicU64>,
    /// What runs, to say what a new file changes that only a restart can.
    running: Arc<Settings>,
}

/// What outlives a configuration and is found again by the next one.
struct Lasting {
    metrics: Arc<Metrics>,
    registry: Arc<Registry>,
    issuers: Issuers,
    meters: Arc<Meters>,
    credentials: Credentials,
    certificates: Certificates,
    outward: SharedOutward,
    watch: Watch,
}

impl App {
    /// Builds every part and binds both ports. Access-log lines go to `log`.
    pub fn build(config: Config, log: Box<dyn Write + Send>) -> Result<Self, StartError> {
        Self::build_on(config, log, None)
    }

    /// The same, in the place of another process: on its sockets where they fit the configuration.
    /// Until this one runs, nothing has changed for the other.
    pub fn build_on(
        config: Config,
        log: Box<dyn Write + Send>,
        predecessor: Option<(Predecessor, Sockets)>,
    ) -> Result<Self, StartError> {
        let (predecessor, inherited) = predecessor.unzip();
        let (inherited_public, inherited_admin) = inherited
            .map_or_else(Default::default, |sockets| (sockets.public, Some(sockets.admin)));
        let operator_log = OperatorLog::init(config.log.0, config.log.1);
        let metrics =
            Arc::new(Metrics::new().map_err(|error| StartError::Metrics(error.to_string()))?);
        let (writer, log_thread) = LogWriter::start(log, metrics.log_lines_dropped.clone())?;
        let registry = Arc::new(Registry::new(Arc::clone(&metrics)));
        let settings = config.server.clone();
        let warnings = config.warnings.iter().map(Fault::headline).collect();
        let lasting = Lasting {
            metrics: Arc::clone(&metrics),
            registry: Arc::clone(&registry),
            issuers: Issuers::default(),
            meters: Arc::new(Meters::new(Arc::clone(&metrics))),
            credentials: Credentials::default(),
            certificates: Certificates::new(metrics.tls_expiry.clone()),
            outward: SharedOutward::default(),
            watch: Watch::default(),
        };
        let refresher = lasting.issuers.refresher(Fetcher::new(lasting.outward.clone()));
        let keeper = lasting.credentials.keeper(Fetcher::new(lasting.outward.clone()));
        let watcher = lasting.watch.watcher();
        let shared = Shared::new(lasting.snapshot(config, 1));
        metrics.config_generation.set(1);
        let draining = Arc::new(AtomicBool::new(false));
        let parts = Parts {
            shared: shared.clone(),
            registry,
            certificates: lasting.certificates.clone(),
            metrics: Arc::clone(&metrics),
            log: writer,
            draining: Arc::clone(&draining),
        };
        let refused = |key, address| move |error| StartError::Listen { key, address, error };
        let server = Server::bind(settings.clone(), parts, inherited_public)
            .map_err(refused("server.listen", settings.listen))?;
        let admin_listener = inherited_admin
            .map_or_else(|| bind_admin(settings.admin), Ok)
            .map_err(refused("admin.listen", settings.admin))?;
        let drain_delay = settings.drain_delay;
        let reloads = Reloads::default();
        let admin = Admin::new(
            Arc::clone(&metrics),
            shared.clone(),
            reloads.clone(),
            Arc::clone(&draining),
        );
        let reloader = Reloader {
            shared,
            lasting: Arc::new(lasting),
            metrics,
            reloads,
            operator_log,
            generation: Arc::new(AtomicU64::new(1)),
            running: Arc::new(settings),
        };
        let public = server.address()?;
        let admin = (admin, admin_listener);
        Ok(Self {
            server,
            admin,
            reloader,
            refresher,
            keeper,
            watcher,
            draining,
            drain_delay,
            log_thread,
            public,
            predecessor,
            warnings,
        })
    }

    /// Where GitLab finds us.
    pub const fn public_addr(&self) -> SocketAddr {
        self.public
    }

    /// Where `/metrics` and `/status` are.
    pub fn admin_addr(&self) -> io::Result<SocketAddr> {
        self.admin.1.local_addr()
    }

    /// What is odd about the configuration it was built from.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// To put another configuration in force.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Serves until `stop` is ready or another process has taken its place, then drains: nothing
    /// new accepted, what runs may end.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let Self {
            server,
            admin: (admin, listener),
            refresher,
            keeper,
            watcher,
            log_thread,
            public,
            ..
        } = self;
        let certificates = self.reloader.lasting.certificates.clone();
        let (stop_workers, workers_stop) = watch::channel(Stop::No);
        let (stop_admin, admin_stop) = watch::channel(false);
        let sockets = Sockets { public: server.sockets()?, admin: listener.try_clone()? };
        let workers = server.start(&workers_stop)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let admin_address = listener.local_addr()?;
        let admin = tokio::spawn(admin.serve(listener, admin_stop));
        let refreshing = tokio::spawn(refresher.run());
        let keeping = tokio::spawn(keeper.run());
        let watching = tokio::spawn(watcher.run());
        let sharing = tokio::spawn(Arc::clone(&self.reloader.lasting.meters).tend());
        let expiring = tokio::spawn(certificates.warn_of_expiry());
        if let Some(predecessor) = self.predecessor
            && let Err(error) = predecessor.dismiss().await
        {
            tracing::warn!(%error, "the process that was to be replaced");
        }
        let succession = open_succession(sockets);
        tracing::info!(%public, admin = %admin_address, workers = workers.len(), "serving");
        let successor = tokio::select! {
            () = stop => None,
            successor = succeeded(succession.as_ref()) => Some(successor),
        };
        // copies of the sockets: with them the ports would stay open
        drop(succession);
        if let Some(successor) = successor {
            tracing::info!("another process has taken over: draining");
            // its answers are the ones that count, on either port
            stop_admin.send_replace(true);
            successor.release().await;
        } else {
            tracing::info!("draining");
            self.draining.store(true, Ordering::Relaxed);
            stop_workers.send_replace(Stop::Soon);
            tokio::time::sleep(self.drain_delay).await;
        }
        stop_workers.send_replace(Stop::Drain);
        let drained = tokio::task::spawn_blocking(move || {
            workers.into_iter().for_each(|worker| _ = worker.join())
        });
        // Bounded by the workers' own limit, resilience.drain.
        let _ = drained.await;
        refreshing.abort();
        keeping.abort();
        watching.abort();
        expiring.abort();
        sharing.abort();
        stop_admin.send_replace(true);
        let _ = admin.await;
        // The last handle of the log went with the workers: the thread ends when it has written
        // all.
        let _ = tokio::task::spawn_blocking(move || log_thread.join()).await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Where a successor would ask. A process without it serves as well; it cannot be replaced in
/// place.
fn open_succession(sockets: Sockets) -> Option<Succession> {
    let opened = Succession::open(sockets);
    opened
        .inspect_err(
            |error| tracing::warn!(%error, "weir serve --replace will not find this process"),
        )
        .ok()
}

async fn succeeded(succession: Option<&Succession>) -> Successor {
    match succession {
        Some(succession) => succession.succeeded().await,
        None => std::future::pending().await,
    }
}

impl Reloader {
    /// Puts a configuration that checked in force. Requests under way finish on theirs.
    pub fn apply(&self, config: Config) {
        let restart = self.needs_restart(&config);
        for line in &restart {
            tracing::warn!("{line}");
        }
        for warning in &config.warnings {
            tracing::warn!("{}", warning.headline());
        }
        self.operator_log.set_level(config.log.0);
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.swap(self.lasting.snapshot(config, generation));
        self.metrics.config_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.metrics.config_reload_ok.set(1);
        self.metrics.config_reloads.get(&ReloadLabels { outcome: ReloadOutcome::Ok }).inc();
        self.reloads.note(LastReload { at: SystemTime::now(), ok: true, faults: restart });
        tracing::info!(generation, "configuration in force");
    }

    /// Notes a configuration that did not check. What runs goes on.
    pub fn refuse(&self, faults: &Faults) {
        self.metrics.config_reload_ok.set(0);
        self.metrics.config_reloads.get(&ReloadLabels { outcome: ReloadOutcome::Failed }).inc();
        for fault in faults.iter() {
            tracing::error!("{}", fault.headline());
        }
        let faults: Vec<String> = faults.iter().map(|fault| fault.render(false)).collect();
        tracing::error!(
            faults = faults.len(),
            "the configuration was not reloaded: the old one stays in force"
        );
        self.reloads.note(LastReload { at: SystemTime::now(), ok: false, faults });
    }

    fn needs_restart(&self, config: &Config) -> Vec<String> {
        let line = "needs a restart: [server], [admin] or a connection limit of [limits] or [resilience] has changed";
        if *self.running == config.server { Vec::new() } else { vec![line.to_owned()] }
    }
}

impl Lasting {
    fn snapshot(&self, config: Config, generation: u64) -> Snapshot {
        self.metrics.create(&initial_series(&config.table));
        let cloud = config.table.cloud().map(|route| &route.model);
        let outward = self.outward.put(config.outward);
        let endpoints =
            self.registry.endpoints(config.models.iter().chain(cloud), outward, &config.resilience);
        self.watch.set(config.models.iter(), &endpoints, config.resilience.health_check);
        let user_tokens = Arc::new(self.issuers.user_tokens(config.user_tokens));
        let auth = self.issuers.policy(config.auth, Arc::clone(&user_tokens));
        self.credentials.set(config.table.renewed());
        self.certificates.put(config.tls);
        let (limits, chat) = (config.limits, config.chat);
        let (table, prompts, docs) = (config.table, config.prompts, config.docs);
        let (meters, log_prompts) = (Arc::clone(&self.meters), config.log_prompts);
        meters.share(config.shared);
        Snapshot {
            table,
            prompts,
            auth,
            user_tokens,
            meters,
            docs,
            limits,
            chat,
            endpoints,
            log_prompts,
            generation,
        }
    }
}

/// Alone on its port, unlike the public one: a second process must find out.
fn bind_admin(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
