//! After the load: what is under way ends, and what was written is read back.

use super::{ABORT, ENOUGH, NAP, READ_BACK, REQUEST, Run, STOP};
use crate::device::job::Pending;
use crate::device::verify::Wrong;
use crate::record::{DeviceRecord, Mode, Phase};
use daos_plugin_api::abi::{BdevOp, Status};
use std::time::{Duration, Instant};

impl Run<'_> {
    /// Waits for what is under way once the load has ended, however it has.
    pub(super) fn settle(&mut self) {
        let now = Instant::now();
        let patience = if self.context.cancelled() || self.record.fault.is_some() {
            STOP
        } else {
            REQUEST + ABORT
        };
        while self.jobs.iter().any(|job| job.io.under_way() > 0) && now.elapsed() < patience {
            if !self.poll() {
                self.sleep(Instant::now() + NAP);
            }
        }
        self.load_took = Some(now.saturating_duration_since(self.begun));
        self.record.cut_short = !self.goes_on();
        // The rest of an interval, unless it is too short to tell a rate.
        if self.point_begun == self.begun
            || now.saturating_duration_since(self.point_begun) >= self.interval / 4
        {
            self.point(now);
        }
        self.record.verification.bytes_written = match self.record.mode {
            Mode::ReadWrite => self.ledger.known_cells() * self.checker.area.cell_bytes(),
            Mode::ReadOnly => 0,
        };
        if self.record.error_count() >= ENOUGH {
            self.record
                .notes
                .push(format!("given up after {ENOUGH} errors"));
        }
        self.report();
    }

    pub(super) fn flush(&mut self) {
        let Some(slot) = self.jobs[0].io.free() else {
            return;
        };
        let mut outcome = self.jobs[0].io.submit(slot, BdevOp::FLUSH, 0, 0);
        let begun = Instant::now();
        while outcome == Ok(true) && begun.elapsed() < REQUEST && !self.context.cancelled() {
            match self.jobs[0].io.poll() {
                Ok(ended) => match ended.iter().find(|(ended, _)| *ended == slot) {
                    Some((_, Status::OK)) => return,
                    Some((_, status)) => outcome = Err(*status),
                    None => self.jobs[0].io.wait(NAP),
                },
                Err(status) => outcome = Err(status),
            }
        }
        let found = match outcome {
            Err(status) => status.name().to_owned(),
            Ok(_) if self.context.cancelled() => return,
            Ok(_) => format!("no answer within {} s", REQUEST.as_secs()),
        };
        self.error(Wrong {
            kind: "flush-failed",
            lba: 0,
            blocks: 0,
            expected: "success".to_owned(),
            found,
        });
    }

    /// Reads everything that was written, once more and in order.
    pub(super) fn read_back(&mut self) {
        self.record.phase = Phase::ReadBack;
        self.report();
        let area = self.checker.area;
        let most = u64::from(self.jobs[0].job.largest()) / area.cell_bytes();
        let begun = Instant::now();
        let time = READ_BACK.max(self.load_took.unwrap_or_default() / 4);
        let (mut next, mut told) = (Some(0), begun);
        while self.goes_on() {
            let now = Instant::now();
            if now.saturating_duration_since(begun) > time {
                self.record.notes.push(format!(
                    "reading back what was written was ended after {} s",
                    time.as_secs()
                ));
                break;
            }
            while let (Some(from), Some(slot)) = (next, self.jobs[0].io.free()) {
                let Some((cell, cells)) = self.ledger.next_known(from, most) else {
                    next = None;
                    break;
                };
                let cells = cells.min(area.until_border(cell));
                next = Some(cell + cells);
                // Nothing else is under way.
                self.ledger.take(cell, cells);
                let request = Pending {
                    op: BdevOp::READ,
                    cell,
                    cells,
                    number: 0,
                    since: now,
                    aborted: false,
                };
                if !self.submit(0, slot, request) {
                    return;
                }
            }
            let busy = self.poll();
            if next.is_none() && self.jobs[0].io.under_way() == 0 {
                break;
            }
            self.keep_time(now);
            if told.elapsed() >= self.interval.max(Duration::from_secs(1)) {
                told = now;
                self.report();
            }
            if !busy {
                self.sleep(now + NAP);
            }
        }
    }

    pub(super) fn finish(mut self) -> DeviceRecord {
        self.record.cut_short |= self.context.cancelled() || self.record.fault.is_some();
        self.record.phase = Phase::Done;
        self.totals();
        // Queues and their memory go one after the other.
        for job in self.jobs.drain(..) {
            let _admin = self.context.admin();
            drop(job);
        }
        self.record
    }
}
