//! Cases of block devices.

mod durable;
mod faults;
mod io;
mod killed;
mod life;
mod ops;
mod queue;
mod rig;

use super::case::{Case, Verdict, skipped};
use super::control::ControlBench;
use super::pattern::Random;
use crate::control::DeviceSpec;
use crate::host::{BdevDevice, CallOptions, Instance};
pub(super) use killed::{READER, WRITER, read_back, write_and_die};
use rig::Rig;
use std::sync::Arc;

/// What the cases work on: each opens the first device anew.
pub(super) struct BdevBench {
    base: Arc<ControlBench>,
}

impl BdevBench {
    pub(super) fn new(base: &Arc<ControlBench>) -> Self {
        Self {
            base: Arc::clone(base),
        }
    }

    fn instance(&self) -> &Instance {
        &self.base.instance
    }

    fn spec(&self) -> &DeviceSpec {
        &self.base.devices[0]
    }

    fn open(&self) -> Verdict<BdevDevice> {
        self.open_one(0)
    }

    fn open_one(&self, index: usize) -> Verdict<BdevDevice> {
        let Some(spec) = self.base.devices.get(index) else {
            return skipped(format!("the config has no device {index}"));
        };
        Ok(self.instance().open_bdev(spec, CallOptions::default())?)
    }

    /// Opens the device and a queue.
    fn rig(&self, depth: u32) -> Verdict<Rig> {
        Rig::new(&self.open()?, depth)
    }

    fn random(&self, salt: u64) -> Random {
        Random::new(self.base.target.seed ^ salt)
    }
}

/// Every case.
pub(super) fn cases() -> impl Iterator<Item = &'static Case<BdevBench>> {
    [
        life::CASES,
        io::CASES,
        ops::CASES,
        durable::CASES,
        killed::CASES,
        queue::CASES,
        faults::CASES,
    ]
    .into_iter()
    .flatten()
}
