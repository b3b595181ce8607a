//! The run on one device, on the calling thread.

mod after;
mod watch;

use super::area::Area;
use super::fit::layout;
use super::io::Io;
use super::job::{Next, Pending, Running};
use super::ledger::Ledger;
use super::stats::Op;
use super::verify::{Checker, Wrong};
use crate::load::Load;
use crate::record::{DeviceRecord, ErrorRecord, MAX_ERRORS, Mode, Phase};
use daos_plugin_api::abi::{BdevOp, Status};
use daos_plugin_api::host::BdevDevice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Longest time for one request; then it is an error, and the device is asked to abort it.
const REQUEST: Duration = Duration::from_secs(30);
/// Longest time for an aborted one; then the device is given up.
const ABORT: Duration = Duration::from_secs(30);
/// How long requests may take to end when the run is to stop.
const STOP: Duration = Duration::from_secs(3);
/// Longest sleep: a cancelled run notices within this.
const NAP: Duration = Duration::from_millis(50);
/// Errors after which it is clear that the device is bad.
const ENOUGH: u64 = 10_000;
/// Least time for reading back what was written; else a quarter of the time that the load had.
const READ_BACK: Duration = Duration::from_secs(10);

/// What is to be done on a device.
pub struct Plan {
    /// The run.
    pub run: Uuid,
    /// The load; without writes in a read-only run.
    pub load: Load,
    /// Whether the device may be written to.
    pub mode: Mode,
}

/// What a run shares with others of its process.
pub struct Context<'a> {
    /// Set to end the run.
    pub cancel: &'a AtomicBool,
    /// Held around everything that only one thread at a time may ask of a plugin.
    pub admin: &'a Mutex<()>,
    /// Takes the state of the device: totals, and what is new of errors and series.
    pub report: &'a (dyn Fn(DeviceRecord) + Sync),
}

impl Context<'_> {
    fn admin(&self) -> MutexGuard<'_, ()> {
        self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// Runs a load on an open device and reports as it goes. `record` is what is known about the device; what it has become
/// is returned with what was not reported yet. Failures stand in its `fault`.
pub fn run(
    device: &BdevDevice,
    plan: &Plan,
    record: DeviceRecord,
    context: &Context<'_>,
) -> DeviceRecord {
    let mut record = record;
    record.mode = plan.mode;
    let prepared = match prepare(device, plan, &mut record, context) {
        Ok(prepared) => prepared,
        Err(fault) => {
            record.fault = Some(fault);
            return record;
        }
    };
    let (area, jobs) = prepared;
    let now = Instant::now();
    let duration = plan.load.duration_ms().unwrap_or(900_000);
    record.phase = Phase::Load;
    record.verification.enabled = jobs.iter().any(|job| job.job.verify);
    record.verification.bytes_covered = area.cells() * area.cell_bytes();
    let mut run = Run {
        device,
        context,
        checker: Checker {
            run: plan.run,
            area,
            block_size: device.geometry().block_size,
            mode: plan.mode,
        },
        ledger: Ledger::new(area.cells()),
        jobs,
        reads: Op::new(),
        writes: Op::new(),
        interval: Duration::from_millis((duration / 300).clamp(200, 60_000)),
        begun: now,
        point_begun: now,
        load_took: None,
        admin_due: now,
        wrong: Vec::new(),
        interval_errors: 0,
        record,
    };
    run.load();
    run.settle();
    if run.goes_on() && plan.mode == Mode::ReadWrite {
        run.flush();
    }
    if run.goes_on() && plan.mode == Mode::ReadWrite && run.record.verification.enabled {
        run.read_back();
    }
    run.finish()
}

/// Queues and memory for every job.
fn prepare(
    device: &BdevDevice,
    plan: &Plan,
    record: &mut DeviceRecord,
    context: &Context<'_>,
) -> Result<(Area, Vec<Running>), String> {
    let (area, jobs) = layout(&plan.load, plan.mode, device.geometry(), &mut record.notes)?;
    let (high, low) = plan.run.as_u64_pair();
    let mut running = Vec::new();
    for (number, (job, range)) in jobs.into_iter().enumerate() {
        let _admin = context.admin();
        let io = Io::open(device, job.depth, job.largest()).map_err(|e| e.to_string())?;
        let seed = high ^ low ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        running.push(Running::new(job, io, range, seed, Instant::now()));
    }
    Ok((area, running))
}

struct Run<'a> {
    device: &'a BdevDevice,
    context: &'a Context<'a>,
    checker: Checker,
    ledger: Ledger,
    jobs: Vec<Running>,
    reads: Op,
    writes: Op,
    interval: Duration,
    begun: Instant,
    point_begun: Instant,
    /// Once the load has ended.
    load_took: Option<Duration>,
    admin_due: Instant,
    wrong: Vec<Wrong>,
    interval_errors: u64,
    record: DeviceRecord,
}

impl Run<'_> {
    fn goes_on(&self) -> bool {
        let enough = self.record.error_count() >= ENOUGH;
        self.record.fault.is_none() && !enough && !self.context.cancelled()
    }

    /// Keeps the jobs going until all are over.
    fn load(&mut self) {
        while self.goes_on() {
            let now = Instant::now();
            let mut wake = now + NAP;
            let mut ended = true;
            for job in 0..self.jobs.len() {
                ended &= self.fill(job, now, &mut wake);
            }
            let busy = self.poll();
            if ended && self.jobs.iter().all(|job| job.io.under_way() == 0) {
                return;
            }
            self.keep_time(now);
            if !busy {
                self.sleep(wake);
            }
        }
    }

    /// Submits what a job wants now; `true` if it wants nothing any more.
    fn fill(&mut self, index: usize, now: Instant, wake: &mut Instant) -> bool {
        loop {
            let job = &mut self.jobs[index];
            let Some(slot) = job.io.free() else {
                return job.is_over(now, &self.checker.area);
            };
            match job.next(now, &self.checker.area, &mut self.ledger) {
                Next::Request(request) => {
                    if !self.submit(index, slot, request) {
                        return false;
                    }
                }
                Next::Wait(until) => {
                    *wake = until.min(*wake);
                    return false;
                }
                Next::Blocked => return false,
                Next::Ended => return true,
            }
        }
    }

    /// Submits a request, which may have to wait for room in the queue; `false` if that failed for good.
    fn submit(&mut self, index: usize, slot: usize, mut request: Pending) -> bool {
        let bytes = (request.cells * self.checker.area.cell_bytes()) as usize;
        if request.op == BdevOp::WRITE {
            let buffer = self.jobs[index].io.buffer(slot, bytes);
            self.checker.stamp(&request, buffer);
        }
        let lba = self.checker.area.lba(request.cell);
        let begun = Instant::now();
        loop {
            request.since = Instant::now();
            match self.jobs[index].io.submit(slot, request.op, lba, bytes) {
                Ok(true) => {
                    self.jobs[index].pending[slot] = Some(request);
                    return true;
                }
                // A queue that is being reset takes nothing until it is over.
                Ok(false) | Err(Status::AGAIN | Status::BUSY | Status::RESET) if self.goes_on() => {
                    if begun.elapsed() > REQUEST + ABORT {
                        self.fail("its queue takes no request any more".to_owned());
                    }
                    if !self.poll() {
                        self.jobs[index].io.wait(NAP);
                    }
                    self.keep_time(request.since);
                }
                Ok(false) => {}
                Err(status) => self.fail(format!("its queue refuses requests: {status}")),
            }
            if !self.goes_on() {
                self.ledger.give_back(request.cell, request.cells);
                return false;
            }
        }
    }

    /// Takes what has ended; `true` if anything has.
    fn poll(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.jobs.len() {
            match self.jobs[index].io.poll() {
                Ok(ended) => {
                    any |= !ended.is_empty();
                    for (slot, status) in ended {
                        self.ended(index, slot, status);
                    }
                }
                Err(Status::INTERNAL) => {
                    self.fail(
                        "its plugin ended requests that were not under way; tell its vendor"
                            .to_owned(),
                    );
                }
                Err(status) => self.fail(format!("its queue does not work any more: {status}")),
            }
        }
        any
    }

    fn ended(&mut self, index: usize, slot: usize, status: Status) {
        let Some(request) = self.jobs[index].pending[slot].take() else {
            return;
        };
        let bytes = request.cells * self.checker.area.cell_bytes();
        let took = request.since.elapsed();
        let loading = self.load_took.is_none();
        match (status, request.op) {
            (Status::OK, BdevOp::WRITE) => {
                self.writes.ended(took, bytes);
                // The lower half stands for the whole.
                self.ledger
                    .set(request.cell, request.cells, request.number as u32);
                self.ledger.remember(request.cell, request.cells);
            }
            (Status::OK, _) => {
                if loading {
                    self.reads.ended(took, bytes);
                }
                if loading && self.checker.mode == Mode::ReadOnly {
                    self.ledger.remember(request.cell, request.cells);
                }
                if self.record.verification.enabled {
                    self.check(index, slot, &request);
                }
            }
            (status, op) => {
                if op == BdevOp::WRITE {
                    // Nobody knows what is there now.
                    self.ledger.set(request.cell, request.cells, 0);
                }
                if status == Status::DEVICE_GONE {
                    self.fail("the device is gone".to_owned());
                }
                // What was aborted has been told.
                if !request.aborted {
                    let kind = if op == BdevOp::WRITE {
                        "write-failed"
                    } else {
                        "read-failed"
                    };
                    self.failed_request(kind, &request, status.name());
                }
            }
        }
        self.ledger.give_back(request.cell, request.cells);
    }

    fn check(&mut self, index: usize, slot: usize, request: &Pending) {
        let bytes = request.cells * self.checker.area.cell_bytes();
        let data = self.jobs[index].io.buffer(slot, bytes as usize);
        let checked = self
            .checker
            .check(request, data, &mut self.ledger, &mut self.wrong);
        self.record.verification.bytes_checked += checked;
        if self.load_took.is_some() {
            self.record.verification.bytes_read_back += checked;
        }
        for wrong in std::mem::take(&mut self.wrong) {
            self.error(wrong);
        }
    }

    fn failed_request(&mut self, kind: &'static str, request: &Pending, found: &str) {
        let area = self.checker.area;
        self.error(Wrong {
            kind,
            lba: area.lba(request.cell),
            blocks: request.cells * area.cell_blocks(),
            expected: "success".to_owned(),
            found: found.to_owned(),
        });
    }

    fn error(&mut self, wrong: Wrong) {
        self.interval_errors += 1;
        if (self.record.error_count() as usize) < MAX_ERRORS {
            self.record.errors.push(ErrorRecord {
                at_ms: self.begun.elapsed().as_millis() as u64,
                kind: wrong.kind.to_owned(),
                lba: wrong.lba,
                blocks: wrong.blocks,
                expected: wrong.expected,
                found: wrong.found,
            });
        }
        *self
            .record
            .error_counts
            .entry(wrong.kind.to_owned())
            .or_default() += 1;
    }

    fn fail(&mut self, fault: String) {
        self.record.fault.get_or_insert(fault);
    }
}
