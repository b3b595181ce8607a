//! The end of a process that has plugins in it.

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
