//! The part of a device on which a load works, in *cells*: the largest length that divides all request sizes.
//!
//! What every cell must hold is remembered, so their number is bounded. Of a device with more, chunks at equal distances
//! from its begin to its end are used. No request crosses the border of a chunk.

use crate::load::{Extent, Job};

/// Most cells: 64 MiB of memory for what they must hold.
const MAX_CELLS: u64 = 16 << 20;
/// Least bytes of a chunk.
const MIN_CHUNK: u64 = 1 << 20;

/// The area of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    /// First block.
    start: u64,
    block_size: u32,
    cell_blocks: u64,
    chunk_cells: u64,
    /// Chunks in use, of so many.
    chunks: u64,
    all_chunks: u64,
}

/// Cells of a job, a whole number of chunks if there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) cells: u64,
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Area {
    /// The area of `blocks` blocks from `start` for these jobs, whose sizes are multiples of the block size.
    ///
    /// # Errors
    /// It is smaller than one request.
    pub(crate) fn new(
        start: u64,
        blocks: u64,
        block_size: u32,
        jobs: &[Job],
    ) -> Result<Self, String> {
        let sizes = || jobs.iter().flat_map(Job::sizes).map(|s| u64::from(s.bytes));
        let cell = sizes().fold(0, gcd);
        let largest = sizes().max().unwrap_or(0);
        let bytes = blocks * u64::from(block_size);
        if cell == 0 || bytes < largest {
            return Err(format!(
                "{bytes} bytes can be used, less than one request of {largest}"
            ));
        }
        let cells = bytes / cell;
        let mut area = Self {
            start,
            block_size,
            cell_blocks: cell / u64::from(block_size),
            chunk_cells: cells,
            chunks: 1,
            all_chunks: 1,
        };
        if cells > MAX_CELLS {
            area.chunk_cells = MIN_CHUNK.max(largest).div_ceil(cell);
            area.all_chunks = cells / area.chunk_cells;
            area.chunks = (MAX_CELLS / area.chunk_cells).min(area.all_chunks);
        }
        Ok(area)
    }

    /// Bytes of a cell.
    pub(crate) fn cell_bytes(&self) -> u64 {
        self.cell_blocks * u64::from(self.block_size)
    }

    /// Blocks of a cell.
    pub(crate) fn cell_blocks(&self) -> u64 {
        self.cell_blocks
    }

    /// Number of cells.
    pub(crate) fn cells(&self) -> u64 {
        self.chunks * self.chunk_cells
    }

    /// First block of a cell.
    pub(crate) fn lba(&self, cell: u64) -> u64 {
        let (chunk, within) = (cell / self.chunk_cells, cell % self.chunk_cells);
        let place = u128::from(chunk) * u128::from(self.all_chunks) / u128::from(self.chunks);
        // Not larger than `all_chunks`.
        self.start + (place as u64 * self.chunk_cells + within) * self.cell_blocks
    }

    /// Cells from `cell` to the end of its chunk.
    pub(crate) fn until_border(&self, cell: u64) -> u64 {
        self.chunk_cells - cell % self.chunk_cells
    }

    /// The cells of a job.
    ///
    /// # Errors
    /// Its part is smaller than its largest request.
    pub(crate) fn range(&self, job: &Job) -> Result<Range, String> {
        let all = self.all_chunks * self.chunk_cells * self.cell_bytes();
        let offset = job.offset.of(all);
        let size = job.size.unwrap_or(Extent::Percent(100)).of(all - offset);
        // In chunks that are in use, if not all are.
        let grain = if self.chunks == 1 {
            1
        } else {
            self.chunk_cells
        };
        let scaled = |bytes: u64| {
            let cells = u128::from(bytes / self.cell_bytes()) * u128::from(self.chunks)
                / u128::from(self.all_chunks);
            cells as u64 / grain * grain
        };
        let first = scaled(offset);
        // Of a part that lies between two chunks in use, the nearest one stands for it.
        let least = if self.chunks > 1 && size > 0 {
            grain
        } else {
            0
        };
        let first = first.min(self.cells() - least);
        let cells = scaled(size).max(least).min(self.cells() - first);
        let largest = u64::from(job.largest()) / self.cell_bytes();
        if cells < largest {
            return Err(format!(
                "job {:?} has {} bytes of the device from byte {offset} on, less than one request of {}",
                job.name,
                cells * self.cell_bytes(),
                job.largest()
            ));
        }
        Ok(Range { first, cells })
    }

    /// A place for a request of `len` cells in `range`, chosen by a random number.
    pub(crate) fn place(&self, range: Range, len: u64, random: u64) -> u64 {
        if self.chunks == 1 {
            return range.first + random % (range.cells / len) * len;
        }
        let per_chunk = self.chunk_cells / len;
        let slot = random % (range.cells / self.chunk_cells * per_chunk);
        range.first + slot / per_chunk * self.chunk_cells + slot % per_chunk * len
    }

    /// The place for a request of `len` cells at `position` of `range` or behind it, and the next position.
    pub(crate) fn follow(&self, range: Range, len: u64, position: u64) -> (u64, u64) {
        let mut at = position;
        if at < range.cells && self.until_border(range.first + at) < len {
            at += self.until_border(range.first + at);
        }
        if at + len > range.cells {
            at = 0;
        }
        (range.first + at, at + len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::SizeShare;
    use proptest::prelude::*;

    fn job(sizes: &[u32]) -> Job {
        let shares: Vec<_> = sizes
            .iter()
            .map(|bytes| SizeShare {
                bytes: *bytes,
                percent: 0,
            })
            .collect();
        Job {
            read_sizes: shares.clone(),
            write_sizes: shares,
            ..Job::default()
        }
    }

    #[test]
    fn a_large_device_is_covered_from_begin_to_end() {
        let blocks = 7_000_000_000_000 / 4096;
        let job = job(&[4096, 1 << 20]);
        let area = Area::new(256, blocks, 4096, std::slice::from_ref(&job)).unwrap();
        assert!(area.cells() <= MAX_CELLS && area.cells() > MAX_CELLS / 2);
        let last = area.lba(area.cells() - 1);
        assert!(last < 256 + blocks && last > blocks / 1000 * 999, "{last}");
        let half = Job {
            offset: Extent::Percent(50),
            ..job
        };
        let range = area.range(&half).unwrap();
        let middle = area.lba(range.first);
        assert!(middle.abs_diff(blocks / 2) < blocks / 1000, "{middle}");
    }

    #[test]
    fn a_job_that_does_not_fit_is_refused() {
        assert!(
            Area::new(0, 1, 4096, &[job(&[8192])])
                .unwrap_err()
                .contains("8192")
        );
        let small = Job {
            size: Some(Extent::Bytes(4096)),
            ..job(&[8192])
        };
        let area = Area::new(0, 100, 4096, std::slice::from_ref(&small)).unwrap();
        assert!(area.range(&small).unwrap_err().contains("burn-in"));
    }

    proptest! {
        #[test]
        fn requests_stay_in_their_range_and_chunk(
            start in 0u64..1000,
            blocks in 4096u64..(1 << 36),
            sizes in prop::collection::vec(1u32..300, 1..4),
            offset in 0u8..90,
            random in prop::collection::vec(any::<u64>(), 20),
        ) {
            let sizes: Vec<u32> = sizes.into_iter().map(|n| n * 4096).collect();
            let job = Job { offset: Extent::Percent(offset), ..job(&sizes) };
            let area = Area::new(start, blocks, 4096, std::slice::from_ref(&job)).unwrap();
            let Ok(range) = area.range(&job) else { return Ok(()) };
            let mut position = 0;
            for (n, random) in random.iter().enumerate() {
                let len = u64::from(sizes[n % sizes.len()]) / area.cell_bytes();
                let placed = area.place(range, len, *random);
                let (followed, next) = area.follow(range, len, position);
                position = next;
                for cell in [placed, followed] {
                    prop_assert!(cell >= range.first && cell + len <= range.first + range.cells);
                    prop_assert!(area.until_border(cell) >= len);
                    let (first, last) = (area.lba(cell), area.lba(cell + len - 1) + area.cell_blocks());
                    prop_assert!(first >= start && last <= start + blocks);
                    prop_assert_eq!(last - first, len * area.cell_blocks());
                }
            }
        }
    }
}
