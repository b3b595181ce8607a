//! A processor that is played for class `dcpm`: its instructions write lines back to the medium of a crash image.

use super::{LINE, Store};
use daos_plugin_api::abi::Status;
use scm_dcpm::{Caches, Method};
use std::cell::Cell;

/// The processor of one call.
pub(super) struct Played<'a> {
    store: &'a Store,
    /// The first failure: instructions have no answer.
    outcome: Cell<Result<(), Status>>,
}

impl<'a> Played<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self {
            store,
            outcome: Cell::new(Ok(())),
        }
    }

    /// Flushes as the plugin does.
    pub(super) fn flush(self, method: Method, ptr: *const u8, len: usize) -> Result<(), Status> {
        // SAFETY: nothing is accessed by address; lines outside of the regions are refused.
        unsafe { method.flush_by(&self, ptr, len) }?;
        self.outcome.get()
    }

    /// Drains as the plugin does.
    pub(super) fn drain(self, method: Method) -> Result<(), Status> {
        method.drain_by(&self);
        self.outcome.get()
    }

    fn note(&self, outcome: Result<(), Status>) {
        if self.outcome.get().is_ok() {
            self.outcome.set(outcome);
        }
    }

    fn write_back(&self, line: *const u8) {
        self.note(self.store.flush(line, LINE));
    }
}

impl Caches for Played<'_> {
    unsafe fn clwb(&self, line: *const u8) {
        self.write_back(line);
    }

    unsafe fn clflushopt(&self, line: *const u8) {
        self.write_back(line);
    }

    unsafe fn clflush(&self, line: *const u8) {
        self.write_back(line);
    }

    fn fence(&self) {
        self.note(self.store.commit());
    }

    unsafe fn sync(&self, ptr: *const u8, len: usize) -> Result<(), Status> {
        self.store.flush(ptr, len)?;
        self.store.commit()
    }
}
