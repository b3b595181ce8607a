//! Content made by hand, after the formats' definitions, and by the tools of this machine.

use std::fs::File;
use std::process::Command;

use daos_media::label::Label;
use daos_media::signature::{Content, OWN_LABEL, WINDOW, detect, detect_file};
use proptest::prelude::*;

const SIZE: u64 = 16 << 20;

/// A device of `size` zeroes but for `patches`.
fn device(size: u64, patches: &[(u64, &[u8])]) -> Content {
    let mut image = vec![0; size as usize];
    for (offset, bytes) in patches {
        let at = *offset as usize;
        image[at..at + bytes.len()].copy_from_slice(bytes);
    }
    let window = WINDOW.min(image.len());
    detect(&image[..window], &image[image.len() - window..], size)
}

fn names(content: &Content) -> Vec<&'static str> {
    match content {
        Content::Known(found) => found.iter().map(|one| one.name).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn magic_numbers_are_found_in_their_places() {
    let cases: &[(&str, u64, &[u8])] = &[
        ("SPDK blobstore", 0, b"SPDKBLOB"),
        ("Ceph BlueStore", 0, b"bluestore block device\n0011-"),
        ("XFS file system", 0, b"XFSB"),
        ("Btrfs file system", 0x10040, b"_BHRfS_M"),
        ("F2FS file system", 1024, &0xf2f5_2010u32.to_le_bytes()),
        ("SquashFS file system", 0, &0x7371_7368u32.to_le_bytes()),
        ("EROFS file system", 1024, &0xe0f5_e1e2u32.to_le_bytes()),
        ("JFS file system", 0x8000, b"JFS1"),
        ("ReiserFS file system", 0x10034, b"ReIsEr2Fs"),
        ("GFS2 file system", 0x10000, &0x0116_1970u32.to_be_bytes()),
        ("APFS container", 32, b"NXSB"),
        ("ISO 9660 file system", 0x8001, b"CD001"),
        ("VDO volume", 0, b"dmvdo001"),
        ("LUKS encrypted volume", 0, b"LUKS\xba\xbe\0\x02"),
        (
            "LUKS encrypted volume (second header)",
            0x4000,
            b"SKUL\xba\xbe",
        ),
        ("GPT partition table", 512, b"EFI PART"),
        ("GPT partition table", 4096, b"EFI PART"),
        ("GPT partition table (backup)", SIZE - 512, b"EFI PART"),
        ("GPT partition table (backup)", SIZE - 4096, b"EFI PART"),
        (
            "Intel Matrix RAID member",
            SIZE - 1024,
            b"Intel Raid ISM Cfg Sig. 1",
        ),
        ("DDF RAID member", SIZE - 512, &0xde11_de11u32.to_be_bytes()),
        ("NTFS file system", 3, b"NTFS    "),
        ("exFAT file system", 3, b"EXFAT   "),
        ("swap space", 4086, b"SWAPSPACE2"),
        ("swap space", 65526, b"SWAPSPACE2"),
        ("suspended system in swap space", 4086, b"S1SUSPEND\0"),
        (
            "Linux RAID member (0.90)",
            SIZE - 65536,
            &0xa92b_4efcu32.to_le_bytes(),
        ),
        (
            "Linux RAID member (0.90)",
            SIZE - 65536,
            &0xa92b_4efcu32.to_be_bytes(),
        ),
        ("ZFS pool member", 128 << 10, &0x00ba_b10cu64.to_le_bytes()),
        (
            "ZFS pool member",
            (384 << 10) + 4096,
            &0x00ba_b10cu64.to_be_bytes(),
        ),
        (
            "ZFS pool member",
            SIZE - (128 << 10),
            &0x00ba_b10cu64.to_le_bytes(),
        ),
        ("PC boot sector", 510, &[0x55, 0xaa]),
    ];
    for (name, offset, bytes) in cases {
        let content = device(SIZE, &[(*offset, bytes)]);
        assert_eq!(names(&content), [*name], "{name} at {offset}: {content}");
        // With a wrong byte it is not recognised, and not overlooked either.
        let mut wrong = bytes.to_vec();
        wrong[0] ^= 0x20;
        let content = device(SIZE, &[(*offset, &wrong)]);
        assert_eq!(
            content,
            Content::Unknown { offset: *offset },
            "{name} at {offset}"
        );
    }
}

#[test]
fn signatures_of_several_parts() {
    let lvm = |sector: u64| {
        device(
            SIZE,
            &[
                (sector * 512, b"LABELONE"),
                (sector * 512 + 24, b"LVM2 001"),
            ],
        )
    };
    assert!((0..4).all(|sector| names(&lvm(sector)) == ["LVM2 physical volume"]));
    assert_eq!(lvm(4), Content::Unknown { offset: 2048 });

    let mut md = [0; 8];
    md[..4].copy_from_slice(&0xa92b_4efcu32.to_le_bytes());
    md[4] = 1;
    // Also where the device is no multiple of anything.
    let size = SIZE + 5 * 512;
    for (name, offset) in [
        ("Linux RAID member (1.1)", 0),
        ("Linux RAID member (1.2)", 4096),
        ("Linux RAID member (1.0)", (size / 512 - 16) / 8 * 8 * 512),
    ] {
        assert_eq!(names(&device(size, &[(offset, &md)])), [name]);
    }

    let boot: (u64, &[u8]) = (510, &[0x55, 0xaa]);
    assert_eq!(
        names(&device(SIZE, &[boot, (82, b"FAT32   ")])),
        ["FAT file system"]
    );
    assert_eq!(
        names(&device(SIZE, &[boot, (3, b"NTFS    ")])),
        ["NTFS file system"]
    );
    assert!(matches!(
        device(SIZE, &[(82, b"FAT32   ")]),
        Content::Unknown { offset: 82 }
    ));
    let entry = [0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0];
    assert_eq!(
        names(&device(SIZE, &[boot, (462, &entry)])),
        ["MBR partition table"]
    );
    // The table that protects a GPT is part of it; what lies inside of a partition is seen too.
    let gpt = device(
        SIZE,
        &[
            boot,
            (446, &entry),
            (512, b"EFI PART"),
            (SIZE - 512, b"EFI PART"),
        ],
    );
    assert_eq!(
        names(&gpt),
        ["GPT partition table", "GPT partition table (backup)"]
    );
}

#[test]
fn our_own_label_is_recognised_in_either_copy() {
    let label = Label {
        engine: Default::default(),
        generation: 1,
        index: 0,
        count: 1,
        device: Default::default(),
        blocks: SIZE / 512,
        block_size: 512,
        created: 1,
        volatile: false,
    };
    let record = label.encode().unwrap();
    for places in [vec![0], vec![SIZE - 4096], vec![0, SIZE - 4096]] {
        let patches: Vec<(u64, &[u8])> = places.iter().map(|at| (*at, &record[..])).collect();
        let content = device(SIZE, &patches);
        assert_eq!(names(&content), [OWN_LABEL]);
        assert!(content.is_ours());
    }
    let content = device(SIZE, &[(0, &record), (SIZE - 512, b"EFI PART")]);
    assert!(!content.is_ours(), "{content}");
    assert!(!device(SIZE, &[]).is_ours());
}

#[test]
fn blank_and_unknown() {
    assert_eq!(device(SIZE, &[]), Content::Blank);
    assert_eq!(device(0, &[]), Content::Blank);
    assert_eq!(
        device(SIZE, &[(SIZE - 1, &[1])]),
        Content::Unknown { offset: SIZE - 1 }
    );
    assert_eq!(device(100, &[(7, &[1])]), Content::Unknown { offset: 7 });
    assert_eq!(
        device(SIZE, &[(9, b"x")]).to_string(),
        "unknown content (first non-zero byte at 9)"
    );
    let said = device(SIZE, &[(0, b"XFSB")]).to_string();
    assert_eq!(said, "XFS file system (at byte 0)");
}

/// What `tool` makes on a blank file is recognised as `name`.
fn made_by(tool: &str, args: &[&str], name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let size = 512 << 20;
    File::create(&path).unwrap().set_len(size).unwrap();
    let file = File::open(&path).unwrap();
    assert_eq!(detect_file(&file, size).unwrap(), Content::Blank);
    let search = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    let output = match Command::new(tool)
        .args(args)
        .arg(&path)
        .env("PATH", search)
        .output()
    {
        Ok(output) => output,
        Err(error) => return println!("NOT RUN made_by {tool} {args:?}: {error}"),
    };
    assert!(
        output.status.success(),
        "{tool}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let content = detect_file(&file, size).unwrap();
    assert!(
        names(&content).contains(&name),
        "{tool} {args:?}: {content}"
    );
}

const LUKS: &[&str] = &[
    "luksFormat",
    "--batch-mode",
    "--type=luks2",
    "--key-file=/dev/zero",
    "--keyfile-size=8",
    "--pbkdf=pbkdf2",
    "--pbkdf-force-iterations=1000",
];

#[test]
fn what_the_tools_of_this_machine_make() {
    made_by("mkfs.ext4", &["-q", "-F"], "ext4 file system");
    made_by("mkfs.ext4", &["-q", "-F", "-b", "1024"], "ext4 file system");
    made_by("mkfs.ext3", &["-q", "-F"], "ext3 file system");
    made_by("mkfs.ext2", &["-q", "-F"], "ext2 file system");
    made_by("mkswap", &["-q"], "swap space");
    made_by("mkswap", &["-q", "-p", "65536"], "swap space");
    made_by("mkfs.xfs", &["-q", "-f"], "XFS file system");
    made_by("mkfs.vfat", &[], "FAT file system");
    made_by("mkfs.btrfs", &["-q", "-f", "--mixed"], "Btrfs file system");
    made_by("mkfs.f2fs", &["-q", "-f"], "F2FS file system");
    made_by("mkfs.ntfs", &["-q", "-F", "-f"], "NTFS file system");
    made_by("mkfs.exfat", &[], "exFAT file system");
    made_by("sgdisk", &["-n", "1:0:0"], "GPT partition table");
    made_by("cryptsetup", LUKS, "LUKS encrypted volume");
    made_by("cryptsetup", LUKS, "LUKS encrypted volume (second header)");
}

proptest! {
    #[test]
    fn any_windows_are_taken(
        head in prop::collection::vec(any::<u8>(), 0..9000),
        tail in prop::collection::vec(any::<u8>(), 0..9000),
        size in any::<u64>(),
    ) {
        // Also windows that do not fit the size they are said to be of.
        let content = detect(&head, &tail, size);
        let blank = head.iter().chain(&tail).all(|byte| *byte == 0);
        prop_assert_eq!(content == Content::Blank, blank);
    }

    #[test]
    fn any_byte_at_either_end_is_noticed(at in 0..2 * WINDOW as u64, byte in 1u8..) {
        let offset = if at < WINDOW as u64 { at } else { SIZE - (at - WINDOW as u64) - 1 };
        prop_assert_eq!(device(SIZE, &[(offset, &[byte])]), Content::Unknown { offset });
    }
}
