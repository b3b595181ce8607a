//! Putting the entries of a range together.

use super::content;
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
        let Some(part) = content::checksum_of(content, checksum, overlap.source.clone()) else {
            return false;
        };
        self.place(content, part, overlap, result);
        true
    }

    /// Copies the overlap of an entry that is verified to its place in `result`; `part` is the
    /// checksum of the overlap.
    pub fn place(&mut self, content: &[u8], part: u32, overlap: &Overlap, result: &mut [u8]) {
        let len = overlap.source.len();
        result[overlap.at..overlap.at + len].copy_from_slice(&content[overlap.source.clone()]);
        self.note(part, overlap);
    }

    /// Notes that the overlap of an entry that is verified is in its place.
    pub fn note(&mut self, part: u32, overlap: &Overlap) {
        self.parts.push((overlap.at, overlap.source.len(), part));
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
