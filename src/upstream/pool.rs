//! Kept connections of one worker. Bounded per endpoint, and closed before the server would close them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::exchange::Connection;

/// How long an unused connection is kept. Below uvicorn's (vLLM's) 5 s, so that we close first
/// (providers.md d3.5).
const KEEP_IDLE: Duration = Duration::from_secs(4);
/// How long a connection is used at all: behind a name there may be other servers by then.
const MAX_AGE: Duration = Duration::from_mins(5);
/// Unused connections kept per endpoint and worker.
const MAX_IDLE: usize = 256;

/// Connections waiting for their next request, newest last.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<HashMap<u32, Vec<Idle>>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// The connection used last, if one is fresh enough: the others may then grow old and go.
    pub(super) fn take(&self, key: u32) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(&key)?;
        while let Some(Idle { mut connection, since }) = kept.pop() {
            if since.elapsed() >= KEEP_IDLE {
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
        if kept.len() < MAX_IDLE && connection.age() < MAX_AGE {
            kept.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Drops what is too old. The worker's tick calls it.
    pub(super) fn prune(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, kept| {
            kept.retain(|idle| idle.since.elapsed() < KEEP_IDLE);
            !kept.is_empty()
        });
    }
}
