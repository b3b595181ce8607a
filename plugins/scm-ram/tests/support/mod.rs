//! Threads with and without the privilege to mount.

use rustix::mount::MountPropagationFlags;
use rustix::thread::{CapabilitySet, UnshareFlags};

/// A thread without the capability to mount; others keep it.
pub(crate) fn unprivileged<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    on_thread(|| {
        let mut sets = rustix::thread::capabilities(None).expect("capabilities");
        sets.effective.remove(CapabilitySet::SYS_ADMIN);
        rustix::thread::set_capabilities(None, sets).expect("drop a capability");
        f()
    })
}

/// A thread with a mount namespace of its own, which takes its mounts along when it ends.
pub(crate) fn privileged<R: Send>(name: &str, f: impl FnOnce() -> R + Send) {
    on_thread(|| {
        // SAFETY: only this thread's file-system context is split off; descriptors stay shared.
        let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) };
        let private = unshared.and_then(|()| {
            rustix::mount::mount_change(
                "/",
                MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
            )
        });
        match private {
            Ok(()) => {
                f();
            }
            Err(e) => println!("NOT RUN {name}: no mount namespace ({e})"),
        }
    });
}

fn on_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| match scope.spawn(f).join() {
        Ok(result) => result,
        Err(payload) => std::panic::resume_unwind(payload),
    })
}
