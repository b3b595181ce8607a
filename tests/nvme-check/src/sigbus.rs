//! A SIGBUS that is none of the driver's: it must reach whoever handled it before.

use crate::load::{NVME_512, Plugin};
use crate::{Outcome, ensure};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};

const PAGE: usize = 4096;

/// Where the handler below found a fault.
static FAULT: AtomicUsize = AtomicUsize::new(0);

/// Puts memory where there was none, so that the access succeeds when it is made again.
extern "C" fn mend(_number: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a filled structure; mapping memory is safe in a handler, and the page is the
    // test's own.
    unsafe {
        let page = (*info).si_addr() as usize & !(PAGE - 1);
        FAULT.store(page, Ordering::SeqCst);
        libc::mmap(
            page as *mut libc::c_void,
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        );
    }
}

/// Opens a device after a handler was installed, then reads behind the end of a mapped file.
pub(crate) fn foreign(plugin: &Plugin) -> Outcome {
    // SAFETY: a zeroed structure is valid; the handler has the signature that the flag promises.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = mend as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        let outcome = libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
        ensure!(outcome == 0, "{}", std::io::Error::last_os_error());
    }
    plugin.device(NVME_512)?;
    let path = format!("/run/sigbus-{}", std::process::id());
    let file = File::create_new(&path).map_err(|e| format!("{path}: {e}"))?;
    file.set_len(PAGE as u64).map_err(|e| e.to_string())?;
    // SAFETY: a new mapping of our own file; the kernel chooses the place.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            2 * PAGE,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    ensure!(
        start != libc::MAP_FAILED,
        "{}",
        std::io::Error::last_os_error()
    );
    let behind = start as usize + PAGE;
    // SAFETY: inside of the mapping; there is no file behind it, which is the point.
    let value = unsafe { (behind as *const u8).read_volatile() };
    let fault = FAULT.load(Ordering::SeqCst);
    ensure!(
        value == 0 && fault == behind,
        "the handler saw {fault:#x} and not {behind:#x}"
    );
    Ok(())
}
