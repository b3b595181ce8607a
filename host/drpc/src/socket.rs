//! Sequenced-packet sockets: the system calls, none of which blocks.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with,
    connect, recv, send, socket_with,
};

use crate::frame::MAX_PACKET;

/// The process at the other end, as the kernel tells it; it cannot be forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Process id, 0 when it lives in a namespace that this process cannot see.
    pub pid: i32,
    /// Effective user when it connected.
    pub uid: u32,
    /// Effective group when it connected.
    pub gid: u32,
}

/// A new socket that is closed on exec and does not block.
pub(crate) fn new() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

/// The address of `path`; fails when the path is longer than an address (107 bytes) can be.
pub(crate) fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(path).map_err(|error| match error {
        Errno::NAMETOOLONG => io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path is longer than the 107 bytes a socket address holds; configure a shorter socket_dir",
        ),
        error => error.into(),
    })
}

/// A socket connected to `path`; `WouldBlock` when its queue is full.
pub(crate) fn connect_to(path: &Path) -> io::Result<OwnedFd> {
    let address = address(path)?;
    let socket = new()?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// The next connection.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    Ok(accept_with(
        listener,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
    )?)
}

/// Who is at the other end.
pub(crate) fn caller(socket: &OwnedFd) -> io::Result<Caller> {
    let peer = getsockopt(socket, PeerCredentials)?;
    Ok(Caller {
        pid: peer.pid(),
        uid: peer.uid(),
        gid: peer.gid(),
    })
}

/// Sends one packet whole.
pub(crate) fn send_packet(socket: impl AsFd, packet: &[u8]) -> io::Result<()> {
    let sent = retry(|| send(&socket, packet, SendFlags::NOSIGNAL))?;
    if sent != packet.len() {
        return Err(io::Error::new(
            io::ErrorKind::WriteZero,
            "the packet was sent in part",
        ));
    }
    Ok(())
}

/// Receives one packet into `buffer`, which must have more than [`MAX_PACKET`] bytes so that a
/// packet that is too long shows; gives its length, 0 at the end of the connection.
pub(crate) fn recv_packet(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    debug_assert!(buffer.len() > MAX_PACKET);
    retry(|| recv(&socket, &mut *buffer, RecvFlags::empty())).map(|(received, _)| received)
}

/// Whether there is a packet, or the end of the connection; `WouldBlock` if not.
pub(crate) fn peek(socket: impl AsFd) -> io::Result<()> {
    retry(|| recv(&socket, &mut [0; 1], RecvFlags::PEEK)).map(|_| ())
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
