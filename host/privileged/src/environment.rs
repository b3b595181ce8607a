//! Surroundings that whoever starts this program has chosen.

/// `PATH` of what plugins run: the system's own programs.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Forgets all variables but a fixed `PATH` and locale, the working directory and the mask of modes. Called first of all,
/// while there is one thread.
pub(crate) fn forget() {
    // SAFETY: no other thread has been started, so nobody reads or holds a pointer into the environment.
    unsafe {
        // It fails only without memory, and then what follows does, too.
        let _ = nix::env::clearenv();
        std::env::set_var("PATH", PATH);
        std::env::set_var("LC_ALL", "C");
    }
    // A relative path would lead where the caller wants.
    let _ = nix::unistd::chdir("/"); // there is always a root
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
}
