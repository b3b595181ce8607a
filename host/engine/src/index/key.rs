//! Keys of the index: byte strings whose order is the order of listings.
//!
//! pool (16) · container (16) · object high and low (8 + 8, big-endian) · dkey · akey · kind (1), and
//! for entries of arrays: bytes per record (4) · first byte (8), both big-endian.
//! Keys are escaped so that no key is a prefix of another and order is kept: a zero byte becomes
//! 00 ff, the end is 00 00. An akey holds a single value or an array, never both.

use daos_wire::ObjectId;
use uuid::Uuid;

/// Bytes of pool, container and object.
pub const OBJECT_PREFIX: usize = 48;

/// Kind: a single value.
pub const KIND_SINGLE: u8 = 1;

/// Kind: an entry of an array.
pub const KIND_ARRAY: u8 = 2;

/// Bytes behind the kind in the key of an entry of an array.
const ENTRY: usize = 12;

/// Most bytes of an encoded key: two keys, each byte escaped.
pub const KEY_MAX: usize = OBJECT_PREFIX + 2 * (2 * daos_wire::KEY_MAX + 2) + 1 + ENTRY;

/// Pool of an encoded key. A shorter key, which none in an index is, counts as zero-padded.
pub fn pool_of(key: &[u8]) -> Uuid {
    let mut bytes = [0; 16];
    let len = key.len().min(16);
    bytes[..len].copy_from_slice(&key[..len]);
    Uuid::from_bytes(bytes)
}

/// Writes the prefix of everything in a pool, or in a container of it.
pub fn prefix(pool: Uuid, container: Option<Uuid>) -> Vec<u8> {
    let mut out = pool.as_bytes().to_vec();
    if let Some(container) = container {
        out.extend_from_slice(container.as_bytes());
    }
    out
}

/// Name space of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Pool.
    pub pool: Uuid,
    /// Container.
    pub container: Uuid,
    /// Object.
    pub object: ObjectId,
}

/// Writes the prefix of everything in an object into `out`, replacing its content.
pub fn object(out: &mut Vec<u8>, scope: &Scope) {
    out.clear();
    out.extend_from_slice(scope.pool.as_bytes());
    out.extend_from_slice(scope.container.as_bytes());
    out.extend_from_slice(&scope.object.hi.to_be_bytes());
    out.extend_from_slice(&scope.object.lo.to_be_bytes());
}

/// Writes the prefix of everything under a dkey.
pub fn dkey(out: &mut Vec<u8>, scope: &Scope, dkey: &[u8]) {
    object(out, scope);
    escape(out, dkey);
}

/// Writes the key of a single value.
pub fn single(out: &mut Vec<u8>, scope: &Scope, dkey_: &[u8], akey: &[u8]) {
    dkey(out, scope, dkey_);
    escape(out, akey);
    out.push(KIND_SINGLE);
}

/// Writes the prefix of all entries of an array.
pub fn array(out: &mut Vec<u8>, scope: &Scope, dkey_: &[u8], akey: &[u8]) {
    dkey(out, scope, dkey_);
    escape(out, akey);
    out.push(KIND_ARRAY);
}

/// Appends what follows the prefix of an array in the key of an entry.
pub fn entry(out: &mut Vec<u8>, record_size: u32, start: u64) {
    out.extend_from_slice(&record_size.to_be_bytes());
    out.extend_from_slice(&start.to_be_bytes());
}

/// Reads bytes per record and first byte from what follows the prefix of an array in the key of an
/// entry; `None` if that cannot be its end.
pub fn entry_of(tail: &[u8]) -> Option<(u32, u64)> {
    let (size, start) = tail.split_first_chunk::<4>()?;
    Some((
        u32::from_be_bytes(*size),
        u64::from_be_bytes(start.try_into().ok()?),
    ))
}

/// The kind in a key of the index; `None` if it is no key.
pub fn kind(key: &[u8]) -> Option<u8> {
    let mut rest = key.get(OBJECT_PREFIX..)?;
    for _ in 0..2 {
        let end = rest.windows(2).position(|pair| pair == [0, 0])?;
        rest = &rest[end + 2..];
    }
    rest.first().copied()
}

/// Writes a key that is above everything under the dkey (or akey) whose escaped form ends `out`, and
/// below the next one.
pub fn skip_past(out: &mut [u8]) {
    if let Some(last) = out.last_mut() {
        // The terminator 00 00 becomes 00 01; an escaped zero is 00 ff.
        *last = 1;
    }
}

/// Appends the escaped form of `key`.
pub fn escape(out: &mut Vec<u8>, key: &[u8]) {
    for byte in key {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// Reads an escaped key from the front of `bytes` into `out`; returns its escaped length. `None` if
/// it has no end.
pub fn unescape(bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    out.clear();
    let mut at = 0;
    loop {
        match (*bytes.get(at)?, bytes.get(at + 1)) {
            (0, Some(0)) => return Some(at + 2),
            (0, Some(0xff)) => {
                out.push(0);
                at += 2;
            }
            (0, _) => return None,
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn escaping_keeps_order_and_comes_back(
            a in prop::collection::vec(0u8..4, 0..6), b in prop::collection::vec(0u8..4, 0..6),
            tail_a in prop::collection::vec(any::<u8>(), 0..3), tail_b in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            let (mut ea, mut eb) = (Vec::new(), Vec::new());
            escape(&mut ea, &a);
            escape(&mut eb, &b);
            let mut back = Vec::new();
            prop_assert_eq!(unescape(&ea, &mut back), Some(ea.len()));
            prop_assert_eq!(&back, &a);
            if a != b {
                prop_assert!(!ea.starts_with(&eb));
                let (with_a, with_b) = ([ea.clone(), tail_a].concat(), [eb, tail_b].concat());
                prop_assert_eq!(with_a.cmp(&with_b), a.cmp(&b));
                let mut past = ea;
                skip_past(&mut past);
                prop_assert!(past > with_a);
                prop_assert_eq!(past.cmp(&with_b), a.cmp(&b));
            }
        }

        #[test]
        fn kinds_and_entries_are_read_back_and_ordered(
            dkey in prop::collection::vec(0u8..3, 1..5), akey in prop::collection::vec(0u8..3, 1..5),
            size in 1u32..200_000, a: u64, b: u64,
        ) {
            let scope = Scope { pool: Uuid::nil(), container: Uuid::nil(), object: ObjectId::default() };
            let mut one = Vec::new();
            single(&mut one, &scope, &dkey, &akey);
            prop_assert_eq!(kind(&one), Some(KIND_SINGLE));
            let mut prefix = Vec::new();
            array(&mut prefix, &scope, &dkey, &akey);
            let with = |start| {
                let mut key = prefix.clone();
                entry(&mut key, size, start);
                key
            };
            prop_assert_eq!(kind(&with(a)), Some(KIND_ARRAY));
            prop_assert_eq!(entry_of(&with(a)[prefix.len()..]), Some((size, a)));
            prop_assert_eq!(entry_of(&with(a)[prefix.len() + 1..]), None);
            prop_assert_eq!(with(a).cmp(&with(b)), a.cmp(&b));
            prop_assert!(one < with(0));
        }

        #[test]
        fn unescaping_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            let _ = unescape(&bytes, &mut Vec::new());
        }
    }
}
