//! The one unsafe call of this crate: giving a descriptor to the runtime.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers `socket`, which must not block, with the runtime. Panics outside of one.
pub(crate) fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, stays open until the `AsyncFd` that owns it drops it, and always
    // gives the same descriptor: no code here takes a mutable reference to replace it.
    let registered = unsafe { AsyncFd::register(socket) };
    registered.map_err(|error| error.into_parts().1)
}
