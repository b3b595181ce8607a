//! Which target a distribution key lives on.

use crate::ObjectId;

/// Stable 64-bit hash of an object and a dkey: FNV-1a over the object id (high, low; little-endian)
/// and the key, finished by the mixer of splitmix64 so that all bits depend on all bytes. Part of
/// the on-media format: data lies where this function says.
pub fn key_hash(object: ObjectId, dkey: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    };
    add(&object.hi.to_le_bytes());
    add(&object.lo.to_le_bytes());
    add(dkey);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Target (0 to `targets` - 1) that holds everything under a dkey of an object. `targets` is the
/// number that the engine was formatted with; 0 is taken as 1.
pub fn target_of(object: ObjectId, dkey: &[u8], targets: u32) -> u32 {
    let scaled = u128::from(key_hash(object, dkey)) * u128::from(targets.max(1));
    (scaled >> 64) as u32 // below `targets`, since the hash is below 2^64
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: ObjectId = ObjectId { hi: 1, lo: 2 };

    #[test]
    fn hash_never_changes() {
        // Data of formatted engines lies where this number, computed independently, says.
        assert_eq!(key_hash(OBJECT, b"dkey"), 0x7e45_57bf_2d54_3408);
    }

    #[test]
    fn spreads_evenly_and_stays_in_range() {
        let mut counts = [0u32; 7];
        for n in 0..70_000u32 {
            counts[target_of(OBJECT, format!("key-{n}").as_bytes(), 7) as usize] += 1;
        }
        for count in counts {
            assert!((9_500..10_500).contains(&count), "{counts:?}");
        }
        assert_eq!(target_of(OBJECT, b"x", 0), 0);
        assert_eq!(target_of(OBJECT, b"x", 1), 0);
    }
}
