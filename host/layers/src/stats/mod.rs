//! Measures how long each request takes, from its submission to the poll that sees its completion.

mod book;

pub use book::{Book, Cell, Row};

use crate::forward;
use crate::slots::{BATCH, EMPTY, Slots};
use book::Page;
use daos_plugin_api::abi::{BdevEvent, BdevOp, Completion, Request, Status, Wait};
use daos_plugin_api::host::{self, BdevDevice, CallOptions};
use daos_plugin_api::sdk::{Bdev, BdevQueue, CallContext, Result};
use std::sync::Arc;
use std::time::Instant;

/// A device that is measured.
pub(crate) struct MeasuredDevice {
    below: BdevDevice,
    book: Arc<Book>,
}

impl MeasuredDevice {
    pub(crate) fn new(below: BdevDevice, book: Arc<Book>) -> Self {
        Self { below, book }
    }
}

impl Bdev for MeasuredDevice {
    type Queue = MeasuredQueue;

    forward::admin!();

    fn next_event(&self) -> Option<BdevEvent> {
        self.below.next_event()
    }

    fn open_queue(&self, _: CallContext<'_>, depth: u32) -> Result<MeasuredQueue> {
        Ok(MeasuredQueue {
            below: self.below.open_queue(depth, CallOptions::default())?,
            slots: Slots::new(depth),
            page: self.book.page(),
            batch: Vec::with_capacity(depth as usize),
            block: u64::from(self.below.geometry().block_size),
        })
    }
}

struct Started {
    at: Instant,
    op: BdevOp,
    bytes: u64,
}

/// A queue that is measured.
pub(crate) struct MeasuredQueue {
    below: host::BdevQueue,
    slots: Slots<Started>,
    /// Of this queue alone: nobody else takes its lock but who reads the figures.
    page: Arc<Page>,
    batch: Vec<Request>,
    block: u64,
}

impl BdevQueue for MeasuredQueue {
    unsafe fn submit(&mut self, requests: &[Request]) -> Result<usize, Status> {
        self.batch.clear();
        let at = Instant::now();
        for request in requests {
            let started = Started {
                at,
                op: request.op,
                bytes: request.blocks.saturating_mul(self.block),
            };
            let Some(slot) = self.slots.take(request.tag, started) else {
                break;
            };
            self.batch.push(Request {
                tag: slot.into(),
                ..*request
            });
        }
        // SAFETY: the caller vouches for what the requests name until their completion is polled.
        let taken = unsafe { self.below.submit(&self.batch) };
        for refused in &self.batch[*taken.as_ref().unwrap_or(&0)..] {
            self.slots.release(refused.tag);
        }
        taken
    }

    fn poll(&mut self, out: &mut [Completion]) -> Result<usize, Status> {
        let mut count = 0;
        while count < out.len() {
            let mut done = [EMPTY; BATCH];
            let room = BATCH.min(out.len() - count);
            let got = self.below.poll(&mut done[..room])?;
            if got == 0 {
                break;
            }
            let now = Instant::now();
            let mut page = self.page.lock();
            for completion in &done[..got] {
                let (tag, started) = self.slots.release(completion.tag).ok_or(Status::INTERNAL)?;
                page.record(
                    started.op,
                    started.bytes,
                    now - started.at,
                    completion.status.is_ok(),
                );
                out[count] = Completion { tag, ..*completion };
                count += 1;
            }
            if got < room {
                break;
            }
        }
        Ok(count)
    }

    fn arm_wait(&mut self) -> Wait {
        self.below.arm_wait().unwrap_or(Wait::BUSY)
    }

    fn abort(&mut self, tag: u64) -> Result<(), Status> {
        let slot = self.slots.of_tag(tag).ok_or(Status::NOT_FOUND)?;
        self.below.abort(slot.into())
    }

    fn reconnect(&mut self) -> Result<(), Status> {
        self.below.reconnect()
    }
}
