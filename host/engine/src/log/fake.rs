//! Storage-class memory for tests: what is not persisted may be gone after a crash.

use super::{LogError, LogMemory};
use daos_plugin_api::abi::Status;

/// Memory with a persisted image beside the current one.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) now: Vec<u8>,
    pub(crate) durable: Vec<u8>,
}

impl Fake {
    pub(crate) fn new(len: usize) -> Self {
        Self {
            now: vec![0; len],
            durable: vec![0; len],
        }
    }

    /// What is there after a crash: of each word that was not persisted, `keep` decides.
    pub(crate) fn crash(mut self, mut keep: impl FnMut() -> bool) -> Self {
        for (now, durable) in self.now.chunks_mut(8).zip(self.durable.chunks_mut(8)) {
            if now != durable && keep() {
                durable.copy_from_slice(now);
            }
        }
        self.now.clone_from(&self.durable);
        self
    }
}

impl LogMemory for Fake {
    fn len(&self) -> usize {
        self.now.len()
    }
    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), Status> {
        out.copy_from_slice(&self.now[offset..offset + out.len()]);
        Ok(())
    }
    fn write(&mut self, offset: usize, data: &[u8]) {
        self.now[offset..offset + data.len()].copy_from_slice(data);
    }
    fn persist(&mut self, offset: usize, len: usize) -> Result<(), LogError> {
        // Whole cache lines, as hardware does.
        let (start, end) = (offset / 64 * 64, (offset + len).next_multiple_of(64));
        let end = end.min(self.now.len());
        self.durable[start..end].copy_from_slice(&self.now[start..end]);
        Ok(())
    }
}

/// Decides by a seed what a crash keeps.
pub(crate) fn coin(seed: u64) -> impl FnMut() -> bool {
    let mut x = seed | 1;
    move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x & 1 == 0
    }
}
