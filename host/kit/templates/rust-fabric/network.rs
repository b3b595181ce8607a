//! The network: datagrams between sockets of this machine, one socket per endpoint, between any processes. They
//! arrive whole and in order, and who is dead refuses them. This is where your network goes.

use daos_plugin_api::abi::Status;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most bytes of data of a datagram; longer remote accesses take several.
pub(crate) const PAYLOAD: usize = 32 << 10;
/// Bytes of an address.
pub(crate) const ADDRESS: usize = 16;
const MAGIC: &[u8; 8] = b"loopback";

/// What a datagram is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Asks whether somebody is there; nobody answers, but a dead one's socket refuses.
    Probe,
    /// A message.
    Message,
    /// Asks for a part of registered memory.
    Read,
    /// Brings a part of registered memory.
    Write,
    /// Answers `Read` with data, `Write` with a status.
    Done,
}

const KINDS: [Kind; 5] = [
    Kind::Probe,
    Kind::Message,
    Kind::Read,
    Kind::Write,
    Kind::Done,
];

/// What stands before the data: numbers of eight bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Endpoint that sends.
    pub(crate) from: u64,
    /// Number of the operation at the endpoint that began it.
    pub(crate) operation: u64,
    /// Tag of a message, key of a registration.
    pub(crate) tag: u64,
    /// Remote access: where it begins, and its bytes in all.
    pub(crate) addr: u64,
    pub(crate) total: u64,
    /// Where in it this part begins.
    pub(crate) at: u64,
    pub(crate) status: Status,
}

impl Header {
    pub(crate) const LEN: usize = 64;

    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let status = u64::from(self.status.0.unsigned_abs());
        let kind = self.kind as u64;
        let numbers = [
            kind,
            self.from,
            self.operation,
            self.tag,
            self.addr,
            self.total,
            self.at,
            status,
        ];
        let mut bytes = [0; Self::LEN];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads header and data. Whoever sent them may be anybody: what is none is `None`.
    pub(crate) fn decode(datagram: &[u8]) -> Option<(Self, &[u8])> {
        let (head, data) = datagram.split_at_checked(Self::LEN)?;
        let mut numbers = [0u64; 8];
        for (number, bytes) in numbers.iter_mut().zip(head.chunks_exact(8)) {
            *number = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        let [kind, from, operation, tag, addr, total, at, status] = numbers;
        let header = Self {
            kind: *KINDS.get(usize::try_from(kind).ok()?)?,
            from,
            operation,
            tag,
            addr,
            total,
            at,
            status: Status(i32::try_from(status).ok()?),
        };
        Some((header, data))
    }
}

/// A number that nobody guesses.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The address of an endpoint.
pub(crate) fn address(endpoint: u64) -> Vec<u8> {
    [&MAGIC[..], &endpoint.to_le_bytes()].concat()
}

/// The endpoint of an address.
pub(crate) fn endpoint_of(address: &[u8]) -> Option<u64> {
    let number = address.strip_prefix(MAGIC)?;
    Some(u64::from_le_bytes(number.try_into().ok()?))
}

/// The name of an endpoint's socket; the kernel forgets it with the socket.
fn name(endpoint: u64) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("@NAME@-{endpoint:016x}"))
}

/// The socket of a new endpoint.
pub(crate) fn listen(endpoint: u64) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::bind_addr(&name(endpoint)?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The way to another endpoint. It has a socket of its own, so that an endpoint that reads nothing fills up no
/// other one's way.
pub(crate) struct Way {
    socket: UnixDatagram,
    to: SocketAddr,
}

/// What became of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    Yes,
    /// The other one has as many as it may have: again later.
    NotYet,
    /// There is no such endpoint any more.
    Gone,
}

impl Way {
    pub(crate) fn to(endpoint: u64) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            to: name(endpoint)?,
        })
    }

    pub(crate) fn send(&self, datagram: &[u8]) -> Sent {
        match self.socket.send_to_addr(datagram, &self.to) {
            Ok(_) => Sent::Yes,
            Err(e) if e.kind() == ErrorKind::WouldBlock || e.kind() == ErrorKind::Interrupted => {
                Sent::NotYet
            }
            Err(_) => Sent::Gone,
        }
    }
}

/// Registered memory.
pub(crate) struct Region {
    pub(crate) ptr: *mut u8,
    pub(crate) len: usize,
    pub(crate) access: u32,
}

// SAFETY: memory has no thread; it is only touched under the lock of the regions.
unsafe impl Send for Region {}

/// The registered memory of a domain by its keys. The lock is held while a part is copied: once a registration is
/// removed, nobody reaches its memory.
#[derive(Default)]
pub(crate) struct Regions(Mutex<HashMap<u64, Region>>);

impl Regions {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<u64, Region>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `copy` with the memory of `len` bytes of a part, if the access as a whole is allowed: one that is not
    /// touches nothing.
    pub(crate) fn access(
        &self,
        part: &Header,
        right: u32,
        len: usize,
        copy: impl FnOnce(*mut u8),
    ) -> Status {
        let regions = self.lock();
        let Some(region) = regions.get(&part.tag) else {
            return Status::ACCESS;
        };
        let end = part.addr.checked_add(part.total);
        let inside = part.at.checked_add(len as u64);
        if region.access & right == 0
            || end.is_none_or(|end| end > region.len as u64)
            || inside.is_none_or(|end| end > part.total)
        {
            return Status::ACCESS;
        }
        copy(region.ptr.wrapping_add((part.addr + part.at) as usize));
        Status::OK
    }
}
