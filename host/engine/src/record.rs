//! What a log record says: one change of a target, with the request that it answers.
//!
//! kind (1) · client UUID (16) · sequence of the request (8) · what the client had settled (8) · key
//! length (4) · key · value. Numbers are little-endian; key and value are in the index's encoding.
//! The key of an array change is the prefix of the array with the bytes per record; its value is first
//! byte (8) · byte behind the last (8) and, for each new entry, first byte (8) · length of the value (4)
//! · value. Whoever repeats a request repeats client and sequence, so a repetition can be told from a
//! new request ([`crate::clients`]).

use crate::clients::Origin;
use thiserror::Error;
use uuid::Uuid;

const HEADER: usize = 37;
const PUT: u8 = 1;
const PUNCH: u8 = 2;
const ARRAY: u8 = 3;
const PUNCH_UP_TO: u8 = 0x20;

/// Most bytes of the usual records; those that write many entries of an array at once are longer.
pub const RECORD_MAX: usize = HEADER + crate::index::key::KEY_MAX + crate::index::value::VALUE_MAX;

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// This encoded value is under this key now.
    Put {
        /// Key.
        key: &'a [u8],
        /// Value.
        value: &'a [u8],
    },
    /// Nothing is under keys with this prefix any more.
    Punch {
        /// Prefix.
        prefix: &'a [u8],
    },
    /// Entries of an array that begin in a range are gone, others are there instead.
    Array {
        /// What the keys of all entries of the array begin with, up to the first byte.
        prefix: &'a [u8],
        /// First byte of the range.
        start: u64,
        /// Byte behind its last.
        end: u64,
        /// The new entries.
        entries: Entries<'a>,
    },
    /// Nothing is under keys with this prefix any more, up to and with `last`: a piece of the
    /// destruction of a container or pool.
    PunchUpTo {
        /// Prefix.
        prefix: &'a [u8],
        /// Last key that is gone.
        last: &'a [u8],
    },
}

/// New entries of an array in a record: first byte and encoded value of each, ascending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    /// Entries that [`Entries::push`] put into `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Appends an entry to `out`.
    pub fn push(out: &mut Vec<u8>, start: u64, value: &[u8]) {
        out.extend_from_slice(&start.to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes()); // at most VALUE_MAX
        out.extend_from_slice(value);
    }

    /// Checks that there are only whole entries, ascending in `start`..`end`.
    fn check(mut self, start: u64, end: u64) -> Result<(), BadRecord> {
        let mut least = start;
        for (at, _) in self.by_ref() {
            if at < least || at >= end {
                return Err(BadRecord("an entry of an array is outside of its place"));
            }
            least = at + 1; // at most `end`
        }
        if self.0.is_empty() {
            return Ok(());
        }
        Err(BadRecord("an entry of an array is cut off"))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (start, rest) = self.0.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        self.0 = rest;
        Some((u64::from_le_bytes(*start), value))
    }
}

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Who asked.
    pub origin: Origin,
    /// The change.
    pub change: Change<'a>,
}

/// A record that this program cannot have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadRecord(&'static str);

impl<'a> Record<'a> {
    /// Writes the record to `out`, replacing its content.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut range = [0u8; 16];
        let (kind, key, range, value): (u8, &[u8], &[u8], &[u8]) = match self.change {
            Change::Put { key, value } => (PUT, key, &[], value),
            Change::Punch { prefix } => (PUNCH, prefix, &[], &[]),
            Change::PunchUpTo { prefix, last } => (PUNCH_UP_TO, prefix, &[], last),
            Change::Array {
                prefix,
                start,
                end,
                entries,
            } => {
                range[..8].copy_from_slice(&start.to_le_bytes());
                range[8..].copy_from_slice(&end.to_le_bytes());
                (ARRAY, prefix, &range, entries.0)
            }
        };
        out.clear();
        out.push(kind);
        out.extend_from_slice(self.origin.client.as_bytes());
        out.extend_from_slice(&self.origin.sequence.to_le_bytes());
        out.extend_from_slice(&self.origin.settled.to_le_bytes());
        out.extend_from_slice(&(key.len() as u32).to_le_bytes()); // keys have a few KiB at most
        out.extend_from_slice(key);
        out.extend_from_slice(range);
        out.extend_from_slice(value);
    }

    /// Reads a record.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, BadRecord> {
        let (header, rest) = bytes
            .split_at_checked(HEADER)
            .ok_or(BadRecord("the record is too short"))?;
        let mut client = [0u8; 16];
        client.copy_from_slice(&header[1..17]);
        let number = |at: usize| {
            let mut bytes = [0u8; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let mut len = [0u8; 4];
        len.copy_from_slice(&header[33..37]);
        let (key, value) = rest
            .split_at_checked(u32::from_le_bytes(len) as usize)
            .ok_or(BadRecord("the key is longer than the record"))?;
        let change = match header[0] {
            PUT => Change::Put { key, value },
            PUNCH if value.is_empty() => Change::Punch { prefix: key },
            PUNCH_UP_TO if value.starts_with(key) => Change::PunchUpTo {
                prefix: key,
                last: value,
            },
            PUNCH_UP_TO => return Err(BadRecord("a punch ends outside of its prefix")),
            PUNCH => return Err(BadRecord("a punch has a value")),
            ARRAY => array(key, value)?,
            _ => return Err(BadRecord("the record is of an unknown kind")),
        };
        Ok(Self {
            origin: Origin {
                client: Uuid::from_bytes(client),
                sequence: number(17),
                settled: number(25),
            },
            change,
        })
    }
}

fn array<'a>(prefix: &'a [u8], value: &'a [u8]) -> Result<Change<'a>, BadRecord> {
    let short = BadRecord("a change of an array has no range");
    let (start, rest) = value.split_first_chunk::<8>().ok_or(short)?;
    let (end, rest) = rest.split_first_chunk::<8>().ok_or(short)?;
    let (start, end) = (u64::from_le_bytes(*start), u64::from_le_bytes(*end));
    let entries = Entries(rest);
    entries.check(start, end)?;
    Ok(Change::Array {
        prefix,
        start,
        end,
        entries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back(key: Vec<u8>, value: Vec<u8>, client: u128, sequence: u64, settled: u64, kind in 0..3) {
            let last = [&key[..], &value].concat();
            let change = match kind {
                0 => Change::Put { key: &key, value: &value },
                1 => Change::Punch { prefix: &key },
                _ => Change::PunchUpTo { prefix: &key, last: &last },
            };
            let origin = Origin { client: Uuid::from_u128(client), sequence, settled };
            let record = Record { origin, change };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(Record::decode(&bytes), Ok(record));
        }

        #[test]
        fn changes_of_arrays_come_back(
            prefix: Vec<u8>, start in 0u64..50, gaps in prop::collection::vec((0u64..9, any::<Vec<u8>>()), 0..5), cut: usize,
        ) {
            let (mut bytes, mut entries, mut end) = (Vec::new(), Vec::new(), start);
            for (gap, value) in gaps {
                Entries::push(&mut entries, end + gap, &value);
                end += gap + 1;
            }
            let change = Change::Array { prefix: &prefix, start, end, entries: Entries::new(&entries) };
            let origin = Origin { client: Uuid::nil(), sequence: 1, settled: 0 };
            let record = Record { origin, change };
            record.encode(&mut bytes);
            prop_assert_eq!(Record::decode(&bytes), Ok(record));
            if !entries.is_empty() {
                let cut = bytes.len() - 1 - cut % (entries.len() - 1).max(1);
                let shorter = Record::decode(&bytes[..cut]);
                // What is left may be whole entries, never half of one.
                if let Ok(Record { change: Change::Array { entries: left, .. }, .. }) = shorter {
                    prop_assert!(left.count() < Entries::new(&entries).count());
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Record::decode(&bytes);
        }
    }
}
