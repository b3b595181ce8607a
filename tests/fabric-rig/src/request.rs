//! Requests, and the memory that they name.

use daos_plugin_api::abi::{FabricOp, FabricRequest};
use daos_plugin_api::sdk::{FabricDomain, Registration};

/// Registers memory for `access`.
///
/// # Panics
/// If the plugin refuses.
pub fn register<D: FabricDomain>(
    domain: &D,
    memory: &mut [u8],
    access: u32,
) -> Registration<D::Region> {
    // SAFETY: the tests drop the registration before the memory.
    unsafe { domain.register(memory.as_mut_ptr(), memory.len(), access) }
        .expect("memory is registered")
}

/// Registered memory with its registration.
pub struct Memory<R> {
    // Declared before the memory: ends first.
    /// The registration.
    pub region: Registration<R>,
    /// At least one byte: there is no registration of nothing.
    pub memory: Vec<u8>,
    len: usize,
}

impl<R> Memory<R> {
    /// Registers `memory` for `access`.
    ///
    /// # Panics
    /// If the plugin refuses.
    pub fn of<D: FabricDomain<Region = R>>(
        domain: &D,
        mut memory: Vec<u8>,
        access: u32,
    ) -> Memory<R> {
        let len = memory.len();
        memory.resize(len.max(1), 0);
        Memory {
            region: register(domain, &mut memory, access),
            memory,
            len,
        }
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

/// Memory of an operation: bytes for plugins that take any, [`Memory`] for those that want it registered.
pub trait Operand {
    /// First byte, how many, descriptor of the registration or 0.
    fn place(&mut self) -> (*mut u8, usize, u64);
    /// The same for an operation that only reads it.
    fn source(&self) -> (*mut u8, usize, u64);
}

impl<T: AsRef<[u8]> + AsMut<[u8]> + ?Sized> Operand for T {
    fn place(&mut self) -> (*mut u8, usize, u64) {
        let bytes = self.as_mut();
        (bytes.as_mut_ptr(), bytes.len(), 0)
    }

    fn source(&self) -> (*mut u8, usize, u64) {
        let bytes = self.as_ref();
        (bytes.as_ptr().cast_mut(), bytes.len(), 0)
    }
}

impl<R> Operand for Memory<R> {
    fn place(&mut self) -> (*mut u8, usize, u64) {
        (self.memory.as_mut_ptr(), self.len, self.region.descriptor)
    }

    fn source(&self) -> (*mut u8, usize, u64) {
        (
            self.memory.as_ptr().cast_mut(),
            self.len,
            self.region.descriptor,
        )
    }
}

/// A request without peer and tag.
pub fn request(
    op: FabricOp,
    user: u64,
    (ptr, len, descriptor): (*mut u8, usize, u64),
) -> FabricRequest {
    FabricRequest {
        op,
        reserved: [0; 7],
        peer: 0,
        tag: 0,
        ignore: 0,
        ptr,
        len,
        descriptor,
        remote_addr: 0,
        remote_key: 0,
        user,
        scratch: std::ptr::null_mut(),
    }
}

/// A message.
pub fn send(user: u64, peer: u64, tag: u64, memory: &(impl Operand + ?Sized)) -> FabricRequest {
    FabricRequest {
        peer,
        tag,
        ..request(FabricOp::SEND, user, memory.source())
    }
}

/// A place for a message with this tag, but for the bits of `ignore`.
pub fn recv(
    user: u64,
    tag: u64,
    ignore: u64,
    memory: &mut (impl Operand + ?Sized),
) -> FabricRequest {
    FabricRequest {
        tag,
        ignore,
        ..request(FabricOp::RECV, user, memory.place())
    }
}

/// A place in a peer's memory.
#[derive(Clone, Copy)]
pub struct Remote {
    /// Number of the peer.
    pub peer: u64,
    /// Key of its registration.
    pub key: u64,
    /// Remote address.
    pub addr: u64,
}

/// A READ of a peer's memory.
pub fn read(user: u64, from: Remote, memory: &mut (impl Operand + ?Sized)) -> FabricRequest {
    FabricRequest {
        peer: from.peer,
        remote_key: from.key,
        remote_addr: from.addr,
        ..request(FabricOp::READ, user, memory.place())
    }
}

/// A WRITE to a peer's memory.
pub fn write(user: u64, to: Remote, memory: &(impl Operand + ?Sized)) -> FabricRequest {
    FabricRequest {
        peer: to.peer,
        remote_key: to.key,
        remote_addr: to.addr,
        ..request(FabricOp::WRITE, user, memory.source())
    }
}
