//! The log's memory in a region of the SCM plugin.

use crate::log::LogMemory;
use daos_plugin_api::abi::Status;
use daos_plugin_api::host::ScmMapping;

/// A mapped region that one log uses.
pub struct ScmLog {
    mapping: ScmMapping,
}

impl ScmLog {
    /// Uses a whole region.
    pub fn new(mapping: ScmMapping) -> Self {
        Self { mapping }
    }

    fn place(&self, offset: usize, len: usize) -> *mut u8 {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.mapping.len()),
            "{len} bytes at {offset} leave the region"
        );
        self.mapping.ptr().wrapping_add(offset)
    }
}

impl LogMemory for ScmLog {
    fn len(&self) -> usize {
        self.mapping.len()
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), Status> {
        let from = self.place(offset, out.len());
        // SAFETY: inside the mapping (`place`), which only this object uses; `out` is elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        let to = self.place(offset, data.len());
        // SAFETY: as for `read`.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) };
    }

    fn persist(&mut self, offset: usize, len: usize) -> Result<(), Status> {
        self.mapping.persist(offset, len)
    }
}
