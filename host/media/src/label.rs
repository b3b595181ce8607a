//! The label of a block device: whose it is.
//!
//! Two copies of one record of [`SIZE`] bytes, whatever the block size: the first at byte 0, the
//! second in the last [`SIZE`] bytes of the device that begin at a multiple of [`SIZE`]. All numbers
//! are little endian.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | magic, `89 44 41 4f 53 42 44 0a` |
//! | 8 | 4 | version, [`VERSION`] |
//! | 12 | 4 | flags: bit 0, the content is volatile |
//! | 16 | 16 | UUID of the engine |
//! | 32 | 8 | generation: stamp of the format, as in the superblock |
//! | 40 | 4 | index of the device among those of the engine |
//! | 44 | 4 | number of devices of the engine |
//! | 48 | 16 | UUID of the device |
//! | 64 | 8 | size of the device in blocks |
//! | 72 | 4 | block size in bytes |
//! | 76 | 4 | zero |
//! | 80 | 8 | first byte of the data area |
//! | 88 | 8 | byte after the data area |
//! | 96 | 8 | when it was made, seconds since the Unix epoch |
//! | 104 | 3988 | zero |
//! | 4092 | 4 | CRC-32C of bytes 0 to 4091 |
//!
//! Magic, version, size of the record and place of the checksum are the same in every version.
//! The data area lies between the first [`DATA_START`] bytes and the second copy.

use std::ops::Range;

use uuid::Uuid;

/// Bytes of the record.
pub const SIZE: usize = 4096;
/// Version written, and the newest read.
pub const VERSION: u32 = 1;
/// Bytes at the start of the device that are kept for the label.
pub const DATA_START: u64 = 1 << 20;
/// First bytes of a label.
pub const MAGIC: [u8; 8] = *b"\x89DAOSBD\n";
/// Least bytes of a device: the reserved start, and as much again for data and the second copy.
pub const MIN_DEVICE: u64 = 2 * DATA_START;

const FLAG_VOLATILE: u32 = 1;
const CHECKSUM: usize = SIZE - 4;

/// Where things are on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the device.
    pub bytes: u64,
    /// Where the second copy begins; the first begins at 0.
    pub second_copy: u64,
    /// The data area in bytes; both ends are multiples of block size and of [`SIZE`].
    pub data: Range<u64>,
}

/// A device that cannot carry a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The block size is not a power of two from 512 to 65536.
    #[error(
        "a block size of {0} bytes is not supported, it must be a power of two from 512 to 65536; format the device with another one"
    )]
    BlockSize(u32),
    /// The device is too small, or its size overflows.
    #[error(
        "{blocks} blocks of {block_size} bytes make no usable device; it needs {MIN_DEVICE} bytes at least"
    )]
    Size {
        /// Blocks of the device.
        blocks: u64,
        /// Bytes of a block.
        block_size: u32,
    },
}

impl Layout {
    /// The layout of a device of `blocks` blocks of `block_size` bytes.
    ///
    /// Where blocks are larger than [`SIZE`], a copy is written by rewriting the block around it.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn of(blocks: u64, block_size: u32) -> Result<Layout, LayoutError> {
        if !block_size.is_power_of_two() || !(512..=65536).contains(&block_size) {
            return Err(LayoutError::BlockSize(block_size));
        }
        let bytes = blocks
            .checked_mul(u64::from(block_size))
            .filter(|bytes| *bytes >= MIN_DEVICE)
            .ok_or(LayoutError::Size { blocks, block_size })?;
        let unit = u64::from(block_size).max(SIZE as u64);
        let second_copy = bytes / SIZE as u64 * SIZE as u64 - SIZE as u64;
        Ok(Layout {
            bytes,
            second_copy,
            data: DATA_START..second_copy / unit * unit,
        })
    }
}

/// The label of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The engine that owns the device.
    pub engine: Uuid,
    /// Stamp of the format, as in the superblock.
    pub generation: u64,
    /// Position among the engine's devices, from 0.
    pub index: u32,
    /// Number of the engine's devices.
    pub count: u32,
    /// The device.
    pub device: Uuid,
    /// Blocks of the device.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// When it was made, seconds since the Unix epoch.
    pub created: u64,
    /// Whether the content does not survive the engine process.
    pub volatile: bool,
}

/// Why bytes are not a label that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// There is no label: the bytes are all zero, or something else's.
    #[error("{}", if *blank { "no label: the start of the device is blank" } else { "no label: the device holds something else" })]
    NotALabel {
        /// Whether all bytes are zero.
        blank: bool,
    },
    /// There was one.
    #[error("a damaged label: {0}")]
    Corrupt(String),
    /// A later version of this program made it.
    #[error(
        "a label of version {found}, this program reads up to version {VERSION}; use the program that made it"
    )]
    NewerVersion {
        /// Its version.
        found: u32,
    },
}

impl Label {
    /// The record, to be written at both places of its [`Layout`].
    ///
    /// # Errors
    /// [`LayoutError`] when such a device cannot carry a label.
    pub fn encode(&self) -> Result<[u8; SIZE], LayoutError> {
        let layout = Layout::of(self.blocks, self.block_size)?;
        let mut record = [0; SIZE];
        let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(
            12,
            &(if self.volatile { FLAG_VOLATILE } else { 0 }).to_le_bytes(),
        );
        put(16, self.engine.as_bytes());
        put(32, &self.generation.to_le_bytes());
        put(40, &self.index.to_le_bytes());
        put(44, &self.count.to_le_bytes());
        put(48, self.device.as_bytes());
        put(64, &self.blocks.to_le_bytes());
        put(72, &self.block_size.to_le_bytes());
        put(80, &layout.data.start.to_le_bytes());
        put(88, &layout.data.end.to_le_bytes());
        put(96, &self.created.to_le_bytes());
        let checksum = crc_fast::crc32_iscsi(&record[..CHECKSUM]);
        record[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        Ok(record)
    }

    /// Reads a record from the first [`SIZE`] bytes of `bytes`.
    ///
    /// # Errors
    /// [`LabelError`].
    pub fn decode(bytes: &[u8]) -> Result<Label, LabelError> {
        let Some(record) = bytes.first_chunk::<SIZE>() else {
            return Err(match bytes.starts_with(&MAGIC) {
                true => corrupt(format!("only {} of {SIZE} bytes are there", bytes.len())),
                false => LabelError::NotALabel {
                    blank: is_blank(bytes),
                },
            });
        };
        if !record.starts_with(&MAGIC) {
            return Err(LabelError::NotALabel {
                blank: is_blank(record),
            });
        }
        let (said, is) = (
            u32_at(record, CHECKSUM),
            crc_fast::crc32_iscsi(&record[..CHECKSUM]),
        );
        if said != is {
            return Err(corrupt(format!(
                "its checksum is {is:08x} and should be {said:08x}"
            )));
        }
        match u32_at(record, 8) {
            VERSION => {}
            0 => return Err(corrupt("it has version 0".to_owned())),
            found => return Err(LabelError::NewerVersion { found }),
        }
        let flags = u32_at(record, 12);
        if flags & !FLAG_VOLATILE != 0 {
            return Err(corrupt(format!("it has the unknown flags {flags:#x}")));
        }
        let label = Label {
            engine: uuid_at(record, 16),
            generation: u64_at(record, 32),
            index: u32_at(record, 40),
            count: u32_at(record, 44),
            device: uuid_at(record, 48),
            blocks: u64_at(record, 64),
            block_size: u32_at(record, 72),
            created: u64_at(record, 96),
            volatile: flags & FLAG_VOLATILE != 0,
        };
        if label.index >= label.count {
            return Err(corrupt(format!(
                "it is device {} of {}",
                label.index, label.count
            )));
        }
        let layout = Layout::of(label.blocks, label.block_size)
            .map_err(|error| corrupt(error.to_string()))?;
        let data = u64_at(record, 80)..u64_at(record, 88);
        if data != layout.data {
            return Err(corrupt(format!(
                "it has the data area {data:?} and not {:?}",
                layout.data
            )));
        }
        Ok(label)
    }
}

/// What the two copies say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copies {
    /// Both are there and agree.
    Agree(Label),
    /// One is there; the other is lost and should be written again from it.
    One {
        /// The label.
        label: Label,
        /// Whether it is the first copy, at byte 0.
        first: bool,
        /// What is wrong with the other.
        other: LabelError,
    },
    /// Both are there and differ: a format was interrupted between them. Neither is to be trusted
    /// without the superblock, which knows the generation.
    Differ {
        /// The copy at byte 0.
        first: Label,
        /// The copy at the end.
        second: Label,
    },
    /// There is no usable label.
    None {
        /// What is wrong with the copy at byte 0.
        first: LabelError,
        /// What is wrong with the copy at the end.
        second: LabelError,
    },
}

/// Reads both copies.
pub fn decode_copies(first: &[u8], second: &[u8]) -> Copies {
    match (Label::decode(first), Label::decode(second)) {
        (Ok(first), Ok(second)) if first == second => Copies::Agree(first),
        (Ok(first), Ok(second)) => Copies::Differ { first, second },
        (Ok(label), Err(other)) => Copies::One {
            label,
            first: true,
            other,
        },
        (Err(other), Ok(label)) => Copies::One {
            label,
            first: false,
            other,
        },
        (Err(first), Err(second)) => Copies::None { first, second },
    }
}

fn corrupt(what: String) -> LabelError {
    LabelError::Corrupt(what)
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn array_at<const N: usize>(record: &[u8; SIZE], at: usize) -> [u8; N] {
    *record[at..].first_chunk().expect("inside of the record")
}

fn u32_at(record: &[u8; SIZE], at: usize) -> u32 {
    u32::from_le_bytes(array_at(record, at))
}

fn u64_at(record: &[u8; SIZE], at: usize) -> u64 {
    u64::from_le_bytes(array_at(record, at))
}

fn uuid_at(record: &[u8; SIZE], at: usize) -> Uuid {
    Uuid::from_bytes(array_at(record, at))
}

#[cfg(test)]
#[path = "label_tests.rs"]
mod tests;
