//! The idle connections of one worker. Bounded per endpoint, and closed before the server would
//! close them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::http::connection::Connection;

/// How long an idle connection is kept. Below uvicorn's (vLLM's) 5 s, so that we close first
/// (contract::providers §d3.5).
const KEEP_IDLE: Duration = Duration::from_secs(4);
/// How long a connection is used at all: its host name may have other servers by then.
const MAX_AGE: Duration = Duration::from_mins(5);
/// The most idle connections per endpoint and worker.
const MAX_IDLE: usize = 256;

/// The idle connections, the one used last at the end.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<u32, Vec<Idle>>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// Takes the connection used last, if it was idle for less than [`KEEP_IDLE`] and is still
    /// open: the others may then expire.
    pub(crate) fn take(&self, key: u32) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(&key)?;
        while let Some(Idle { mut connection, since }) = kept.pop() {
            if since.elapsed() >= KEEP_IDLE {
                // all the others are older
                kept.clear();
            } else if connection.is_idle_and_open() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose response was read to its end, unless it is too old or there are
    /// enough.
    pub(crate) fn put(&self, key: u32, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(key).or_default();
        if kept.len() < MAX_IDLE && connection.age() < MAX_AGE {
            kept.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Drops the expired connections. The worker's tick calls it.
    pub(crate) fn prune(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, kept| {
            kept.retain(|idle| idle.since.elapsed() < KEEP_IDLE);
            !kept.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::advance;

    use super::{KEEP_IDLE, MAX_AGE, Pool};
    use crate::upstream::Stream;
    use crate::upstream::http::connection::Connection;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_reused_for_five_minutes_and_then_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let _server = listener.accept().await.unwrap();
        let pool = Pool::default();
        pool.put(1, Connection::new(Stream::Plain(stream)));
        assert!(pool.take(2).is_none(), "another endpoint's");
        let mut rounds = 0;
        while let Some(connection) = pool.take(1) {
            rounds += 1;
            advance(KEEP_IDLE / 2).await;
            pool.put(1, connection);
        }
        assert_eq!(rounds, MAX_AGE.as_secs() / 2, "used again and again, and then no more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_idle_longer_than_the_server_allows_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = Pool::default();
        for _ in 0..2 {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            pool.put(1, Connection::new(Stream::Plain(stream)));
        }
        advance(KEEP_IDLE).await;
        assert!(pool.take(1).is_none());
        pool.prune();
        assert!(pool.idle.lock().unwrap().is_empty());
    }
}
