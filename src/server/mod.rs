//! Accepting connections and serving them: one worker per core, each with its own runtime, listening
//! socket (`SO_REUSEPORT`) and upstream pool; and beside them the admin listener.

mod admin;
pub mod side_listener;

use std::net::SocketAddr;
use std::time::Duration;

pub use admin::Admin;

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
    /// `limits.in_flight`: requests being answered, over all workers.
    pub in_flight: usize,
    /// `limits.queue`: requests that may wait for a place.
    pub queue: usize,
    /// `limits.queue_wait`: for at most this long.
    pub queue_wait: Duration,
    /// `resilience.drain`: how long streams may go on after SIGTERM.
    pub drain: Duration,
}
