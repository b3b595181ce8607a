//! One job on a device: what its next request is, and when.

use super::area::{Area, Range};
use super::io::Io;
use super::ledger::Ledger;
use crate::load::{Job, SizeShare};
use daos_plugin_api::abi::BdevOp;
use std::time::{Duration, Instant};

/// A limited stream that could not keep up may catch up with so much time.
const CATCH_UP: Duration = Duration::from_millis(100);
/// Tries to find a place without a request on it before others must end first.
const TRIES: usize = 8;

/// A pseudo-random sequence (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// A request that is about to be submitted or under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) op: BdevOp,
    pub(crate) cell: u64,
    pub(crate) cells: u64,
    /// Number of a write.
    pub(crate) number: u64,
    pub(crate) since: Instant,
    /// It took too long and was to be aborted.
    pub(crate) aborted: bool,
}

/// When the next request of a direction may be submitted.
struct Pace {
    bytes: Option<u64>,
    iops: Option<u64>,
    due: Instant,
}

impl Pace {
    fn pay(&mut self, now: Instant, bytes: u64) {
        let per = |limit: Option<u64>, amount: u64| {
            limit.map_or(0.0, |limit| amount as f64 / limit as f64)
        };
        let cost = per(self.iops, 1).max(per(self.bytes, bytes));
        let from = self.due.max(now.checked_sub(CATCH_UP).unwrap_or(now));
        self.due = from + Duration::from_secs_f64(cost);
    }
}

/// A running job.
pub(crate) struct Running {
    pub(crate) job: Job,
    pub(crate) io: Io,
    /// By slot.
    pub(crate) pending: Vec<Option<Pending>>,
    range: Range,
    position: u64,
    random: Random,
    reads: Pace,
    writes: Pace,
    /// The next request's direction and cells, while it has to wait.
    chosen: Option<(BdevOp, u64)>,
    moved: u64,
    begun: Instant,
}

/// What a job wants to do.
pub(crate) enum Next {
    /// Submit this; its cells are taken.
    Request(Pending),
    /// Nothing before that time.
    Wait(Instant),
    /// Nothing before another request ends.
    Blocked,
    /// Nothing any more.
    Ended,
}

impl Running {
    pub(crate) fn new(job: Job, io: Io, range: Range, seed: u64, now: Instant) -> Self {
        let pace = |bytes, iops| Pace {
            bytes,
            iops,
            due: now,
        };
        Self {
            pending: vec![None; job.depth as usize],
            reads: pace(job.rate.read_bytes, job.rate.read_iops),
            writes: pace(job.rate.write_bytes, job.rate.write_iops),
            random: Random::new(seed),
            position: 0,
            chosen: None,
            moved: 0,
            begun: now,
            range,
            io,
            job,
        }
    }

    /// Whether the job submits nothing any more.
    pub(crate) fn is_over(&self, now: Instant, area: &Area) -> bool {
        let late = self
            .job
            .runtime_ms
            .is_some_and(|ms| now - self.begun >= Duration::from_millis(ms));
        late || (!self.job.time_based && self.moved >= self.range.cells * area.cell_bytes())
    }

    /// The next request. Its cells are taken in the ledger.
    pub(crate) fn next(&mut self, now: Instant, area: &Area, ledger: &mut Ledger) -> Next {
        if self.is_over(now, area) {
            return Next::Ended;
        }
        let (op, cells) = match self.chosen {
            Some(chosen) => chosen,
            None => {
                let reads = self.random.next() % 100 < u64::from(self.job.pattern.read_percent);
                let (op, sizes) = match reads {
                    true => (BdevOp::READ, &self.job.read_sizes),
                    false => (BdevOp::WRITE, &self.job.write_sizes),
                };
                let bytes = choose(sizes, self.random.next() % 100);
                (op, u64::from(bytes) / area.cell_bytes())
            }
        };
        self.chosen = Some((op, cells));
        let pace = if op == BdevOp::READ {
            &mut self.reads
        } else {
            &mut self.writes
        };
        if pace.due > now {
            return Next::Wait(pace.due);
        }
        let Some((cell, cells)) = self.place(op, cells, area, ledger) else {
            return Next::Blocked;
        };
        let bytes = cells * area.cell_bytes();
        let pace = if op == BdevOp::READ {
            &mut self.reads
        } else {
            &mut self.writes
        };
        pace.pay(now, bytes);
        self.chosen = None;
        self.moved += bytes;
        Next::Request(Pending {
            op,
            cell,
            cells,
            number: if op == BdevOp::WRITE {
                ledger.number()
            } else {
                0
            },
            since: now,
            aborted: false,
        })
    }

    /// A place for the request. Random reads of a job that writes mostly go where something was written, others
    /// sometimes where something was read before, since that can be checked.
    fn place(
        &mut self,
        op: BdevOp,
        cells: u64,
        area: &Area,
        ledger: &mut Ledger,
    ) -> Option<(u64, u64)> {
        if !self.job.pattern.random {
            let (cell, next) = area.follow(self.range, cells, self.position);
            let taken = ledger.take(cell, cells);
            if taken {
                self.position = next;
            }
            return taken.then_some((cell, cells));
        }
        for _ in 0..TRIES {
            let random = self.random.next();
            let mostly = if self.job.writes() {
                !random.is_multiple_of(4)
            } else {
                random.is_multiple_of(4)
            };
            let again = op == BdevOp::READ && self.job.verify && mostly;
            let written = if again {
                ledger.remembered(self.random.next())
            } else {
                None
            };
            // What a job with larger requests has written may not fit into a slot of this one.
            let fits =
                |(_, len): &(u64, u64)| len * area.cell_bytes() <= u64::from(self.job.largest());
            let (cell, len) = written
                .filter(fits)
                .unwrap_or_else(|| (area.place(self.range, cells, self.random.next()), cells));
            if ledger.take(cell, len) {
                return Some((cell, len));
            }
        }
        None
    }
}

/// The size on which a number below 100 falls.
fn choose(sizes: &[SizeShare], random: u64) -> u32 {
    let mut left = random;
    for size in sizes {
        match left.checked_sub(u64::from(size.percent)) {
            Some(rest) => left = rest,
            None => return size.bytes,
        }
    }
    sizes.last().map_or(0, |size| size.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept() {
        let sizes =
            [(512, 10), (1024, 0), (4096, 90)].map(|(bytes, percent)| SizeShare { bytes, percent });
        let count = |bytes| (0..100).filter(|n| choose(&sizes, *n) == bytes).count();
        assert_eq!((count(512), count(1024), count(4096)), (10, 0, 90));
    }

    #[test]
    fn a_pace_is_kept_and_catches_up_a_little() {
        let start = Instant::now();
        let mut pace = Pace {
            bytes: Some(1 << 20),
            iops: Some(100),
            due: start,
        };
        pace.pay(start, 4096);
        assert_eq!(
            (pace.due - start).as_millis(),
            10,
            "the number of requests decides"
        );
        pace.pay(start, 1 << 19);
        assert_eq!((pace.due - start).as_millis(), 510, "the bytes decide");
        let late = start + Duration::from_secs(60);
        pace.pay(late, 4096);
        assert!(pace.due < late && late - pace.due <= CATCH_UP);
    }
}
