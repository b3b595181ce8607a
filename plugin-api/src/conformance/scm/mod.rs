//! Cases of storage-class memory.

mod durable;
mod life;
mod regions;
mod space;

use super::case::{Case, Verdict};
use super::control::ControlBench;
use super::pattern::Random;
use crate::abi::Status;
use crate::host::{CallOptions, ScmMapping, ScmMemory};
pub(super) use durable::{READER, WRITER, read_back, write_and_die};
use std::sync::Arc;

/// Bytes of a region in most cases.
const REGION: usize = 256 << 10;

/// What the cases work on: each opens the memory anew and removes its regions before and after.
pub(super) struct ScmBench {
    base: Arc<ControlBench>,
}

impl ScmBench {
    pub(super) fn new(base: &Arc<ControlBench>) -> Self {
        Self {
            base: Arc::clone(base),
        }
    }

    fn open(&self) -> Verdict<ScmMemory> {
        let options = CallOptions::default();
        Ok(self
            .base
            .instance
            .open_scm(&self.base.devices[0], options)?)
    }

    fn random(&self, salt: u64) -> Random {
        Random::new(self.base.target.seed ^ salt)
    }
}

/// Makes a region; one that an earlier case left behind is replaced.
fn create(memory: &ScmMemory, name: &str, len: usize) -> Verdict<ScmMapping> {
    remove(memory, name)?;
    Ok(memory.create_region(name, len as u64, CallOptions::default())?)
}

fn reopen(memory: &ScmMemory, name: &str) -> Verdict<ScmMapping> {
    Ok(memory.open_region(name, CallOptions::default())?)
}

/// Removes a region if there is one.
fn remove(memory: &ScmMemory, name: &str) -> Verdict {
    match memory.remove_region(name, CallOptions::default()) {
        Err(e) if e.status == Status::NOT_FOUND => Ok(()),
        result => Ok(result?),
    }
}

/// Every case.
pub(super) fn cases() -> impl Iterator<Item = &'static Case<ScmBench>> {
    [life::CASES, regions::CASES, durable::CASES, space::CASES]
        .into_iter()
        .flatten()
}
