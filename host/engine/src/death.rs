//! Last words: which plugin and which call the process dies in.
//!
//! A SIGBUS in a mapped region of memory says which byte of which device cannot be accessed, and marks the region as
//! failed. Any other fatal signal, an `exit` from inside a plugin, or a plugin that closes what is the engine's own, is told in one
//! line. What happens then is what would have happened without it.
//!
//! The line goes to the board that the daemon shares with this process ([`take_board`]), where it stays whatever a plugin
//! did to descriptors, and to standard error. A process that ends without a word - `_exit`, a signal that a plugin handles
//! itself - leaves on the board which calls its threads were in.

use crate::mapped;
use daos_plugin_api::host::{Board, current_call};
use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// How each such line begins.
pub const PREFIX: &str = "daos_io_server: ";

const SIGNALS: [(libc::c_int, &str); 5] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGABRT, "SIGABRT"),
];

/// What the signals did before.
struct Before(UnsafeCell<[MaybeUninit<libc::sigaction>; SIGNALS.len()]>);

// SAFETY: written once, before the handlers that read it are there.
unsafe impl Sync for Before {}

static BEFORE: Before = Before(UnsafeCell::new(
    [const { MaybeUninit::uninit() }; SIGNALS.len()],
));

/// The program ends because it wants to.
static ORDERLY: AtomicBool = AtomicBool::new(false);

/// Sets it up for the process. Before plugins are loaded.
pub fn announce() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (index, (signal, _)) in SIGNALS.iter().enumerate() {
            // SAFETY: an action whose members are all set, on the alternate stack that the standard
            // library gives its threads; the old action goes into room made for it.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_signal as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                let room = (*BEFORE.0.get())[index].as_mut_ptr();
                libc::sigaction(*signal, &action, room);
            }
        }
        // SAFETY: the function is safe to call at any time.
        unsafe { libc::atexit(on_exit) };
        tell_early();
    });
}

/// Has the kernel tell of broken memory when it finds it, and not only when it is accessed: a log is read through its file,
/// so a region might be written to for long without anybody noticing that its contents are lost. Threads inherit it.
fn tell_early() {
    // SAFETY: the call takes numbers alone. A kernel without it tells late, or as vm.memory_failure_early_kill says.
    unsafe {
        libc::prctl(
            libc::PR_MCE_KILL,
            libc::PR_MCE_KILL_SET,
            libc::PR_MCE_KILL_EARLY,
            0,
            0,
        )
    };
}

/// Maps the daemon's board from a descriptor that this process was started with, and closes that. Before plugins are loaded.
///
/// # Errors
/// If the descriptor is not open, or its memory cannot be mapped.
pub fn take_board(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: a plain system call.
    if descriptor < 0 || unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: open, and nobody else's: whoever started this process says so.
    let file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    if file.metadata()?.len() < Board::BYTES as u64 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    // SAFETY: a new mapping of memory that is long enough; it stays mapped, and its file is sealed against being cut.
    unsafe {
        let memory = libc::mmap(
            std::ptr::null_mut(),
            Board::BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        );
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Board::use_for_process(memory.cast());
    }
    Ok(())
}

/// Says why the program ends, as its last line.
pub fn say_why(why: &str) {
    Board::leave_words(why.as_bytes());
    eprintln!("{PREFIX}{why}");
}

/// From here on the end of the process is wanted.
pub fn orderly() {
    ORDERLY.store(true, Ordering::Relaxed);
}

/// Ends the process by SIGABRT in that thread of it, so that it says what it was in.
pub fn end_in(thread: i32) {
    // SAFETY: plain system calls, on a thread of this process if there is one of that number.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGABRT) };
    if sent != 0 {
        std::process::abort();
    }
}

extern "C" fn on_exit() {
    if !ORDERLY.load(Ordering::Relaxed) {
        say("exit");
    }
}

extern "C" fn on_signal(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    if let Some(index) = SIGNALS.iter().position(|(known, _)| *known == signal) {
        // SAFETY: the kernel's; it is asked for with SA_SIGINFO.
        let (code, address) = unsafe {
            info.as_ref()
                .map_or((0, 0), |info| (info.si_code, info.si_addr().addr()))
        };
        // What a process sends has no address.
        let of_memory = signal == libc::SIGBUS && code > 0;
        if !of_memory || !mapped::tell_failure(PREFIX, address) {
            say(SIGNALS[index].1);
        }
        // SAFETY: stored by `announce`. Returning repeats a fault (or the abort goes on), now under the action that was
        // there before. What was only sent is sent once more, to end the process - what was there before may count on a
        // repetition, as the standard library's watch over stacks does; it waits until this function returns.
        unsafe {
            if is_sent(signal, code) {
                libc::signal(signal, libc::SIG_DFL);
                libc::raise(signal);
            } else {
                libc::sigaction(
                    signal,
                    (*BEFORE.0.get())[index].as_ptr(),
                    std::ptr::null_mut(),
                );
            }
        };
    }
}

/// Whether nothing happens again when the handler of a signal returns: a process has sent it, or the kernel has found
/// broken memory that this process has not accessed yet.
fn is_sent(signal: libc::c_int, code: libc::c_int) -> bool {
    code <= 0 || (signal == libc::SIGBUS && code == libc::BUS_MCEERR_AO)
}

/// Ends the process because of what the plugin that this thread is in has done.
pub(crate) fn end_for(what: &str) -> ! {
    say(what);
    std::process::abort()
}

/// Tells the line if this thread is in a plugin. Async-signal-safe: no memory, no locks.
fn say(what: &str) {
    let Some((plugin, call)) = current_call() else {
        return;
    };
    let mut line = [0u8; 256];
    let mut len = 0;
    for part in [PREFIX, what, " inside plugin ", plugin, ", call ", call] {
        let part = part.as_bytes();
        // The last byte is for the end of the line.
        let count = part.len().min(line.len() - 1 - len);
        line[len..len + count].copy_from_slice(&part[..count]);
        len += count;
    }
    Board::leave_words(&line[PREFIX.len()..len]);
    line[len] = b'\n';
    // SAFETY: the bytes are there. A line that cannot be written is lost.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), len + 1) };
}

#[cfg(test)]
mod tests {
    use super::tell_early;

    #[test]
    fn threads_are_told_of_broken_memory_early() {
        // SAFETY: the call takes numbers alone.
        let policy = || unsafe { libc::prctl(libc::PR_MCE_KILL_GET, 0, 0, 0, 0) };
        let threads = std::thread::spawn(move || {
            tell_early();
            let own = policy();
            (own, std::thread::spawn(policy).join().expect("it ends"))
        });
        let early = libc::PR_MCE_KILL_EARLY;
        assert_eq!(threads.join().expect("it ends"), (early, early));
    }
}
