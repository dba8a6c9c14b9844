//! `[server]` and `[admin]`, and what the listeners take from `[limits]` and `[resilience]`.

use std::net::SocketAddr;

use crate::config::toml::diagnostic::Reported;
use crate::config::toml::reader::Reader;
use crate::server::Settings;

const WORKERS: &[&str] = &["server", "workers"];

/// Reads the settings of the listeners and workers.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Settings, Reported> {
    let listen = reader.address(&["server", "listen"]);
    let admin = reader.address(&["admin", "listen"]);
    let workers = reader.optional_integer(WORKERS);
    let max_headers = reader.size(&["limits", "max_headers"]);
    let header_timeout = reader.duration(&["limits", "header_timeout"]);
    let connections_per_client = reader.optional_integer(&["limits", "connections_per_client"]);
    let in_flight = reader.integer(&["limits", "in_flight"]);
    let queue = reader.integer(&["limits", "queue"]);
    let queue_wait = reader.duration(&["limits", "queue_wait"]);
    let drain = reader.duration(&["resilience", "drain"]);
    let drain_delay = reader.duration(&["resilience", "drain_delay"]);
    let (listen, admin) = (listen?, admin?);
    if share_port(listen, admin) {
        same_port(reader, listen, admin);
    }
    Ok(Settings {
        listen,
        workers: workers?.unwrap_or_else(cores),
        admin,
        max_headers: max_headers?.try_into().map_err(|_| Reported)?,
        header_timeout: header_timeout?,
        connections_per_client: connections_per_client?,
        in_flight: in_flight?,
        queue: queue?,
        queue_wait: queue_wait?,
        drain: drain?,
        drain_delay: drain_delay?,
    })
}

/// Returns the number of cores, or 1 when the system does not disclose it.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// Returns whether two addresses cannot both be listened on. Port 0 is another port each time.
fn share_port(a: SocketAddr, b: SocketAddr) -> bool {
    let same_address = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && same_address
}

/// Collects a fault of the line that is there: the other address may be a default.
fn same_port(reader: &mut Reader<'_>, listen: SocketAddr, admin: SocketAddr) {
    let (wrong, other) = (("admin.listen", admin), ("server.listen", listen));
    let (wrong, other) =
        if reader.provenance.is_in_file(wrong.0) { (wrong, other) } else { (other, wrong) };
    let message = format!("expected another port than {} ({})", other.0, other.1);
    reader.report(reader.fault_of(wrong.0, message).found(format!("\"{}\"", wrong.1)));
}
