//! The end of a process that has plugins in it.

use std::io;
use std::os::unix::net::UnixStream;

/// Exit code of a process that has found its connection taken: the plugin closed the descriptor, or put another file in its
/// place. It can say so in no other way.
pub const EXIT_TAKEN: u8 = 83;

/// Ends this process at once. `exit` would call what plugins have registered, and run into whatever they have broken.
pub fn end_process(code: u8) -> ! {
    // SAFETY: a plain system call.
    unsafe { libc::_exit(code.into()) }
}

extern "C" fn do_nothing(_: libc::c_int) {}

/// Has this process live on when it gets SIGTERM, SIGINT or SIGHUP, also after plugins were loaded. Programs that it starts die
/// of them as ever: an ignored signal they would ignore, too, a handler does not outlast `exec`.
pub fn outlive_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: all zeroes are an action without flags and with an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: an action that is complete, whose handler does nothing and so may run at any moment.
        unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    }
}

/// Which socket the connection of a process with plugins is. A plugin that closes descriptors of others closes that one as
/// well, and what it opens next may have its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionIdentity {
    /// No two sockets that are open have the same device and inode.
    device: u64,
    inode: u64,
}

impl ConnectionIdentity {
    /// That of a connection before there is a plugin.
    ///
    /// # Errors
    /// The system's.
    // The types of `Stat`'s members differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let stat = rustix::fs::fstat(stream)?;
        Ok(Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
        })
    }

    /// Ends this process with [`EXIT_TAKEN`] if a descriptor is not what it was: nothing that is for the other side ends up in a
    /// plugin's file or device, and a process that cannot be heard any more ends in a way that tells why.
    pub fn must_be_of(self, stream: &UnixStream) {
        if !Self::of(stream).is_ok_and(|now| now == self) {
            end_process(EXIT_TAKEN);
        }
    }
}
