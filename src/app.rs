//! `App`: every long-lived part, built once, top to bottom; run, reload, drain. The only module in
//! which the parts are put together.

use std::future::Future;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task;

use crate::api::initial_series;
use crate::auth::{self, IssuerRegistry, KeyRefreshTask, RateLimiter};
use crate::config::{Config, Fault, Faults, Location};
use crate::credentials::{Credentials, RefreshTask};
use crate::server::upgrade::{HandoffError, ListenerHandoff, NewProcess, OldProcess, Sockets};
use crate::server::{Admin, Certificates, Parts, Server, Settings, Stop};
use crate::snapshot::{LastReload, Reloads, Shared, Snapshot};
use crate::telemetry::labels::{ReloadLabels, ReloadOutcome};
use crate::telemetry::{LogWriter, Metrics, OperatorLog};
use crate::upstream::{Fetcher, HealthChecker, HealthChecks, Registry, SharedEgress};

/// Why Weir did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listening socket could not be bound.
    #[error("{key} = \"{address}\": {error}{}", hint(.error))]
    Listen {
        /// `server.listen` or `admin.listen`.
        key: &'static str,
        /// The configured address.
        address: SocketAddr,
        /// The error of the system.
        error: io::Error,
    },
    /// A thread or a runtime could not be created.
    #[error("the system refused a thread or a runtime: {0}")]
    System(#[from] io::Error),
    /// The running process could not be replaced.
    #[error("--replace: {0}")]
    Handoff(#[from] HandoffError),
    /// Two metrics have the same name, which a test rules out.
    #[error("metrics: {0}")]
    Metrics(String),
}

/// Returns what the operator can do about an error of a listening socket; empty for most.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another process listens on it: `ss -ltnp` shows which)",
        io::ErrorKind::PermissionDenied => {
            " (ports below 1024 need a privilege: choose a higher one)"
        }
        _ => "",
    }
}

/// A gateway whose ports are bound.
pub struct App {
    server: Server,
    admin: (Admin, TcpListener),
    reloader: Reloader,
    issuer_refresh: KeyRefreshTask,
    credential_refresh: RefreshTask,
    health_checks: HealthChecker,
    draining: Arc<AtomicBool>,
    drain_delay: Duration,
    log_thread: thread::JoinHandle<()>,
    public: SocketAddr,
    /// The process that this one replaces.
    old_process: Option<OldProcess>,
    warnings: Vec<String>,
}

/// Puts configurations in force. One per process, shared.
#[derive(Clone)]
pub struct Reloader {
    shared: Shared,
    state: Arc<ProcessState>,
    metrics: Arc<Metrics>,
    reloads: Reloads,
    operator_log: OperatorLog,
    generation: Arc<AtomicU64>,
    /// The settings that need a restart, as this process started with them.
    running: Arc<Settings>,
}

/// The state that outlives a configuration and is used again by the next one.
struct ProcessState {
    metrics: Arc<Metrics>,
    registry: Arc<Registry>,
    issuers: IssuerRegistry,
    meters: Arc<RateLimiter>,
    credentials: Credentials,
    certificates: Certificates,
    outward: SharedEgress,
    watch: HealthChecks,
}

impl App {
    /// Builds every part and binds both ports. The access log is written to `log`. Fails when a
    /// port cannot be bound, or the system refuses a thread or a runtime.
    pub fn build(config: Config, log: Box<dyn Write + Send>) -> Result<Self, StartError> {
        Self::build_replacing(config, log, None)
    }

    /// Like [`App::build`], replacing another process: uses its sockets where they match the
    /// configuration. Until [`App::run`], nothing changes for that process.
    pub fn build_replacing(
        config: Config,
        log: Box<dyn Write + Send>,
        old_process: Option<(OldProcess, Sockets)>,
    ) -> Result<Self, StartError> {
        let (old_process, inherited) = old_process.unzip();
        let (inherited_public, inherited_admin) = inherited
            .map_or_else(Default::default, |sockets| (sockets.public, Some(sockets.admin)));
        let operator_log = OperatorLog::init(config.log.0, config.log.1);
        let metrics =
            Arc::new(Metrics::new().map_err(|error| StartError::Metrics(error.to_string()))?);
        let (writer, log_thread) = LogWriter::start(log, metrics.log_lines_dropped.clone())?;
        let registry = Arc::new(Registry::new(Arc::clone(&metrics)));
        let settings = config.server.clone();
        let warnings = config.warnings.iter().map(Fault::headline).collect();
        let state = ProcessState {
            metrics: Arc::clone(&metrics),
            registry: Arc::clone(&registry),
            issuers: IssuerRegistry::default(),
            meters: Arc::new(RateLimiter::new(Arc::clone(&metrics))),
            credentials: Credentials::default(),
            certificates: Certificates::new(metrics.tls_expiry.clone()),
            outward: SharedEgress::default(),
            watch: HealthChecks::default(),
        };
        let issuer_refresh = state.issuers.refresh_task(Fetcher::new(state.outward.clone()));
        let credential_refresh =
            state.credentials.refresh_task(Fetcher::new(state.outward.clone()));
        let health_checks = state.watch.checker();
        let shared = Shared::new(state.snapshot(config, 1));
        metrics.config_generation.set(1);
        let draining = Arc::new(AtomicBool::new(false));
        let parts = Parts {
            shared: shared.clone(),
            registry,
            certificates: state.certificates.clone(),
            metrics: Arc::clone(&metrics),
            log: writer,
            draining: Arc::clone(&draining),
        };
        let bind_error = |key, address| move |error| StartError::Listen { key, address, error };
        let server = Server::bind(settings.clone(), parts, inherited_public)
            .map_err(bind_error("server.listen", settings.listen))?;
        let admin_listener = inherited_admin
            .map_or_else(|| bind_admin(settings.admin), Ok)
            .map_err(bind_error("admin.listen", settings.admin))?;
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
            state: Arc::new(state),
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
            issuer_refresh,
            credential_refresh,
            health_checks,
            draining,
            drain_delay,
            log_thread,
            public,
            old_process,
            warnings,
        })
    }

    /// Returns the address of the public port, which GitLab uses.
    pub const fn public_addr(&self) -> SocketAddr {
        self.public
    }

    /// Returns the address of the admin listener, with `/metrics` and `/status`.
    pub fn admin_addr(&self) -> io::Result<SocketAddr> {
        self.admin.1.local_addr()
    }

    /// Returns the warnings about the configuration it was built from.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns a handle that puts another configuration in force.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Serves until `stop` is ready or another process has replaced this one, then drains: accepts
    /// nothing more and finishes the requests under way. Fails when it cannot start.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let Self {
            server,
            admin: (admin, listener),
            issuer_refresh,
            credential_refresh,
            health_checks,
            log_thread,
            public,
            ..
        } = self;
        let certificates = self.reloader.state.certificates.clone();
        let (stop_workers, workers_stop) = watch::channel(Stop::No);
        let (stop_admin, admin_stop) = watch::channel(false);
        let sockets = Sockets { public: server.sockets()?, admin: listener.try_clone()? };
        let workers = server.start(&workers_stop)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let admin_address = listener.local_addr()?;
        let admin = tokio::spawn(admin.serve(listener, admin_stop));
        let background = [
            tokio::spawn(issuer_refresh.run()),
            tokio::spawn(credential_refresh.run()),
            tokio::spawn(health_checks.run()),
            tokio::spawn(Arc::clone(&self.reloader.state.meters).run_sync()),
            tokio::spawn(certificates.warn_of_expiry()),
        ];
        if let Some(old_process) = self.old_process
            && let Err(error) = old_process.shut_down().await
        {
            tracing::warn!(%error, "the old process did not confirm that it ends");
        }
        let handoff = bind_handoff(sockets);
        tracing::info!(%public, admin = %admin_address, workers = workers.len(), "serving");
        let new_process = tokio::select! {
            () = stop => None,
            new_process = replaced(handoff.as_ref()) => Some(new_process),
        };
        // it holds duplicates of the sockets, which would keep the ports open
        drop(handoff);
        if let Some(new_process) = new_process {
            tracing::info!("another process has taken over: draining");
            // from now on the new process answers, on either port
            stop_admin.send_replace(true);
            new_process.release().await;
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
        // Bounded by resilience.drain, which the workers apply.
        let _ = drained.await;
        background.iter().for_each(task::JoinHandle::abort);
        stop_admin.send_replace(true);
        let _ = admin.await;
        // The workers held the last handles of the log: the thread ends when it has written all.
        let _ = tokio::task::spawn_blocking(move || log_thread.join()).await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Binds the socket to which a new process connects. A process without it serves as well, but it
/// cannot be replaced without a restart.
fn bind_handoff(sockets: Sockets) -> Option<ListenerHandoff> {
    let bound = ListenerHandoff::bind(sockets);
    bound
        .inspect_err(
            |error| tracing::warn!(%error, "weir serve --replace will not find this process"),
        )
        .ok()
}

async fn replaced(handoff: Option<&ListenerHandoff>) -> NewProcess {
    match handoff {
        Some(handoff) => handoff.accept().await,
        None => std::future::pending().await,
    }
}

impl Reloader {
    /// Puts a checked configuration in force. Requests under way finish on theirs. A file that
    /// would make the running gateway less safe, or empty, is refused.
    pub fn apply(&self, config: Config) {
        let unsafe_changes = self.unsafe_changes(&config);
        if !unsafe_changes.is_empty() {
            return self.refuse(&Faults::new(unsafe_changes));
        }
        let restart = self.restart_warnings(&config);
        for line in &restart {
            tracing::warn!("{line}");
        }
        for warning in &config.warnings {
            tracing::warn!("{}", warning.headline());
        }
        self.operator_log.set_level(config.log.0);
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.swap(self.state.snapshot(config, generation));
        self.metrics.config_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.metrics.config_reload_ok.set(1);
        self.metrics.config_reloads.get(&ReloadLabels { outcome: ReloadOutcome::Ok }).inc();
        self.reloads.record(LastReload { at: SystemTime::now(), ok: true, faults: restart });
        tracing::info!(generation, "configuration in force");
    }

    /// Reports a configuration with faults. The one in force stays.
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
        self.reloads.record(LastReload { at: SystemTime::now(), ok: false, faults });
    }

    /// Returns a fault for each protection of the running gateway that the new file would drop by
    /// omission, and one if it has no model.
    fn unsafe_changes(&self, config: &Config) -> Vec<Fault> {
        let (snapshot, identity) = (self.shared.load(), self.state.certificates.load());
        let tls = match (&identity, &config.tls) {
            (Some(_), None) => {
                let message = "TLS is on, the new file has none: plain HTTP would be served";
                Some(reload_fault(config, "server.tls", message, RESTART))
            }
            (Some(running), Some(next)) if running.is_mutual() && !next.is_mutual() => {
                let message = "client certificates are required, the new file requires none";
                Some(reload_fault(config, "server.tls.client_ca", message, RESTART))
            }
            _ => None,
        };
        let has_models = snapshot.table.models().next().is_some();
        let is_empty = config.models.is_empty() && config.table.cloud().is_none();
        let models = (has_models && is_empty).then(|| {
            let message = "the new file has no model: is it empty, or still being written?";
            reload_fault(config, "models", message, RESTART)
        });
        let auth = dropped_authentication(snapshot.auth.mode(), self.running.listen, config);
        auth.into_iter().chain(tls).chain(models).collect()
    }

    /// Returns a warning if the new file changes settings that only a restart can apply.
    fn restart_warnings(&self, config: &Config) -> Vec<String> {
        const WARNING: &str = "needs a restart: [server], [admin] or a connection limit of \
                               [limits] or [resilience] has changed";
        if *self.running == config.server { Vec::new() } else { vec![WARNING.to_owned()] }
    }
}

const RESTART: &str = "restart Weir if this is intended";

/// Returns a fault of the new file as a whole, for what it lacks.
fn reload_fault(config: &Config, key: &str, message: impl Into<String>, hint: &str) -> Fault {
    let file = Location::File(config.provenance.file());
    Fault::error(file, key, message).hint(Some(hint.to_owned()))
}

/// Returns the fault of a file that would turn authentication off by omission. `listen` is the
/// address of the running listener and decides whether it is public: it stays open until a restart,
/// whatever address the new file sets.
fn dropped_authentication(mode: &str, listen: SocketAddr, config: &Config) -> Option<Fault> {
    if mode == "off" || config.auth != auth::Settings::Off {
        return None;
    }
    if !config.provenance.is_in_file("auth.mode") {
        let message = format!("authentication is on (\"{mode}\"), the new file has none");
        let hint = "write auth.mode = \"off\" to turn it off";
        return Some(reload_fault(config, "auth.mode", message, hint));
    }
    let is_public = !listen.ip().to_canonical().is_loopback();
    let is_accepted = config.provenance.value("auth.allow_public") == Some("true");
    (is_public && !is_accepted).then(|| {
        let message = format!("\"off\", but {listen} stays open until a restart");
        reload_fault(config, "auth.mode", message, "keep the keys, or restart Weir")
    })
}

impl ProcessState {
    /// Builds the snapshot of a configuration.
    fn snapshot(&self, config: Config, generation: u64) -> Snapshot {
        self.metrics.create(&initial_series(&config.table));
        let cloud = config.table.cloud().map(|route| &route.model);
        let egress = self.outward.put(config.outward);
        let endpoints =
            self.registry.endpoints(config.models.iter().chain(cloud), egress, &config.resilience);
        self.watch.set(config.models.iter(), &endpoints, config.resilience.health_check);
        let user_tokens = Arc::new(self.issuers.user_tokens(config.user_tokens));
        let auth = self.issuers.policy(config.auth, Arc::clone(&user_tokens));
        self.credentials.set(config.table.refreshable_credentials());
        self.certificates.set(config.tls);
        let (limits, chat) = (config.limits, config.chat);
        let (table, prompts, docs) = (config.table, config.prompts, config.docs);
        let (meters, log_prompts) = (Arc::clone(&self.meters), config.log_prompts);
        meters.set_redis(config.shared);
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

/// Binds the admin port without `SO_REUSEPORT`, unlike the public one: a second process must fail.
fn bind_admin(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::dropped_authentication;
    use crate::config::{self, Environment};

    #[test]
    fn authentication_is_turned_off_only_by_a_file_that_means_it() {
        const OFF: &str = "[auth]\nmode = \"off\"\n";
        let fault = |mode: &str, listen: &str, file: &str| {
            let config = config::from_str(file, "weir.toml", &Environment::default()).unwrap();
            let fault = dropped_authentication(mode, listen.parse().unwrap(), &config);
            fault.map(|fault| fault.message)
        };
        for mode in ["keys", "gitlab"] {
            let missing = format!("authentication is on (\"{mode}\"), the new file has none");
            assert_eq!(fault(mode, "127.0.0.1:5052", ""), Some(missing));
            assert_eq!(fault(mode, "127.0.0.1:5052", OFF), None);
            for listen in ["0.0.0.0:5052", "[::]:5052", "192.0.2.1:5052"] {
                let open = Some(format!("\"off\", but {listen} stays open until a restart"));
                assert_eq!(fault(mode, listen, OFF), open, "the new file's listen is loopback");
                assert_eq!(fault(mode, listen, &format!("{OFF}allow_public = false\n")), open);
                assert_eq!(fault(mode, listen, &format!("{OFF}allow_public = true\n")), None);
            }
        }
        assert_eq!(fault("off", "0.0.0.0:5052", ""), None, "it was off already");
        let keyed = "[auth]\nstatic_keys = [\"a-key-of-thirty-two-characters-12\"]\n";
        assert_eq!(fault("gitlab", "0.0.0.0:5052", keyed), None, "still authenticated");
    }
}
