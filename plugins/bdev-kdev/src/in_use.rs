//! Whether a block device is in use, and by whom.

use crate::sysfs::{Block, DevNumber};
use bdev_uring::{Opened, holders};
use kernel_tables::{Member, Use};
use rustix::fs::{OFlags, makedev};
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
    let members: Vec<Member> = family.iter().map(member).collect();
    let mounts = fs::read("/proc/thread-self/mountinfo").unwrap_or_default();
    let swaps = fs::read("/proc/swaps").unwrap_or_default();
    let number = |path: &Path| number_of(path).map(|number| (number.major, number.minor));
    let uses = kernel_tables::uses(&mounts, &swaps, &members, &number);
    uses.first().map(|(member, usage)| match usage {
        Use::Mounted(_) => usage.to_string(),
        Use::Swap | Use::PartOf(_) => format!("{usage} ({})", member.name),
    })
}

fn member(block: &Block) -> Member {
    Member {
        name: block.name.clone(),
        number: Some((block.number.major, block.number.minor)),
        holders: block.holders(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::{Sysfs, tests::fake};

    #[test]
    fn members_have_what_sysfs_tells() {
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
        let found = Member {
            name: "sda1".to_owned(),
            number: Some((8, 1)),
            holders: vec!["md127".to_owned()],
        };
        assert_eq!(member(&disk.partitions()[0]), found);
        assert_eq!(member(&disk).holders, Vec::<String>::new());
    }
}
