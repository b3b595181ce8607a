//! Drives storage-class memory for measurements. All unsafe code for that is here.
#![allow(unsafe_code)]

use super::meter::{Meter, Places};
use super::rig::Rig;
use crate::bench::{Measured, Measurement, Work};
use daos_plugin_api::host::{CallOptions, ScmMapping, ScmMemory};
use std::time::Instant;

/// Bytes of the region that is measured.
const REGION: usize = 16 << 20;
const NAME: &str = "bench";

pub(super) struct Stage {
    // In the order in which they must go.
    region: Option<ScmMapping>,
    memory: Option<ScmMemory>,
    rig: Rig,
}

impl Stage {
    pub(super) fn new(rig: Rig) -> Result<Self, String> {
        let text = |e: daos_plugin_api::sdk::Error| e.to_string();
        let memory = rig
            .instance
            .open_scm(&rig.devices[0], CallOptions::default())
            .map_err(text)?;
        let info = memory.info().map_err(|status| format!("info: {status}"))?;
        let len = (REGION as u64).min(info.available / 2).max(256 << 10);
        let region = memory
            .create_region(NAME, len, CallOptions::default())
            .map_err(text)?;
        Ok(Self {
            region: Some(region),
            memory: Some(memory),
            rig,
        })
    }

    pub(super) fn measure(&self, what: &Measurement) -> Result<Measured, String> {
        if what.work != Work::Persist {
            return Err("storage-class memory cannot do this".to_owned());
        }
        let region = self.region.as_ref().ok_or("the region is closed")?;
        let count = region.len() / what.bytes;
        if count == 0 {
            return Err(format!("the region has {} bytes", region.len()));
        }
        let data = vec![0x5a_u8; what.bytes];
        let mut places = Places::new(count as u64, what.random);
        let mut meter = Meter::start(what.millis);
        while !meter.is_over() {
            // The clock costs as much as a small write: it is asked once per batch.
            for _ in 0..16 {
                let offset = places.next() as usize * what.bytes;
                let since = Instant::now();
                // SAFETY: inside the region, which nobody else uses.
                unsafe {
                    let at = region.ptr().add(offset);
                    std::ptr::copy_nonoverlapping(data.as_ptr(), at, data.len());
                }
                region
                    .persist(offset, what.bytes)
                    .map_err(|status| format!("persist: {status}"))?;
                meter.record(since);
            }
        }
        Ok(meter.end())
    }

    pub(super) fn give_back(mut self) -> Result<(), String> {
        self.region = None;
        if let Some(memory) = self.memory.take() {
            memory
                .remove_region(NAME, CallOptions::default())
                .map_err(|e| e.to_string())?;
        }
        self.rig.give_back()
    }
}
