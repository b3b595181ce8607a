//! Marks of blocks: whose they are, and that they are whole.
//!
//! ```text
//!  0  8  "DAOSBURN"
//!  8 16  run
//! 24  8  address of the block (LBA)
//! 32  8  number of the write: no two writes of a run have the same
//! 40  4  bytes of a block
//! 44  4  CRC-32C of the block with these four bytes as zero
//! 48     bytes that follow from run, address and number
//! ```
//! All little endian.

use uuid::Uuid;

const MAGIC: &[u8; 8] = b"DAOSBURN";
const CRC_AT: usize = 44;
const HEADER: usize = 48;

/// What a block must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The run.
    pub run: Uuid,
    /// The block.
    pub lba: u64,
    /// The write.
    pub number: u64,
}

/// What was found instead. The texts say what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nearly what must be there.
    Corrupt {
        /// First byte of the block that differs.
        offset: usize,
        /// What it must be.
        expected: u8,
        /// What it is.
        found: u8,
        /// Bytes that differ.
        bytes: usize,
        /// Bits that differ.
        bits: u32,
    },
    /// What an earlier write of this run left: a later one never arrived.
    Stale {
        /// Number of the earlier write.
        number: u64,
    },
    /// What a later write left that was reported as failed, or that never ended.
    Unexpected {
        /// Number of that write.
        number: u64,
    },
    /// What was written to another block.
    Misdirected {
        /// Where it belongs.
        lba: u64,
        /// Number of the write.
        number: u64,
    },
    /// What another run left: ours never arrived.
    OtherRun {
        /// That run.
        run: Uuid,
    },
    /// Nothing but zeroes: the write never arrived, or was deallocated.
    Zeroes,
    /// Nothing that a burn-in wrote.
    Foreign {
        /// Its first bytes.
        start: [u8; 16],
    },
}

impl Finding {
    /// As in records.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Corrupt { .. } => "corrupt",
            Self::Stale { .. } | Self::OtherRun { .. } | Self::Zeroes => "lost-write",
            Self::Misdirected { .. } => "misdirected-write",
            Self::Unexpected { .. } | Self::Foreign { .. } => "foreign-data",
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Corrupt {
                offset,
                expected,
                found,
                bytes,
                bits,
            } => write!(
                f,
                "{bits} wrong bit(s) in {bytes} byte(s), first in byte {offset} of the block: {found:#04x} instead of {expected:#04x}"
            ),
            Self::Stale { number } => write!(f, "old data: write {number} of this run"),
            Self::Unexpected { number } => {
                write!(
                    f,
                    "write {number} of this run, which was not reported as done"
                )
            }
            Self::Misdirected { lba, number } => {
                write!(f, "data of block {lba}: write {number} of this run")
            }
            Self::OtherRun { run } => write!(f, "old data: burn-in {run}"),
            Self::Zeroes => f.write_str("zeroes"),
            Self::Foreign { start } => {
                f.write_str("data that no burn-in wrote, beginning with")?;
                start.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
            }
        }
    }
}

/// One step of splitmix64: spreads whatever the state was.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Stamp {
    /// Fills a block of at least 512 bytes.
    pub fn write(&self, block: &mut [u8]) {
        let (high, low) = self.run.as_u64_pair();
        let mut state =
            high ^ low.rotate_left(17) ^ self.lba.rotate_left(34) ^ self.number.rotate_left(51);
        for word in block[HEADER..].chunks_exact_mut(8) {
            word.copy_from_slice(&next(&mut state).to_le_bytes());
        }
        block[..8].copy_from_slice(MAGIC);
        block[8..24].copy_from_slice(self.run.as_bytes());
        block[24..32].copy_from_slice(&self.lba.to_le_bytes());
        block[32..40].copy_from_slice(&self.number.to_le_bytes());
        let len = block.len() as u32;
        block[40..44].copy_from_slice(&len.to_le_bytes());
        block[CRC_AT..HEADER].fill(0);
        let crc = crc_fast::crc32_iscsi(block);
        block[CRC_AT..HEADER].copy_from_slice(&crc.to_le_bytes());
    }

    /// The stamp of a whole block, if it has one. The block is as before on return.
    fn read(block: &mut [u8]) -> Option<Self> {
        let word =
            |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
        let stamp = Self {
            run: Uuid::from_slice(&block[8..24]).expect("sixteen bytes"),
            lba: word(24),
            number: word(32),
        };
        if &block[..8] != MAGIC || block[40..44] != (block.len() as u32).to_le_bytes() {
            return None;
        }
        let stored: [u8; 4] = block[CRC_AT..HEADER].try_into().expect("four bytes");
        block[CRC_AT..HEADER].fill(0);
        let crc = crc_fast::crc32_iscsi(block);
        block[CRC_AT..HEADER].copy_from_slice(&stored);
        (crc.to_le_bytes() == stored).then_some(stamp)
    }

    /// Compares a block with what it must hold.
    ///
    /// # Errors
    /// What it holds instead.
    pub fn check(&self, block: &mut [u8]) -> Result<(), Finding> {
        match Self::read(block) {
            Some(found) if found == *self => Ok(()),
            Some(found) if found.run != self.run => Err(Finding::OtherRun { run: found.run }),
            Some(found) if found.lba != self.lba => Err(Finding::Misdirected {
                lba: found.lba,
                number: found.number,
            }),
            Some(Self { number, .. }) if number < self.number => Err(Finding::Stale { number }),
            Some(Self { number, .. }) => Err(Finding::Unexpected { number }),
            None => Err(self.explain(block)),
        }
    }

    fn explain(&self, block: &[u8]) -> Finding {
        if block.iter().all(|byte| *byte == 0) {
            return Finding::Zeroes;
        }
        let mut wanted = vec![0; block.len()];
        self.write(&mut wanted);
        let pairs = || wanted.iter().zip(block).enumerate();
        let bytes = pairs().filter(|(_, (a, b))| a != b).count();
        let bits = pairs().map(|(_, (a, b))| (a ^ b).count_ones()).sum();
        match pairs().find(|(_, (a, b))| a != b) {
            // Random bytes agree in one of 256 places; half of a block is no coincidence.
            Some((offset, (expected, found))) if bytes <= block.len() / 2 => Finding::Corrupt {
                offset,
                expected: *expected,
                found: *found,
                bytes,
                bits,
            },
            _ => Finding::Foreign {
                start: block[..16].try_into().expect("sixteen bytes"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp() -> Stamp {
        Stamp {
            run: Uuid::from_u128(7),
            lba: 1000,
            number: 5,
        }
    }

    fn found(what: Stamp) -> Result<(), Finding> {
        let mut block = vec![0xee; 512];
        what.write(&mut block);
        stamp().check(&mut block)
    }

    #[test]
    fn every_kind_of_wrong_block_has_its_name() {
        assert_eq!(found(stamp()), Ok(()));
        assert_eq!(
            found(Stamp {
                number: 4,
                ..stamp()
            }),
            Err(Finding::Stale { number: 4 })
        );
        assert_eq!(
            found(Stamp {
                number: 6,
                ..stamp()
            }),
            Err(Finding::Unexpected { number: 6 })
        );
        let moved = Stamp { lba: 3, ..stamp() };
        assert_eq!(
            found(moved),
            Err(Finding::Misdirected { lba: 3, number: 5 })
        );
        let run = Uuid::from_u128(8);
        assert_eq!(
            found(Stamp { run, ..stamp() }),
            Err(Finding::OtherRun { run })
        );
        assert_eq!(stamp().check(&mut [0; 512]), Err(Finding::Zeroes));
        assert_eq!(
            stamp().check(&mut [9; 4096]).unwrap_err().kind(),
            "foreign-data"
        );
    }

    #[test]
    fn half_a_block_of_an_older_write_is_told_as_corrupt() {
        let (mut new, mut old) = (vec![0; 4096], vec![0; 4096]);
        stamp().write(&mut new);
        Stamp {
            number: 1,
            ..stamp()
        }
        .write(&mut old);
        new[2048..].copy_from_slice(&old[2048..]);
        let Err(Finding::Corrupt { offset, .. }) = stamp().check(&mut new) else {
            panic!("a torn block was accepted");
        };
        assert!((2048..2056).contains(&offset));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_found_and_told(at in 0usize..4096, bit in 0u8..8) {
            let mut block = vec![0; 4096];
            stamp().write(&mut block);
            let right = block[at];
            block[at] ^= 1 << bit;
            let finding = stamp().check(&mut block).unwrap_err();
            prop_assert_eq!(
                finding,
                Finding::Corrupt { offset: at, expected: right, found: right ^ (1 << bit), bytes: 1, bits: 1 }
            );
        }
    }
}
