//! Appending to, trimming and recovering the ring.

use super::layout::{
    GRAIN, HEADER, Header, Kind, MIN_REGION, RECORD_HEADER, RING_START, RecordHeader, SLOT, SLOTS,
    Slot, decode_header, encode_header,
};
use super::{Identity, LogError, LogMemory};
use daos_wire::crc32c;
use std::collections::VecDeque;

/// Bytes that are read at once to look for headers; a multiple of [`GRAIN`].
const WINDOW: u64 = 64 << 10;

/// How full a ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of the ring.
    pub capacity: u64,
    /// Bytes between the oldest and the newest record.
    pub used: u64,
}

/// An open log.
pub struct Ring<M> {
    memory: M,
    capacity: u64,
    /// Position of the oldest record.
    head: u64,
    /// Position behind the newest record.
    tail: u64,
    /// Sequence of the next record.
    next: u64,
    /// Last durable sequence.
    durable: u64,
    life: u32,
    generation: u64,
    /// Sequence and end position of each record between head and tail.
    live: VecDeque<(u64, u64)>,
    /// Written, but not made durable yet: offset and length, at most two ranges apart.
    dirty: Vec<(usize, usize)>,
}

impl<M: LogMemory> Ring<M> {
    /// Makes an empty log out of `memory`, whatever it held. The first record has sequence 1.
    ///
    /// # Errors
    /// [`LogError::TooSmall`], [`LogError::Scm`].
    pub fn create(mut memory: M, identity: Identity) -> Result<Self, LogError> {
        let len = memory.len();
        if len < MIN_REGION {
            return Err(LogError::TooSmall(len));
        }
        let capacity = (len - RING_START) as u64 / GRAIN * GRAIN;
        // Until the header is whole the region counts as blank or bad, so all else comes first. Nothing
        // may be left in the ring either: an old record would fit at the place and sequence of a new one.
        for offset in (0..len).step_by(RING_START) {
            memory.write(offset, &[0; RING_START][..RING_START.min(len - offset)]);
        }
        memory.persist(0, len)?;
        let mut ring = Self {
            memory,
            capacity,
            head: 0,
            tail: 0,
            next: 1,
            durable: 0,
            life: 1,
            generation: 0,
            live: VecDeque::new(),
            dirty: Vec::new(),
        };
        ring.write_slot()?;
        ring.memory.write(0, &encode_header(identity, capacity));
        ring.memory.persist(0, HEADER)?;
        Ok(ring)
    }

    /// Opens a log and hands every record in it to `replay`, oldest first. Records that the index
    /// has already may be among them.
    ///
    /// # Errors
    /// [`LogError::Blank`] if none was ever made here, [`LogError::Foreign`], and
    /// [`LogError::Corrupt`] if something durable is lost.
    pub fn open(
        memory: M,
        identity: Identity,
        mut replay: impl FnMut(u64, &[u8]) -> Result<(), String>,
    ) -> Result<Self, LogError> {
        let mut header = [0u8; HEADER];
        if memory.len() < MIN_REGION {
            return Err(LogError::TooSmall(memory.len()));
        }
        memory.read(0, &mut header)?;
        let capacity = match decode_header(&header) {
            Header::Blank => return Err(LogError::Blank),
            Header::Bad(reason) => return Err(LogError::Corrupt(reason)),
            Header::Valid {
                identity: found, ..
            } if found != identity => {
                return Err(LogError::Foreign {
                    found,
                    expected: identity,
                });
            }
            Header::Valid { capacity, .. } => capacity,
        };
        let room = (memory.len() - RING_START) as u64;
        if capacity > room || capacity == 0 || !capacity.is_multiple_of(GRAIN) {
            return Err(LogError::Corrupt(format!(
                "its ring of {capacity} bytes does not fit the region of {} bytes",
                memory.len()
            )));
        }
        let slot = newest_slot(&memory)?
            .ok_or_else(|| LogError::Corrupt("both copies of its head are unreadable".into()))?;
        let mut ring = Self {
            memory,
            capacity,
            head: slot.head,
            tail: slot.head,
            next: slot.sequence,
            durable: slot.sequence.saturating_sub(1),
            life: slot.life,
            generation: slot.generation,
            live: VecDeque::new(),
            dirty: Vec::new(),
        };
        ring.scan(&mut replay)?;
        ring.check_nothing_lost()?;
        ring.durable = ring.next - 1;
        ring.life = ring.life.max(slot.life) + 1;
        ring.write_slot()?;
        Ok(ring)
    }

    /// Whether `memory` holds a log of `identity` that anything was ever written to. Reads only.
    ///
    /// # Errors
    /// [`LogError::Scm`], [`LogError::TooSmall`].
    pub fn has_records(memory: &M, identity: Identity) -> Result<bool, LogError> {
        if memory.len() < MIN_REGION {
            return Err(LogError::TooSmall(memory.len()));
        }
        let mut header = [0u8; HEADER];
        memory.read(0, &mut header)?;
        let capacity = match decode_header(&header) {
            Header::Valid {
                identity: found,
                capacity,
            } if found == identity => capacity,
            _ => return Ok(false),
        };
        let Some(slot) = newest_slot(memory)? else {
            return Ok(true); // a header without slots was not left by an interrupted `create`
        };
        let mut bytes = [0u8; RECORD_HEADER];
        let offset = RING_START + (slot.head % capacity.max(1)) as usize;
        if offset + RECORD_HEADER > memory.len() {
            return Ok(true);
        }
        memory.read(offset, &mut bytes)?;
        let first = RecordHeader::decode(&bytes);
        Ok(slot.sequence > 1 || first.is_some_and(|r| r.sequence == slot.sequence))
    }

    /// Sequence that the next record gets.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Sequence of the last durable record, 0 if there was none yet.
    pub fn durable_sequence(&self) -> u64 {
        self.durable
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        Usage {
            capacity: self.capacity,
            used: self.tail - self.head,
        }
    }

    /// Whether a record of `len` bytes fits now.
    pub fn has_room(&self, len: usize) -> bool {
        let size = RecordHeader::size(len);
        self.capacity - (self.tail - self.head) >= self.pad_before(size) + size
    }

    /// Appends a record and returns its sequence. It is durable after [`Ring::persist`].
    ///
    /// # Errors
    /// [`LogError::Full`] and [`LogError::TooLarge`]; nothing changed.
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, LogError> {
        let size = RecordHeader::size(payload.len());
        // A quarter at most, so that a pad can never keep a record out of an empty ring.
        if size > self.capacity / 4 {
            return Err(LogError::TooLarge {
                len: payload.len(),
                capacity: self.capacity,
            });
        }
        if !self.has_room(payload.len()) {
            return Err(LogError::Full);
        }
        let pad = self.pad_before(size);
        if pad > 0 {
            let header = self.header(Kind::Pad, &[]);
            self.put(self.tail, &header.encode(), GRAIN as usize);
            self.tail += pad;
        }
        let header = self.header(Kind::Record, payload);
        let offset = self.put(self.tail, &header.encode(), size as usize);
        self.memory.write(offset + RECORD_HEADER, payload);
        self.tail += size;
        let sequence = self.next;
        self.next += 1;
        self.live.push_back((sequence, self.tail));
        Ok(sequence)
    }

    /// Makes everything appended durable; returns the last durable sequence.
    ///
    /// # Errors
    /// [`LogError::Scm`]: which of the records are durable is unknown; the log must be opened anew.
    pub fn persist(&mut self) -> Result<u64, LogError> {
        for (offset, len) in self.dirty.drain(..) {
            self.memory.persist(offset, len)?;
        }
        self.durable = self.next - 1;
        Ok(self.durable)
    }

    /// Forgets the records up to `sequence`: the index has them durably.
    ///
    /// # Errors
    /// [`LogError::Scm`].
    pub fn trim(&mut self, sequence: u64) -> Result<(), LogError> {
        let before = self.head;
        let mut first = None;
        while let Some((oldest, end)) = self.live.front().copied()
            && oldest <= sequence
        {
            self.head = end;
            first = Some(oldest + 1);
            self.live.pop_front();
        }
        if self.head != before {
            debug_assert_eq!(first, Some(self.first_sequence()));
            self.write_slot()?;
        }
        Ok(())
    }

    /// Sequence of the oldest record; that of the next one if there is none.
    pub fn first_sequence(&self) -> u64 {
        self.live
            .front()
            .map_or(self.next, |(sequence, _)| *sequence)
    }

    /// Bytes to skip so that `size` bytes do not cross the end of the ring.
    fn pad_before(&self, size: u64) -> u64 {
        let to_end = self.capacity - self.tail % self.capacity;
        if size > to_end { to_end } else { 0 }
    }

    fn header(&self, kind: Kind, payload: &[u8]) -> RecordHeader {
        RecordHeader {
            len: payload.len() as u32, // far below the ring's capacity, which `append` checked
            sequence: self.next,
            durable: self.durable,
            life: self.life,
            kind,
            crc: crc32c(payload),
        }
    }

    /// Writes `bytes` at a position and notes `len` bytes there as not durable yet.
    fn put(&mut self, position: u64, bytes: &[u8], len: usize) -> usize {
        let offset = RING_START + (position % self.capacity) as usize;
        self.memory.write(offset, bytes);
        match self.dirty.last_mut() {
            Some((start, run)) if *start + *run == offset => *run += len,
            _ => self.dirty.push((offset, len)),
        }
        offset
    }

    /// Writes head, first sequence and life; durable on return.
    fn write_slot(&mut self) -> Result<(), LogError> {
        self.generation += 1;
        let slot = Slot {
            generation: self.generation,
            head: self.head,
            sequence: self.first_sequence(),
            life: self.life,
        };
        let offset = SLOTS[(self.generation % 2) as usize];
        self.memory.write(offset, &slot.encode());
        self.memory.persist(offset, SLOT)
    }

    /// Walks from head to the last record that was written whole.
    fn scan(
        &mut self,
        replay: &mut impl FnMut(u64, &[u8]) -> Result<(), String>,
    ) -> Result<(), LogError> {
        let mut life = 0;
        let mut payload = Vec::new();
        while self.tail - self.head < self.capacity {
            let Some(header) = self.read_header(self.tail)? else {
                break;
            };
            // A record of an older life behind one of a newer was never durable.
            if header.sequence != self.next || header.life < life || header.life > self.life {
                break;
            }
            let to_end = self.capacity - self.tail % self.capacity;
            if header.kind == Kind::Pad {
                if self.tail - self.head + to_end > self.capacity {
                    break;
                }
                self.tail += to_end;
                continue;
            }
            let size = RecordHeader::size(header.len as usize);
            if size > to_end || self.tail - self.head + size > self.capacity {
                break;
            }
            payload.resize(header.len as usize, 0);
            self.memory
                .read(self.offset(self.tail) + RECORD_HEADER, &mut payload)?;
            if crc32c(&payload) != header.crc {
                break;
            }
            replay(header.sequence, &payload).map_err(|reason| LogError::Replay {
                sequence: header.sequence,
                reason,
            })?;
            life = header.life;
            self.tail += size;
            self.live.push_back((self.next, self.tail));
            self.next += 1;
        }
        Ok(())
    }

    /// Looks for a record behind the end that vouches for one that was not found.
    fn check_nothing_lost(&self) -> Result<(), LogError> {
        // In large pieces: a call for each of a million places would take longer than the rest of a
        // start.
        let mut window = vec![0; WINDOW as usize];
        let mut position = self.tail;
        while position - self.head < self.capacity {
            let left = self.capacity - (position - self.head);
            let to_end = self.capacity - position % self.capacity;
            let len = left.min(to_end).min(WINDOW);
            let bytes = &mut window[..len as usize];
            self.memory.read(self.offset(position), bytes)?;
            for place in bytes.chunks_exact(GRAIN as usize) {
                if let Some(bytes) = place.first_chunk()
                    && let Some(header) = RecordHeader::decode(bytes)
                    && header.sequence >= self.next
                    && header.durable >= self.next
                {
                    return Err(LogError::Corrupt(format!(
                        "record {} was durable and cannot be read any more, while record {} can",
                        self.next, header.sequence
                    )));
                }
            }
            position += len;
        }
        Ok(())
    }

    fn offset(&self, position: u64) -> usize {
        RING_START + (position % self.capacity) as usize
    }

    fn read_header(&self, position: u64) -> Result<Option<RecordHeader>, LogError> {
        let mut bytes = [0u8; RECORD_HEADER];
        self.memory.read(self.offset(position), &mut bytes)?;
        Ok(RecordHeader::decode(&bytes))
    }

    /// The memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Gives the memory back, for tests that crash it.
    #[cfg(test)]
    pub(crate) fn into_memory(self) -> M {
        self.memory
    }
}

fn newest_slot<M: LogMemory>(memory: &M) -> Result<Option<Slot>, LogError> {
    let mut newest: Option<Slot> = None;
    for offset in SLOTS {
        let mut bytes = [0u8; SLOT];
        memory.read(offset, &mut bytes)?;
        if let Some(slot) = Slot::decode(&bytes)
            && newest.is_none_or(|n| slot.generation > n.generation)
        {
            newest = Some(slot);
        }
    }
    Ok(newest)
}
