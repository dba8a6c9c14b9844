//! How many connections one address may have open, over all workers: what is beyond is closed as it
//! is accepted, before a byte of it is read.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// `limits.connections_per_client`, and who has how many.
#[derive(Debug)]
pub(super) struct PerClient {
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of a client; dropped with it.
#[derive(Debug)]
pub(super) struct Connected {
    clients: Arc<PerClient>,
    client: IpAddr,
}

impl PerClient {
    pub(super) fn new(most: usize) -> Self {
        Self { most, open: Mutex::default() }
    }

    /// Counts a connection in; `None` when this client has enough.
    pub(super) fn connect(self: &Arc<Self>, client: IpAddr) -> Option<Connected> {
        let mut open = self.lock();
        let count = open.entry(client).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Connected { clients: Arc::clone(self), client })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut open = self.clients.lock();
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

    use super::PerClient;

    #[test]
    fn each_address_has_its_own_number_and_who_is_gone_is_forgotten() {
        let clients = Arc::new(PerClient::new(2));
        let [a, b] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let (first, second) = (clients.connect(a).unwrap(), clients.connect(a).unwrap());
        assert!(clients.connect(a).is_none());
        let other = clients.connect(b).unwrap();
        drop(first);
        let third = clients.connect(a).unwrap();
        assert!(clients.connect(a).is_none());
        drop((second, third, other));
        assert!(clients.lock().is_empty());
    }
}
