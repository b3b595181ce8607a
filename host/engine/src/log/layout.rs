//! Bytes of the log. All numbers are little-endian.
//!
//! | offset | what |
//! |---|---|
//! | 0 | header: magic (8), version (4), target (4), engine (16), ring capacity (8), zero (4), CRC-32C of 0..44 (4) |
//! | 64 and 128 | two slots, written alternately: generation (8), head position (8), head sequence (8), life (4), CRC-32C of 0..28 (4) |
//! | 4096 | the ring |
//!
//! Positions count bytes since the ring was made; a position lies at 4096 + position mod capacity.
//! A record begins at a multiple of 64: magic (4), payload length (4), sequence (8), durable
//! sequence (8), life (4), kind (4), CRC-32C of the payload (4), CRC-32C of 0..36 (4), payload. A
//! record that would cross the end of the ring is preceded by a pad, a header without payload that
//! sends the reader to the beginning.

use super::Identity;
use daos_wire::crc32c;
use uuid::Uuid;

/// First byte of the ring.
pub(super) const RING_START: usize = 4096;
/// Records begin at multiples of this: a cache line, so that no line is written back twice.
pub(super) const GRAIN: u64 = 64;
/// Bytes of a record header.
pub(super) const RECORD_HEADER: usize = 40;
/// Bytes of the region header.
pub(super) const HEADER: usize = 48;
/// Where the two slots are.
pub(super) const SLOTS: [usize; 2] = [64, 128];
/// Bytes of a slot.
pub(super) const SLOT: usize = 32;
/// Smallest region that makes a usable log.
pub(super) const MIN_REGION: usize = RING_START + (128 << 10);

const MAGIC: [u8; 8] = *b"DAOSLOG\n";
const VERSION: u32 = 2;
const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"rec1");

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A change.
    Record,
    /// The rest up to the end of the ring is unused.
    Pad,
}

/// Header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) len: u32,
    pub(super) sequence: u64,
    pub(super) durable: u64,
    pub(super) life: u32,
    pub(super) kind: Kind,
    pub(super) crc: u32,
}

impl RecordHeader {
    /// Bytes in the ring, a multiple of the grain. For records, not for pads.
    pub(super) fn size(len: usize) -> u64 {
        ((RECORD_HEADER + len) as u64).next_multiple_of(GRAIN)
    }

    pub(super) fn encode(&self) -> [u8; RECORD_HEADER] {
        let mut b = [0u8; RECORD_HEADER];
        b[0..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
        b[4..8].copy_from_slice(&self.len.to_le_bytes());
        b[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        b[16..24].copy_from_slice(&self.durable.to_le_bytes());
        b[24..28].copy_from_slice(&self.life.to_le_bytes());
        let kind: u32 = match self.kind {
            Kind::Record => 1,
            Kind::Pad => 2,
        };
        b[28..32].copy_from_slice(&kind.to_le_bytes());
        b[32..36].copy_from_slice(&self.crc.to_le_bytes());
        let crc = crc32c(&b[..36]);
        b[36..40].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// `None` if this is no header that was written whole.
    pub(super) fn decode(b: &[u8; RECORD_HEADER]) -> Option<Self> {
        if u32_at(b, 0) != RECORD_MAGIC || u32_at(b, 36) != crc32c(&b[..36]) {
            return None;
        }
        Some(Self {
            len: u32_at(b, 4),
            sequence: u64_at(b, 8),
            durable: u64_at(b, 16),
            life: u32_at(b, 24),
            kind: match u32_at(b, 28) {
                1 => Kind::Record,
                2 => Kind::Pad,
                _ => return None,
            },
            crc: u32_at(b, 32),
        })
    }
}

/// Where the ring begins; the newest valid one of the two counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) generation: u64,
    pub(super) head: u64,
    pub(super) sequence: u64,
    pub(super) life: u32,
}

impl Slot {
    pub(super) fn encode(&self) -> [u8; SLOT] {
        let mut b = [0u8; SLOT];
        b[0..8].copy_from_slice(&self.generation.to_le_bytes());
        b[8..16].copy_from_slice(&self.head.to_le_bytes());
        b[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        b[24..28].copy_from_slice(&self.life.to_le_bytes());
        let crc = crc32c(&b[..28]);
        b[28..32].copy_from_slice(&crc.to_le_bytes());
        b
    }

    pub(super) fn decode(b: &[u8; SLOT]) -> Option<Self> {
        let slot = Self {
            generation: u64_at(b, 0),
            head: u64_at(b, 8),
            sequence: u64_at(b, 16),
            life: u32_at(b, 24),
        };
        let plausible = slot.generation > 0 && slot.head.is_multiple_of(GRAIN);
        (plausible && u32_at(b, 28) == crc32c(&b[..28])).then_some(slot)
    }
}

/// What stands at the start of the region.
pub(super) enum Header {
    /// Nothing was ever written.
    Blank,
    /// A log.
    Valid { identity: Identity, capacity: u64 },
    /// Neither, with the reason.
    Bad(String),
}

pub(super) fn encode_header(identity: Identity, capacity: u64) -> [u8; HEADER] {
    let mut b = [0u8; HEADER];
    b[0..8].copy_from_slice(&MAGIC);
    b[8..12].copy_from_slice(&VERSION.to_le_bytes());
    b[12..16].copy_from_slice(&identity.target.to_le_bytes());
    b[16..32].copy_from_slice(identity.engine.as_bytes());
    b[32..40].copy_from_slice(&capacity.to_le_bytes());
    let crc = crc32c(&b[..44]);
    b[44..48].copy_from_slice(&crc.to_le_bytes());
    b
}

pub(super) fn decode_header(b: &[u8; HEADER]) -> Header {
    if b.iter().all(|byte| *byte == 0) {
        return Header::Blank;
    }
    if b[..8] != MAGIC || u32_at(b, 44) != crc32c(&b[..44]) {
        return Header::Bad("its header is not one".into());
    }
    if u32_at(b, 8) != VERSION {
        return Header::Bad(format!(
            "it has layout version {}, this program reads version {VERSION}",
            u32_at(b, 8)
        ));
    }
    let mut engine = [0u8; 16];
    engine.copy_from_slice(&b[16..32]);
    Header::Valid {
        identity: Identity {
            engine: Uuid::from_bytes(engine),
            target: u32_at(b, 12),
        },
        capacity: u64_at(b, 32),
    }
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&b[at..at + 4]);
    u32::from_le_bytes(out)
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&b[at..at + 8]);
    u64::from_le_bytes(out)
}
