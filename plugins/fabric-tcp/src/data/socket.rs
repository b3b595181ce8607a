//! Making sockets the way lanes need them.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, setsockopt,
    socket, sockopt,
};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// How long a peer may take to accept a connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds of silence after which the kernel asks whether the peer's host is still there.
const KEEPALIVE_IDLE: u32 = 10;
/// Seconds between such questions.
const KEEPALIVE_INTERVAL: u32 = 5;
/// Unanswered questions that mean "no".
const KEEPALIVE_COUNT: u32 = 4;

/// Listens on `ip`: on any port if `first` is 0, else on the first free one from `first` on.
pub(super) fn listen_from(ip: IpAddr, first: u16) -> io::Result<TcpListener> {
    let mut port = first;
    loop {
        match TcpListener::bind((ip, port)) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                // A larger backlog than std's: a whole cluster may dial at once.
                listen(&listener, Backlog::new(4096)?)?;
                return Ok(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && first != 0 => {
                port = port.checked_add(1).ok_or(error)?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Starts to connect from `source` to `target`; writable once it is decided.
pub(super) fn dial(source: IpAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let family = match target {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None)?;
    // Through the interface that the domain was opened on; the port is chosen at connect, when
    // the kernel knows the whole four-tuple and does not run out of ports as early.
    setsockopt(&fd, sockopt::IpBindAddressNoPort, &true)?;
    let source = SockaddrStorage::from(SocketAddr::new(source, 0));
    bind(fd.as_raw_fd(), &source)?;
    common(&fd, DIAL_TIMEOUT)?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd.into()),
        Err(error) => Err(error.into()),
    }
}

/// Prepares a dialled connection that is up.
pub(super) fn connected(stream: &TcpStream, peer_timeout: Duration) -> io::Result<()> {
    user_timeout(stream, peer_timeout)
}

/// Prepares an accepted connection.
pub(super) fn accepted(stream: &TcpStream, peer_timeout: Duration) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    common(stream, peer_timeout)
}

fn common(socket: &impl AsFd, timeout: Duration) -> io::Result<()> {
    setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL)?;
    setsockopt(socket, sockopt::TcpKeepCount, &KEEPALIVE_COUNT)?;
    user_timeout(socket, timeout)
}

fn user_timeout(socket: &impl AsFd, timeout: Duration) -> io::Result<()> {
    let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    setsockopt(socket, sockopt::TcpUserTimeout, &milliseconds)?;
    Ok(())
}
