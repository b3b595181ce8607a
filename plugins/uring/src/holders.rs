//! Who has a file or block device open: for messages that name the culprit.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A file, by device and inode number.
    File {
        /// `st_dev`.
        dev: u64,
        /// `st_ino`.
        ino: u64,
    },
    /// A block device, by its number (`st_rdev`), whatever node it was opened through.
    Device(u64),
}

impl Opened {
    fn matches(self, found: &fs::Metadata) -> bool {
        match self {
            Self::File { dev, ino } => found.dev() == dev && found.ino() == ino,
            Self::Device(rdev) => found.file_type().is_block_device() && found.rdev() == rdev,
        }
    }
}

/// Processes that have it open, as `pid 12 (name)`; this process is left out. Only those that
/// this process may look into are found, which for root is all.
pub fn holders(opened: Opened) -> Vec<String> {
    let own = std::process::id();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own && descriptors(*pid, opened) > 0)
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("pid {pid} ({})", name.trim_end())
        })
        .collect()
}

/// How many descriptors of process `pid` are open on it; 0 if this process may not know.
pub(crate) fn descriptors(pid: u32, opened: Opened) -> usize {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return 0;
    };
    descriptors
        .filter_map(|entry| fs::metadata(entry.ok()?.path()).ok())
        .filter(|found| opened.matches(found))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn another_process_is_named_and_this_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("held");
        let file = fs::File::create(&path).unwrap();
        let found = file.metadata().unwrap();
        let opened = Opened::File {
            dev: found.dev(),
            ino: found.ino(),
        };
        assert_eq!(holders(opened), Vec::<String>::new());
        // The child has the file as its standard input.
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::from(file))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let named = holders(opened);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(named, [format!("pid {} (sleep)", child.id())]);
        assert_eq!(holders(opened), Vec::<String>::new());
    }
}
