//! The signatures, and where they are.
//!
//! Offsets and magic numbers are those of the formats' definitions, named beside each entry: headers
//! of the Linux kernel (`include/uapi/linux`, `fs`, `drivers/md`), the UEFI specification, and the
//! documents of the projects.

use super::{Match, OWN_LABEL};
use crate::label;

const KIB: u64 = 1024;

/// The two windows of a device.
pub(super) struct Reader<'a> {
    head: &'a [u8],
    tail: &'a [u8],
    size: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(head: &'a [u8], tail: &'a [u8], size: u64) -> Self {
        Reader { head, tail, size }
    }

    fn tail_start(&self) -> u64 {
        self.size.saturating_sub(self.tail.len() as u64)
    }

    /// The `length` bytes at `offset`, if they lie in one of the windows.
    fn get(&self, offset: u64, length: usize) -> Option<&'a [u8]> {
        let within = |window: &'a [u8], start: u64| {
            let at = usize::try_from(offset.checked_sub(start)?).ok()?;
            window.get(at..at.checked_add(length)?)
        };
        within(self.head, 0).or_else(|| within(self.tail, self.tail_start()))
    }

    fn has(&self, offset: u64, magic: &[u8]) -> bool {
        self.get(offset, magic.len()) == Some(magic)
    }

    fn u16(&self, offset: u64) -> u16 {
        self.get(offset, 2)
            .map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&self, offset: u64) -> u32 {
        let bytes = self.get(offset, 4).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    pub(super) fn first_nonzero(&self) -> Option<u64> {
        let first = |window: &[u8], start: u64| {
            window
                .iter()
                .position(|byte| *byte != 0)
                .map(|at| start + at as u64)
        };
        first(self.head, 0).or_else(|| first(self.tail, self.tail_start()))
    }

    /// `back` bytes before the end.
    fn before_end(&self, back: u64) -> Option<u64> {
        self.size.checked_sub(back)
    }
}

/// Where a magic number lies.
enum At {
    /// From the start.
    Start(u64),
    /// From the end, counted backwards.
    End(u64),
}
use At::{End, Start};

/// Magic numbers with a fixed place.
const FIXED: &[(&str, At, &[u8])] = &[
    (OWN_LABEL, Start(0), &label::MAGIC),
    // SPDK lib/blob/blobstore.h: signature of the super block.
    ("SPDK blobstore", Start(0), b"SPDKBLOB"),
    // Ceph src/os/bluestore/BlueStore: text at the start of the block device.
    ("Ceph BlueStore", Start(0), b"bluestore block device"),
    // Linux fs/xfs/libxfs/xfs_format.h: XFS_SB_MAGIC.
    ("XFS file system", Start(0), b"XFSB"),
    // Linux include/uapi/linux/btrfs_tree.h: super block at 64 KiB, magic at its byte 64.
    ("Btrfs file system", Start(64 * KIB + 64), b"_BHRfS_M"),
    // Linux include/uapi/linux/magic.h: F2FS_SUPER_MAGIC, super block at 1 KiB.
    ("F2FS file system", Start(KIB), &[0x10, 0x20, 0xf5, 0xf2]),
    // Linux fs/squashfs/squashfs_fs.h: SQUASHFS_MAGIC, either byte order.
    ("SquashFS file system", Start(0), b"hsqs"),
    ("SquashFS file system", Start(0), b"sqsh"),
    // Linux fs/erofs/erofs_fs.h: EROFS_SUPER_MAGIC_V1, super block at 1 KiB.
    ("EROFS file system", Start(KIB), &[0xe2, 0xe1, 0xf5, 0xe0]),
    // IBM JFS layout: super block at 32 KiB.
    ("JFS file system", Start(32 * KIB), b"JFS1"),
    // ReiserFS 3: super block at 64 KiB, magic at its byte 52.
    ("ReiserFS file system", Start(64 * KIB + 52), b"ReIsErFs"),
    ("ReiserFS file system", Start(64 * KIB + 52), b"ReIsEr2Fs"),
    ("ReiserFS file system", Start(64 * KIB + 52), b"ReIsEr3Fs"),
    // Linux include/uapi/linux/gfs2_ondisk.h: GFS2_MAGIC, big endian, super block at 64 KiB.
    (
        "GFS2 file system",
        Start(64 * KIB),
        &[0x01, 0x16, 0x19, 0x70],
    ),
    // Linux fs/ocfs2/ocfs2_fs.h: super block in block 2; blocks of 4 KiB are usual.
    ("OCFS2 file system", Start(8 * KIB), b"OCFSV2"),
    // Apple File System Reference: nx_superblock_t, nx_magic.
    ("APFS container", Start(32), b"NXSB"),
    // ECMA-119: volume descriptors begin at sector 16.
    ("ISO 9660 file system", Start(32 * KIB + 1), b"CD001"),
    // Linux include/uapi/linux/bcache.h and fs/bcachefs: super block at 4 KiB, magic at its byte 24.
    (
        "bcache device",
        Start(4 * KIB + 24),
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba,
            0x6d, 0x81,
        ],
    ),
    (
        "bcachefs file system",
        Start(4 * KIB + 24),
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d,
            0xf7, 0xef,
        ],
    ),
    // Linux Documentation/admin-guide/device-mapper/vdo-design.rst: geometry block.
    ("VDO volume", Start(0), b"dmvdo001"),
    // Stratis on-disk format: signature block in sector 1, magic at its byte 4.
    (
        "Stratis device",
        Start(516),
        b"!Stra0tis\x86\xff\x02^\x41rh",
    ),
    // LUKS specifications: primary header; LUKS2 has a second header of another magic number.
    ("LUKS encrypted volume", Start(0), b"LUKS\xba\xbe"),
    (
        "LUKS encrypted volume (second header)",
        Start(16 * KIB),
        b"SKUL\xba\xbe",
    ),
    (
        "LUKS encrypted volume (second header)",
        Start(32 * KIB),
        b"SKUL\xba\xbe",
    ),
    (
        "LUKS encrypted volume (second header)",
        Start(64 * KIB),
        b"SKUL\xba\xbe",
    ),
    (
        "LUKS encrypted volume (second header)",
        Start(128 * KIB),
        b"SKUL\xba\xbe",
    ),
    (
        "LUKS encrypted volume (second header)",
        Start(256 * KIB),
        b"SKUL\xba\xbe",
    ),
    (
        "LUKS encrypted volume (second header)",
        Start(512 * KIB),
        b"SKUL\xba\xbe",
    ),
    // UEFI specification 5.3.2: header in block 1, its copy in the last block.
    ("GPT partition table", Start(512), b"EFI PART"),
    ("GPT partition table", Start(4096), b"EFI PART"),
    ("GPT partition table (backup)", End(512), b"EFI PART"),
    ("GPT partition table (backup)", End(4096), b"EFI PART"),
    // mdadm super-intel.c: anchor in the last sector but one.
    (
        "Intel Matrix RAID member",
        End(1024),
        b"Intel Raid ISM Cfg Sig. ",
    ),
    // SNIA Common RAID Disk Data Format: anchor header in the last block.
    ("DDF RAID member", End(512), &[0xde, 0x11, 0xde, 0x11]),
    // Microsoft: OEM identifier of the boot sector.
    ("NTFS file system", Start(3), b"NTFS    "),
    ("exFAT file system", Start(3), b"EXFAT   "),
    ("BitLocker volume", Start(3), b"-FVE-FS-"),
];

/// Everything that is recognised.
pub(super) fn search(reader: &Reader<'_>) -> Vec<Match> {
    let mut found = Vec::new();
    for (name, at, magic) in FIXED {
        let offset = match at {
            Start(offset) => Some(*offset),
            End(back) => reader.before_end(*back),
        };
        if let Some(offset) = offset.filter(|offset| reader.has(*offset, magic)) {
            found.push(Match { name, offset });
        }
    }
    let probes = [own_copy, ext, lvm, md, swap, zfs, fat];
    found.extend(probes.iter().filter_map(|probe| probe(reader)));
    // A boot sector belongs to what is in it; alone it is a partition table.
    let has_table = found.iter().any(|one| one.name.starts_with("GPT"));
    let has_volume = found.iter().any(|one| one.offset < 512);
    if !has_table && !has_volume {
        found.extend(mbr(reader));
    }
    found
}

/// The second copy of our own label, when the first one is gone.
fn own_copy(reader: &Reader<'_>) -> Option<Match> {
    let offset = (reader.size / 4096 * 4096).checked_sub(4096)?;
    let is = offset > 0 && reader.has(offset, &label::MAGIC) && !reader.has(0, &label::MAGIC);
    is.then_some(Match {
        name: OWN_LABEL,
        offset,
    })
}

/// Linux fs/ext4/ext4.h: super block at 1 KiB, `s_magic` at its byte 56, features at 92, 96 and 100.
fn ext(reader: &Reader<'_>) -> Option<Match> {
    const SUPER: u64 = KIB;
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    /// Incompatible features that ext2 and ext3 know: compression to meta block groups.
    const OLD_INCOMPATIBLE: u32 = 0x1 | 0x2 | 0x4 | 0x8 | 0x10;
    /// Read-only compatible features that ext2 and ext3 know: sparse super to B-tree directories.
    const OLD_READ_ONLY: u32 = 0x1 | 0x2 | 0x4;

    if !reader.has(SUPER + 56, &[0x53, 0xef]) {
        return None;
    }
    let compatible = reader.u32(SUPER + 92);
    let incompatible = reader.u32(SUPER + 96);
    let read_only = reader.u32(SUPER + 100);
    let name = if incompatible & JOURNAL_DEVICE != 0 {
        "ext journal device"
    } else if incompatible & !OLD_INCOMPATIBLE != 0 || read_only & !OLD_READ_ONLY != 0 {
        "ext4 file system"
    } else if compatible & HAS_JOURNAL != 0 {
        "ext3 file system"
    } else {
        "ext2 file system"
    };
    Some(Match {
        name,
        offset: SUPER + 56,
    })
}

/// LVM2 lib/format_text/layout.h: label in one of the first four sectors.
fn lvm(reader: &Reader<'_>) -> Option<Match> {
    let offset = (0..4)
        .map(|sector| sector * 512)
        .find(|offset| reader.has(*offset, b"LABELONE") && reader.has(*offset + 24, b"LVM2 001"))?;
    Some(Match {
        name: "LVM2 physical volume",
        offset,
    })
}

/// Linux include/uapi/linux/raid/md_p.h: `MD_SB_MAGIC`. Version 0.90 in the last 64 KiB block, in
/// the byte order of the machine; 1.0 at least 8 KiB before the end, 1.1 at 0, 1.2 at 4 KiB.
fn md(reader: &Reader<'_>) -> Option<Match> {
    const MAGIC: u32 = 0xa92b_4efc;
    let old = (reader.size / (64 * KIB) * (64 * KIB)).checked_sub(64 * KIB);
    let one = (reader.size / 512)
        .checked_sub(16)
        .map(|sector| sector / 8 * 8 * 512);
    let little = [
        ("Linux RAID member (1.1)", Some(0)),
        ("Linux RAID member (1.2)", Some(4096)),
        ("Linux RAID member (1.0)", one),
    ]
    .into_iter()
    // The version follows the magic number and tells 1.x from 0.90 where the places coincide.
    .find_map(|(name, offset)| {
        let offset = offset?;
        let is = reader.has(offset, &MAGIC.to_le_bytes()) && reader.u32(offset + 4) == 1;
        is.then_some(Match { name, offset })
    });
    little.or_else(|| {
        let offset = old?;
        let is =
            reader.has(offset, &MAGIC.to_le_bytes()) || reader.has(offset, &MAGIC.to_be_bytes());
        is.then_some(Match {
            name: "Linux RAID member (0.90)",
            offset,
        })
    })
}

/// Linux include/linux/swap.h: magic in the last 10 bytes of the first page, whatever its size; a
/// suspended system changes it (kernel/power/swap.c and the tools for suspend in user space).
fn swap(reader: &Reader<'_>) -> Option<Match> {
    const MAGICS: [(&str, &[u8]); 6] = [
        ("swap space", b"SWAPSPACE2"),
        ("swap space", b"SWAP-SPACE"),
        ("suspended system in swap space", b"S1SUSPEND\0"),
        ("suspended system in swap space", b"S2SUSPEND\0"),
        ("suspended system in swap space", b"ULSUSPEND\0"),
        ("suspended system in swap space", b"LINHIB0001"),
    ];
    for page in [4, 8, 16, 32, 64].map(|kib| kib * KIB) {
        for (name, magic) in MAGICS {
            if reader.has(page - 10, magic) {
                return Some(Match {
                    name,
                    offset: page - 10,
                });
            }
        }
    }
    None
}

/// OpenZFS include/sys/vdev_impl.h: four labels of 256 KiB, two at either end of the device rounded
/// down to 256 KiB; uberblocks of at least 1 KiB in their second half, in the byte order of the
/// machine.
fn zfs(reader: &Reader<'_>) -> Option<Match> {
    const MAGIC: u64 = 0x00ba_b10c;
    const LABEL: u64 = 256 * KIB;
    let end = reader.size / LABEL * LABEL;
    let starts = [
        Some(0),
        Some(LABEL),
        end.checked_sub(2 * LABEL),
        end.checked_sub(LABEL),
    ];
    starts.into_iter().flatten().find_map(|start| {
        let offset = (start + LABEL / 2..start + LABEL)
            .step_by(1024)
            .find(|offset| {
                reader.has(*offset, &MAGIC.to_le_bytes())
                    || reader.has(*offset, &MAGIC.to_be_bytes())
            })?;
        Some(Match {
            name: "ZFS pool member",
            offset,
        })
    })
}

/// Microsoft FAT specification: type field of the boot sector, and its signature.
fn fat(reader: &Reader<'_>) -> Option<Match> {
    if !reader.has(510, &[0x55, 0xaa]) {
        return None;
    }
    let named = [
        (54, b"FAT12   "),
        (54, b"FAT16   "),
        (54, b"FAT     "),
        (82, b"FAT32   "),
    ];
    let (offset, _) = named
        .into_iter()
        .find(|(offset, magic)| reader.has(*offset, *magic))?;
    Some(Match {
        name: "FAT file system",
        offset,
    })
}

/// PC boot sector: signature in its last two bytes, four entries of 16 bytes before, each with a
/// boot flag, a type that is not 0, and a size.
fn mbr(reader: &Reader<'_>) -> Option<Match> {
    if reader.u16(510) != 0xaa55 {
        return None;
    }
    let used = (0..4).map(|entry| 446 + entry * 16).any(|entry| {
        let flag = reader.get(entry, 1).is_some_and(|flag| flag[0] & 0x7f == 0);
        let kind = reader.get(entry + 4, 1).is_some_and(|kind| kind[0] != 0);
        flag && kind && reader.u32(entry + 12) != 0
    });
    let name = if used {
        "MBR partition table"
    } else {
        "PC boot sector"
    };
    Some(Match { name, offset: 510 })
}
