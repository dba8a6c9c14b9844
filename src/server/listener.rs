//! Listening sockets: one per worker on the same port (`SO_REUSEPORT`), so that the kernel spreads
//! connections and no accept lock is shared.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel queues for a busy worker.
pub(super) const BACKLOG: i32 = 1024;

/// Returns one or more listeners for each of `count` workers, on one address: those `inherited`
/// from another process, and new ones where they do not suffice. Port 0 is a free port, the same
/// for all. Fails when the address cannot be bound.
pub(super) fn bind(
    address: SocketAddr,
    count: usize,
    inherited: Vec<TcpListener>,
) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut workers: Vec<Vec<TcpListener>> = (0..count.max(1)).map(|_| Vec::new()).collect();
    let mut address = address;
    let usable = inherited
        .into_iter()
        .filter(|socket| socket.local_addr().is_ok_and(|bound| bound == address));
    for (index, socket) in usable.enumerate() {
        workers[index % count.max(1)].push(socket);
    }
    for listeners in workers.iter_mut().filter(|sockets| sockets.is_empty()) {
        let socket = bind_one(address)?;
        address = socket.local_addr()?;
        listeners.push(socket);
    }
    Ok(workers)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
