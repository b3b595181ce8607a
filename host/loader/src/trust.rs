//! Who could change the code that is about to run.
//!
//! The rule, for a plugin, for every directory above it up to `/`, and for the libraries it needs
//! that are not the system's:
//!
//! * it belongs to root or, when this process is not root, to the user it runs as;
//! * others cannot write to it. A directory with the sticky bit (`/tmp`) is the exception: its
//!   entries can only be replaced by their owners, and each entry on the path is held to the
//!   first rule;
//! * no group can write to it, but for group root and, when this process is not root, the user's
//!   own group (the group with the user's own number); an access list voids that exception, since
//!   the group bits then no longer say who may write.

use crate::refusal::{Refusal, Writers};
use rustix::fs::{FileType, Stat};
use std::path::{Path, PathBuf};

/// Whom this process trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    user: u32,
    group: u32,
}

const STICKY: u32 = 0o1000;
const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

impl Trust {
    /// Trust of this process: root, and the effective user.
    pub fn current() -> Self {
        Self {
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
        }
    }

    /// Checks what is known about one file or directory. `path` is for the message.
    fn check(self, path: &Path, stat: &Stat, sticky_is_fine: bool) -> Result<(), Refusal> {
        let (uid, gid) = (stat.st_uid, stat.st_gid);
        if uid != 0 && uid != self.user {
            return Err(Refusal::WrongOwner {
                path: path.to_owned(),
                uid,
            });
        }
        #[allow(clippy::unnecessary_cast)] // 16 bits on some systems
        let mode = stat.st_mode as u32;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if directory && sticky_is_fine && mode & STICKY != 0 {
            return Ok(());
        }
        let refuse = |who| {
            Err(Refusal::Writable {
                path: path.to_owned(),
                mode: mode & 0o7777,
                who,
            })
        };
        if mode & OTHERS_WRITE != 0 {
            return refuse(Writers::Others);
        }
        let own_group = gid == 0 || (self.user != 0 && gid == self.user && gid == self.group);
        if mode & GROUP_WRITE != 0 && (!own_group || has_access_list(path)) {
            return refuse(Writers::Group(gid));
        }
        Ok(())
    }

    /// Checks a file by its status; `path` has no symbolic links.
    pub(crate) fn file(self, path: &Path, stat: &Stat) -> Result<(), Refusal> {
        self.check(path, stat, false)?;
        self.above(path)
    }

    /// Checks a program that is about to be run, as plugins are; returns its path without symbolic links, which is
    /// the one to run.
    ///
    /// # Errors
    /// It cannot be read, or others could change it.
    pub fn program(self, path: &Path) -> Result<PathBuf, Refusal> {
        let real = path.canonicalize().map_err(Refusal::unreadable)?;
        let stat = rustix::fs::stat(&real).map_err(Refusal::unreadable)?;
        self.file(&real, &stat)?;
        Ok(real)
    }

    /// Checks every directory above `path`, which has no symbolic links.
    pub(crate) fn above(self, path: &Path) -> Result<(), Refusal> {
        for directory in path.ancestors().skip(1) {
            let stat = rustix::fs::lstat(directory).map_err(Refusal::unreadable)?;
            self.check(directory, &stat, true)?;
        }
        Ok(())
    }

    /// Checks a directory that names are looked up in. It need not exist, but then nobody else may
    /// be able to make it; the sticky bit does not help here, since it keeps nobody from adding.
    ///
    /// # Errors
    /// It cannot be looked at, or others could change what is found there.
    pub fn search_directory(self, path: &Path) -> Result<(), Refusal> {
        let existing = path
            .ancestors()
            .find_map(|p| p.canonicalize().ok())
            .unwrap_or_else(|| Path::new("/").to_owned());
        let stat = rustix::fs::stat(&existing).map_err(Refusal::unreadable)?;
        self.check(&existing, &stat, false)?;
        self.above(&existing)
    }
}

fn has_access_list(path: &Path) -> bool {
    let mut none = [0u8; 0];
    match rustix::fs::getxattr(path, "system.posix_acl_access", &mut none) {
        Ok(size) => size > 0,
        Err(error) => !matches!(
            error,
            rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP | rustix::io::Errno::NOENT
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn stat(mode: u32, uid: u32, gid: u32) -> Stat {
        let mut stat = rustix::fs::stat("/").unwrap();
        stat.st_mode = mode;
        stat.st_uid = uid;
        stat.st_gid = gid;
        stat
    }

    #[test]
    fn the_rule_in_a_table() {
        const DIR: u32 = 0o040_000;
        const FILE: u32 = 0o100_000;
        let root = Trust { user: 0, group: 0 };
        let user = Trust {
            user: 1000,
            group: 1000,
        };
        let staff = Trust {
            user: 1000,
            group: 50,
        };
        // The path only matters for its access list, which "/" does not have.
        for (trust, mode, uid, gid, expected) in [
            (root, FILE | 0o755, 0, 0, "ok"),
            (root, FILE | 0o755, 1000, 1000, "wrong_owner"),
            (user, FILE | 0o755, 1000, 1000, "ok"),
            (user, FILE | 0o755, 0, 0, "ok"),
            (user, FILE | 0o755, 1001, 1000, "wrong_owner"),
            (root, FILE | 0o757, 0, 0, "writable"),
            (root, FILE | 0o775, 0, 0, "ok"),
            (root, FILE | 0o775, 0, 50, "writable"),
            (user, FILE | 0o775, 1000, 1000, "ok"),
            (staff, FILE | 0o775, 1000, 50, "writable"),
            (root, DIR | 0o777, 0, 0, "writable"),
            (root, DIR | 0o1777, 0, 0, "ok"),
            (root, DIR | 0o1777, 1000, 0, "wrong_owner"),
            (root, FILE | 0o1777, 0, 0, "writable"),
        ] {
            let got = trust
                .check(Path::new("/"), &stat(mode, uid, gid), true)
                .map_or_else(|r| r.code(), |()| "ok");
            assert_eq!(got, expected, "{trust:?} {mode:o} {uid}:{gid}");
        }
    }

    #[test]
    fn a_search_directory_that_others_could_make_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let base = scratch.path().canonicalize().unwrap();
        let trust = Trust::current();
        trust.search_directory(&base.join("absent/deep")).unwrap();
        let open = base.join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o1777)).unwrap();
        trust.above(&open.join("file")).unwrap();
        assert_eq!(
            trust.search_directory(&open).unwrap_err().code(),
            "writable"
        );
        let refusal = trust.search_directory(&open.join("absent")).unwrap_err();
        assert_eq!(refusal.code(), "writable");
        assert!(refusal.to_string().contains("chmod o-w"), "{refusal}");
    }
}
