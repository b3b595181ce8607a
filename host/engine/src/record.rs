//! What a log record says: one change of a target, with the request that it answers.
//!
//! kind (1) · client UUID (16) · sequence of the request (8) · what the client had settled (8) · key
//! length (4) · key · value. Numbers are little-endian; key and value are in the index's encoding.
//! Whoever repeats a request repeats client and sequence, so a repetition can be told from a new
//! request ([`crate::clients`]).

use crate::clients::Origin;
use thiserror::Error;
use uuid::Uuid;

const HEADER: usize = 37;
const PUT: u8 = 1;
const PUNCH: u8 = 2;

/// Most bytes of a record.
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
        let (kind, key, value): (u8, &[u8], &[u8]) = match self.change {
            Change::Put { key, value } => (PUT, key, value),
            Change::Punch { prefix } => (PUNCH, prefix, &[]),
        };
        out.clear();
        out.push(kind);
        out.extend_from_slice(self.origin.client.as_bytes());
        out.extend_from_slice(&self.origin.sequence.to_le_bytes());
        out.extend_from_slice(&self.origin.settled.to_le_bytes());
        out.extend_from_slice(&(key.len() as u32).to_le_bytes()); // keys have a few KiB at most
        out.extend_from_slice(key);
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
            PUNCH => return Err(BadRecord("a punch has a value")),
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back(key: Vec<u8>, value: Vec<u8>, client: u128, sequence: u64, settled: u64, put: bool) {
            let change = if put {
                Change::Put { key: &key, value: &value }
            } else {
                Change::Punch { prefix: &key }
            };
            let origin = Origin { client: Uuid::from_u128(client), sequence, settled };
            let record = Record { origin, change };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(Record::decode(&bytes), Ok(record));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Record::decode(&bytes);
        }
    }
}
