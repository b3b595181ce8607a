//! Entries that were written or read lately, by hash.
//!
//! Finding an entry in the layers costs some twenty cache misses; here it costs two. What is here is
//! what the layers say: every change goes through it. Two generations: when the young one is full it
//! becomes the old one, and the old one is forgotten.

use std::collections::HashMap;
use std::sync::Arc;

/// Fewest and most bytes of a generation, keys and values.
const GENERATION: (usize, usize) = (4 << 20, 64 << 20);
/// Bytes that an entry takes beside key and value.
const OVERHEAD: usize = 96;

/// An encoded value, or `None` if nothing is under the key.
type Value = Option<Arc<[u8]>>;

/// See the module.
pub struct Recent {
    young: HashMap<Box<[u8]>, Value>,
    old: HashMap<Box<[u8]>, Value>,
    /// Bytes of the young generation.
    bytes: usize,
    /// When it is full.
    full: usize,
}

impl Default for Recent {
    fn default() -> Self {
        Self::of(0)
    }
}

impl Recent {
    /// With generations of about `bytes`.
    pub fn of(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            bytes: 0,
            full: bytes.clamp(GENERATION.0, GENERATION.1),
        }
    }

    /// The value under `key`, if it is known.
    pub fn get(&self, key: &[u8]) -> Option<Value> {
        self.young.get(key).or_else(|| self.old.get(key)).cloned()
    }

    /// Notes what is under `key` now; returns what was there, if that is known.
    pub fn replace(&mut self, key: &[u8], value: Value) -> Option<Value> {
        let len = |value: &Value| value.as_ref().map_or(0, |value| value.len());
        self.bytes += len(&value);
        let before = if let Some(known) = self.young.get_mut(key) {
            self.bytes -= len(known);
            Some(std::mem::replace(known, value))
        } else {
            // An older one there would come back when this one is forgotten first.
            let before = self.old.remove(key);
            self.bytes += key.len() + OVERHEAD;
            self.young.insert(key.into(), value);
            before
        };
        if self.bytes > self.full {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        before
    }

    /// Forgets what is under `key`.
    pub fn forget(&mut self, key: &[u8]) {
        // Its bytes count until the generation ends.
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_is_found_and_memory_is_bounded() {
        let mut recent = Recent::of(0);
        let value = |n: u32| -> Value { Some(vec![n as u8; 256 << 10].into()) };
        for round in 0..3 {
            for n in 0..40u32 {
                recent.replace(&n.to_le_bytes(), value(n + round));
                assert_eq!(recent.get(&n.to_le_bytes()), Some(value(n + round)));
                assert!(recent.bytes <= GENERATION.0);
                assert!(recent.young.len() + recent.old.len() <= 34);
                // Known or unknown, never another one.
                for m in 0..=n {
                    let found = recent.get(&m.to_le_bytes());
                    assert!(found.is_none_or(|found| found == value(m + round)));
                }
            }
        }
        assert_eq!(recent.replace(b"gone", value(1)), None);
        assert_eq!(recent.replace(b"gone", None), Some(value(1)));
        assert_eq!(recent.get(b"gone"), Some(None));
        recent.forget(b"gone");
        assert_eq!(recent.get(b"gone"), None);
        assert_eq!(recent.get(b"never"), None);
    }
}
