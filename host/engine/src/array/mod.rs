//! Arrays: what reading, writing and punching records means for the entries of the index.
//!
//! An array is a set of *entries* under its akey. An entry holds a run of records; it is stored, and
//! found, like a single value: inline in the index if it is small, else in extents of its own, always
//! with a checksum of its whole content. Entries do not overlap and none crosses the border of a
//! *chunk* ([`chunk_bytes`]), so whatever overlaps a range begins in the range or in the chunk that
//! the range begins in. What no entry holds reads as zeros.
//!
//! A change never touches an entry: it puts new ones beside the old and lets one log record replace
//! the old by the new ([`plan`]). What an old entry holds beyond the change is copied into a new one
//! ([`content`]). [`read`] puts the entries of a range together, and [`locks`] keeps changes of the
//! same chunks apart while they wait for devices.
//!
//! Everything here is computation: offsets are bytes of the array, and nothing knows a log, a device
//! or a message.

pub mod content;
pub mod locks;
pub mod plan;
pub mod read;

#[cfg(test)]
mod tests;

/// Bytes of a chunk of an array with records of `record_size` bytes: as many whole records as fit
/// into 128 KiB.
pub fn chunk_bytes(record_size: u32) -> u64 {
    let record_size = u64::from(record_size);
    daos_wire::chunk_records(record_size) * record_size
}

/// First byte of the chunk that has byte `at`.
pub fn chunk_of(record_size: u32, at: u64) -> u64 {
    let chunk = chunk_bytes(record_size);
    at - at.checked_rem(chunk).unwrap_or(0)
}
