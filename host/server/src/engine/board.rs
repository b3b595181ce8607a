//! The memory that an engine of ours shares with this server: which plugin and call each of its threads is in, and its last
//! words. It is there when the process is gone, whatever a plugin did to descriptors and streams.

use daos_plugin_api::host::{Board, BoardReading, ThreadCall};
use nix::libc;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

/// One for each process.
#[derive(Debug)]
pub(super) struct SharedBoard {
    file: File,
}

impl SharedBoard {
    /// An empty one.
    ///
    /// # Errors
    /// If there is no memory, or no descriptor left.
    pub(super) fn new() -> io::Result<Self> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: a name that ends with zero, and flags.
        let descriptor = unsafe { libc::memfd_create(c"daos-engine".as_ptr(), flags) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: new, and nobody else's.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
        file.set_len(Board::BYTES as u64)?;
        // Else a plugin could cut the memory off below the engine.
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: a descriptor of ours, and numbers.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { file })
    }

    /// What the engine is started with.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// What stands there.
    pub(super) fn read(&self) -> BoardReading {
        let mut bytes = vec![0; Board::BYTES];
        match self.file.read_exact_at(&mut bytes, 0) {
            Ok(()) => BoardReading::of(&bytes),
            Err(_) => BoardReading::default(),
        }
    }
}

/// Which calls the threads of a process were in that has ended without a word, and which plugin that was if it can only have been
/// one.
pub(super) fn unspoken(calls: &[ThreadCall]) -> Option<String> {
    let lasting: Vec<_> = calls.iter().filter(|call| call.lasts).collect();
    if let Some(first) = lasting.first()
        && lasting.iter().all(|call| call.plugin == first.plugin)
    {
        let ThreadCall { plugin, call, .. } = first;
        return Some(format!(
            "it ended without a word while {} was inside plugin {plugin}, call {call}",
            thread(first)
        ));
    }
    // Whoever it was: these are all that can be told.
    let shown = |call: &ThreadCall| {
        let is = if call.lasts { "in" } else { "back from" };
        format!("{} {is} {} of {}", thread(call), call.call, call.plugin)
    };
    let calls: Vec<_> = calls.iter().map(shown).collect();
    (!calls.is_empty()).then(|| {
        format!(
            "it ended without a word; its threads were: {}",
            calls.join(", ")
        )
    })
}

fn thread(call: &ThreadCall) -> String {
    match call.thread.as_str() {
        "" => "a thread".to_owned(),
        name => format!("thread {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tail::plugin_of;
    use super::*;

    fn call(thread: &str, plugin: &str, lasts: bool) -> ThreadCall {
        ThreadCall {
            thread: thread.to_owned(),
            plugin: plugin.to_owned(),
            call: "submit",
            lasts,
        }
    }

    #[test]
    fn nothing_stands_on_a_new_board_and_nobody_can_cut_it() {
        let board = SharedBoard::new().expect("a board");
        assert_eq!(board.read(), BoardReading::default());
        assert!(board.file.set_len(0).is_err());
        assert_eq!(board.read(), BoardReading::default());
    }

    #[test]
    fn a_plugin_is_named_only_if_it_can_have_been_no_other() {
        assert_eq!(unspoken(&[]), None);
        let one = unspoken(&[call("target-0", "a 1", true), call("main", "b 2", false)]);
        let one = one.expect("words");
        assert_eq!(plugin_of(&one).as_deref(), Some("a"));
        assert!(one.contains("thread target-0 was inside plugin a 1, call submit"));
        let two = unspoken(&[call("target-0", "a 1", true), call("", "b 2", true)]);
        let two = two.expect("words");
        assert_eq!(plugin_of(&two), None, "{two}");
        assert!(two.contains("thread target-0 in submit of a 1, a thread in submit of b 2"));
        let none = unspoken(&[call("main", "b 2", false)]).expect("words");
        assert!(none.contains("thread main back from submit of b 2"));
        assert_eq!(plugin_of(&none), None);
    }
}
