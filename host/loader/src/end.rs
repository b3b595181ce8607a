//! The end of a process that has plugins in it.

/// Ends this process at once. `exit` would call what plugins have registered, and run into whatever they have broken.
pub fn end_process(code: u8) -> ! {
    // SAFETY: a plain system call.
    unsafe { libc::_exit(code.into()) }
}
