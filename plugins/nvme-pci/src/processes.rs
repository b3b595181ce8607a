//! Which processes have which device files open or mapped.

use crate::tree::Tree;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} ({})", self.pid, self.name)
    }
}

/// What one process uses.
#[derive(Debug)]
struct Uses {
    process: Process,
    /// Open files and mapped ones, as their paths are shown to us.
    files: BTreeSet<String>,
    /// Numbers of open device files, whatever their paths.
    devices: BTreeSet<u64>,
}

/// Processes with the files that they use, at one moment.
#[derive(Debug, Default)]
pub struct Processes {
    list: Vec<Uses>,
    complete: bool,
}

impl Processes {
    /// Looks at every process that this one may look into.
    pub fn read(tree: &Tree) -> Self {
        let mut all = Self {
            list: Vec::new(),
            complete: true,
        };
        for name in tree.names("/proc") {
            let Ok(pid) = name.parse::<u32>() else {
                continue;
            };
            let (uses, complete) = uses(tree, pid);
            all.complete &= complete;
            all.list.push(uses);
        }
        all
    }

    /// The same without this process: for those who drive devices themselves.
    pub fn others(tree: &Tree) -> Self {
        let mut all = Self::read(tree);
        let own = std::process::id();
        all.list.retain(|uses| uses.process.pid != own);
        all
    }

    /// Whether every process could be looked into.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Processes that use the file at `path`, or another file of the same device.
    pub fn users(&self, tree: &Tree, path: &str) -> Vec<Process> {
        let number = fs::metadata(tree.path(path))
            .ok()
            .filter(is_device)
            .map(|found| found.rdev());
        self.matching(|uses| {
            uses.files.contains(path) || number.is_some_and(|n| uses.devices.contains(&n))
        })
    }

    /// Processes that use a file whose path begins like this.
    pub fn users_below(&self, prefix: &str) -> Vec<Process> {
        self.matching(|uses| {
            uses.files
                .range(prefix.to_owned()..)
                .next()
                .is_some_and(|first| first.starts_with(prefix))
        })
    }

    fn matching(&self, wanted: impl Fn(&Uses) -> bool) -> Vec<Process> {
        let found = self.list.iter().filter(|uses| wanted(uses));
        found.map(|uses| uses.process.clone()).collect()
    }
}

fn is_device(found: &fs::Metadata) -> bool {
    let kind = found.file_type();
    kind.is_char_device() || kind.is_block_device()
}

/// The second is false if something could not be seen of a process that exists.
fn uses(tree: &Tree, pid: u32) -> (Uses, bool) {
    let dir = format!("/proc/{pid}");
    let mut uses = Uses {
        process: Process {
            pid,
            name: tree.text(&format!("{dir}/comm")).unwrap_or_default(),
        },
        files: BTreeSet::new(),
        devices: BTreeSet::new(),
    };
    let mut complete = true;
    let denied = |e: &std::io::Error| e.kind() == ErrorKind::PermissionDenied;
    match fs::read_dir(tree.path(&format!("{dir}/fd"))) {
        Err(e) => complete &= !denied(&e),
        Ok(entries) => {
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                let Ok(target) = fs::read_link(&path) else {
                    continue;
                };
                // Sockets and pipes have names without a slash.
                let Some(target) = target.to_str().filter(|text| text.starts_with('/')) else {
                    continue;
                };
                uses.files.insert(target.to_owned());
                if let Ok(found) = fs::metadata(&path)
                    && is_device(&found)
                {
                    uses.devices.insert(found.rdev());
                }
            }
        }
    }
    match fs::read_to_string(tree.path(&format!("{dir}/maps"))) {
        Err(e) => complete &= !denied(&e),
        Ok(maps) => uses
            .files
            .extend(maps.lines().filter_map(mapped).map(str::to_owned)),
    }
    (uses, complete)
}

/// Path in a line of /proc/PID/maps: the sixth field.
fn mapped(line: &str) -> Option<&str> {
    let mut rest = line;
    for _ in 0..5 {
        rest = rest.trim_start().split_once(' ')?.1;
    }
    Some(rest.trim_start()).filter(|path| path.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn maps_name_their_files() {
        let line = "7f0000-7f1000 rw-s 00000000 00:0f 12    /dev/hugepages/my map_0";
        assert_eq!(mapped(line), Some("/dev/hugepages/my map_0"));
        assert_eq!(mapped("7f0000-7f1000 rw-p 00000000 00:00 0 "), None);
        assert_eq!(
            mapped("7f0000-7f1000 rw-p 00000000 00:00 0    [heap]"),
            None
        );
        assert_eq!(mapped(""), None);
    }

    #[test]
    fn open_and_mapped_files_have_users() {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc/42");
        fs::create_dir_all(proc.join("fd")).unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(proc.join("comm"), "engine\n").unwrap();
        symlink("/dev/vfio/12", proc.join("fd/3")).unwrap();
        symlink("socket:[1]", proc.join("fd/4")).unwrap();
        fs::write(
            proc.join("maps"),
            "1-2 r 0 0:0 7 /dev/hugepages/spdk0map_1\n",
        )
        .unwrap();
        let tree = Tree::at(root.path());
        let all = Processes::read(&tree);
        assert!(all.is_complete());
        let users: Vec<_> = all.users(&tree, "/dev/vfio/12");
        assert_eq!(users[0].to_string(), "pid 42 (engine)");
        assert!(all.users(&tree, "/dev/vfio/1").is_empty());
        assert_eq!(all.users_below("/dev/hugepages/").len(), 1);
        assert!(all.users_below("/dev/hugepages2/").is_empty());
    }
}
