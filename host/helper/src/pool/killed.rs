//! Helpers that somebody else has killed, and what of that counts against the plugin that they happened to serve.

use crate::error::Death;
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often in a row a helper may be killed, by whomever, in one step of one state of a file.
pub(super) const MOST: u32 = 3;

/// Which kills of helpers count against a plugin: three in a row are quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kills {
    /// Those that are less than this apart count once: whoever kills all helpers at once has one reason.
    pub apart: Duration,
    /// Where the kernel counts what it has killed for want of memory, in lines as of `/proc/vmstat`. A helper that is killed
    /// meanwhile does not count.
    pub vmstat: PathBuf,
}

impl Default for Kills {
    fn default() -> Self {
        Self {
            apart: Duration::from_secs(5),
            vmstat: "/proc/vmstat".into(),
        }
    }
}

/// Whether no crash ends like this: an administrator, the end of a session, a service or the machine, or the kernel for want of
/// memory killed a helper. One that hangs is killed by us, and ends as a deadline.
pub(super) fn is_by_others(how: Death) -> bool {
    const SIGNALS: [Signal; 5] = [
        Signal::SIGKILL,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ];
    SIGNALS.iter().any(|s| how == Death::Signal(*s as i32))
}

/// Processes that the kernel has killed for want of memory; `None` if the system does not tell.
pub(super) fn for_want_of_memory(vmstat: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(vmstat).ok()?;
    let count = text.lines().find_map(|l| l.strip_prefix("oom_kill "))?;
    count.trim().parse().ok()
}

/// Whether it may have been the kernel that killed a helper, by that count before and after.
pub(super) fn may_be_for_want_of_memory(
    how: Death,
    before: Option<u64>,
    after: Option<u64>,
) -> bool {
    how == Death::Signal(Signal::SIGKILL as i32)
        && matches!((before, after), (Some(before), Some(after)) if after > before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_count_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("vmstat");
        assert_eq!(for_want_of_memory(&file), None);
        std::fs::write(&file, "oom_kill_disable 4\ndrop_slab 0\noom_kill 17\n").expect("writable");
        assert_eq!(for_want_of_memory(&file), Some(17));
        std::fs::write(&file, "pgfault 1\n").expect("writable");
        assert_eq!(for_want_of_memory(&file), None);
    }

    #[test]
    fn only_what_the_kernel_sends_for_want_of_memory_is_excused_by_it() {
        let killed = Death::Signal(Signal::SIGKILL as i32);
        assert!(may_be_for_want_of_memory(killed, Some(3), Some(4)));
        assert!(!may_be_for_want_of_memory(killed, Some(3), Some(3)));
        assert!(!may_be_for_want_of_memory(killed, None, Some(3)));
        assert!(!may_be_for_want_of_memory(killed, Some(3), None));
        let asked = Death::Signal(Signal::SIGTERM as i32);
        assert!(!may_be_for_want_of_memory(asked, Some(3), Some(4)));
    }

    #[test]
    fn crashes_are_the_plugins_own() {
        for own in [Signal::SIGSEGV, Signal::SIGABRT, Signal::SIGPIPE] {
            assert!(!is_by_others(Death::Signal(own as i32)), "{own}");
        }
        assert!(!is_by_others(Death::Exit(0)) && !is_by_others(Death::Unknown));
    }
}
