//! Putting the content of new entries together, and their checksums.
//!
//! A checksum is computed once, over bytes that were compared with the checksum of whoever wrote
//! them: the checksums of the parts of a payload (or of an old entry) are combined and must give the
//! one that came with it, and the same parts are combined to the checksum of the new entry. So
//! whatever happens to the bytes between is noticed when the entry is read.

use super::plan::Piece;
use daos_wire::{crc32c, crc32c_combine};
use std::ops::Range;

/// Bytes with the checksum that they had when they were verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// CRC-32C.
    pub checksum: u32,
}

/// Checksum of `range` of the content of an entry whose checksum as a whole is `whole`; `None` if
/// the content is not what was written.
pub fn checksum_of(content: &[u8], whole: u32, range: Range<usize>) -> Option<u32> {
    let thirds = thirds(content.len(), &range);
    let mut crcs = [0; 3];
    for (crc, third) in crcs.iter_mut().zip(thirds) {
        *crc = crc32c(content.get(third)?);
    }
    verify(crcs, whole, content.len(), &range)
}

/// What is in front of `range` in the content of an entry of `len` bytes, the range, and what is
/// behind it.
pub fn thirds(len: usize, range: &Range<usize>) -> [Range<usize>; 3] {
    [0..range.start, range.clone(), range.end..len]
}

/// The checksum of the range, from those of the [`thirds`]; `None` as in [`checksum_of`].
pub fn verify(crcs: [u32; 3], whole: u32, len: usize, range: &Range<usize>) -> Option<u32> {
    let [front, part, back] = crcs;
    let found = crc32c_combine(front, part, range.len() as u64);
    let found = crc32c_combine(found, back, (len - range.end) as u64);
    (found == whole).then_some(part)
}

/// Copies `range` out of the content of an entry; `None` as in [`checksum_of`].
pub fn keep(content: &[u8], whole: u32, range: Range<usize>) -> Option<Kept> {
    let checksum = checksum_of(content, whole, range.clone())?;
    Some(Kept {
        bytes: content[range].to_vec(),
        checksum,
    })
}

/// Checksums of the parts of `payload` that go into each piece.
pub fn payload_checksums(payload: &[u8], pieces: &[Piece]) -> Vec<u32> {
    let of = |piece: &Piece| crc32c(&payload[piece.payload.clone()]);
    pieces.iter().map(of).collect()
}

/// Checksum of the whole payload, from those of the parts that go into each piece.
pub fn payload_checksum(parts: &[u32], pieces: &[Piece]) -> u32 {
    let whole = crc32c(&[]);
    let all = pieces.iter().zip(parts);
    all.fold(whole, |whole, (piece, part)| {
        crc32c_combine(whole, *part, piece.payload.len() as u64)
    })
}

/// Bytes of a buffer in which a payload and what is read of old entries have room, and after them
/// the pieces.
pub fn buffer_size(pieces: &[Piece], payload: usize, old: usize, unit: usize) -> usize {
    let (_, laid) = layout(pieces, unit);
    laid.max(payload.next_multiple_of(unit) + old)
}

/// Checksum of the whole content of each piece, from those of its parts.
pub fn checksums(pieces: &[Piece], payload: &[u32], head: &Kept, tail: &Kept) -> Vec<u32> {
    let empty = crc32c(&[]);
    let of = |(piece, payload): (&Piece, &u32)| {
        let mut sum = if piece.head > 0 { head.checksum } else { empty };
        sum = crc32c_combine(sum, *payload, piece.payload.len() as u64);
        if piece.tail > 0 {
            sum = crc32c_combine(sum, tail.checksum, u64::from(piece.tail));
        }
        sum
    };
    pieces.iter().zip(payload).map(of).collect()
}

/// Where each piece begins in a buffer, and the bytes that all take: one behind the other, each
/// rounded up to whole units.
pub fn layout(pieces: &[Piece], unit: usize) -> (Vec<usize>, usize) {
    let mut at = 0;
    let places = pieces.iter().map(|piece| {
        let place = at;
        at += piece.len().next_multiple_of(unit);
        place
    });
    (places.collect(), at)
}

/// Spreads the payload, which stands at the front of `buffer`, over the pieces as [`layout`] places
/// them, and puts what is kept of old entries around it. The rest of each last unit is zeroed: it
/// shall not hold what the buffer held before.
pub fn compose(buffer: &mut [u8], pieces: &[Piece], unit: usize, head: &Kept, tail: &Kept) {
    let (places, _) = layout(pieces, unit);
    // No piece is placed before its part of the payload, so from the last to the first nothing is
    // overwritten that has not moved yet.
    for (piece, place) in pieces.iter().zip(&places).rev() {
        let at = place + piece.head as usize;
        if at != piece.payload.start {
            buffer.copy_within(piece.payload.clone(), at);
        }
    }
    for (piece, place) in pieces.iter().zip(&places) {
        if piece.head > 0 {
            buffer[*place..place + head.bytes.len()].copy_from_slice(&head.bytes);
        }
        let end = place + piece.len();
        if piece.tail > 0 {
            buffer[end - tail.bytes.len()..end].copy_from_slice(&tail.bytes);
        }
        buffer[end..place + piece.len().next_multiple_of(unit)].fill(0);
    }
}
