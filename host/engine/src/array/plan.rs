//! Which entries replace which when records are written or punched.

use super::chunk_bytes;
use std::ops::Range;

/// What a change does with an old entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing: it lies outside.
    Untouched,
    /// All of it is replaced.
    Replaced,
    /// The first `head` and the last `tail` bytes of it stay; they are copied.
    Cut {
        /// Bytes in front of the change.
        head: u32,
        /// Bytes behind it.
        tail: u32,
    },
}

/// A new entry and where its bytes come from, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First byte in the array.
    pub start: u64,
    /// Bytes kept of the old entry that the change begins in.
    pub head: u32,
    /// Bytes of what is written.
    pub payload: Range<usize>,
    /// Bytes kept of the old entry that the change ends in.
    pub tail: u32,
}

impl Piece {
    /// Bytes of the entry; at most a chunk.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.head as usize + self.payload.len() + self.tail as usize
    }
}

/// A change of a range of an array, once all old entries of the range were shown to it.
#[derive(Clone, Debug)]
pub struct Plan {
    chunk: u64,
    start: u64,
    end: u64,
    writes: bool,
    head: u32,
    tail: u32,
}

impl Plan {
    /// Records of `record_size` bytes are written (`writes`) or punched in `start`..`end`, which are
    /// multiples of the record size.
    pub fn new(record_size: u32, start: u64, end: u64, writes: bool) -> Self {
        Self {
            chunk: chunk_bytes(record_size).max(1),
            start,
            end,
            writes,
            head: 0,
            tail: 0,
        }
    }

    /// Shows an old entry, in any order; says what becomes of it.
    pub fn show(&mut self, start: u64, len: u32) -> Fate {
        let end = start + u64::from(len);
        if end <= self.start || start >= self.end {
            return Fate::Untouched;
        }
        // Both are below `len`.
        let head = self.start.saturating_sub(start) as u32;
        let tail = end.saturating_sub(self.end) as u32;
        if head == 0 && tail == 0 {
            return Fate::Replaced;
        }
        self.head = self.head.max(head);
        self.tail = self.tail.max(tail);
        Fate::Cut { head, tail }
    }

    /// Old entries that begin in this range are gone after the change.
    pub fn range(&self) -> Range<u64> {
        self.start - u64::from(self.head)..self.end + u64::from(self.tail)
    }

    /// The new entries, in order.
    pub fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if self.writes {
            let mut at = self.start;
            while at < self.end {
                let next = (at / self.chunk + 1) * self.chunk;
                let next = next.min(self.end);
                // A request writes at most 1 MiB.
                let payload = (at - self.start) as usize..(next - self.start) as usize;
                pieces.push(Piece {
                    start: at,
                    head: 0,
                    payload,
                    tail: 0,
                });
                at = next;
            }
            if let Some(first) = pieces.first_mut() {
                first.start -= u64::from(self.head);
                first.head = self.head;
            }
            if let Some(last) = pieces.last_mut() {
                last.tail = self.tail;
            }
            return pieces;
        }
        for (start, head, tail) in [
            (self.start - u64::from(self.head), self.head, 0),
            (self.end, 0, self.tail),
        ] {
            if head + tail > 0 {
                pieces.push(Piece {
                    start,
                    head,
                    payload: 0..0,
                    tail,
                });
            }
        }
        pieces
    }
}
