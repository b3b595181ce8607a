//! Putting the entries of a range together.

use super::content::checksum_of;
use daos_wire::{crc32c, crc32c_combine};
use std::ops::Range;

/// Where an entry and the range that is read overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// In the content of the entry.
    pub source: Range<usize>,
    /// First byte in the result.
    pub at: usize,
}

impl Overlap {
    /// Of an entry and the range `start`..`end`; `None` if they have nothing in common.
    pub fn of(entry: u64, len: u32, start: u64, end: u64) -> Option<Self> {
        let first = entry.max(start);
        let last = (entry + u64::from(len)).min(end);
        // An entry has at most a chunk, what is read at once at most 1 MiB.
        (first < last).then(|| Self {
            source: (first - entry) as usize..(last - entry) as usize,
            at: (first - start) as usize,
        })
    }
}

/// A result on its way: which of its bytes are there, with their checksums.
#[derive(Debug, Default)]
pub struct Assembly {
    parts: Vec<(usize, usize, u32)>,
}

impl Assembly {
    /// Verifies the content of an entry and copies the overlap to its place in `result`; `false` if
    /// the content is not what was written.
    pub fn copy(
        &mut self,
        content: &[u8],
        checksum: u32,
        overlap: &Overlap,
        result: &mut [u8],
    ) -> bool {
        let Some(part) = checksum_of(content, checksum, overlap.source.clone()) else {
            return false;
        };
        let len = overlap.source.len();
        result[overlap.at..overlap.at + len].copy_from_slice(&content[overlap.source.clone()]);
        self.parts.push((overlap.at, len, part));
        true
    }

    /// Verifies a whole entry that stands in its place already; `false` as in [`Assembly::copy`].
    pub fn take(&mut self, at: usize, len: usize, checksum: u32, result: &[u8]) -> bool {
        if crc32c(&result[at..at + len]) != checksum {
            return false;
        }
        self.parts.push((at, len, checksum));
        true
    }

    /// Zeroes what no entry holds; returns the checksum of the result. All entries were added.
    pub fn finish(mut self, result: &mut [u8]) -> u32 {
        self.parts.sort_unstable();
        let mut sum = crc32c(&[]);
        let mut done = 0;
        let end = (result.len(), 0, sum);
        for (at, len, checksum) in self.parts.into_iter().chain([end]) {
            let hole = &mut result[done..at];
            if !hole.is_empty() {
                hole.fill(0);
                sum = crc32c_combine(sum, crc32c(hole), hole.len() as u64);
            }
            sum = crc32c_combine(sum, checksum, len as u64);
            done = at + len;
        }
        sum
    }
}
