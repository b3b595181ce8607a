//! Which changes of which clients are finished, so that a repeated one is answered and not carried
//! out again.
//!
//! A change is named by its client's UUID and a sequence that the client never reuses. Each client
//! says with every request up to where it has settled: it has the answers of all sequences below, or
//! has given them up. The table keeps that floor and the outcomes of finished changes at or above it:
//!
//! * a change that is finished is answered with its outcome;
//! * a change below the floor is stale: a duplicate that was delayed on its way must not undo what
//!   was written since;
//! * anything else is new.
//!
//! The table is as durable as the changes themselves: each log record names client, sequence and
//! floor, and with each index commit the rows of the clients that changed go into the same
//! transaction, so that trimming the log forgets nothing. A floor that moved without a change is not
//! written: what is found after a crash is an older floor with the outcomes above it, which answers
//! the same. Refused changes ([`Clients::refused`]) changed nothing and are kept in memory only.
//!
//! Bounds: a client that was silent for more than [`SILENCE`] is forgotten, and so are those that
//! were silent longest when there are more than [`Bounds::clients`]; duplicates of a forgotten client
//! are new again. A client with too many outcomes that it does not settle is told to wait
//! ([`Verdict::Crowded`]); nothing of it is forgotten.

use crate::index::value::Damaged;
use daos_wire::{WireStatus, crc32c};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Silence after which a client is forgotten: longer than a day, the longest deadline of a call.
pub const SILENCE: Duration = Duration::from_secs(25 * 3600);
/// How accurately silence is measured.
const MARK: Duration = Duration::from_secs(15 * 60);

const ROW_FIXED: usize = 16;
const ROW_OUTCOME: usize = 12;
const ROW_CRC: usize = 4;

/// Who asks for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Client.
    pub client: Uuid,
    /// Number of its request.
    pub sequence: u64,
    /// Everything of this client below is answered or given up.
    pub settled: u64,
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Status of the reply.
    pub status: WireStatus,
    /// Count in the reply.
    pub count: u32,
}

/// What to do with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Carry it out.
    New,
    /// It was carried out: give this answer.
    Finished(Outcome),
    /// Refuse it: its client has settled it.
    Stale,
    /// Let the client settle first.
    Crowded,
}

/// Most of what is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Clients.
    pub clients: usize,
    /// Outcomes of one client.
    pub outcomes: usize,
}

impl Bounds {
    /// Bounds beside an index of at most `limit` live bytes, so that the table stays a small part of
    /// it: up to 100,000 clients with up to 16,384 unsettled outcomes each.
    pub fn beside(limit: u64) -> Self {
        let of = |bytes: u64, least: u64, most: u64| (limit / bytes).clamp(least, most) as usize;
        Self {
            clients: of(1 << 10, 64, 100_000),
            outcomes: of(256, 1024, 16 << 10),
        }
    }
}

struct Entry {
    floor: u64,
    /// At or above the floor, ascending.
    outcomes: VecDeque<(u64, Outcome)>,
    /// Log sequence of the last change.
    last: u64,
    /// Number of the last request among all; orders clients by silence.
    heard: u64,
    /// The index has not got the row.
    is_changed: bool,
}

impl Entry {
    fn raise(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        while self.outcomes.front().is_some_and(|(n, _)| *n < self.floor) {
            self.outcomes.pop_front();
        }
    }

    fn find(&self, sequence: u64) -> Result<usize, usize> {
        // Almost always the next one.
        match self.outcomes.back() {
            None => Err(0),
            Some((last, _)) if *last < sequence => Err(self.outcomes.len()),
            Some(_) => self.outcomes.binary_search_by_key(&sequence, |(n, _)| *n),
        }
    }

    fn keep(&mut self, sequence: u64, outcome: Outcome) {
        if sequence < self.floor {
            return;
        }
        match self.find(sequence) {
            Ok(at) => self.outcomes[at].1 = outcome,
            Err(at) => self.outcomes.insert(at, (sequence, outcome)),
        }
    }
}

/// A row of the index: the client and its encoded state, or `None` to remove it.
pub type Row = (Uuid, Option<Vec<u8>>);

/// The table of one target.
pub struct Clients {
    entries: HashMap<Uuid, Entry>,
    /// Clients whose rows the index has not got.
    changed: Vec<Uuid>,
    /// Clients whose rows are on their way into it.
    writing: Vec<Uuid>,
    bounds: Bounds,
    requests: u64,
    /// Which request was the last at some times, a quarter of an hour apart.
    marks: VecDeque<(Instant, u64)>,
}

impl Clients {
    /// An empty table.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            entries: HashMap::new(),
            changed: Vec::new(),
            writing: Vec::new(),
            bounds,
            requests: 0,
            marks: VecDeque::new(),
        }
    }

    /// A table with the rows of an index.
    ///
    /// # Errors
    /// If a row is not what was written.
    pub fn load(
        bounds: Bounds,
        rows: impl IntoIterator<Item = (Uuid, Vec<u8>)>,
    ) -> Result<Self, Damaged> {
        let mut table = Self::new(bounds);
        for (client, row) in rows {
            table.entries.insert(client, decode(client, &row)?);
        }
        // Silence is counted anew, in the order of the last changes.
        let mut order: Vec<(u64, Uuid)> = table.entries.iter().map(|(c, e)| (e.last, *c)).collect();
        order.sort_unstable();
        for (_, client) in order {
            table.requests += 1;
            if let Some(entry) = table.entries.get_mut(&client) {
                entry.heard = table.requests;
            }
        }
        Ok(table)
    }

    /// Clients in the table.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A request of a client arrived, a change or not.
    pub fn heard(&mut self, client: Uuid, settled: u64) {
        self.requests += 1;
        if let Some(entry) = self.entries.get_mut(&client) {
            entry.heard = self.requests;
            entry.raise(settled);
        }
    }

    /// What to do with a change.
    pub fn judge(&self, origin: Origin) -> Verdict {
        let Some(entry) = self.entries.get(&origin.client) else {
            return Verdict::New;
        };
        if origin.sequence < entry.floor {
            return Verdict::Stale;
        }
        match entry.find(origin.sequence) {
            Ok(at) => Verdict::Finished(entry.outcomes[at].1),
            Err(_) if entry.outcomes.len() >= self.bounds.outcomes => Verdict::Crowded,
            Err(_) => Verdict::New,
        }
    }

    /// The change is in the log, as record `record`, with `count` as part of its answer.
    pub fn finished(&mut self, origin: Origin, record: u64, count: u32) {
        let entry = self.entry(origin);
        entry.last = record;
        let outcome = Outcome {
            status: WireStatus::OK,
            count,
        };
        entry.keep(origin.sequence, outcome);
        if !std::mem::replace(&mut entry.is_changed, true) {
            self.changed.push(origin.client);
        }
    }

    /// The change was refused and changed nothing; it shall not be carried out later either.
    pub fn refused(&mut self, origin: Origin, status: WireStatus) {
        let outcome = Outcome { status, count: 0 };
        self.entry(origin).keep(origin.sequence, outcome);
    }

    fn entry(&mut self, origin: Origin) -> &mut Entry {
        if self.entries.len() >= self.bounds.clients && !self.entries.contains_key(&origin.client) {
            self.make_room();
        }
        let entry = self.entries.entry(origin.client).or_insert_with(|| Entry {
            floor: 0,
            outcomes: VecDeque::new(),
            last: 0,
            heard: self.requests,
            is_changed: false,
        });
        entry.raise(origin.settled);
        entry
    }

    /// Forgets a sixteenth of the clients, those that were silent longest.
    fn make_room(&mut self) {
        let mut order: Vec<u64> = self.entries.values().map(|e| e.heard).collect();
        let nth = order.len() / 16;
        let (_, limit, _) = order.select_nth_unstable(nth);
        let limit = *limit;
        self.forget(limit);
    }

    /// Forgets clients that were not heard after request `limit`.
    fn forget(&mut self, limit: u64) {
        for (client, entry) in self.entries.extract_if(|_, e| e.heard <= limit) {
            if !entry.is_changed {
                self.changed.push(client);
            }
        }
    }

    /// Forgets clients that have been silent for [`SILENCE`]; to be called every now and then.
    pub fn age(&mut self, now: Instant) {
        let due = |at: &Instant, after| now.saturating_duration_since(*at) >= after;
        if self.marks.back().is_none_or(|(at, _)| due(at, MARK)) {
            self.marks.push_back((now, self.requests));
        }
        while let Some((at, last)) = self.marks.front().copied()
            && due(&at, SILENCE)
        {
            self.marks.pop_front();
            self.forget(last);
        }
    }

    /// Rows that the index has not got, for a commit; the clients' changes are all in the log.
    pub fn take_rows(&mut self) -> Vec<Row> {
        self.writing = std::mem::take(&mut self.changed);
        let mut rows = Vec::with_capacity(self.writing.len());
        for client in &self.writing {
            let row = self.entries.get_mut(client).map(|entry| {
                entry.is_changed = false;
                encode(*client, entry)
            });
            rows.push((*client, row));
        }
        rows
    }

    /// The commit ended.
    pub fn rows_written(&mut self, ok: bool) {
        for client in std::mem::take(&mut self.writing) {
            if ok {
                continue;
            }
            let known = match self.entries.get_mut(&client) {
                Some(entry) => std::mem::replace(&mut entry.is_changed, true),
                None => self.changed.contains(&client),
            };
            if !known {
                self.changed.push(client);
            }
        }
    }
}

/// floor (8) · log sequence of the last change (8) · per outcome: sequence (8), count (4) · CRC-32C of
/// client and all that (4). Little-endian. Only changes that were carried out.
fn encode(client: Uuid, entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(ROW_FIXED + entry.outcomes.len() * ROW_OUTCOME + ROW_CRC);
    out.extend_from_slice(&entry.floor.to_le_bytes());
    out.extend_from_slice(&entry.last.to_le_bytes());
    for (sequence, outcome) in entry.outcomes.iter().filter(|(_, o)| o.status.is_ok()) {
        out.extend_from_slice(&sequence.to_le_bytes());
        out.extend_from_slice(&outcome.count.to_le_bytes());
    }
    let crc = row_crc(client, &out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn decode(client: Uuid, row: &[u8]) -> Result<Entry, Damaged> {
    let (body, crc) = row
        .split_last_chunk::<ROW_CRC>()
        .ok_or(Damaged("a client's row is too short"))?;
    if u32::from_le_bytes(*crc) != row_crc(client, body) {
        return Err(Damaged("a client's row does not match its checksum"));
    }
    let (fixed, rest) = body
        .split_first_chunk::<ROW_FIXED>()
        .ok_or(Damaged("a client's row is too short"))?;
    let (parts, left) = rest.as_chunks::<ROW_OUTCOME>();
    if !left.is_empty() {
        return Err(Damaged("a client's row has no whole number of outcomes"));
    }
    let u64_of = |b: &[u8]| {
        b.iter()
            .rev()
            .fold(0u64, |n, byte| n << 8 | u64::from(*byte))
    };
    let outcomes = parts.iter().map(|part| {
        let outcome = Outcome {
            status: WireStatus::OK,
            count: u64_of(&part[8..]) as u32, // four bytes
        };
        (u64_of(&part[..8]), outcome)
    });
    Ok(Entry {
        floor: u64_of(&fixed[..8]),
        last: u64_of(&fixed[8..]),
        outcomes: outcomes.collect(),
        heard: 0,
        is_changed: false,
    })
}

fn row_crc(client: Uuid, body: &[u8]) -> u32 {
    let mut both = [0u8; 8];
    both[..4].copy_from_slice(&crc32c(client.as_bytes()).to_le_bytes());
    both[4..].copy_from_slice(&crc32c(body).to_le_bytes());
    crc32c(&both)
}

#[cfg(test)]
mod tests;
