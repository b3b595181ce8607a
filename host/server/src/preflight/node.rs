//! The machine as the checks see it: files of the kernel and of the system below a prefix, and what no file tells.

use kernel_tables::Mounted;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What the kernel says about its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Something keeps it in step with others.
    pub(crate) synchronised: bool,
    /// How far it may be off, microseconds.
    pub(crate) max_error_us: u64,
}

impl Clock {
    /// Asks the kernel; `None` where it does not say, as in some containers.
    pub(crate) fn read() -> Option<Self> {
        use nix::libc;
        // SAFETY: all fields of `timex` are integers, for which zero is a value; `modes` 0 asks and changes nothing.
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a whole `timex` that lives beyond the call.
        let state = unsafe { libc::adjtimex(&raw mut timex) };
        (state >= 0).then(|| Self {
            synchronised: timex.status & libc::STA_UNSYNC == 0 && state != libc::TIME_ERROR,
            max_error_us: u64::try_from(timex.maxerror).unwrap_or(0),
        })
    }
}

/// A user or group by name or number: name, uid, gid; of a group the number twice.
pub(super) type Known = (String, u32, u32);

/// The machine.
pub(super) struct Node {
    root: PathBuf,
    pub(super) euid: u32,
    pub(super) egid: u32,
    /// Further groups of this process.
    pub(super) groups: Vec<u32>,
    pub(super) clock: Option<Clock>,
    pub(super) now: SystemTime,
    /// When this program was put here: it cannot be earlier than that.
    pub(super) installed: Option<SystemTime>,
    /// Looks a user up by name.
    pub(super) user: fn(&str) -> Option<Known>,
    /// Looks a user up by number.
    pub(super) user_of: fn(u32) -> Option<Known>,
    /// Looks a group up by name.
    pub(super) group: fn(&str) -> Option<Known>,
}

impl Node {
    /// This machine.
    pub(super) fn real(exe: &Path) -> Self {
        use nix::unistd::{Group, Uid, User, getegid, geteuid, getgroups};
        fn user(user: User) -> Known {
            (user.name, user.uid.as_raw(), user.gid.as_raw())
        }
        let groups = getgroups().unwrap_or_default();
        Self {
            root: PathBuf::from("/"),
            euid: geteuid().as_raw(),
            egid: getegid().as_raw(),
            groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
            clock: Clock::read(),
            now: SystemTime::now(),
            installed: fs::metadata(exe).and_then(|m| m.modified()).ok(),
            user: |name| User::from_name(name).ok().flatten().map(user),
            user_of: |uid| User::from_uid(Uid::from_raw(uid)).ok().flatten().map(user),
            group: |name| {
                let group = Group::from_name(name).ok().flatten()?;
                Some((group.name, group.gid.as_raw(), group.gid.as_raw()))
            },
        }
    }

    /// A machine of a test: files below `root`, seen by user 1000 of group 1000.
    #[cfg(test)]
    pub(super) fn below(root: &Path) -> Self {
        fn user(name: &str) -> Option<Known> {
            (name == "daos").then(|| ("daos".to_owned(), 1000, 1000))
        }
        Self {
            root: root.to_owned(),
            euid: 1000,
            egid: 1000,
            groups: Vec::new(),
            clock: None,
            now: SystemTime::now(),
            installed: None,
            user,
            user_of: |uid| (uid == 1000).then(|| user("daos")).flatten(),
            group: |name| (name == "daos").then(|| ("daos".to_owned(), 1000, 1000)),
        }
    }

    pub(super) fn is_root(&self) -> bool {
        self.euid == 0
    }

    /// Where a file of the machine lies.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of a file without blanks around it; `None` if it cannot be read.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// The number in a file.
    pub(super) fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// Names in a directory, sorted; none if it cannot be read.
    pub(super) fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// A line `NAME: value kB` of /proc/meminfo, in bytes.
    pub(super) fn meminfo(&self, name: &str) -> Option<u64> {
        let text = self.read("/proc/meminfo")?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        kib.checked_mul(1024)
    }

    /// Whether capability `bit` is in effect for this process.
    pub(super) fn may(&self, bit: u32) -> bool {
        let status = self.read("/proc/self/status").unwrap_or_default();
        let set = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
        set.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
            .is_some_and(|set| set >> bit & 1 == 1)
    }

    /// Whether a user with these groups has all permissions `bits` (4 read, 2 write, 1 search) of a file; `None` if it
    /// is not there. What access lists add is not seen.
    pub(super) fn permits(&self, path: &Path, uid: u32, gid: u32, bits: u32) -> Option<bool> {
        let found = fs::metadata(self.path(path)).ok()?;
        let own = uid == self.euid;
        let shift = if found.uid() == uid {
            6
        } else if found.gid() == gid || (own && self.groups.contains(&found.gid())) {
            3
        } else {
            0
        };
        Some(uid == 0 || found.mode() >> shift & bits == bits)
    }

    /// Names of the programs that run.
    pub(super) fn programs(&self) -> Vec<String> {
        let is_process = |name: &String| name.bytes().all(|b| b.is_ascii_digit());
        let processes = self.names("/proc").into_iter().filter(is_process);
        processes
            .filter_map(|pid| self.read(format!("/proc/{pid}/comm")))
            .collect()
    }

    /// What is mounted.
    pub(super) fn mounts(&self) -> Vec<Mounted> {
        let table = fs::read(self.path("/proc/self/mountinfo")).unwrap_or_default();
        kernel_tables::mounts(&table)
    }

    /// Type of the file system that holds a path, by the table of mounts.
    pub(super) fn file_system(&self, path: &Path) -> Option<String> {
        let above = self
            .mounts()
            .into_iter()
            .filter(|mounted| path.starts_with(&mounted.at));
        // Of two on one point the later one counts.
        let innermost = above.max_by_key(|mounted| mounted.at.components().count());
        innermost.map(|mounted| mounted.kind)
    }

    /// The part of a path that is there.
    pub(super) fn existing<'p>(&self, path: &'p Path) -> &'p Path {
        path.ancestors()
            .find(|part| self.path(part).symlink_metadata().is_ok())
            .unwrap_or(Path::new("/"))
    }

    /// How a user is called.
    pub(super) fn name_of(&self, uid: u32) -> String {
        match (self.user_of)(uid) {
            Some((name, _, _)) => name,
            None => uid.to_string(),
        }
    }
}

/// Whether a file's name ends so.
pub(super) fn ends_with(name: &str, end: &str) -> bool {
    Path::new(name).extension() == Some(OsStr::new(end))
}
