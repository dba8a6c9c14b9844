//! One process takes the place of another on the same machine (`weir serve --replace`). It is
//! handed the listening sockets themselves, over a Unix socket (`SCM_RIGHTS`), and says when it
//! serves; then the old one lets go and drains. The kernel's queues of connections never close, so
//! none is lost; two sockets with `SO_REUSEPORT` would lose those that wait in the one that closes.
//!
//! The meeting place is an abstract name (unix(7)) made of the admin address: no file, and seen
//! exactly as far as that address is. Both sides refuse a peer of another user. One byte a message:
//! `p` and `a` come with a public or the admin socket, `.` ends them; then `s` the one way (it
//! serves) and `g` the other (the name is free).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::SocketAddr as Name;
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

/// For each step that takes no thinking.
const STEP: Duration = Duration::from_secs(5);
/// From the sockets to serving: a successor reads its files meanwhile.
const START: Duration = Duration::from_secs(60);
/// After a failed accept (out of descriptors, mostly).
const PAUSE: Duration = Duration::from_secs(1);
/// More sockets than any number of workers: a peer that sends more is none of ours.
const MOST: usize = 1024;

/// Why a process could not take another's place.
#[derive(Debug, thiserror::Error)]
pub enum SuccessionError {
    /// The system.
    #[error("{0}")]
    System(#[from] io::Error),
    /// Somebody else's process has the name.
    #[error("the process there is of another user ({0})")]
    Stranger(u32),
    /// It has hung, or is in the middle of a handover to another.
    #[error("the process there did not answer within {}s", STEP.as_secs())]
    Silent,
    /// What came is not what a Weir sends.
    #[error("what the process there sent is not understood: another version?")]
    Garbled,
}

/// The listening sockets of one process.
#[derive(Debug)]
pub struct Sockets {
    /// Of `server.listen`, one or more.
    pub public: Vec<TcpListener>,
    /// Of `admin.listen`.
    pub admin: TcpListener,
}

/// The running process whose place is taken.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
}

impl Predecessor {
    /// Asks the process with this admin address for its sockets, which it keeps as well for now.
    /// `None`: there is no such process.
    pub async fn find(admin: SocketAddr) -> Result<Option<(Self, Sockets)>, SuccessionError> {
        let stream = match std::os::unix::net::UnixStream::connect_addr(&name(admin)?) {
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
        let sockets = timeout(STEP, receive_sockets(&stream))
            .await
            .map_err(|_| SuccessionError::Silent)??;
        Ok(Some((Self { stream }, sockets)))
    }

    /// Tells it that its successor serves; returns once it has let go of its name.
    pub async fn dismiss(self) -> Result<(), SuccessionError> {
        let farewell = async {
            send(&self.stream, b's', None).await?;
            receive(&self.stream).await
        };
        match timeout(STEP, farewell).await.map_err(|_| SuccessionError::Silent)?? {
            (b'g', None) => Ok(()),
            _ => Err(SuccessionError::Garbled),
        }
    }
}

/// Waits for whoever takes this process's place.
#[derive(Debug)]
pub struct Succession {
    listener: UnixListener,
    sockets: Sockets,
}

impl Succession {
    /// Takes the name. The sockets are copies: they keep the ports open as long as this lives.
    pub fn open(sockets: Sockets) -> Result<Self, SuccessionError> {
        let listener =
            std::os::unix::net::UnixListener::bind_addr(&name(sockets.admin.local_addr()?)?)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, sockets })
    }

    /// Hands the sockets to whoever asks, one after the other, until one of them serves.
    pub async fn succeeded(&self) -> Successor {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match self.hand_over(&stream).await {
                    Ok(()) => return Successor(stream),
                    Err(error) => tracing::warn!(%error, "a process that was to take over did not"),
                },
                Err(error) => {
                    tracing::warn!(%error, "a process that is to take over could not be heard");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn hand_over(&self, stream: &UnixStream) -> Result<(), SuccessionError> {
        check_user(stream)?;
        let handing = async {
            for socket in &self.sockets.public {
                send(stream, b'p', Some(socket.as_fd())).await?;
            }
            send(stream, b'a', Some(self.sockets.admin.as_fd())).await?;
            send(stream, b'.', None).await
        };
        timeout(STEP, handing).await.map_err(|_| SuccessionError::Silent)??;
        tracing::info!("another process is about to take over");
        match timeout(START, receive(stream)).await.map_err(|_| SuccessionError::Silent)?? {
            (b's', None) => Ok(()),
            _ => Err(SuccessionError::Garbled),
        }
    }
}

/// The process that serves in our place.
#[derive(Debug)]
pub struct Successor(UnixStream);

impl Successor {
    /// Tells it that the name is free. It can do without.
    pub async fn release(self) {
        let _ = timeout(STEP, send(&self.0, b'g', None)).await;
    }
}

#[cfg(target_os = "linux")]
fn name(admin: SocketAddr) -> io::Result<Name> {
    use std::os::linux::net::SocketAddrExt as _;
    Name::from_abstract_name(format!("weir/{admin}"))
}

#[cfg(not(target_os = "linux"))]
fn name(_admin: SocketAddr) -> io::Result<Name> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "one process can take another's place on Linux only",
    ))
}

/// An abstract name has no owner, so both sides look at who the other is.
fn check_user(stream: &UnixStream) -> Result<(), SuccessionError> {
    let peer = stream.peer_cred()?.uid();
    if is_ours(peer, geteuid().as_raw()) { Ok(()) } else { Err(SuccessionError::Stranger(peer)) }
}

/// Whether a peer may have our sockets, or we its: the same user, as `SO_REUSEPORT` has it, or
/// root.
const fn is_ours(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

async fn receive_sockets(stream: &UnixStream) -> Result<Sockets, SuccessionError> {
    let (mut public, mut admin) = (Vec::new(), None);
    loop {
        match (receive(stream).await?, admin.take()) {
            ((b'p', Some(socket)), None) if public.len() < MOST => {
                public.push(TcpListener::from(socket))
            }
            ((b'a', Some(socket)), None) => admin = Some(TcpListener::from(socket)),
            ((b'.', None), Some(admin)) => return Ok(Sockets { public, admin }),
            _ => return Err(SuccessionError::Garbled),
        }
    }
}

async fn send(stream: &UnixStream, word: u8, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
    stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let sockets = socket.as_slice();
            if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            sendmsg(stream, &[IoSlice::new(&[word])], &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        })
        .await
}

async fn receive(stream: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
    stream
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut word = [0];
            let received = recvmsg(
                stream,
                &mut [IoSliceMut::new(&mut word)],
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
            Ok((word[0], sockets.flatten().next()))
        })
        .await
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Ipv4Addr, TcpListener};

    use super::{Predecessor, Sockets, Succession, SuccessionError, is_ours, name};

    fn sockets(public: usize) -> Sockets {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Sockets { public: (0..public).map(|_| bind()).collect(), admin: bind() }
    }

    #[tokio::test]
    async fn a_successor_gets_every_socket_and_then_the_name() {
        let old = sockets(3);
        let addresses: Vec<_> =
            old.public.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let admin = old.admin.local_addr().unwrap();
        let succession = Succession::open(old).unwrap();
        let waiting = tokio::spawn(async move {
            let successor = succession.succeeded().await;
            drop(succession);
            successor.release().await;
        });
        // one that gives up changes nothing
        drop(Predecessor::find(admin).await.unwrap().unwrap());
        let (predecessor, new) = Predecessor::find(admin).await.unwrap().unwrap();
        let got: Vec<_> = new.public.iter().map(|socket| socket.local_addr().unwrap()).collect();
        assert_eq!((got, new.admin.local_addr().unwrap()), (addresses, admin));
        predecessor.dismiss().await.unwrap();
        waiting.await.unwrap();
        Succession::open(new).unwrap();
    }

    #[tokio::test]
    async fn where_nobody_is_nobody_is_found() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        assert!(Predecessor::find(free).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_no_weir_is_not_believed() {
        let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let listener = std::os::unix::net::UnixListener::bind_addr(&name(admin).unwrap()).unwrap();
        std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"p"));
        assert!(matches!(Predecessor::find(admin).await, Err(SuccessionError::Garbled)));
    }

    #[test]
    fn only_the_same_user_and_root_may_have_the_sockets() {
        assert!(is_ours(1000, 1000) && is_ours(0, 1000));
        assert!(!is_ours(1001, 1000) && !is_ours(1000, 0));
    }
}
