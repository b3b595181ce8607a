//! Pools and containers: their labels, and how a reply describes them.
//!
//! An entry is id (16) · state (1) · created, milliseconds since the Unix epoch (8) · bytes of SCM (8) ·
//! bytes of block device (8) · label. A listing carries entries in the place of keys, in the order
//! of their ids.

use crate::DecodeError;
use crate::codec::{Fields, FieldsMut, exact};
use thiserror::Error;
use uuid::Uuid;

/// Most bytes of a label.
pub const LABEL_MAX: usize = 127;

/// Least SCM of a pool on each of its targets, in bytes.
pub const POOL_SCM_MIN: u64 = 1 << 20;

/// Least block device of a pool on each of its targets unless it has none: the largest single value.
pub const POOL_BDEV_MIN: u64 = crate::SINGLE_MAX;

const ENTRY: usize = 41;
const SPACE: usize = 32;

/// Why a text is no label.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LabelError {
    /// Empty or too long.
    #[error("a label has 1 to {LABEL_MAX} bytes, this one {0}")]
    Length(usize),
    /// A character that labels do not have.
    #[error("{0:?} cannot be in a label: letters, digits and . _ : - can")]
    Character(char),
    /// A UUID: it could be taken for another pool's or container's.
    #[error("a label must not look like a UUID")]
    Uuid,
}

/// Checks the label of a pool or container.
///
/// # Errors
/// What is wrong with it.
pub fn check_label(label: &str) -> Result<(), LabelError> {
    if !(1..=LABEL_MAX).contains(&label.len()) {
        return Err(LabelError::Length(label.len()));
    }
    let strange = |c: &char| !(c.is_ascii_alphanumeric() || "._:-".contains(*c));
    if let Some(c) = label.chars().find(strange) {
        return Err(LabelError::Character(c));
    }
    match Uuid::try_parse(label) {
        Ok(_) => Err(LabelError::Uuid),
        Err(_) => Ok(()),
    }
}

/// Whether a pool or container can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryState {
    /// It can.
    Live = 1,
    /// Its data is being removed, which nothing stops.
    Destroying = 2,
}

/// A pool or a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its UUID.
    pub id: Uuid,
    /// Whether it can be used.
    pub state: EntryState,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Bytes of SCM that belong to it; 0 for containers, which share their pool's.
    pub scm_bytes: u64,
    /// Bytes of block device, likewise.
    pub bdev_bytes: u64,
    /// Its label; empty if it has none.
    pub label: String,
}

impl Entry {
    /// The encoded form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; ENTRY];
        let mut f = FieldsMut(&mut out);
        f.put(0, self.id.as_bytes());
        f.u8(16, self.state as u8);
        f.u64(17, self.created_ms);
        f.u64(25, self.scm_bytes);
        f.u64(33, self.bdev_bytes);
        out.extend_from_slice(self.label.as_bytes());
        out
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some((fixed, label)) = bytes.split_at_checked(ENTRY) else {
            return Err(DecodeError::Short {
                have: bytes.len(),
                need: ENTRY,
            });
        };
        let f = Fields(fixed);
        let state = match f.u8(16) {
            1 => EntryState::Live,
            2 => EntryState::Destroying,
            _ => return Err(DecodeError::Field("state")),
        };
        let label = std::str::from_utf8(label).map_err(|_| DecodeError::Field("label"))?;
        if !label.is_empty() && check_label(label).is_err() {
            return Err(DecodeError::Field("label"));
        }
        Ok(Self {
            id: f.uuid(0),
            state,
            created_ms: f.u64(17),
            scm_bytes: f.u64(25),
            bdev_bytes: f.u64(33),
            label: label.to_owned(),
        })
    }
}

/// Space of a pool on a target: bytes in all and free, on SCM and on the block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolSpace {
    /// Bytes of SCM.
    pub scm_total: u64,
    /// Bytes free of them.
    pub scm_free: u64,
    /// Bytes of block device.
    pub bdev_total: u64,
    /// Bytes free of them.
    pub bdev_free: u64,
}

impl PoolSpace {
    /// The encoded form: four little-endian numbers.
    pub fn encode(&self) -> [u8; SPACE] {
        let mut out = [0; SPACE];
        let mut f = FieldsMut(&mut out);
        f.u64(0, self.scm_total);
        f.u64(8, self.scm_free);
        f.u64(16, self.bdev_total);
        f.u64(24, self.bdev_free);
        out
    }

    /// Reads the encoded form.
    ///
    /// # Errors
    /// If it has another length.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        exact(bytes.len(), SPACE)?;
        let f = Fields(bytes);
        Ok(Self {
            scm_total: f.u64(0),
            scm_free: f.u64(8),
            bdev_total: f.u64(16),
            bdev_free: f.u64(24),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_nonsense_is_refused() {
        let entry = Entry {
            id: Uuid::from_u128(5),
            state: EntryState::Destroying,
            created_ms: 7,
            scm_bytes: 8,
            bdev_bytes: 9,
            label: "tank-1".into(),
        };
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes), Ok(entry));
        for len in 0..ENTRY {
            assert!(Entry::decode(&bytes[..len]).is_err());
        }
        let mut bad = bytes.clone();
        bad[16] = 9;
        assert_eq!(Entry::decode(&bad), Err(DecodeError::Field("state")));
        bad = bytes;
        bad[ENTRY] = 0xff;
        assert_eq!(Entry::decode(&bad), Err(DecodeError::Field("label")));
        let space = PoolSpace {
            scm_total: 1,
            scm_free: 2,
            bdev_total: 3,
            bdev_free: 4,
        };
        assert_eq!(PoolSpace::decode(&space.encode()), Ok(space));
        assert!(PoolSpace::decode(&[0; 31]).is_err());
    }

    #[test]
    fn labels_are_checked() {
        for good in ["tank", "a", "node-1:data_2.x", &"x".repeat(LABEL_MAX)] {
            assert_eq!(check_label(good), Ok(()), "{good}");
        }
        assert_eq!(check_label(""), Err(LabelError::Length(0)));
        assert_eq!(
            check_label(&"x".repeat(LABEL_MAX + 1)),
            Err(LabelError::Length(LABEL_MAX + 1))
        );
        assert_eq!(check_label("a b"), Err(LabelError::Character(' ')));
        assert_eq!(check_label("ä"), Err(LabelError::Character('ä')));
        let uuid = Uuid::from_u128(1).to_string();
        assert_eq!(check_label(&uuid), Err(LabelError::Uuid));
    }
}
