//! What is done beside the requests: points and reports, the device's own work, requests that take too long.

use super::{ABORT, REQUEST, Run};
use crate::record::Point;
use daos_plugin_api::abi::BdevEvent;
use std::time::{Duration, Instant};

impl Run<'_> {
    /// What is due: points of the series, the device's own work, requests that take too long.
    pub(super) fn keep_time(&mut self, now: Instant) {
        if self.load_took.is_none()
            && now.saturating_duration_since(self.point_begun) >= self.interval
        {
            self.point(now);
            self.report();
        }
        if now < self.admin_due {
            return;
        }
        let period = self.device.geometry().admin_poll_us;
        self.admin_due = now
            + match period {
                0 => Duration::from_secs(1),
                us => Duration::from_micros(us.into())
                    .clamp(Duration::from_millis(1), Duration::from_secs(1)),
            };
        if period > 0 {
            self.poll_admin();
        }
        self.abort_late(now);
    }

    fn poll_admin(&mut self) {
        let mut events = Vec::new();
        let polled = {
            let _admin = self.context.admin();
            let polled = self.device.poll_admin();
            while let Some(event) = self.device.next_event() {
                events.push(event.kind);
            }
            polled
        };
        if let Err(status) = polled {
            self.fail(format!("the device does not work any more: {status}"));
        }
        for kind in events {
            match kind {
                BdevEvent::REMOVED => self.fail("the device was removed".to_owned()),
                BdevEvent::RESIZED => self.fail("the device has another size now".to_owned()),
                BdevEvent::HEALTH_CRITICAL => {
                    let at = self.begun.elapsed().as_secs();
                    self.record.notes.push(format!(
                        "after {at} s the device reported that its health is critical"
                    ));
                }
                BdevEvent::RESET_BEGIN => {
                    let at = self.begun.elapsed().as_secs();
                    self.record
                        .notes
                        .push(format!("after {at} s the device was reset"));
                }
                BdevEvent::RESET_END => {
                    for index in 0..self.jobs.len() {
                        if let Err(status) = self.jobs[index].io.reconnect() {
                            self.fail(format!("a queue is lost with a reset: {status}"));
                        }
                    }
                }
                _ => {}
            }
        }
        // A device that reports for ever must not fill the memory.
        self.record.notes.truncate(64);
    }

    fn abort_late(&mut self, now: Instant) {
        for index in 0..self.jobs.len() {
            for slot in 0..self.jobs[index].pending.len() {
                let Some(mut request) = self.jobs[index].pending[slot] else {
                    continue;
                };
                let late = now.saturating_duration_since(request.since);
                if late > REQUEST + ABORT {
                    self.fail("it neither answers a request nor aborts it".to_owned());
                } else if late > REQUEST && !request.aborted {
                    request.aborted = true;
                    self.jobs[index].pending[slot] = Some(request);
                    self.jobs[index].io.abort(slot);
                    let found = format!("no answer within {} s", REQUEST.as_secs());
                    self.failed_request("timeout", &request, &found);
                }
            }
        }
    }

    pub(super) fn sleep(&mut self, wake: Instant) {
        let longest = wake.saturating_duration_since(Instant::now());
        if longest.is_zero() {
            return;
        }
        let mut waiting = self.jobs.iter_mut().filter(|job| job.io.under_way() > 0);
        match (waiting.next(), waiting.next()) {
            (None, _) => std::thread::sleep(longest),
            (Some(one), None) => one.io.wait(longest),
            // Of several queues one can be slept on; the others wait for it a little.
            (Some(one), Some(_)) => one.io.wait(longest.min(Duration::from_millis(1))),
        }
    }

    pub(super) fn point(&mut self, now: Instant) {
        let took = now.saturating_duration_since(self.point_begun);
        self.record.series.push(Point {
            at_ms: now.saturating_duration_since(self.begun).as_millis() as u64,
            read: self.reads.point(took),
            write: self.writes.point(took),
            errors: std::mem::take(&mut self.interval_errors),
        });
        self.point_begun = now;
    }

    pub(super) fn totals(&mut self) {
        let took = self.load_took.unwrap_or_else(|| self.begun.elapsed());
        self.record.elapsed_ms = took.as_millis() as u64;
        self.record.reads = self.reads.totals(took);
        self.record.writes = self.writes.totals(took);
    }

    pub(super) fn report(&mut self) {
        self.totals();
        (self.context.report)(self.record.clone());
        self.record.errors.clear();
        self.record.series.clear();
    }
}
