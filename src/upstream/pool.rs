//! Kept connections of one worker. Bounded per endpoint, and closed before the server would close them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::Settings;
use super::exchange::Connection;

/// Connections waiting for their next request, newest last.
pub(super) struct Pool {
    settings: Settings,
    idle: Mutex<HashMap<u32, Vec<Idle>>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, idle: Mutex::default() }
    }

    /// The connection used last, if one is fresh enough: the others may then grow old and go.
    pub(super) fn take(&self, key: u32) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(&key)?;
        while let Some(Idle { mut connection, since }) = kept.pop() {
            if since.elapsed() >= self.settings.keep_idle {
                // everything below is older still
                kept.clear();
            } else if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn put(&self, key: u32, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(key).or_default();
        if kept.len() < self.settings.max_idle {
            kept.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Drops what is too old. The worker's tick calls it.
    pub(super) fn prune(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, kept| {
            kept.retain(|idle| idle.since.elapsed() < self.settings.keep_idle);
            !kept.is_empty()
        });
    }
}
