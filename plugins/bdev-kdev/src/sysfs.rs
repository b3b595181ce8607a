//! What sysfs tells about block devices.

use rustix::fs::{major, minor};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Sectors of sysfs, whatever the device's blocks are.
const SECTOR: u64 = 512;

/// Number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DevNumber {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl DevNumber {
    pub(crate) fn from_rdev(rdev: u64) -> Self {
        Self {
            major: major(rdev),
            minor: minor(rdev),
        }
    }

    /// From `major:minor`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = kernel_tables::number(text.as_bytes())?;
        Some(Self { major, minor })
    }
}

/// A sysfs tree.
#[derive(Clone, Debug)]
pub(crate) struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/sys"),
        }
    }
}

impl Sysfs {
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Whole devices, by name.
    pub(crate) fn disks(&self) -> io::Result<Vec<Block>> {
        let mut names: Vec<_> = fs::read_dir(self.root.join("block"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        names.sort();
        Ok(names
            .into_iter()
            .filter_map(|path| Block::at(&path))
            .collect())
    }

    /// A device or partition by its number.
    pub(crate) fn block(&self, number: DevNumber) -> Option<Block> {
        let DevNumber { major, minor } = number;
        Block::at(&self.root.join("dev/block").join(format!("{major}:{minor}")))
    }
}

/// A block device in sysfs.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    dir: PathBuf,
    /// Kernel name (`sda1`).
    pub(crate) name: String,
    pub(crate) number: DevNumber,
}

impl Block {
    fn at(path: &Path) -> Option<Self> {
        let dir = fs::canonicalize(path).ok()?;
        let number = DevNumber::parse(&fs::read_to_string(dir.join("dev")).ok()?)?;
        // Slashes of device names are exclamation marks in sysfs.
        let name = dir.file_name()?.to_str()?.replace('!', "/");
        Some(Self { dir, name, number })
    }

    fn text(&self, attribute: &str) -> Option<String> {
        let text = fs::read_to_string(self.dir.join(attribute)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn value(&self, attribute: &str) -> Option<u64> {
        self.text(attribute)?.parse().ok()
    }

    /// Device node that devtmpfs and udev give it.
    pub(crate) fn node(&self) -> String {
        format!("/dev/{}", self.name)
    }

    /// Bytes; `None` once the device is gone.
    pub(crate) fn size(&self) -> Option<u64> {
        self.value("size")?.checked_mul(SECTOR)
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.value("ro") == Some(1)
    }

    /// The whole device, if this is a partition.
    pub(crate) fn parent(&self) -> Option<Self> {
        self.dir
            .join("partition")
            .exists()
            .then(|| Self::at(self.dir.parent()?))
            .flatten()
    }

    fn children(&self, inside: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.dir.join(inside)) else {
            return Vec::new();
        };
        let mut paths: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        paths.sort();
        paths
    }

    /// Its partitions.
    pub(crate) fn partitions(&self) -> Vec<Self> {
        let children = self.children("").into_iter();
        children
            .filter(|path| path.join("partition").exists())
            .filter_map(|path| Self::at(&path))
            .collect()
    }

    /// Names of devices built on it (volumes, RAID).
    pub(crate) fn holders(&self) -> Vec<String> {
        let name = |path: PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        self.children("holders")
            .into_iter()
            .filter_map(name)
            .collect()
    }

    /// The device whose `queue` and `device` directories apply.
    fn disk(&self) -> Self {
        self.parent().unwrap_or_else(|| self.clone())
    }

    pub(crate) fn queue(&self, attribute: &str) -> Option<u64> {
        self.disk().value(&format!("queue/{attribute}"))
    }

    /// Bytes per logical block.
    pub(crate) fn logical_block(&self) -> u32 {
        self.queue("logical_block_size")
            .and_then(|size| u32::try_from(size).ok())
            .unwrap_or(512)
    }

    /// Whether completed writes may sit in a volatile cache; unknown counts as yes.
    pub(crate) fn has_volatile_cache(&self) -> bool {
        self.disk().text("queue/write_cache").as_deref() != Some("write through")
    }

    /// Discard granularity in bytes; `None` if discard is not supported.
    pub(crate) fn discard_granularity(&self) -> Option<u64> {
        self.queue("discard_max_bytes").filter(|most| *most > 0)?;
        Some(self.queue("discard_granularity").unwrap_or(0))
    }

    pub(crate) fn numa_node(&self) -> i32 {
        let disk = self.disk();
        // NVMe namespaces sit below their controller, others directly on a bus device.
        [
            "device/numa_node",
            "device/device/numa_node",
            "device/../numa_node",
        ]
        .iter()
        .find_map(|attribute| disk.text(attribute)?.parse().ok())
        .unwrap_or(-1)
    }

    pub(crate) fn model(&self) -> String {
        let disk = self.disk();
        disk.text("device/model")
            .or_else(|| disk.text("dm/name"))
            .unwrap_or_default()
    }

    pub(crate) fn serial(&self) -> String {
        let disk = self.disk();
        disk.text("device/serial")
            .or_else(|| disk.text("serial"))
            .unwrap_or_default()
    }

    pub(crate) fn firmware(&self) -> String {
        let disk = self.disk();
        disk.text("device/firmware_rev")
            .or_else(|| disk.text("device/rev"))
            .unwrap_or_default()
    }

    /// The file behind a loop device.
    pub(crate) fn loop_file(&self) -> Option<String> {
        self.disk().text("loop/backing_file")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes the attributes of a device below `root`; `name` is `sda`, or `sda/sda1`.
    pub(crate) fn fake(root: &Path, name: &str, number: &str, attributes: &[(&str, &str)]) {
        let dir = root.join("block").join(name);
        fs::create_dir_all(&dir).unwrap();
        for (attribute, value) in attributes.iter().chain(&[("dev", number)]) {
            let path = dir.join(attribute);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }
        let numbers = root.join("dev/block");
        fs::create_dir_all(&numbers).unwrap();
        let _ = fs::remove_file(numbers.join(number));
        std::os::unix::fs::symlink(&dir, numbers.join(number)).unwrap();
    }

    #[test]
    fn attributes_of_partitions_come_from_their_disk() {
        let root = tempfile::tempdir().unwrap();
        fake(
            root.path(),
            "nvme0n1",
            "259:0",
            &[
                ("size", "2048"),
                ("ro", "0"),
                ("queue/logical_block_size", "4096"),
                ("queue/write_cache", "write through"),
                ("queue/discard_max_bytes", "1048576"),
                ("queue/discard_granularity", "8192"),
                ("device/model", "FAST DISK  "),
                ("device/serial", "S1"),
                ("device/firmware_rev", "F2"),
                ("device/device/numa_node", "1"),
            ],
        );
        fake(
            root.path(),
            "nvme0n1/nvme0n1p1",
            "259:1",
            &[("size", "1024"), ("partition", "1")],
        );
        fs::create_dir_all(root.path().join("block/nvme0n1/nvme0n1p1/holders/dm-3")).unwrap();
        let sysfs = Sysfs::at(root.path());
        let disk = &sysfs.disks().unwrap()[0];
        assert_eq!(
            (disk.node(), disk.size()),
            ("/dev/nvme0n1".to_owned(), Some(1 << 20))
        );
        let part = sysfs
            .block(DevNumber {
                major: 259,
                minor: 1,
            })
            .unwrap();
        assert_eq!(disk.partitions()[0].number, part.number);
        assert_eq!(part.holders(), ["dm-3"]);
        assert_eq!(part.size(), Some(512 << 10));
        for block in [disk, &part] {
            assert_eq!(block.logical_block(), 4096);
            assert!(!block.has_volatile_cache());
            assert_eq!(block.discard_granularity(), Some(8192));
            assert_eq!(block.numa_node(), 1);
            let text = (block.model(), block.serial(), block.firmware());
            assert_eq!(
                text,
                ("FAST DISK".to_owned(), "S1".to_owned(), "F2".to_owned())
            );
        }
        assert!(sysfs.block(DevNumber { major: 1, minor: 1 }).is_none());
    }
}
