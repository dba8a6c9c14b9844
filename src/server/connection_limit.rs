//! A limit of the connections that one address may have open, over all workers: a connection beyond
//! it is closed as it is accepted, before a byte of it is read.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// `limits.connections_per_client`, and the number of open connections of each address.
#[derive(Debug)]
pub(super) struct PerClientConnectionLimit {
    limit: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// Counts one connection of a client until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    connections: Arc<PerClientConnectionLimit>,
    client: IpAddr,
}

impl PerClientConnectionLimit {
    /// Creates a limit of this many connections per address.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: Mutex::default() }
    }

    /// Counts one more connection of `client`; `None` when it has reached the limit.
    pub(super) fn try_admit(self: &Arc<Self>, client: IpAddr) -> Option<ConnectionGuard> {
        let mut open = self.lock();
        let count = open.entry(client).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(ConnectionGuard { connections: Arc::clone(self), client })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        if let Some(count) = open.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::PerClientConnectionLimit;

    #[test]
    fn each_address_is_counted_on_its_own_and_removed_with_its_last_connection() {
        let limit = Arc::new(PerClientConnectionLimit::new(2));
        let [a, b] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let (first, second) = (limit.try_admit(a).unwrap(), limit.try_admit(a).unwrap());
        assert!(limit.try_admit(a).is_none());
        let other = limit.try_admit(b).unwrap();
        drop(first);
        let third = limit.try_admit(a).unwrap();
        assert!(limit.try_admit(a).is_none());
        drop((second, third, other));
        assert!(limit.lock().is_empty());
    }
}
