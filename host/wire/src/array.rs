//! Arrays: records of a fixed size under an akey, numbered from 0.

/// Most bytes of an array: where the last record may end.
pub const ARRAY_MAX: u64 = 1 << 63;

/// Most bytes of a record.
pub const RECORD_SIZE_MAX: u64 = CHUNK;

/// Bytes of a chunk, the unit in which engines keep arrays. A write that begins and ends between
/// chunks replaces what is there without reading it.
pub const CHUNK: u64 = 128 << 10;

/// Records in a chunk of an array with records of `record_size` bytes, as many as fit: at least 1.
/// Part of the on-media format.
pub const fn chunk_records(record_size: u64) -> u64 {
    match CHUNK.checked_div(record_size) {
        None | Some(0) => 1,
        Some(records) => records,
    }
}

/// Part of an array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrayRange {
    /// First record.
    pub offset: u64,
    /// Number of records.
    pub count: u64,
    /// Bytes per record, 1 to [`RECORD_SIZE_MAX`].
    pub record_size: u64,
}

impl ArrayRange {
    /// The rest of an array from record `offset` on.
    pub fn from(offset: u64, record_size: u64) -> Self {
        let records = ARRAY_MAX.checked_div(record_size).unwrap_or(0);
        Self {
            offset,
            count: records.saturating_sub(offset),
            record_size,
        }
    }

    /// Bytes of the part; `None` if there are more than a number holds.
    pub fn bytes(&self) -> Option<u64> {
        self.count.checked_mul(self.record_size)
    }

    /// First byte of the part and the one behind its last; `None` if the part leaves the array.
    pub fn span(&self) -> Option<(u64, u64)> {
        let end = self.offset.checked_add(self.count)?;
        let end = end.checked_mul(self.record_size)?;
        // The start is below the end, so it cannot overflow either.
        (end <= ARRAY_MAX).then(|| (self.offset * self.record_size, end))
    }

    /// Whether the part has records, all inside an array, of a size that records may have.
    pub fn is_valid(&self) -> bool {
        (1..=RECORD_SIZE_MAX).contains(&self.record_size) && self.count > 0 && self.span().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_inside_arrays() {
        let part = |offset, count, record_size| ArrayRange {
            offset,
            count,
            record_size,
        };
        assert_eq!(part(2, 3, 10).span(), Some((20, 50)));
        assert!(part(0, 1, RECORD_SIZE_MAX).is_valid());
        assert!(part(ARRAY_MAX - 1, 1, 1).is_valid());
        for wrong in [
            part(0, 1, 0),
            part(0, 0, 1),
            part(0, 1, RECORD_SIZE_MAX + 1),
            part(ARRAY_MAX, 1, 1),
            part(u64::MAX, 1, 1),
            part(1, u64::MAX, 1),
            part(u64::MAX / 8, 1, 16),
        ] {
            assert!(!wrong.is_valid(), "{wrong:?}");
        }
        for size in [1, 7, 4096, RECORD_SIZE_MAX] {
            assert!(ArrayRange::from(5, size).is_valid(), "{size}");
        }
    }

    #[test]
    fn chunks_hold_whole_records() {
        assert_eq!(chunk_records(1), CHUNK);
        assert_eq!(chunk_records(100_000), 1);
        assert_eq!(chunk_records(0), 1);
        for size in [1, 3, 4096, 65_536, 65_537, RECORD_SIZE_MAX] {
            let bytes = chunk_records(size) * size;
            assert!(bytes <= CHUNK && bytes + size > CHUNK, "{size}");
        }
    }
}
