//! Layout of the calls between the client library and the engine.
//!
//! A call is one tagged message on the fabric: a [`Request`] from an endpoint of the client to the
//! endpoint of a target, answered by one [`Reply`]. All numbers are little-endian, all offsets are
//! fixed (tables stand beside the two types), nothing depends on the compiler.
//!
//! * Values of up to [`INLINE_MAX`] bytes travel inside the message. Larger ones stay where they
//!   are: the message names registered memory of the client ([`RmaDescriptor`]), and the engine
//!   reads it (put) or writes it (get) itself.
//! * Every value carries its CRC-32C ([`crc32c`]), computed by whoever wrote it first; header, keys
//!   and addresses are covered by a CRC-32C of their own.
//! * The sender's address travels in the header, because the fabric interface does not report it.
//! * A call is named by the client's UUID and a sequence number that the client never reuses. A
//!   change that is repeated under its sequence is carried out once: the engine remembers outcomes
//!   until the client says that it has them (`settled`).
//!
//! Decoders accept arbitrary bytes: they check everything before they use it, never panic and never
//! allocate by what a message claims.

mod address;
mod array;
mod catalogue;
mod codec;
mod list;
mod placement;
mod readable;
mod reply;
mod request;
mod status;
mod tag;

pub use address::{EngineUri, UriError};
pub use array::{ARRAY_MAX, ArrayRange, CHUNK, RECORD_SIZE_MAX, chunk_records};
pub use catalogue::{
    Entry, EntryState, LABEL_MAX, LabelError, POOL_BDEV_MIN, POOL_SCM_MIN, PoolSpace, check_label,
};
pub use codec::DecodeError;
pub use list::{ListEntries, ListWriter};
pub use placement::{key_hash, target_of};
pub use readable::readable;
pub use reply::{REPLY_HEADER, Reply};
pub use request::{
    LIST_KEYS_LIMIT, ObjectId, Opcode, PunchScope, REQUEST_HEADER, Request, RmaDescriptor,
    ValueKind,
};
pub use status::WireStatus;
pub use tag::{REPLY_TAG, REQUEST_TAG, TAG_IGNORE};

/// Version of the layout; a peer of another version is answered with
/// [`WireStatus::VERSION`](WireStatus::VERSION).
pub const VERSION: u16 = 2;

/// Most bytes of a dkey or an akey; both have at least one.
pub const KEY_MAX: usize = 4096;

/// Most bytes of a value that travels inside a message.
pub const INLINE_MAX: usize = 4096;

/// Most bytes of a single value, and of the records that one request writes or fetches.
pub const SINGLE_MAX: u64 = 1 << 20;

/// Most bytes of an endpoint address.
pub const ADDRESS_MAX: usize = 512;

/// Most bytes of a request message, and what an engine offers for each: header, address, two keys
/// and an inline value, rounded up.
pub const REQUEST_MAX: usize = 16 << 10;

/// Most bytes of a reply message, and what a client offers for each.
pub const REPLY_MAX: usize = 16 << 10;

const _: () = assert!(REQUEST_HEADER + ADDRESS_MAX + 2 * KEY_MAX + INLINE_MAX <= REQUEST_MAX);
const _: () = assert!(REPLY_HEADER + INLINE_MAX <= REPLY_MAX);

/// CRC-32C (Castagnoli, as iSCSI and NVMe use it) of `data`.
pub fn crc32c(data: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(data)
}

/// CRC-32C of two runs of bytes behind each other, from the CRC-32C of each and the bytes of the
/// second.
pub fn crc32c_combine(first: u32, second: u32, second_len: u64) -> u32 {
    let algorithm = crc_fast::CrcAlgorithm::Crc32Iscsi;
    let (first, second) = (u64::from(first), u64::from(second));
    crc_fast::checksum_combine(algorithm, first, second, second_len) as u32 // 32 bits wide
}

#[cfg(test)]
mod tests {
    #[test]
    fn crcs_of_parts_make_the_crc_of_the_whole() {
        let data: Vec<u8> = (0..70_000u32).map(|n| (n * 7) as u8).collect();
        for at in [0, 1, 4096, 69_999, 70_000] {
            let (a, b) = data.split_at(at);
            let combined =
                super::crc32c_combine(super::crc32c(a), super::crc32c(b), b.len() as u64);
            assert_eq!(combined, super::crc32c(&data), "{at}");
        }
    }

    #[test]
    fn crc_is_the_published_one() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(super::crc32c(b""), 0);
    }
}
