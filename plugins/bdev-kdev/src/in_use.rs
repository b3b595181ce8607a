//! Whether a block device is in use, and by whom.

use crate::sysfs::{Block, DevNumber};
use bdev_uring::{Opened, holders};
use rustix::fs::{OFlags, makedev};
use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Device number of a block device node.
pub(crate) fn number_of(path: &Path) -> Option<DevNumber> {
    let found = fs::metadata(path).ok()?;
    found
        .file_type()
        .is_block_device()
        .then(|| DevNumber::from_rdev(found.rdev()))
}

/// Why `block` cannot be taken; `None` if it can. Looks at its partitions, and for a partition at
/// the disk, too.
pub(crate) fn reason(block: &Block) -> Option<String> {
    visible(block).or_else(|| refused(block))
}

/// The reasons that the system shows and that end only when somebody ends them.
pub(crate) fn visible(block: &Block) -> Option<String> {
    let mut family = block.partitions();
    family.extend(block.parent());
    family.insert(0, block.clone());
    let numbers: HashSet<DevNumber> = family.iter().map(|block| block.number).collect();
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    mounted(&mounts, &numbers, number_of)
        .or_else(|| swapped(&swaps, &numbers, number_of))
        .or_else(|| held(&family))
}

/// "mounted at /home". File systems of several devices show another number than the device's, so
/// the source is looked at, too.
fn mounted(
    mountinfo: &str,
    numbers: &HashSet<DevNumber>,
    number_of: impl Fn(&Path) -> Option<DevNumber>,
) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let number = fields.nth(2).and_then(DevNumber::parse);
        let place = unescape(fields.nth(1)?);
        let source = line
            .split_once(" - ")
            .and_then(|(_, rest)| rest.split(' ').nth(1));
        let by_number = number.is_some_and(|number| numbers.contains(&number));
        let by_source = || {
            let source = unescape(source?);
            source
                .starts_with("/dev/")
                .then(|| number_of(Path::new(&source)))
                .flatten()
        };
        (by_number || by_source().is_some_and(|number| numbers.contains(&number)))
            .then(|| format!("mounted at {place}"))
    })
}

fn swapped(
    swaps: &str,
    numbers: &HashSet<DevNumber>,
    number_of: impl Fn(&Path) -> Option<DevNumber>,
) -> Option<String> {
    swaps.lines().skip(1).find_map(|line| {
        let path = unescape(line.split_whitespace().next()?);
        let number = number_of(Path::new(&path))?;
        numbers
            .contains(&number)
            .then(|| format!("used as swap space ({path})"))
    })
}

fn held(family: &[Block]) -> Option<String> {
    family.iter().find_map(|block| {
        let holders = block.holders();
        (!holders.is_empty()).then(|| format!("part of {} ({})", holders.join(", "), block.name))
    })
}

/// Asks the kernel: an exclusive open fails for whatever it knows to be in use, including mounts
/// of other namespaces and other engines.
fn refused(block: &Block) -> Option<String> {
    let exclusive = OFlags::EXCL | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(exclusive.bits() as i32)
        .open(block.node());
    match opened {
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => Some(taken(block)),
        _ => None,
    }
}

/// The device, as something that processes have open.
pub(crate) fn opened(block: &Block) -> Opened {
    Opened::Device(makedev(block.number.major, block.number.minor))
}

/// Text for a refused exclusive open, with the processes that can be seen.
pub(crate) fn taken(block: &Block) -> String {
    let names = holders(opened(block));
    if names.is_empty() {
        return "held exclusively by this process, the kernel, or a process that cannot be seen"
            .to_owned();
    }
    format!("held exclusively; open in {}", names.join(", "))
}

/// Undoes the octal escapes of /proc files (`\040` for a blank).
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'\\')
            .then(|| text.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::{Sysfs, tests::fake};

    const SDA1: DevNumber = DevNumber { major: 8, minor: 1 };

    fn nodes(path: &Path) -> Option<DevNumber> {
        (path == Path::new("/dev/sda1")).then_some(SDA1)
    }

    #[test]
    fn mounts_are_found_by_number_and_by_source() {
        let numbers = HashSet::from([SDA1]);
        let find = |text: &str| mounted(text, &numbers, nodes);
        let ext4 = "36 35 8:1 / /my\\040data rw,noatime shared:1 - ext4 /dev/root rw";
        assert_eq!(find(ext4).as_deref(), Some("mounted at /my data"));
        let btrfs = "36 35 0:45 /sub /b rw - btrfs /dev/sda1 rw";
        assert_eq!(find(btrfs).as_deref(), Some("mounted at /b"));
        let other = "36 35 8:17 / /b rw - ext4 /dev/sdb1 rw\n37 35 0:5 / /proc rw - proc proc rw";
        assert_eq!(find(other), None);
    }

    #[test]
    fn swap_and_volumes_count() {
        let numbers = HashSet::from([SDA1]);
        let swaps = "Filename Type Size Used Priority\n/dev/sda1 partition 1 0 -2\n";
        let found = swapped(swaps, &numbers, nodes);
        assert_eq!(found.as_deref(), Some("used as swap space (/dev/sda1)"));
        assert_eq!(
            swapped("Filename\n/swapfile file 1 0 -2\n", &numbers, nodes),
            None
        );
        let root = tempfile::tempdir().unwrap();
        fake(root.path(), "sda", "8:0", &[("size", "8")]);
        fake(
            root.path(),
            "sda/sda1",
            "8:1",
            &[("size", "8"), ("partition", "1")],
        );
        fs::create_dir_all(root.path().join("block/sda/sda1/holders/md127")).unwrap();
        let disk = Sysfs::at(root.path()).disks().unwrap().remove(0);
        let mut family = disk.partitions();
        assert_eq!(held(&family).as_deref(), Some("part of md127 (sda1)"));
        family.clear();
        assert_eq!(held(&family), None);
    }
}
