//! Replies.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic "DAOp" |
//! | 4 | 2 | layout version |
//! | 6 | 2 | opcode of the request as received |
//! | 8 | 4 | status |
//! | 12 | 4 | flags: bit 0 = a listing has more keys |
//! | 16 | 16 | client UUID of the request |
//! | 32 | 8 | sequence of the request |
//! | 40 | 8 | value length in bytes (get, array get) |
//! | 48 | 4 | CRC-32C of the value, or of the keys of a listing |
//! | 52 | 4 | inline length |
//! | 56 | 4 | number of keys in a listing; target number in a query; bytes per record (array query) |
//! | 60 | 4 | number of targets (query) |
//! | 64 | 8 + 8 | bytes in all, bytes free (query); records up to the last one, 0 (array query) |
//! | 80 | 4 | CRC-32C of bytes 0..80 |
//! | 84 | | inline: value, keys of a listing, or text that explains an error |

use crate::codec::{DecodeError, Fields, FieldsMut, exact};
use crate::{INLINE_MAX, REPLY_MAX, SINGLE_MAX, VERSION, WireStatus};
use uuid::Uuid;

/// Bytes in front of the inline part of a reply.
pub const REPLY_HEADER: usize = 84;

const MAGIC: u32 = u32::from_le_bytes(*b"DAOp");
const CRC_AT: usize = REPLY_HEADER - 4;
const MORE: u32 = 1;

/// A reply; the inline part is borrowed from the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Opcode of the request as received, also if it is unknown.
    pub opcode: u16,
    /// Outcome.
    pub status: WireStatus,
    /// A listing has more keys.
    pub more: bool,
    /// Client UUID of the request.
    pub client: Uuid,
    /// Sequence of the request.
    pub sequence: u64,
    /// Bytes of the value (get), also when there was no room for it; bytes of the records (array
    /// get), which end where the array ends.
    pub value_len: u64,
    /// CRC-32C of the value (gets) or of the inline part (listing); 0 where there is neither.
    pub checksum: u32,
    /// Keys in a listing; target number in a query; bytes per record in an array query.
    pub count: u32,
    /// Number of targets (query).
    pub targets: u32,
    /// Bytes of the target's share of its block device (query); in an array query, the number of the
    /// record behind the last one.
    pub total: u64,
    /// Bytes free of it (query).
    pub free: u64,
    /// Value, keys of a listing, or UTF-8 text that explains an error.
    pub inline: &'a [u8],
}

impl<'a> Reply<'a> {
    /// A reply without content.
    pub fn new(opcode: u16, status: WireStatus, client: Uuid, sequence: u64) -> Self {
        Self {
            opcode,
            status,
            more: false,
            client,
            sequence,
            value_len: 0,
            checksum: 0,
            count: 0,
            targets: 0,
            total: 0,
            free: 0,
            inline: &[],
        }
    }

    /// Writes the reply to the front of `out`, returns its length.
    ///
    /// # Errors
    /// [`DecodeError::Field`] if the inline part is too long, [`DecodeError::Short`] if `out` is
    /// too short.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, DecodeError> {
        let len = REPLY_HEADER + self.inline.len();
        if len > REPLY_MAX {
            return Err(DecodeError::Field("inline length"));
        }
        let have = out.len();
        let Some(out) = out.get_mut(..len) else {
            return Err(DecodeError::Short { have, need: len });
        };
        out[REPLY_HEADER..].copy_from_slice(self.inline);
        self.encode_header(out, self.inline.len());
        Ok(len)
    }

    /// Writes the header to the front of `out` for an inline part of `inline_len` bytes that stands
    /// behind it already; returns the length of the message. For replies that are put together in
    /// place. `out` has room for both.
    pub fn encode_header(&self, out: &mut [u8], inline_len: usize) -> usize {
        let mut f = FieldsMut(&mut out[..REPLY_HEADER]);
        f.u32(0, MAGIC);
        f.u16(4, VERSION);
        f.u16(6, self.opcode);
        f.u32(8, self.status.0);
        f.u32(12, if self.more { MORE } else { 0 });
        f.put(16, self.client.as_bytes());
        f.u64(32, self.sequence);
        f.u64(40, self.value_len);
        f.u32(48, self.checksum);
        f.u32(52, inline_len as u32); // at most REPLY_MAX
        f.u32(56, self.count);
        f.u32(60, self.targets);
        f.u64(64, self.total);
        f.u64(72, self.free);
        let crc = crate::crc32c(&f.0[..CRC_AT]);
        f.u32(CRC_AT, crc);
        REPLY_HEADER + inline_len
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// Says what is wrong with the message; nothing of it may be used then.
    pub fn decode(message: &'a [u8]) -> Result<Self, DecodeError> {
        if message.len() < REPLY_HEADER {
            return Err(DecodeError::Short {
                have: message.len(),
                need: REPLY_HEADER,
            });
        }
        let (header, inline) = message.split_at(REPLY_HEADER);
        let f = Fields(header);
        if f.u32(0) != MAGIC {
            return Err(DecodeError::Magic);
        }
        if f.u16(4) != VERSION {
            return Err(DecodeError::Version(f.u16(4)));
        }
        let expected = crate::crc32c(&header[..CRC_AT]);
        if f.u32(CRC_AT) != expected {
            return Err(DecodeError::Checksum {
                found: f.u32(CRC_AT),
                expected,
            });
        }
        let inline_len = f.u32(52) as usize;
        if inline_len > REPLY_MAX - REPLY_HEADER {
            return Err(DecodeError::Field("inline length"));
        }
        exact(message.len(), REPLY_HEADER + inline_len)?;
        if f.u32(12) & !MORE != 0 {
            return Err(DecodeError::Field("flags"));
        }
        let reply = Self {
            opcode: f.u16(6),
            status: WireStatus(f.u32(8)),
            more: f.u32(12) & MORE != 0,
            client: f.uuid(16),
            sequence: f.u64(32),
            value_len: f.u64(40),
            checksum: f.u32(48),
            count: f.u32(56),
            targets: f.u32(60),
            total: f.u64(64),
            free: f.u64(72),
            inline,
        };
        if reply.value_len > SINGLE_MAX {
            return Err(DecodeError::Field("value length"));
        }
        let is_get = [crate::Opcode::Get as u16, crate::Opcode::ArrayGet as u16];
        if is_get.contains(&reply.opcode)
            && reply.status.is_ok()
            && !inline.is_empty()
            && (inline.len() as u64 != reply.value_len || inline.len() > INLINE_MAX)
        {
            return Err(DecodeError::Field("inline length"));
        }
        Ok(reply)
    }
}
