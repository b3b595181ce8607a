//! What `--fix` does: small, named steps that can be undone, and never anything to stored data.

use super::node::Node;
use serde::{Serialize, Serializer};
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown,
};
use std::path::{Path, PathBuf};

/// A step. Paths are those of the machine, without the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Makes a directory, with those above it that are missing.
    Directory { path: PathBuf, uid: u32, gid: u32 },
    /// Gives a directory to a user.
    Give { path: PathBuf, uid: u32, gid: u32 },
    /// Changes the mode of a file or directory.
    Mode { path: PathBuf, mode: u32 },
    /// Makes a file that must not be there yet.
    File { path: PathBuf, text: String },
    /// Writes a value to the kernel, until the next boot.
    Kernel { path: PathBuf, value: String },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path, uid, gid } => {
                write!(f, "make {} for user {uid}:{gid}, mode 0755", path.display())
            }
            Self::Give { path, uid, gid } => write!(f, "chown {uid}:{gid} {}", path.display()),
            Self::Mode { path, mode } => write!(f, "chmod {mode:04o} {}", path.display()),
            Self::File { path, .. } => write!(f, "write {}", path.display()),
            Self::Kernel { path, value } => {
                write!(
                    f,
                    "write {value} to {} (until the next boot)",
                    path.display()
                )
            }
        }
    }
}

impl Step {
    fn path(&self) -> &Path {
        match self {
            Self::Directory { path, .. }
            | Self::Give { path, .. }
            | Self::Mode { path, .. }
            | Self::File { path, .. }
            | Self::Kernel { path, .. } => path,
        }
    }

    /// Whether only root can do it.
    fn needs_root(&self, node: &Node) -> bool {
        if node.is_root() {
            return false;
        }
        let existing = node.existing(self.path());
        match self {
            Self::Directory { uid, gid, .. } => {
                (*uid, *gid) != (node.euid, node.egid) || !writable(node, existing)
            }
            Self::Give { .. } => true,
            Self::Mode { path, .. } => {
                fs::metadata(node.path(path)).map_or(true, |found| found.uid() != node.euid)
            }
            Self::File { .. } | Self::Kernel { .. } => !writable(node, existing),
        }
    }

    fn apply(&self, node: &Node) -> io::Result<()> {
        let path = node.path(self.path());
        match self {
            Self::Directory { uid, gid, .. } => {
                let above = path.parent().unwrap_or(Path::new("/"));
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(above)?;
                DirBuilder::new().mode(0o755).create(&path)?;
                // The umask may have narrowed it.
                set_mode(&path, 0o755)?;
                give(&path, *uid, *gid)
            }
            Self::Give { uid, gid, .. } => give(&path, *uid, *gid),
            Self::Mode { mode, .. } => set_mode(&path, *mode),
            Self::File { text, .. } => {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o644)
                    .open(&path)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()
            }
            Self::Kernel { value, .. } => {
                let before = fs::read_to_string(&path)?;
                fs::write(&path, value)?;
                let taken = confirm(&fs::read_to_string(&path)?, value);
                // All or nothing: half a pool is memory that nobody has.
                if taken.is_err() && before.trim().parse::<u64>().is_ok() {
                    fs::write(&path, before.trim())?;
                }
                taken
            }
        }
    }
}

/// Whether the kernel has taken a value: it may give fewer huge pages than it was asked for, without an error.
fn confirm(read: &str, value: &str) -> io::Result<()> {
    let read = read.trim();
    // Choices are shown with brackets around the one that counts.
    if read == value || read.contains(&format!("[{value}]")) {
        return Ok(());
    }
    Err(io::Error::other(format!("the kernel made it {read}")))
}

/// Not through a link: root must not change what somebody else has put in the path's place.
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(mode))
}

fn give(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if (found.uid(), found.gid()) == (uid, gid) {
        return Ok(());
    }
    lchown(path, Some(uid), Some(gid))
}

fn writable(node: &Node, path: &Path) -> bool {
    node.permits(path, node.euid, node.egid, 2).unwrap_or(false)
}

/// What is done about one finding, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fix(pub(super) Vec<Step>);

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<String> = self.0.iter().map(Step::to_string).collect();
        f.write_str(&steps.join(", then "))
    }
}

impl Serialize for Fix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Fix {
    /// Whether only root can do it.
    pub(super) fn needs_root(&self, node: &Node) -> bool {
        self.0.iter().any(|step| step.needs_root(node))
    }

    /// Does it; returns what was done.
    ///
    /// # Errors
    /// Which step failed, and why; the steps before it are done.
    pub(super) fn apply(&self, node: &Node) -> Result<String, String> {
        for step in &self.0 {
            step.apply(node)
                .map_err(|error| format!("could not {step}: {error}"))?;
        }
        Ok(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The user and group of the tests, as whom directories can be given away.
    fn me() -> (u32, u32) {
        (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        )
    }

    #[test]
    fn each_step_does_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::below(dir.path());
        let (uid, gid) = me();
        fs::write(dir.path().join("choice"), "[always] madvise never\n").unwrap();
        fs::write(dir.path().join("key"), "k").unwrap();
        let fix = Fix(vec![
            Step::Directory {
                path: "/run/daos".into(),
                uid,
                gid,
            },
            Step::Mode {
                path: "/key".into(),
                mode: 0o400,
            },
            Step::File {
                path: "/made".into(),
                text: "text".to_owned(),
            },
            // A plain file gives back what was written, as the kernel does for a number.
            Step::Kernel {
                path: "/choice".into(),
                value: "12".to_owned(),
            },
        ]);
        let done = fix.apply(&node).unwrap();
        assert!(
            done.contains("make /run/daos") && done.contains("chmod 0400 /key"),
            "{done}"
        );
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("run/daos"), mode("key")), (0o755, 0o400));
        assert_eq!(fs::read_to_string(dir.path().join("made")).unwrap(), "text");
        assert_eq!(fs::read_to_string(dir.path().join("choice")).unwrap(), "12");
        // Nothing is made or written twice.
        let error = fix.apply(&node).unwrap_err();
        assert!(error.contains("could not make /run/daos"), "{error}");
    }

    #[test]
    fn a_value_that_the_kernel_did_not_take_is_a_failure() {
        assert!(
            confirm("512\n", "1024")
                .unwrap_err()
                .to_string()
                .contains("512")
        );
        assert!(confirm("always [madvise] never\n", "madvise").is_ok());
        assert!(confirm("[always] madvise never\n", "madvise").is_err());
        assert!(confirm("7\n", "7").is_ok());
    }

    #[test]
    fn who_may_do_it_is_known_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node::below(dir.path());
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let own = Fix(vec![Step::Directory {
            path: "/a/b".into(),
            uid: 1000,
            gid: 1000,
        }]);
        assert!(!own.needs_root(&node));
        let others = Fix(vec![Step::Directory {
            path: "/a".into(),
            uid: 7,
            gid: 7,
        }]);
        assert!(others.needs_root(&node));
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        node.euid = me().0.wrapping_add(4711);
        let file = Fix(vec![Step::File {
            path: "/f".into(),
            text: String::new(),
        }]);
        assert!(file.needs_root(&node));
        node.euid = 0;
        assert!(!file.needs_root(&node) && !others.needs_root(&node));
    }
}
