//! Peers that are processes of this machine, as those of provider shm are, and what the kernel can do about them.
//!
//! libfabric 1.17 keeps a lock in the shared memory of each endpoint, which whoever sends to it takes, and the
//! owner itself whenever it looks. A process that is killed with it in its hand leaves it locked, and who wants it next
//! spins for ever. So nothing is handed to the provider for a process that has ended; and remote accesses do not take
//! the provider's way, which holds the lock for as long as the copy takes, and says of one that fails neither which it
//! was nor why.

use super::leftover::without_scheme;
use super::local::{Found, Local};
use daos_plugin_api::abi::{FabricOp, FabricRequest};
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// For how long a process that was there is taken to be, in ticks: a system call for each message of a fast exchange would
/// be a tenth of it, and so would be a clock that tells the time.
const FRESH: u64 = 100_000;

/// A clock of at least 1 and at most some 5 ticks in a nanosecond: of the processor, where reading that is cheap.
#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: every processor of this kind has the instruction.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64 // for five hundred years
}

/// The process of a peer.
pub(super) struct Neighbour {
    pid: Pid,
    is: Is,
    /// When the process was last there, in ticks.
    seen: Option<u64>,
}

/// What a peer is.
enum Is {
    /// An endpoint of this process, which needs no descriptor: there may be none left.
    Own(Arc<Local>),
    /// One that was closed before anybody asked for it.
    OwnAndGone,
    /// A process; `None` if it had ended before anybody looked.
    Process(Option<OwnedFd>),
}

/// Why a remote access was not carried out.
pub(super) enum Refusal {
    /// The kernel does not copy between these two processes; the provider has other ways.
    Forbidden,
    /// It is over.
    Failed(Errno),
}

impl Neighbour {
    /// The process of an address, `fi_shm://PROCESS:...` or `PROCESS:...`, which is the same to the provider; `None` if there is none in it, or the kernel is too old to watch
    /// processes (5.3).
    pub(super) fn of(address: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(address).ok()?;
        let (number, _) = without_scheme(text).split_once(':')?;
        // The address came from elsewhere, and negative numbers mean groups of processes.
        let number = i32::try_from(number.parse::<u32>().ok()?).ok()?;
        let pid = rustix::process::Pid::from_raw(number)?;
        let found = match Some(std::process::id()) == number.try_into().ok() {
            true => Local::find(address),
            false => Found::Elsewhere,
        };
        let is = match found {
            Found::Open(local) => Is::Own(local),
            Found::Closed => Is::OwnAndGone,
            Found::Elsewhere => match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(process) => Is::Process(Some(process)),
                Err(rustix::io::Errno::SRCH) => Is::Process(None),
                Err(_) => return None,
            },
        };
        Some(Self {
            pid: Pid::from_raw(number),
            is,
            seen: None,
        })
    }

    /// The endpoint, if it is of this process.
    pub(super) fn local(&self) -> Option<Arc<Local>> {
        match &self.is {
            Is::Own(local) => Some(Arc::clone(local)),
            Is::OwnAndGone | Is::Process(_) => None,
        }
    }

    /// Whether it is an endpoint of this process that is closed already, of which the provider must not hear.
    pub(super) fn is_own_and_gone(&self) -> bool {
        matches!(self.is, Is::OwnAndGone)
    }

    /// Whether the process has not ended (a zombie has), nor, in this process, the endpoint.
    #[inline]
    pub(super) fn is_alive(&mut self) -> bool {
        if let Is::Own(local) = &self.is {
            return !local.is_closed();
        }
        let now = ticks();
        // Clocks of two processors may differ: what lies ahead is long ago.
        if self.seen.is_some_and(|seen| now.wrapping_sub(seen) < FRESH) {
            return true;
        }
        self.look(now)
    }

    #[cold]
    fn look(&mut self, now: u64) -> bool {
        let Is::Process(Some(process)) = &self.is else {
            return false;
        };
        // The descriptor is readable once the process has ended; what else poll says tells nothing about that.
        let mut entry = [PollFd::new(process, PollFlags::IN)];
        let has_ended = poll(&mut entry, Some(&Timespec::default())) == Ok(1);
        self.seen = (!has_ended).then_some(now);
        !has_ended
    }

    /// Carries out a READ or WRITE.
    ///
    /// # Safety
    /// The request's memory is valid, and nobody else uses it meanwhile.
    pub(super) unsafe fn copy(&self, request: &FabricRequest) -> Result<(), Refusal> {
        let mut done = 0;
        while done < request.len {
            let remote = [RemoteIoVec {
                base: (request.remote_addr as usize).wrapping_add(done),
                len: request.len - done,
            }];
            // SAFETY: within the request's memory.
            let local = unsafe { request.ptr.add(done) };
            let rest = request.len - done;
            let copied = if request.op == FabricOp::READ {
                // SAFETY: the caller vouches for the memory.
                let local = unsafe { std::slice::from_raw_parts_mut(local, rest) };
                process_vm_readv(self.pid, &mut [IoSliceMut::new(local)], &remote)
            } else {
                // SAFETY: as above.
                let local = unsafe { std::slice::from_raw_parts(local, rest) };
                process_vm_writev(self.pid, &[IoSlice::new(local)], &remote)
            };
            match copied {
                Ok(0) => return Err(Refusal::Failed(Errno::EFAULT)),
                Ok(count) => done += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EPERM | Errno::ENOSYS) if done == 0 => return Err(Refusal::Forbidden),
                Err(errno) => return Err(Refusal::Failed(errno)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn only_addresses_with_a_process_have_one() {
        let own = std::process::id();
        for address in [format!("fi_shm://{own}:0:0\0"), format!("{own}:0:0\0")] {
            assert!(Neighbour::of(address.as_bytes()).is_some(), "{address}");
        }
        for address in [
            "",
            "fi_shm://",
            "fi_shm://x:0:0",
            "fi_shm://-1:0",
            "127.0.0.1:80",
            "fi_shm://0:0",
        ] {
            assert!(Neighbour::of(address.as_bytes()).is_none(), "{address}");
        }
        assert!(Neighbour::of(&[0xff, 0xfe]).is_none());
    }

    #[test]
    fn a_process_that_nobody_has_waited_for_has_ended() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut peer = Neighbour::of(format!("fi_shm://{}:0:0", child.id()).as_bytes()).unwrap();
        assert!(peer.is_alive());
        child.kill().unwrap();
        let start = Instant::now();
        while peer.is_alive() {
            assert!(start.elapsed() < Duration::from_secs(10), "it lives on");
        }
        let mut late = Neighbour::of(format!("fi_shm://{}:0:0", child.id()).as_bytes()).unwrap();
        assert!(!late.is_alive(), "a zombie");
        child.wait().unwrap();
        let mut later = Neighbour::of(format!("fi_shm://{}:0:0", child.id()).as_bytes()).unwrap();
        assert!(!later.is_alive());
    }
}
