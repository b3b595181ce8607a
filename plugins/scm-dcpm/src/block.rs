//! Block devices as the kernel describes them in sysfs, and what they hold.

use daos_media::signature::{self, Content};
use daos_plugin_api::sdk::{Error, Result};
use rustix::fs::{major, minor};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Label of the file systems that this plugin makes: longer than anybody would choose by chance.
pub(crate) const LABEL: &str = "daos-scm-dcpm";

/// Mark of a format that is under way, at the beginning of a device. mkfs.ext4 clears the old superblock first and writes the new one
/// last; what it leaves in between when it is killed is nothing that anybody could tell from data.
const UNDER_WAY: &[u8] = b"daos-scm-dcpm: a format is under way\n";
/// Where the mark has what makes mkfs.ext4 leave it alone: the magic number of a BSD disklabel, in the processor's order (e2fsprogs,
/// misc/mke2fs.c, `zap_sector`). An ext4 has no use for the place itself.
const DISKLABEL: (usize, u32) = (64, 0x8256_4557);
/// Bytes that the mark takes: all that an ext4 leaves to others.
const MARK: usize = 1024;

/// A block device.
#[derive(Clone, Debug)]
pub(crate) struct BlockDevice {
    pub(crate) path: PathBuf,
    pub(crate) number: (u32, u32),
    /// Bytes.
    pub(crate) size: u64,
    sysfs: PathBuf,
}

/// What a device holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Nothing.
    Nothing,
    /// A file system that this plugin made.
    Ours,
    /// Something that has a name, such as a file system, in words.
    Known(String),
    /// Something, in words: data without a file system, or what is left of one.
    Unknown(String),
}

impl BlockDevice {
    /// The device at `path`; `None` if there is something else.
    ///
    /// # Errors
    /// NOT_FOUND if there is nothing.
    pub(crate) fn at(path: &Path) -> Result<Option<Self>> {
        let metadata = fs::metadata(path)
            .map_err(|e| Error::io(format!("cannot look at {}", path.display()), e))?;
        if !metadata.file_type().is_block_device() {
            return Ok(None);
        }
        let number = (major(metadata.rdev()), minor(metadata.rdev()));
        let sysfs = sysfs(number)
            .map_err(|e| Error::io(format!("the kernel does not know {}", path.display()), e))?;
        let sectors = fs::read_to_string(sysfs.join("size")).unwrap_or_default();
        Ok(Some(Self {
            path: path.to_owned(),
            number,
            size: sectors.trim().parse::<u64>().unwrap_or(0) * 512,
            sysfs,
        }))
    }

    /// The devices with direct access whose file system is ours and has an identifier (of [`id_of`]).
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn made_for(id: &str) -> Result<Vec<PathBuf>> {
        let names = fs::read_dir("/sys/class/block").into_iter().flatten();
        let mut found = Vec::new();
        for name in names.flatten() {
            if !has_dax(&name.path()) {
                continue;
            }
            let path = Path::new("/dev").join(name.file_name());
            let file = File::open(&path).map_err(|e| {
                Error::io(format!("cannot read {}", path.display()), e).remedy("run as root")
            })?;
            if is_ours(&file)
                && !is_under_way(&file)
                && identifier(&file).is_some_and(|own| own == id)
            {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Whether the kernel offers direct access to its memory.
    pub(crate) fn has_dax(&self) -> bool {
        has_dax(&self.sysfs)
    }

    /// A file that is taken for a device.
    #[cfg(test)]
    pub(crate) fn image(path: &Path, size: u64) -> Self {
        let image = File::create(path).and_then(|file| file.set_len(size));
        image.expect("an image");
        Self {
            path: path.to_owned(),
            number: (0, 0),
            size,
            sysfs: path.with_file_name("sysfs"),
        }
    }

    /// Marks it as being formatted, or takes the mark away; durably.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn set_under_way(&self, under_way: bool) -> Result<()> {
        let set = || {
            let file = OpenOptions::new().write(true).open(&self.path)?;
            file.write_all_at(&mark(under_way), 0)?;
            file.sync_all()
        };
        set().map_err(|e| Error::io(format!("cannot write to {}", self.path.display()), e))
    }

    /// What is on it.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn holds(&self) -> Result<Holds> {
        let fail = |e: io::Error| {
            Error::io(format!("cannot read {}", self.path.display()), e)
                .remedy("run as root, or mount it first")
        };
        let file = File::open(&self.path).map_err(fail)?;
        if is_under_way(&file) {
            // Whatever was there was given up when it began.
            return Ok(Holds::Nothing);
        }
        if is_ours(&file) {
            return Ok(Holds::Ours);
        }
        match signature::detect_file(&file, self.size).map_err(fail)? {
            Content::Blank => Ok(Holds::Nothing),
            content @ Content::Known(_) => Ok(Holds::Known(content.to_string())),
            content => Ok(Holds::Unknown(content.to_string())),
        }
    }
}

/// Identifier of the file system that is made for a mount point: by it the namespace is found again, whatever name the kernel
/// gives it.
pub(crate) fn id_of(mount: &Path) -> String {
    let mut hash = Sha256::new();
    hash.update(LABEL.as_bytes());
    hash.update([0]);
    hash.update(mount.as_os_str().as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    // RFC 9562: version 8, whose contents are its maker's affair.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    uuid(&bytes)
}

fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
}

/// Where an ext4 has its superblock, by which the offsets below are meant (Linux
/// Documentation/filesystems/ext4/super.rst).
const SUPERBLOCK: u64 = 1024;

/// Identifier of an ext4.
fn identifier(file: &File) -> Option<String> {
    const UUID: u64 = 0x68;
    let mut bytes = [0; 16];
    file.read_exact_at(&mut bytes, SUPERBLOCK + UUID).ok()?;
    Some(uuid(&bytes))
}

/// Whether the superblock of an ext4 is there that carries our label.
fn is_ours(file: &File) -> bool {
    const MAGIC: (u64, [u8; 2]) = (0x38, [0x53, 0xef]);
    const VOLUME_NAME: u64 = 0x78;
    let (mut magic, mut name) = ([0; 2], [0; 16]);
    let read = file
        .read_exact_at(&mut magic, SUPERBLOCK + MAGIC.0)
        .and_then(|()| file.read_exact_at(&mut name, SUPERBLOCK + VOLUME_NAME));
    let mut label = [0; 16];
    label[..LABEL.len()].copy_from_slice(LABEL.as_bytes());
    read.is_ok() && magic == MAGIC.1 && name == label
}

/// The beginning of a device with the mark, or without.
fn mark(under_way: bool) -> [u8; MARK] {
    let mut mark = [0; MARK];
    if under_way {
        mark[..UNDER_WAY.len()].copy_from_slice(UNDER_WAY);
        let (at, magic) = DISKLABEL;
        mark[at..at + 4].copy_from_slice(&magic.to_ne_bytes());
    }
    mark
}

/// Whether a format of ours began and did not end.
fn is_under_way(file: &File) -> bool {
    let mut start = [0; UNDER_WAY.len()];
    file.read_exact_at(&mut start, 0).is_ok() && start == UNDER_WAY
}

/// Where the kernel describes a device.
fn sysfs(number: (u32, u32)) -> io::Result<PathBuf> {
    fs::canonicalize(format!("/sys/dev/block/{}:{}", number.0, number.1))
}

fn has_dax(device: &Path) -> bool {
    // A partition has no queue of its own.
    let queues = [device.join("queue/dax"), device.join("../queue/dax")];
    queues
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .is_some_and(|text| text.trim() == "1")
}

/// The memory below a mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Medium {
    /// NUMA node; -1 = unknown.
    pub(crate) numa_node: i32,
    /// The processor's caches are flushed by the platform when the power goes.
    pub(crate) caches_persist: bool,
    /// The kernel offers direct access.
    pub(crate) has_dax: bool,
    /// Places that cannot be read, as the kernel lists them; empty = none.
    pub(crate) bad_blocks: String,
}

impl Medium {
    /// Of the file system that `path` is on.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path)
            .map_err(|e| Error::io(format!("cannot look at {}", path.display()), e))?;
        let number = (major(metadata.dev()), minor(metadata.dev()));
        // File systems without a device (tmpfs, overlay) have no entry.
        Ok(sysfs(number).map_or_else(
            |_| Self {
                numa_node: -1,
                caches_persist: false,
                has_dax: false,
                bad_blocks: String::new(),
            },
            |device| Self::described(&device),
        ))
    }

    fn described(device: &Path) -> Self {
        let is_region = |path: &&Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let number = name.and_then(|name| name.strip_prefix("region"));
            number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        };
        let region = device.ancestors().find(is_region);
        let of_region = |file: &str| {
            let text = fs::read_to_string(region?.join(file)).ok()?;
            Some(text.trim().to_owned())
        };
        let bad = fs::read_to_string(device.join("badblocks")).unwrap_or_default();
        Self {
            numa_node: of_region("numa_node")
                .and_then(|text| text.parse().ok())
                .unwrap_or(-1),
            caches_persist: of_region("persistence_domain").as_deref() == Some("cpu_cache"),
            has_dax: has_dax(device),
            bad_blocks: bad.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ext4_with_our_label_is_ours() {
        let dir = tempfile::tempdir().expect("temp dir");
        let image = |magic: [u8; 2], label: &str| {
            let mut bytes = vec![0; 4096];
            bytes[1024 + 0x38..1024 + 0x3a].copy_from_slice(&magic);
            bytes[1024 + 0x78..1024 + 0x78 + label.len()].copy_from_slice(label.as_bytes());
            let path = dir.path().join("image");
            fs::write(&path, bytes).expect("an image");
            is_ours(&File::open(path).expect("an image"))
        };
        assert!(image([0x53, 0xef], LABEL));
        assert!(!image([0x53, 0xef], "daos"));
        assert!(!image([0x53, 0xef], "daos-scm-dcpm-2"));
        assert!(!image([0x53, 0xee], LABEL));
    }

    #[test]
    fn a_format_that_was_killed_anywhere_leaves_nothing_that_anybody_misses() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("image");
        let size = 64 << 20;
        let device = BlockDevice::image(&path, size);
        let holds = || device.holds().expect("read");
        device.set_under_way(true).expect("marked");
        assert_eq!(holds(), Holds::Nothing);
        // What mkfs leaves without its last act, the superblock; and without the end of ours.
        let id = id_of(Path::new("/mnt/daosa/0"));
        crate::ext4::begin(&device, &id).expect("a file system");
        let open = || {
            OpenOptions::new()
                .write(true)
                .open(&path)
                .expect("an image")
        };
        let mut superblock = [0; 1024];
        File::open(&path)
            .and_then(|file| file.read_exact_at(&mut superblock, SUPERBLOCK))
            .expect("read");
        open()
            .write_all_at(&[0; 1024], SUPERBLOCK)
            .expect("written");
        assert_eq!(holds(), Holds::Nothing, "mkfs left the mark");
        device.set_under_way(false).expect("unmarked");
        assert!(
            matches!(holds(), Holds::Unknown(_)),
            "{:?}: without the mark nobody knows",
            holds()
        );
        device.set_under_way(true).expect("marked");
        open()
            .write_all_at(&superblock, SUPERBLOCK)
            .expect("written");
        assert_eq!(holds(), Holds::Nothing);
        device.set_under_way(false).expect("unmarked");
        assert_eq!(holds(), Holds::Ours);
    }

    #[test]
    fn a_file_system_is_known_by_its_mount_point() {
        let id = id_of(Path::new("/mnt/daosa/0"));
        assert_eq!((id.len(), &id[14..15]), (36, "8"), "{id}");
        assert_eq!(id, id_of(Path::new("/mnt/daosa/0")));
        assert_ne!(id, id_of(Path::new("/mnt/daosa/1")));
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("image");
        let mut bytes = vec![0; 4096];
        bytes[1024 + 0x68..1024 + 0x78].copy_from_slice(&[0xab; 16]);
        fs::write(&path, bytes).expect("an image");
        let own = identifier(&File::open(path).expect("an image")).expect("one");
        assert_eq!(own, "abababab-abab-abab-abab-abababababab");
    }

    #[test]
    fn the_region_of_a_namespace_describes_its_memory() {
        let root = tempfile::tempdir().expect("temp dir");
        let device = root.path().join("ndbus0/region1/pfn1.0/block/pmem1");
        fs::create_dir_all(device.join("queue")).expect("made-up sysfs");
        let write = |path: &str, text: &str| {
            fs::write(root.path().join(path), text).expect("made-up sysfs");
        };
        write("ndbus0/region1/numa_node", "1\n");
        write("ndbus0/region1/persistence_domain", "memory_controller\n");
        write("ndbus0/region1/pfn1.0/block/pmem1/queue/dax", "1\n");
        write("ndbus0/region1/pfn1.0/block/pmem1/badblocks", "8192 8\n");
        let medium = Medium::described(&device);
        assert_eq!(medium.numa_node, 1);
        assert!(medium.has_dax && !medium.caches_persist);
        assert_eq!(medium.bad_blocks, "8192 8");
        write("ndbus0/region1/persistence_domain", "cpu_cache\n");
        assert!(Medium::described(&device).caches_persist);
        let disk = root.path().join("block/sda");
        fs::create_dir_all(&disk).expect("made-up sysfs");
        let medium = Medium::described(&disk);
        assert_eq!((medium.numa_node, medium.has_dax), (-1, false));
    }
}
