//! Requests.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic "DAOq" |
//! | 4 | 2 | layout version |
//! | 6 | 2 | opcode |
//! | 8 | 4 | flags: none defined, zero |
//! | 12 | 4 | limit: most keys a listing wants; 0 = as many as fit |
//! | 16 | 16 | client UUID |
//! | 32 | 8 | sequence |
//! | 40 | 16 | pool UUID |
//! | 56 | 16 | container UUID |
//! | 72 | 8 + 8 | object id, high and low |
//! | 88 | 8 + 8 | array: first record, number of records |
//! | 104 | 8 | array: bytes per record |
//! | 112 | 8 | value length in bytes (put, array put) |
//! | 120 | 8 + 8 + 8 | RMA: key, address, length; length 0 = none |
//! | 144 | 4 | CRC-32C of the value (put, array put) |
//! | 148 | 4 | inline length |
//! | 152 | 2 | address length |
//! | 154 | 2 | dkey length |
//! | 156 | 2 | akey length |
//! | 158 | 1 | value kind |
//! | 159 | 1 | punch scope |
//! | 160 | 8 | settled: every sequence of this client below it is answered or given up |
//! | 168 | 4 | zero |
//! | 172 | 4 | CRC-32C of the 8 bytes: CRC-32C of bytes 0..172, CRC-32C of address, dkey and akey |
//! | 176 | | address, dkey, akey, inline value |

use crate::array::ArrayRange;
use crate::codec::{DecodeError, Fields, FieldsMut, exact, take};
use crate::{ADDRESS_MAX, INLINE_MAX, KEY_MAX, LABEL_MAX, REQUEST_MAX, SINGLE_MAX, VERSION};
use uuid::Uuid;

/// Bytes in front of the variable part of a request.
pub const REQUEST_HEADER: usize = 176;

/// Most keys that a listing may ask for at once.
pub const LIST_KEYS_LIMIT: u32 = 4096;

const MAGIC: u32 = u32::from_le_bytes(*b"DAOq");
const CRC_AT: usize = REQUEST_HEADER - 4;

macro_rules! codes {
    ($(#[$meta:meta])* $type:ident: $repr:ty { $($(#[$doc:meta])* $name:ident = $value:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr($repr)]
        pub enum $type { $($(#[$doc])* $name = $value,)* }

        impl $type {
            fn from_code(code: $repr) -> Option<Self> {
                match code { $($value => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// What a request wants. 0x10..0x1f are for arrays, 0x20..0x2f for pools and containers.
    Opcode: u16 {
        /// Stores a single value; replaces what was there.
        Put = 0x01,
        /// Fetches a single value.
        Get = 0x02,
        /// Removes what is stored under an akey, a dkey or an object.
        Punch = 0x03,
        /// Lists dkeys of an object on this target, in byte order, after `dkey` (empty = from the
        /// first).
        ListDkeys = 0x04,
        /// Lists akeys of a dkey, in byte order, after `akey` (empty = from the first).
        ListAkeys = 0x05,
        /// Asks a target who it is and how full.
        Query = 0x06,
        /// Wants its value back: inline bytes come back inline, memory of the client is read and written
        /// again. Touches nothing that is stored.
        Ping = 0x07,
        /// Writes records of an array, all or none of them. The first write says how large the
        /// records of the array are.
        ArrayPut = 0x10,
        /// Fetches records of an array; those that were never written are zeros. The reply is
        /// shorter than what was asked for if the array ends before.
        ArrayGet = 0x11,
        /// Removes records of an array, all or none of them; what was removed reads as zeros. An
        /// array without records is no array any more.
        ArrayPunch = 0x12,
        /// Asks how large the records of an array are and where the last one ends.
        ArrayQuery = 0x13,
        /// Makes a container of a pool; `dkey` is its label, or empty. Any target of the engine does.
        ContCreate = 0x20,
        /// Destroys a container; answered when its space is free.
        ContDestroy = 0x21,
        /// Lists the containers of a pool by their ids, after the 16 bytes in `dkey` (empty = from the
        /// first); the reply has an [`Entry`](crate::Entry) for each.
        ContList = 0x22,
        /// Looks for a container by its UUID or, if that is nil, by the label in `dkey`; the reply has
        /// its [`Entry`](crate::Entry).
        ContQuery = 0x23,
        /// Asks a target for the [space](crate::PoolSpace) of a pool on it.
        PoolQuery = 0x24,
        /// Lists pools as `ContList` lists containers.
        PoolList = 0x25,
        /// Looks for a pool as `ContQuery` looks for a container.
        PoolFind = 0x26,
    }
}

impl Opcode {
    /// Whether such a request changes what is stored: it is carried out at most once, however often
    /// it arrives.
    pub fn is_change(self) -> bool {
        matches!(
            self,
            Self::Put | Self::Punch | Self::ArrayPut | Self::ArrayPunch
        )
    }
}

codes! {
    /// How a value is stored.
    ValueKind: u8 {
        /// The request concerns no value.
        None = 0,
        /// A single value, replaced as a whole.
        Single = 1,
        /// Extents of an array.
        Array = 2,
    }
}

codes! {
    /// What a punch removes.
    PunchScope: u8 {
        /// The request is no punch.
        None = 0,
        /// One akey.
        Akey = 1,
        /// All akeys of a dkey.
        Dkey = 2,
        /// All dkeys of the object that live on this target.
        Object = 3,
    }
}

/// Identity of an object inside a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// High half.
    pub hi: u64,
    /// Low half.
    pub lo: u64,
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.hi, self.lo)
    }
}

/// Registered memory of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RmaDescriptor {
    /// Key of the registration.
    pub key: u64,
    /// Remote address of the first byte.
    pub addr: u64,
    /// Bytes, 1 to [`SINGLE_MAX`].
    pub len: u64,
}

/// A request; texts and values are borrowed from the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What to do.
    pub opcode: Opcode,
    /// Most keys a listing wants, up to [`LIST_KEYS_LIMIT`]; 0 = as many as fit.
    pub limit: u32,
    /// Who asks: a UUID that the client made when it started.
    pub client: Uuid,
    /// Number of the request, never reused by this client.
    pub sequence: u64,
    /// All sequences of this client below this one are answered, or given up: the engine need not
    /// remember their outcomes and refuses changes among them that arrive late. At most `sequence`.
    pub settled: u64,
    /// Pool; part of the name space of objects.
    pub pool: Uuid,
    /// Container; part of the name space of objects.
    pub container: Uuid,
    /// Object.
    pub object: ObjectId,
    /// Fabric address of the sender, where the reply goes.
    pub address: &'a [u8],
    /// Distribution key.
    pub dkey: &'a [u8],
    /// Attribute key.
    pub akey: &'a [u8],
    /// How the value is stored.
    pub kind: ValueKind,
    /// What a punch removes.
    pub scope: PunchScope,
    /// Part of an array; all zero for single values and an array query.
    pub array: ArrayRange,
    /// Bytes of the value (put, array put, ping).
    pub value_len: u64,
    /// CRC-32C of the value (put, array put).
    pub checksum: u32,
    /// The value, if it travels inside the message.
    pub inline: &'a [u8],
    /// Memory of the client that holds the value (puts) or has room for it (gets).
    pub rma: Option<RmaDescriptor>,
}

impl<'a> Request<'a> {
    /// A request without keys and value, to be filled in.
    pub fn new(opcode: Opcode, client: Uuid, sequence: u64, address: &'a [u8]) -> Self {
        Self {
            opcode,
            limit: 0,
            client,
            sequence,
            settled: 0,
            pool: Uuid::nil(),
            container: Uuid::nil(),
            object: ObjectId::default(),
            address,
            dkey: &[],
            akey: &[],
            kind: ValueKind::None,
            scope: PunchScope::None,
            array: ArrayRange::default(),
            value_len: 0,
            checksum: 0,
            inline: &[],
            rma: None,
        }
    }

    /// Bytes of the encoded request.
    pub fn encoded_len(&self) -> usize {
        REQUEST_HEADER + self.address.len() + self.dkey.len() + self.akey.len() + self.inline.len()
    }

    /// Writes the request to the front of `out`, returns its length.
    ///
    /// # Errors
    /// [`DecodeError::Field`] if a field is out of range, [`DecodeError::Short`] if `out` is.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, DecodeError> {
        self.check()?;
        let len = self.encoded_len();
        if out.len() < len {
            return Err(DecodeError::Short {
                have: out.len(),
                need: len,
            });
        }
        let out = &mut out[..len];
        let mut f = FieldsMut(&mut out[..REQUEST_HEADER]);
        f.0.fill(0);
        f.u32(0, MAGIC);
        f.u16(4, VERSION);
        f.u16(6, self.opcode as u16);
        f.u32(12, self.limit);
        f.put(16, self.client.as_bytes());
        f.u64(32, self.sequence);
        f.put(40, self.pool.as_bytes());
        f.put(56, self.container.as_bytes());
        f.u64(72, self.object.hi);
        f.u64(80, self.object.lo);
        f.u64(88, self.array.offset);
        f.u64(96, self.array.count);
        f.u64(104, self.array.record_size);
        f.u64(112, self.value_len);
        if let Some(rma) = self.rma {
            f.u64(120, rma.key);
            f.u64(128, rma.addr);
            f.u64(136, rma.len);
        }
        f.u32(144, self.checksum);
        // `check` bounds the lengths far below these widths.
        f.u32(148, self.inline.len() as u32);
        f.u16(152, self.address.len() as u16);
        f.u16(154, self.dkey.len() as u16);
        f.u16(156, self.akey.len() as u16);
        f.u8(158, self.kind as u8);
        f.u8(159, self.scope as u8);
        f.u64(160, self.settled);
        let mut at = REQUEST_HEADER;
        for part in [self.address, self.dkey, self.akey, self.inline] {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let crc = header_crc(out, at - self.inline.len());
        FieldsMut(out).u32(CRC_AT, crc);
        Ok(len)
    }

    /// Reads a request.
    ///
    /// # Errors
    /// Says what is wrong with the message; nothing of it may be used then.
    pub fn decode(message: &'a [u8]) -> Result<Self, DecodeError> {
        if message.len() < REQUEST_HEADER {
            return Err(DecodeError::Short {
                have: message.len(),
                need: REQUEST_HEADER,
            });
        }
        if message.len() > REQUEST_MAX {
            return Err(DecodeError::Long {
                have: message.len(),
                need: REQUEST_MAX,
            });
        }
        let (header, mut rest) = message.split_at(REQUEST_HEADER);
        let f = Fields(header);
        if f.u32(0) != MAGIC {
            return Err(DecodeError::Magic);
        }
        if f.u16(4) != VERSION {
            return Err(DecodeError::Version(f.u16(4)));
        }
        let inline_len = f.u32(148) as usize;
        let lens = [152, 154, 156].map(|at| usize::from(f.u16(at)));
        let keys_end = REQUEST_HEADER + lens.iter().sum::<usize>();
        exact(message.len(), keys_end.saturating_add(inline_len))?;
        let expected = header_crc(message, keys_end);
        if f.u32(CRC_AT) != expected {
            return Err(DecodeError::Checksum {
                found: f.u32(CRC_AT),
                expected,
            });
        }
        if f.u32(8) != 0 {
            return Err(DecodeError::Field("flags"));
        }
        if header[168..CRC_AT].iter().any(|byte| *byte != 0) {
            return Err(DecodeError::Field("reserved"));
        }
        let rma_len = f.u64(136);
        if rma_len == 0 && (f.u64(120) != 0 || f.u64(128) != 0) {
            return Err(DecodeError::Field("RMA length"));
        }
        let request = Self {
            opcode: Opcode::from_code(f.u16(6)).ok_or(DecodeError::Field("opcode"))?,
            limit: f.u32(12),
            client: f.uuid(16),
            sequence: f.u64(32),
            settled: f.u64(160),
            pool: f.uuid(40),
            container: f.uuid(56),
            object: ObjectId {
                hi: f.u64(72),
                lo: f.u64(80),
            },
            address: take(&mut rest, lens[0]),
            dkey: take(&mut rest, lens[1]),
            akey: take(&mut rest, lens[2]),
            kind: ValueKind::from_code(f.u8(158)).ok_or(DecodeError::Field("value kind"))?,
            scope: PunchScope::from_code(f.u8(159)).ok_or(DecodeError::Field("punch scope"))?,
            array: ArrayRange {
                offset: f.u64(88),
                count: f.u64(96),
                record_size: f.u64(104),
            },
            value_len: f.u64(112),
            checksum: f.u32(144),
            inline: take(&mut rest, inline_len),
            rma: (rma_len > 0).then(|| RmaDescriptor {
                key: f.u64(120),
                addr: f.u64(128),
                len: rma_len,
            }),
        };
        request.check()?;
        Ok(request)
    }

    /// Reads who sent a message and the id it carries, from a header that may otherwise be of
    /// another version or nonsense: enough to send an error back. `None` if not even that is there.
    /// The address lies where every version keeps it.
    pub fn decode_sender(message: &'a [u8]) -> Option<(Uuid, u64, &'a [u8])> {
        let f = Fields(message.get(..REQUEST_HEADER)?);
        if f.u32(0) != MAGIC {
            return None;
        }
        let len = usize::from(f.u16(152));
        if len == 0 || len > ADDRESS_MAX {
            return None;
        }
        let address = message.get(REQUEST_HEADER..REQUEST_HEADER + len)?;
        Some((f.uuid(16), f.u64(32), address))
    }

    /// Checks the rules between fields.
    fn check(&self) -> Result<(), DecodeError> {
        let rule = |ok: bool, field| {
            if ok {
                Ok(())
            } else {
                Err(DecodeError::Field(field))
            }
        };
        let put = matches!(self.opcode, Opcode::Put | Opcode::ArrayPut);
        let get = matches!(self.opcode, Opcode::Get | Opcode::ArrayGet);
        let ranged = matches!(
            self.opcode,
            Opcode::ArrayPut | Opcode::ArrayGet | Opcode::ArrayPunch
        );
        let key = |key: &[u8]| (1..=KEY_MAX).contains(&key.len());
        rule((1..=ADDRESS_MAX).contains(&self.address.len()), "address")?;
        rule(self.settled <= self.sequence, "settled")?;
        rule(self.limit <= LIST_KEYS_LIMIT, "limit")?;
        rule(self.inline.len() <= INLINE_MAX, "inline length")?;
        rule(self.dkey.len() <= KEY_MAX, "dkey")?;
        rule(self.akey.len() <= KEY_MAX, "akey")?;
        rule(
            if ranged {
                self.array.is_valid()
            } else {
                self.array == ArrayRange::default()
            },
            "array range",
        )?;
        let ping = self.opcode == Opcode::Ping;
        rule(
            put || ping || (self.value_len == 0 && self.inline.is_empty()),
            "value length",
        )?;
        rule(put || get || ping || self.rma.is_none(), "RMA descriptor")?;
        rule(
            self.rma
                .is_none_or(|rma| (1..=SINGLE_MAX).contains(&rma.len)),
            "RMA length",
        )?;
        rule(
            self.kind
                == match self.opcode {
                    Opcode::Put | Opcode::Get => ValueKind::Single,
                    Opcode::ArrayPut
                    | Opcode::ArrayGet
                    | Opcode::ArrayPunch
                    | Opcode::ArrayQuery => ValueKind::Array,
                    _ => ValueKind::None,
                },
            "value kind",
        )?;
        rule(
            (self.scope != PunchScope::None) == (self.opcode == Opcode::Punch),
            "punch scope",
        )?;
        match self.opcode {
            Opcode::Put | Opcode::ArrayPut => {
                rule(key(self.dkey), "dkey")?;
                rule(key(self.akey), "akey")?;
                rule(self.value_len <= SINGLE_MAX, "value length")?;
                rule(
                    !ranged || self.array.bytes() == Some(self.value_len),
                    "value length",
                )?;
                match self.rma {
                    Some(rma) => rule(
                        self.inline.is_empty() && rma.len == self.value_len,
                        "RMA length",
                    ),
                    None => rule(self.inline.len() as u64 == self.value_len, "inline length"),
                }
            }
            Opcode::ArrayGet => {
                rule(key(self.dkey), "dkey")?;
                rule(key(self.akey), "akey")?;
                let bytes = self.array.bytes().unwrap_or(u64::MAX);
                rule(bytes <= SINGLE_MAX, "array range")?;
                match self.rma {
                    Some(rma) => rule(rma.len == bytes, "RMA length"),
                    None => rule(bytes <= INLINE_MAX as u64, "RMA length"),
                }
            }
            Opcode::Get | Opcode::ArrayPunch | Opcode::ArrayQuery => {
                rule(key(self.dkey), "dkey")?;
                rule(key(self.akey), "akey")
            }
            Opcode::Punch => match self.scope {
                PunchScope::Akey => {
                    rule(key(self.dkey), "dkey")?;
                    rule(key(self.akey), "akey")
                }
                PunchScope::Dkey => {
                    rule(key(self.dkey), "dkey")?;
                    rule(self.akey.is_empty(), "akey")
                }
                _ => {
                    rule(self.dkey.is_empty(), "dkey")?;
                    rule(self.akey.is_empty(), "akey")
                }
            },
            Opcode::ListDkeys => rule(self.akey.is_empty(), "akey"),
            Opcode::ListAkeys => rule(key(self.dkey), "dkey"),
            Opcode::Ping => {
                rule(self.dkey.is_empty(), "dkey")?;
                rule(self.akey.is_empty(), "akey")?;
                match self.rma {
                    Some(rma) => rule(
                        self.inline.is_empty() && rma.len == self.value_len,
                        "RMA length",
                    ),
                    None => rule(self.inline.len() as u64 == self.value_len, "inline length"),
                }
            }
            Opcode::Query | Opcode::PoolQuery | Opcode::ContDestroy => {
                rule(self.dkey.is_empty(), "dkey")?;
                rule(self.akey.is_empty(), "akey")
            }
            Opcode::ContCreate | Opcode::ContQuery | Opcode::PoolFind => {
                rule(self.dkey.len() <= LABEL_MAX, "dkey")?;
                rule(self.akey.is_empty(), "akey")
            }
            Opcode::ContList | Opcode::PoolList => {
                rule(matches!(self.dkey.len(), 0 | 16), "dkey")?;
                rule(self.akey.is_empty(), "akey")
            }
        }
    }
}

/// CRC-32C of everything that the header CRC covers: the header up to it, address and keys.
fn header_crc(message: &[u8], keys_end: usize) -> u32 {
    // Two checksums combined by a third avoid a copy just to skip the four bytes between.
    let mut both = [0u8; 8];
    both[..4].copy_from_slice(&crate::crc32c(&message[..CRC_AT]).to_le_bytes());
    both[4..].copy_from_slice(&crate::crc32c(&message[REQUEST_HEADER..keys_end]).to_le_bytes());
    crate::crc32c(&both)
}
