use proptest::prelude::*;

use super::*;

fn example() -> Label {
    Label {
        engine: "cd491c67-7e24-4fcf-bc82-393803ab564c".parse().unwrap(),
        generation: 0x0102_0304_0506_0708,
        index: 1,
        count: 2,
        device: "11111111-2222-4333-8444-555555555555".parse().unwrap(),
        blocks: 1 << 18,
        block_size: 4096,
        created: 1_700_000_000,
        volatile: true,
    }
}

/// A record with its checksum made right again.
fn sealed(mut record: [u8; SIZE]) -> [u8; SIZE] {
    let checksum = crc_fast::crc32_iscsi(&record[..CHECKSUM]);
    record[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
    record
}

#[test]
fn the_layout_on_media_is_the_documented_one() {
    let record = example().encode().unwrap();
    assert_eq!(
        record[..8],
        [0x89, 0x44, 0x41, 0x4f, 0x53, 0x42, 0x44, 0x0a]
    );
    assert_eq!(record[8..16], [1, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(record[16..20], [0xcd, 0x49, 0x1c, 0x67]);
    assert_eq!(record[32..40], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(record[40..48], [1, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(record[48..52], [0x11; 4]);
    assert_eq!(record[64..76], [0, 0, 4, 0, 0, 0, 0, 0, 0, 16, 0, 0]);
    assert_eq!(
        record[80..96],
        [0, 0, 16, 0, 0, 0, 0, 0, 0, 0xf0, 0xff, 0x3f, 0, 0, 0, 0]
    );
    assert_eq!(record[96..104], 1_700_000_000u64.to_le_bytes());
    assert!(record[104..CHECKSUM].iter().all(|byte| *byte == 0));
    // CRC-32C, Castagnoli: its check value.
    assert_eq!(crc_fast::crc32_iscsi(b"123456789"), 0xe306_9283);
    assert_eq!(Label::decode(&record), Ok(example()));
}

#[test]
fn places_are_aligned_and_apart() {
    for block_size in [512, 1024, 4096, 16384, 65536] {
        for extra in [0, 1, 7, 8, 9] {
            let blocks = (64 << 20) / u64::from(block_size) + extra;
            let layout = Layout::of(blocks, block_size).unwrap();
            let unit = u64::from(block_size).max(4096);
            assert_eq!(layout.bytes, blocks * u64::from(block_size));
            assert_eq!(layout.second_copy % 4096, 0);
            assert!(layout.second_copy + 4096 <= layout.bytes);
            assert!(layout.bytes - layout.second_copy < 8192);
            assert_eq!((layout.data.start, layout.data.end % unit), (DATA_START, 0));
            assert!(layout.data.end <= layout.second_copy);
            assert!(layout.second_copy - layout.data.end < unit);
        }
    }
}

#[test]
fn impossible_devices_are_refused() {
    for block_size in [0, 256, 520, 4097, 131_072] {
        assert_eq!(
            Layout::of(1 << 20, block_size),
            Err(LayoutError::BlockSize(block_size))
        );
    }
    assert!(matches!(
        Layout::of(511, 4096),
        Err(LayoutError::Size { .. })
    ));
    assert!(Layout::of(512, 4096).is_ok());
    assert!(matches!(
        Layout::of(u64::MAX, 4096),
        Err(LayoutError::Size { .. })
    ));
    assert!(
        Label {
            blocks: 3,
            ..example()
        }
        .encode()
        .is_err()
    );
}

#[test]
fn each_failure_has_its_type() {
    let good = example().encode().unwrap();
    assert_eq!(
        Label::decode(&[0; SIZE]),
        Err(LabelError::NotALabel { blank: true })
    );
    assert_eq!(
        Label::decode(&[]),
        Err(LabelError::NotALabel { blank: true })
    );
    assert_eq!(
        Label::decode(&[7; SIZE]),
        Err(LabelError::NotALabel { blank: false })
    );
    let mut late = [0; SIZE];
    late[SIZE - 1] = 1;
    assert_eq!(
        Label::decode(&late),
        Err(LabelError::NotALabel { blank: false })
    );
    assert!(matches!(
        Label::decode(&good[..SIZE - 1]),
        Err(LabelError::Corrupt(_))
    ));

    let edit = |at: usize, value: u8| {
        let mut record = good;
        record[at] = value;
        Label::decode(&sealed(record))
    };
    assert_eq!(edit(8, 2), Err(LabelError::NewerVersion { found: 2 }));
    assert!(matches!(edit(8, 0), Err(LabelError::Corrupt(_))));
    assert!(
        matches!(edit(12, 2), Err(LabelError::Corrupt(_))),
        "unknown flag"
    );
    assert!(
        matches!(edit(40, 2), Err(LabelError::Corrupt(_))),
        "index past count"
    );
    assert!(
        matches!(edit(73, 17), Err(LabelError::Corrupt(_))),
        "block size"
    );
    assert!(
        matches!(edit(82, 17), Err(LabelError::Corrupt(_))),
        "data area"
    );
    // Not sealed: damage comes before version, so that noise is no newer version.
    let mut record = good;
    record[8] = 2;
    assert!(matches!(
        Label::decode(&record),
        Err(LabelError::Corrupt(_))
    ));
}

#[test]
fn two_copies_are_better_than_one() {
    let good = example().encode().unwrap();
    let other = Label {
        generation: 9,
        ..example()
    };
    let newer = other.encode().unwrap();
    let zero = [0; SIZE];
    let blank = LabelError::NotALabel { blank: true };
    assert_eq!(decode_copies(&good, &good), Copies::Agree(example()));
    let one = |first| Copies::One {
        label: example(),
        first,
        other: blank.clone(),
    };
    assert_eq!(decode_copies(&good, &zero), one(true));
    assert_eq!(decode_copies(&zero, &good), one(false));
    assert_eq!(
        decode_copies(&good, &newer),
        Copies::Differ {
            first: example(),
            second: other
        }
    );
    assert_eq!(
        decode_copies(&zero, &zero),
        Copies::None {
            first: blank.clone(),
            second: blank
        }
    );
}

proptest! {
    #[test]
    fn any_label_comes_back(
        engine in any::<u128>(), device in any::<u128>(), generation in any::<u64>(),
        count in 1u32.., pick in any::<u32>(), created in any::<u64>(), volatile in any::<bool>(),
        shift in 9u32..17, bytes in MIN_DEVICE..u64::MAX,
    ) {
        let label = Label {
            engine: Uuid::from_u128(engine),
            generation,
            index: pick % count,
            count,
            device: Uuid::from_u128(device),
            blocks: (bytes >> shift).max(MIN_DEVICE >> shift),
            block_size: 1 << shift,
            created,
            volatile,
        };
        prop_assert_eq!(Label::decode(&label.encode().unwrap()), Ok(label));
    }

    #[test]
    fn any_flipped_bit_is_noticed(bit in 0..SIZE * 8) {
        let mut record = example().encode().unwrap();
        record[bit / 8] ^= 1 << (bit % 8);
        let error = Label::decode(&record).unwrap_err();
        if bit / 8 < MAGIC.len() {
            prop_assert_eq!(error, LabelError::NotALabel { blank: false });
        } else {
            prop_assert!(matches!(error, LabelError::Corrupt(_)));
        }
    }

    #[test]
    fn any_bytes_are_taken(mut bytes in prop::collection::vec(any::<u8>(), 0..200), seal in any::<bool>()) {
        let _ = Label::decode(&bytes);
        bytes.resize(SIZE, 0);
        bytes[..8].copy_from_slice(&MAGIC);
        let record: [u8; SIZE] = bytes.try_into().unwrap();
        let _ = Label::decode(&if seal { sealed(record) } else { record });
    }
}
