//! Values that follow from numbers, so that they can be checked without being stored.

use crate::parse::Sizes;

/// A value: which key's, and which of its versions. Arithmetic on integers only, so that every
/// machine makes the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// Of the run.
    pub(crate) seed: u64,
    /// Number of the key.
    pub(crate) key: u64,
    /// Number of the value under it.
    pub(crate) version: u64,
    /// Sizes of the run.
    pub(crate) sizes: Sizes,
}

/// The mixer of splitmix64.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Limits of the protocol: the largest value inside a message, and the smallest outside.
const EDGES: [usize; 2] = [4096, 4097];

impl Pattern {
    fn origin(&self) -> u64 {
        [self.key, self.version]
            .iter()
            .fold(mix(self.seed.wrapping_add(STEP)), |state, number| {
                mix(state.wrapping_add(STEP) ^ number.wrapping_mul(STEP))
            })
    }

    /// Bytes of the value.
    pub(crate) fn len(&self) -> usize {
        let Sizes { min, max } = self.sizes;
        let random = mix(self.origin() ^ STEP);
        let edge = match random % 64 {
            0 => min,
            1 => max,
            2 => EDGES[0],
            3 => EDGES[1],
            _ => usize::MAX,
        };
        if (min..=max).contains(&edge) {
            return edge;
        }
        // One octave of lengths, and a length within it.
        let (lowest, highest) = (min.max(1).ilog2(), max.max(1).ilog2());
        let octave = lowest + (random >> 8) as u32 % (highest - lowest + 1);
        let first = (1usize << octave).max(min);
        let last = ((2usize << octave) - 1).min(max);
        first + (random >> 32) as usize % (last - first + 1).max(1)
    }

    /// The value.
    pub(crate) fn value(&self) -> Vec<u8> {
        let len = self.len();
        let mut out = Vec::with_capacity(len + 8);
        let mut state = self.origin();
        while out.len() < len {
            state = state.wrapping_add(STEP);
            out.extend_from_slice(&mix(state).to_le_bytes());
        }
        out.truncate(len);
        out
    }

    /// Name of the key.
    pub(crate) fn dkey(&self) -> Vec<u8> {
        format!("key-{:08}", self.key).into_bytes()
    }
}

/// Attribute key of all values.
pub(crate) const AKEY: &[u8] = b"value";

/// How `found` differs from `expected`, in words; `None` if it does not.
pub(crate) fn difference(found: &[u8], expected: &[u8]) -> Option<String> {
    if found == expected {
        return None;
    }
    let at = found.iter().zip(expected).position(|(a, b)| a != b);
    Some(match at {
        _ if found.len() != expected.len() => {
            format!("{} bytes instead of {}", found.len(), expected.len())
        }
        Some(at) => {
            let count = found.iter().zip(expected).filter(|(a, b)| a != b).count();
            format!("{count} of {} bytes differ, the first at {at}", found.len())
        }
        None => "it differs".to_owned(), // equal bytes of equal length are equal
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(version: u64) -> Pattern {
        Pattern {
            seed: 1,
            key: 2,
            version,
            sizes: "1..1MiB".parse().unwrap(),
        }
    }

    #[test]
    fn values_never_change() {
        // Records of older releases are verified by newer ones.
        let small = Pattern {
            sizes: "16".parse().unwrap(),
            ..pattern(3)
        };
        // Both numbers were computed by another program.
        assert_eq!(daos_client::crc32c(&small.value()), 0xe585_68d1);
        assert_eq!(pattern(3).len(), 552);
    }

    #[test]
    fn versions_keys_and_seeds_differ() {
        let base = Pattern {
            sizes: "64".parse().unwrap(),
            ..pattern(3)
        };
        for other in [
            Pattern { version: 4, ..base },
            Pattern { key: 3, ..base },
            Pattern { seed: 2, ..base },
            Pattern {
                key: 3,
                version: 2,
                ..base
            },
        ] {
            let same = base
                .value()
                .iter()
                .zip(other.value())
                .filter(|(a, b)| **a == *b)
                .count();
            assert!(same < 16, "{same} of 64 bytes are equal by accident");
        }
    }

    #[test]
    fn sizes_reach_everything() {
        let lens: Vec<usize> = (0..2000).map(|version| pattern(version).len()).collect();
        for edge in [1, 4096, 4097, 1 << 20] {
            assert!(lens.contains(&edge), "{edge}");
        }
        let small = lens.iter().filter(|len| **len <= 1024).count();
        assert!((700..1300).contains(&small), "half the octaves: {small}");
    }

    proptest! {
        #[test]
        fn sizes_stay_in_range(seed: u64, key: u64, version: u64, a in 0usize..=1 << 20, b in 0usize..=1 << 20) {
            let sizes = Sizes { min: a.min(b), max: a.max(b) };
            let pattern = Pattern { seed, key, version, sizes };
            prop_assert!((sizes.min..=sizes.max).contains(&pattern.len()));
        }
    }

    #[test]
    fn differences_are_described() {
        assert_eq!(difference(b"abc", b"abc"), None);
        assert_eq!(difference(b"ab", b"abc").unwrap(), "2 bytes instead of 3");
        assert_eq!(
            difference(b"axx", b"abc").unwrap(),
            "2 of 3 bytes differ, the first at 1"
        );
    }
}
