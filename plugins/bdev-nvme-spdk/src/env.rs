//! The process-wide runtime under SPDK (DPDK's EAL): started once, when first needed, for good.

use crate::sys;
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};

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
    let outcome = unsafe {
        sys::daos_spdk_log_to(Some(log_line));
        sys::daos_spdk_env_init(core, memory_mib)
    };
    // EAL has pinned this thread, and with it whatever the thread starts later.
    affinity.apply()?;
    if outcome != 0 {
        return Err(
            Error::new(Status::NO_MEMORY, "cannot start SPDK's environment")
                .cause(last_words())
                .remedy("reserve huge pages: daos_server storage prepare"),
        );
    }
    *started = true;
    Ok(())
}

/// Alignment of I/O memory, a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// I/O memory from huge pages of a NUMA node (-1 = any), not zeroed. The environment runs.
pub(crate) fn allocate(len: usize, numa_node: i32) -> Result<*mut u8> {
    // SAFETY: the environment runs; the physical address is not asked for.
    let ptr = unsafe {
        sys::spdk_malloc(
            len,
            HUGE_PAGE,
            std::ptr::null_mut(),
            numa_node,
            sys::SPDK_MALLOC_DMA,
        )
    };
    if ptr.is_null() {
        let node = match numa_node {
            -1 => String::new(),
            node => format!(" on NUMA node {node}"),
        };
        return Err(Error::new(
            Status::NO_MEMORY,
            format!("no {} MiB of huge pages{node}", len.div_ceil(1 << 20)),
        )
        .remedy(format!(
            "reserve more huge pages of 2 MiB{node}: daos_server storage prepare -p"
        )));
    }
    Ok(ptr.cast())
}

/// Frees what `allocate` gave.
///
/// # Safety
/// Nothing uses the memory any more.
pub(crate) unsafe fn free(ptr: *mut u8) {
    // SAFETY: the caller vouches for the pointer.
    unsafe { sys::spdk_free(ptr.cast()) }
}

/// Makes the host's memory reachable for devices. The environment runs.
pub(crate) fn register(ptr: *mut u8, len: usize) -> Result<()> {
    // SAFETY: the environment looks at the range only; the host keeps it mapped until `unregister`.
    mapped(
        unsafe { sys::spdk_mem_register(ptr.cast(), len) },
        "map",
        ptr,
        len,
    )
}

/// Undoes `register`.
pub(crate) fn unregister(ptr: *mut u8, len: usize) -> Result<()> {
    // SAFETY: the environment checks that the range was registered.
    mapped(
        unsafe { sys::spdk_mem_unregister(ptr.cast(), len) },
        "unmap",
        ptr,
        len,
    )
}

fn mapped(code: i32, verb: &str, ptr: *mut u8, len: usize) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    Err(Error::io(
        format!(
            "cannot {verb} {} MiB of memory at {ptr:p} for devices",
            len >> 20
        ),
        std::io::Error::from_raw_os_error(-code),
    )
    .remedy(
        "memory is offered once, in whole huge pages; check the limit of locked memory (ulimit -l)",
    ))
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
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.len() == WORDS {
        last.pop_front();
    }
    last.push_back(line.into_owned());
}

/// Lines of the log that errors quote.
const WORDS: usize = 3;
static LAST: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// What SPDK and DPDK said last: their functions return no reasons.
pub(crate) fn last_words() -> String {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_empty() {
        return "the driver gives no reason".to_owned();
    }
    Vec::from(last.clone()).join("; ")
}

/// Forgets what was said before.
pub(crate) fn listen() {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).clear();
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
