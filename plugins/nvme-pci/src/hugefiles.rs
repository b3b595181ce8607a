//! Files of user-space drivers on a hugetlbfs: each keeps its page, also when the process that made it
//! was killed.

use crate::processes::Processes;
use crate::tree::Tree;
use std::fs::{File, TryLockError};
use std::io;

/// A mounted hugetlbfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugeMount {
    /// Where.
    pub path: String,
}

/// A file on it that SPDK made, and that nobody uses any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleFile {
    /// Where.
    pub path: String,
}

/// Mounts whose pages have the default size, `page_kib`.
pub(crate) fn mounts(tree: &Tree, page_kib: u64) -> Vec<HugeMount> {
    let mut found: Vec<HugeMount> = Vec::new();
    for mount in kernel_tables::mounts(&tree.bytes("/proc/self/mountinfo")) {
        let size = mount
            .options
            .split(',')
            .find_map(|option| option.strip_prefix("pagesize="))
            .map_or(Some(page_kib), kib);
        let is_huge = mount.kind == "hugetlbfs" && size == Some(page_kib);
        let mount = HugeMount {
            path: mount.at.display().to_string(),
        };
        if is_huge && !found.contains(&mount) {
            found.push(mount);
        }
    }
    found
}

/// `2M` in KiB.
fn kib(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "G" => number.checked_mul(1 << 20),
        "M" => number.checked_mul(1 << 10),
        "K" | "k" | "kB" => Some(number),
        "" => Some(number >> 10),
        _ => None,
    }
}

/// Number of the process in a name like `spdk_pid123map_4`; 0 where the name does not tell.
/// `None` for names that SPDK does not make: other programs' files are theirs to remove.
fn maker(name: &str) -> Option<u32> {
    let (prefix, number) = name.rsplit_once("map_")?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id = prefix.strip_prefix("spdk")?;
    match id.strip_prefix("_pid") {
        Some(pid) if digits(pid) && digits(number) => pid.parse().ok(),
        None if digits(id) && digits(number) => Some(0),
        _ => None,
    }
}

/// Files of processes that are gone. Who cannot look into every process does not know, and gets none.
pub(crate) fn stale(tree: &Tree, mounts: &[HugeMount], processes: &Processes) -> Vec<StaleFile> {
    if !processes.is_complete() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for mount in mounts {
        for name in tree.names(&mount.path) {
            let path = format!("{}/{name}", mount.path.trim_end_matches('/'));
            let Some(pid) = maker(&name) else {
                continue;
            };
            let alive = pid > 0 && tree.exists(&format!("/proc/{pid}"));
            let plain = std::fs::symlink_metadata(tree.path(&path)).is_ok_and(|m| m.is_file());
            if plain && !alive && processes.users(tree, &path).is_empty() {
                found.push(StaleFile { path });
            }
        }
    }
    found
}

/// Takes the lock that DPDK holds on each of its files, also in containers whose processes are not
/// seen; `None` if somebody has it.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn lock(tree: &Tree, path: &str) -> io::Result<Option<File>> {
    let file = File::open(tree.path(path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_names_that_spdk_makes_count() {
        assert_eq!(maker("spdk_pid77map_0"), Some(77));
        assert_eq!(maker("spdk1234map_12"), Some(0));
        for other in [
            "rtemap_0",
            "spdkmap_0",
            "spdk_pidmap_0",
            "spdk0map_",
            "spdk0map_x",
            "qemu",
            "spdk_pid7map_1.bak",
            "map_1",
        ] {
            assert_eq!(maker(other), None, "{other}");
        }
    }

    #[test]
    fn mounts_of_the_default_size_are_found() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::at(root.path());
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        let lines = "30 20 0:28 / /dev/hugepages rw,relatime shared:16 - hugetlbfs hugetlbfs rw,pagesize=2M\n\
                     31 20 0:29 / /mnt/my\\040huge rw - hugetlbfs none rw,mode=1770\n\
                     32 20 0:30 / /mnt/1g rw - hugetlbfs none rw,pagesize=1024M\n\
                     33 20 0:31 / /tmp rw - tmpfs tmpfs rw\n";
        fs::write(root.path().join("proc/self/mountinfo"), lines).unwrap();
        let paths: Vec<_> = mounts(&tree, 2048).into_iter().map(|m| m.path).collect();
        assert_eq!(paths, ["/dev/hugepages", "/mnt/my huge"]);
        let paths: Vec<_> = mounts(&tree, 1 << 20).into_iter().map(|m| m.path).collect();
        assert_eq!(paths, ["/mnt/my huge", "/mnt/1g"]);
    }

    #[test]
    fn a_locked_file_is_somebodys() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::at(root.path());
        fs::write(root.path().join("f"), "").unwrap();
        let held = lock(&tree, "/f").unwrap();
        assert!(held.is_some());
        assert!(lock(&tree, "/f").unwrap().is_none());
        drop(held);
        assert!(lock(&tree, "/f").unwrap().is_some());
    }
}
