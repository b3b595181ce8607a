//! The process-wide runtime under SPDK (DPDK's EAL): started once, when first needed, for good.

use crate::sys;
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use std::sync::{Mutex, OnceLock};

static STARTED: Mutex<bool> = Mutex::new(false);
static EXPEDITED: OnceLock<bool> = OnceLock::new();

/// Starts the runtime unless it runs. `memory_mib` of huge pages are reserved at once, 0 = as
/// needed; only the first call's value counts.
pub(crate) fn start(memory_mib: u32) -> Result<()> {
    let mut started = STARTED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if *started {
        return Ok(());
    }
    expedited_barrier();
    let affinity = Affinity::current()?;
    let core = affinity.first_core();
    // SAFETY: called once in the process, under the lock; the log function is a static.
    let outcome = unsafe { sys::daos_spdk_env_init(core, memory_mib, Some(log_line)) };
    // EAL has pinned this thread, and with it whatever the thread starts later.
    affinity.apply()?;
    if outcome != 0 {
        return Err(Error::new(Status::NO_MEMORY, "cannot start SPDK's environment")
            .cause("DPDK's EAL refused; its own lines are on this process's output")
            .remedy("reserve huge pages (vm.nr_hugepages), mount hugetlbfs, and run with the right to use vfio"));
    }
    *started = true;
    Ok(())
}

/// Whether `membarrier(2)` can make the other threads of this process pass a barrier.
pub(crate) fn expedited_barrier() -> bool {
    *EXPEDITED.get_or_init(|| membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED))
}

/// Every running thread of this process passes a full memory barrier before this returns.
pub(crate) fn barrier_on_all_threads() -> bool {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: the call takes plain numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

unsafe extern "C" fn log_line(level: core::ffi::c_int, line: *const core::ffi::c_char, len: usize) {
    // SAFETY: the shim passes a buffer of `len` bytes that lives until this returns.
    let bytes = unsafe { std::slice::from_raw_parts(line.cast::<u8>(), len) };
    let line = String::from_utf8_lossy(bytes);
    match level {
        0 => tracing::error!(target: "spdk", "{line}"),
        1 => tracing::warn!(target: "spdk", "{line}"),
        2 => tracing::info!(target: "spdk", "{line}"),
        _ => tracing::debug!(target: "spdk", "{line}"),
    }
}

/// The cores a thread may run on.
struct Affinity(libc::cpu_set_t);

impl Affinity {
    fn current() -> Result<Self> {
        // SAFETY: an all-zero set is a valid value, and the call fills it.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: pointer and size are those of `set`.
        if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
            return Err(Error::io(
                "cannot read this thread's processor affinity",
                std::io::Error::last_os_error(),
            ));
        }
        Ok(Self(set))
    }

    fn apply(&self) -> Result<()> {
        // SAFETY: pointer and size are those of the set.
        if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.0) } != 0 {
            return Err(Error::io(
                "cannot restore this thread's processor affinity",
                std::io::Error::last_os_error(),
            ));
        }
        Ok(())
    }

    fn first_core(&self) -> u32 {
        (0..libc::CPU_SETSIZE as u32)
            // SAFETY: the index is below the size of the set.
            .find(|core| unsafe { libc::CPU_ISSET(*core as usize, &self.0) })
            .unwrap_or(0)
    }
}
