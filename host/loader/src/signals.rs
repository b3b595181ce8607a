//! Keeps signal handlers as they are while a library is mapped.
//!
//! Some libraries install handlers of their own as soon as they are mapped (libpsm does, for fatal
//! signals and SIGTERM, and ends the process from them). What a signal does is the host's decision:
//! it stops engines by SIGTERM, and a crash must look like one. What plugins install later, when they are
//! called, is left alone.

use std::mem::MaybeUninit;
use std::ptr::null;

/// SA_RESTORER: the C library adds it to whatever it sets.
const RESTORER: libc::c_int = 0x0400_0000;

/// The handlers of all signals.
pub(crate) struct Handlers(Vec<(libc::c_int, libc::sigaction)>);

impl Handlers {
    /// Those of now.
    pub(crate) fn save() -> Self {
        let actions = (1..=libc::SIGRTMAX()).filter_map(|signal| Some((signal, current(signal)?)));
        Self(actions.collect())
    }

    /// Puts back what was changed; returns the signals concerned.
    pub(crate) fn restore(&self) -> Vec<libc::c_int> {
        let mut changed = Vec::new();
        for (signal, action) in &self.0 {
            let is_same = current(*signal).is_none_or(|now| {
                let flags = (now.sa_flags ^ action.sa_flags) & !RESTORER;
                now.sa_sigaction == action.sa_sigaction && flags == 0
            });
            if !is_same {
                // SAFETY: an action that this signal had before.
                unsafe { libc::sigaction(*signal, action, std::ptr::null_mut()) };
                changed.push(*signal);
            }
        }
        changed
    }
}

/// The action of a signal; `None` for numbers that the C library keeps to itself.
fn current(signal: libc::c_int) -> Option<libc::sigaction> {
    let mut action = MaybeUninit::uninit();
    // SAFETY: only reads the current action, into room for one.
    let result = unsafe { libc::sigaction(signal, null(), action.as_mut_ptr()) };
    // SAFETY: stored by the call if it succeeded.
    (result == 0).then(|| unsafe { action.assume_init() })
}
