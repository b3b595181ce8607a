//! Named steps of what changes storage, where tests stop a process in order to kill it there.
//!
//! `DAOS_STOP_AT=NAME` stops the process (SIGSTOP) the first time that it reaches the step, `NAME:3`
//! the third time. Only programs with debug assertions know the variable; in others [`reached`] is
//! empty.

use std::ffi::OsString;

/// The variable, and what helpers are given of it.
pub const VARIABLE: &str = "DAOS_STOP_AT";

/// Says that `step` was reached: whatever is named before it is durable.
#[cfg(debug_assertions)]
pub fn reached(step: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static TIMES: AtomicU32 = AtomicU32::new(0);

    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        Some(match text.rsplit_once(':') {
            Some((name, times)) => (name.to_owned(), times.parse().ok()?),
            None => (text, 1),
        })
    });
    let Some((name, times)) = wanted else {
        return;
    };
    if name == step && TIMES.fetch_add(1, Ordering::SeqCst) + 1 == *times {
        // It is not forbidden to send oneself a signal.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
    }
}

/// Says that `step` was reached. Empty without debug assertions.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reached(_step: &str) {}

/// The variable, for processes that start with an empty environment.
pub fn environment() -> Option<(OsString, OsString)> {
    let value = cfg!(debug_assertions).then(|| std::env::var_os(VARIABLE))??;
    Some((VARIABLE.into(), value))
}
