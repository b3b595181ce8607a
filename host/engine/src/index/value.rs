//! Stored values: what the index keeps under a key, and the log in a record.
//!
//! form (1: 1 = inline, 2 = extents) · CRC-32C of the value (4) · length of the value (4) · number of
//! extents (1) · extents (first unit 8, units 4 each) · CRC-32C of all that and of the key (4) ·
//! inline bytes. All numbers are little-endian. The last checksum ties an entry to its key: an index
//! page that changed is noticed before anything in it is used.

use daos_wire::crc32c;
use thiserror::Error;

/// Most extents of one value.
pub const EXTENTS_MAX: usize = 8;

const FIXED: usize = 10;
const EXTENT: usize = 12;
const CRC: usize = 4;

/// Most bytes of an encoded value.
pub const VALUE_MAX: usize = FIXED + EXTENTS_MAX * EXTENT + CRC + daos_wire::INLINE_MAX;

/// A run of allocation units on the target's share of its block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Extent {
    /// First unit.
    pub start: u64,
    /// Units, at least 1.
    pub units: u32,
}

/// Extents of one value, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Extents {
    list: [Extent; EXTENTS_MAX],
    count: u8,
}

impl Extents {
    /// Appends an extent; `false` if there are [`EXTENTS_MAX`] already.
    pub fn push(&mut self, extent: Extent) -> bool {
        let Some(place) = self.list.get_mut(usize::from(self.count)) else {
            return false;
        };
        *place = extent;
        self.count += 1;
        true
    }

    /// The extents.
    pub fn as_slice(&self) -> &[Extent] {
        &self.list[..usize::from(self.count)]
    }

    /// Units of all of them.
    pub fn units(&self) -> u64 {
        self.as_slice().iter().map(|e| u64::from(e.units)).sum()
    }
}

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// In the index itself.
    Inline(&'a [u8]),
    /// On the block device.
    Extents(Extents),
}

/// A stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredValue<'a> {
    /// CRC-32C of the value.
    pub checksum: u32,
    /// Bytes of the value.
    pub len: u32,
    /// Where it is.
    pub body: Body<'a>,
}

/// An entry of the index or log that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the stored entry is damaged: {0}")]
pub struct Damaged(pub &'static str);

impl<'a> StoredValue<'a> {
    /// Appends the encoded form for `key` to `out`.
    pub fn encode(&self, key: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let (form, inline): (u8, &[u8]) = match self.body {
            Body::Inline(bytes) => (1, bytes),
            Body::Extents(_) => (2, &[]),
        };
        out.push(form);
        out.extend_from_slice(&self.checksum.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        match &self.body {
            Body::Inline(_) => out.push(0),
            Body::Extents(extents) => {
                out.push(extents.count);
                for extent in extents.as_slice() {
                    out.extend_from_slice(&extent.start.to_le_bytes());
                    out.extend_from_slice(&extent.units.to_le_bytes());
                }
            }
        }
        let crc = entry_crc(key, &out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(inline);
    }

    /// Reads the encoded form. The checksum of an inline value itself is not checked here.
    ///
    /// # Errors
    /// [`Damaged`] if it is not what was written under `key`.
    pub fn decode(key: &[u8], bytes: &'a [u8]) -> Result<Self, Damaged> {
        let fixed = bytes.first_chunk::<FIXED>().ok_or(Damaged("too short"))?;
        let count = usize::from(fixed[9]);
        if count > EXTENTS_MAX {
            return Err(Damaged("too many extents"));
        }
        let end = FIXED + count * EXTENT;
        let crc = bytes.get(end..end + CRC).ok_or(Damaged("too short"))?;
        if u32_at(crc, 0) != entry_crc(key, &bytes[..end]) {
            return Err(Damaged("its checksum does not match"));
        }
        let inline = &bytes[end + CRC..];
        let len = u32_at(fixed, 5);
        let body = match fixed[0] {
            1 if count == 0 && inline.len() == len as usize => Body::Inline(inline),
            2 if count > 0 && inline.is_empty() => {
                let mut extents = Extents::default();
                for part in bytes[FIXED..end].chunks_exact(EXTENT) {
                    let mut start = [0u8; 8];
                    start.copy_from_slice(&part[..8]);
                    extents.push(Extent {
                        start: u64::from_le_bytes(start),
                        units: u32_at(part, 8),
                    });
                }
                Body::Extents(extents)
            }
            _ => return Err(Damaged("form and length do not fit")),
        };
        Ok(Self {
            checksum: u32_at(fixed, 1),
            len,
            body,
        })
    }
}

fn entry_crc(key: &[u8], head: &[u8]) -> u32 {
    let mut both = [0u8; 8];
    both[..4].copy_from_slice(&crc32c(key).to_le_bytes());
    both[4..].copy_from_slice(&crc32c(head).to_le_bytes());
    crc32c(&both)
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&b[at..at + 4]);
    u32::from_le_bytes(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn on_device() -> StoredValue<'static> {
        let mut extents = Extents::default();
        for n in 0..3 {
            assert!(extents.push(Extent {
                start: n * 100,
                units: 7
            }));
        }
        StoredValue {
            checksum: 9,
            len: 80_000,
            body: Body::Extents(extents),
        }
    }

    #[test]
    fn comes_back_and_every_changed_bit_of_the_entry_is_noticed() {
        let inline = StoredValue {
            checksum: 5,
            len: 3,
            body: Body::Inline(b"abc"),
        };
        for (value, checked) in [(inline, 14), (on_device(), FIXED + 3 * EXTENT + CRC)] {
            let mut bytes = Vec::new();
            value.encode(b"key", &mut bytes);
            assert_eq!(StoredValue::decode(b"key", &bytes), Ok(value));
            assert!(StoredValue::decode(b"other", &bytes).is_err());
            for bit in 0..checked * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(StoredValue::decode(b"key", &bad).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn no_more_extents_than_fit() {
        let mut extents = Extents::default();
        for _ in 0..EXTENTS_MAX {
            assert!(extents.push(Extent { start: 0, units: 1 }));
        }
        assert!(!extents.push(Extent { start: 0, units: 1 }));
        assert_eq!(extents.units(), EXTENTS_MAX as u64);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = StoredValue::decode(b"k", &bytes);
        }
    }
}
