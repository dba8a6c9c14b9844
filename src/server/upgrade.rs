//! One process replaces another on the same machine (`weir serve --replace`). The old process sends
//! it the listening sockets themselves, over a Unix socket (`SCM_RIGHTS`), and drains once the new
//! one reports that it serves. The kernel's queues of connections never close, so none is lost; two
//! sockets with `SO_REUSEPORT` would lose those that wait in the one that closes.
//!
//! The Unix socket has an abstract name (unix(7)) made of the admin address: no file, and visible
//! exactly as far as that address is. Both sides refuse a peer of another user. A message is one
//! byte: `p` and `a` come with a public or the admin socket, `.` ends them; then the new process
//! sends `s` (it serves) and the old one `g` (the name is free).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::SocketAddr as UnixAddr;
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::geteuid;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

/// The timeout of each step that takes no work.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout from the sockets to serving: the new process reads its files meanwhile.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause after a failed accept (mostly for lack of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// More sockets than any number of workers needs: a peer that sends more is not a Weir.
const MAX_SOCKETS: usize = 1024;

/// Why one process could not replace another.
#[derive(Debug, thiserror::Error)]
pub enum HandoffError {
    /// A system call failed.
    #[error("{0}")]
    System(#[from] io::Error),
    /// A process of another user has the name.
    #[error("the process at this admin address belongs to another user (uid {0})")]
    OtherUser(u32),
    /// It hangs, or is being replaced by another process at the moment.
    #[error("the process at this admin address did not answer within {}s", STEP_TIMEOUT.as_secs())]
    Timeout,
    /// The message is not one that Weir sends in this state.
    #[error("unexpected message from the process at this admin address: another version?")]
    UnexpectedMessage,
}

/// The listening sockets of one process.
#[derive(Debug)]
pub struct Sockets {
    /// Those of `server.listen`, one or more.
    pub public: Vec<TcpListener>,
    /// That of `admin.listen`.
    pub admin: TcpListener,
}

/// The running process that is to be replaced.
#[derive(Debug)]
pub struct OldProcess {
    stream: UnixStream,
}

impl OldProcess {
    /// Connects to the process with this admin address and receives its sockets, which it keeps
    /// open as well for now. `None` when there is no such process.
    pub async fn connect(admin: SocketAddr) -> Result<Option<(Self, Sockets)>, HandoffError> {
        let stream = match std::os::unix::net::UnixStream::connect_addr(&socket_name(admin)?) {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        check_user(&stream)?;
        let sockets = timeout(STEP_TIMEOUT, receive_sockets(&stream))
            .await
            .map_err(|_| HandoffError::Timeout)??;
        Ok(Some((Self { stream }, sockets)))
    }

    /// Reports that the new process serves, on which the old one drains and ends. Returns once it
    /// has released the name; fails when it does not confirm that.
    pub async fn shut_down(self) -> Result<(), HandoffError> {
        let confirmed = async {
            send(&self.stream, b's', None).await?;
            receive(&self.stream).await
        };
        match timeout(STEP_TIMEOUT, confirmed).await.map_err(|_| HandoffError::Timeout)?? {
            (b'g', None) => Ok(()),
            _ => Err(HandoffError::UnexpectedMessage),
        }
    }
}

/// Hands the listening sockets of this process to one that replaces it.
#[derive(Debug)]
pub struct ListenerHandoff {
    listener: UnixListener,
    sockets: Sockets,
}

impl ListenerHandoff {
    /// Binds the name. The sockets are duplicates: they keep the ports open until this is dropped.
    /// Fails when another process has the name, and on systems other than Linux.
    pub fn bind(sockets: Sockets) -> Result<Self, HandoffError> {
        let listener = std::os::unix::net::UnixListener::bind_addr(&socket_name(
            sockets.admin.local_addr()?,
        )?)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, sockets })
    }

    /// Sends the sockets to processes that connect, one after the other, until one of them serves,
    /// and returns it.
    pub async fn accept(&self) -> NewProcess {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match self.hand_over(&stream).await {
                    Ok(()) => return NewProcess { stream },
                    Err(error) => {
                        tracing::warn!(%error, "a process tried to replace this one and failed")
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "a replacing process could not connect");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Sends the sockets to one process and waits until it serves.
    async fn hand_over(&self, stream: &UnixStream) -> Result<(), HandoffError> {
        check_user(stream)?;
        let sending = async {
            for socket in &self.sockets.public {
                send(stream, b'p', Some(socket.as_fd())).await?;
            }
            send(stream, b'a', Some(self.sockets.admin.as_fd())).await?;
            send(stream, b'.', None).await
        };
        timeout(STEP_TIMEOUT, sending).await.map_err(|_| HandoffError::Timeout)??;
        tracing::info!("another process is about to take over");
        match timeout(START_TIMEOUT, receive(stream)).await.map_err(|_| HandoffError::Timeout)?? {
            (b's', None) => Ok(()),
            _ => Err(HandoffError::UnexpectedMessage),
        }
    }
}

/// The process that has replaced this one.
#[derive(Debug)]
pub struct NewProcess {
    stream: UnixStream,
}

impl NewProcess {
    /// Confirms that the name is free. A failure is ignored: the new process serves without the
    /// name as well.
    pub async fn release(self) {
        let _ = timeout(STEP_TIMEOUT, send(&self.stream, b'g', None)).await;
    }
}

/// Returns the abstract name for an admin address.
#[cfg(target_os = "linux")]
fn socket_name(admin: SocketAddr) -> io::Result<UnixAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    UnixAddr::from_abstract_name(format!("weir/{admin}"))
}

#[cfg(not(target_os = "linux"))]
fn socket_name(_admin: SocketAddr) -> io::Result<UnixAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "one process can replace another on Linux only"))
}

/// Checks the user of the peer: an abstract name has no owner.
fn check_user(stream: &UnixStream) -> Result<(), HandoffError> {
    let peer = stream.peer_cred()?.uid();
    if is_trusted(peer, geteuid().as_raw()) { Ok(()) } else { Err(HandoffError::OtherUser(peer)) }
}

/// Returns whether sockets may be exchanged with a peer: the same user, as for `SO_REUSEPORT`, or
/// root.
const fn is_trusted(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

async fn receive_sockets(stream: &UnixStream) -> Result<Sockets, HandoffError> {
    let (mut public, mut admin) = (Vec::new(), None);
    loop {
        match (receive(stream).await?, admin.take()) {
            ((b'p', Some(socket)), None) if public.len() < MAX_SOCKETS => {
                public.push(TcpListener::from(socket))
            }
            ((b'a', Some(socket)), None) => admin = Some(TcpListener::from(socket)),
            ((b'.', None), Some(admin)) => return Ok(Sockets { public, admin }),
            _ => return Err(HandoffError::UnexpectedMessage),
        }
    }
}

async fn send(stream: &UnixStream, message: u8, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
    stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let sockets = socket.as_slice();
            if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            sendmsg(stream, &[IoSlice::new(&[message])], &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        })
        .await
}

async fn receive(stream: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
    stream
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let received = recvmsg(
                stream,
                &mut [IoSliceMut::new(&mut byte)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            if received.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let sockets = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
                _ => None,
            });
            Ok((byte[0], sockets.flatten().next()))
        })
        .await
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Ipv4Addr, TcpListener};

    use super::{HandoffError, ListenerHandoff, OldProcess, Sockets, is_trusted, socket_name};

    fn sockets(public: usize) -> Sockets {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Sockets { public: (0..public).map(|_| bind()).collect(), admin: bind() }
    }

    #[tokio::test]
    async fn the_new_process_gets_every_socket_and_then_the_name() {
        let old = sockets(3);
        let addresses: Vec<_> =
            old.public.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let admin = old.admin.local_addr().unwrap();
        let handoff = ListenerHandoff::bind(old).unwrap();
        let accepting = tokio::spawn(async move {
            let new_process = handoff.accept().await;
            drop(handoff);
            new_process.release().await;
        });
        // one that gives up changes nothing
        drop(OldProcess::connect(admin).await.unwrap().unwrap());
        let (old_process, new) = OldProcess::connect(admin).await.unwrap().unwrap();
        let received: Vec<_> =
            new.public.iter().map(|socket| socket.local_addr().unwrap()).collect();
        assert_eq!((received, new.admin.local_addr().unwrap()), (addresses, admin));
        old_process.shut_down().await.unwrap();
        accepting.await.unwrap();
        ListenerHandoff::bind(new).unwrap();
    }

    #[tokio::test]
    async fn no_process_is_found_at_a_free_address() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        assert!(OldProcess::connect(free).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_process_that_is_not_weir_is_rejected() {
        let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let listener =
            std::os::unix::net::UnixListener::bind_addr(&socket_name(admin).unwrap()).unwrap();
        std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"p"));
        assert!(matches!(OldProcess::connect(admin).await, Err(HandoffError::UnexpectedMessage)));
    }

    #[test]
    fn only_the_same_user_and_root_may_have_the_sockets() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
    }
}
