//! What the CPU sees of a region: anonymous memory beside the medium. All unsafe code of the cached
//! SCM is here.

use crate::power::Survival;
use crate::random::Random;
use daos_plugin_api::abi::Status;
use daos_plugin_api::host::ScmMapping;
use daos_plugin_api::sdk::{Error, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Page-aligned memory.
pub(super) struct View {
    ptr: *mut u8,
    len: usize,
}

// SAFETY: plain memory; the user of the region synchronises its accesses as with real SCM, and the
// accesses here are copies that a user's race could only make show either value.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// Memory with the contents of the medium.
    pub(super) fn of(medium: &ScmMapping) -> Result<Self> {
        let len = medium.len();
        // SAFETY: a new mapping at an address of the kernel's choice affects no other memory.
        let ptr = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
        .map_err(|e| Error::new(Status::NO_MEMORY, "no memory for a view").cause(e.to_string()))?;
        let ptr: *mut u8 = ptr.cast();
        // SAFETY: both have `len` bytes.
        unsafe { std::ptr::copy_nonoverlapping(medium.ptr(), ptr, len) };
        Ok(Self { ptr, len })
    }

    pub(super) fn ptr(&self) -> *mut u8 {
        self.ptr
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Offset of a range if it is inside.
    pub(super) fn offset_of(&self, ptr: *const u8, len: usize) -> Option<usize> {
        let offset = ptr.addr().checked_sub(self.ptr.addr())?;
        (offset.checked_add(len)? <= self.len).then_some(offset)
    }

    /// A copy of `len` bytes at `offset`.
    pub(super) fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.len, "outside of the view");
        let mut out = vec![0; len];
        // SAFETY: inside the mapping.
        unsafe { std::ptr::copy_nonoverlapping(self.ptr.add(offset), out.as_mut_ptr(), len) };
        out
    }

    /// Of the words that differ from the medium, a random subset reaches it: caches may write
    /// back at any time, eight bytes at once.
    pub(super) fn leak_words(
        &self,
        medium: &ScmMapping,
        random: &mut Random,
        survival: &mut Survival,
    ) {
        let seen = self.read(0, self.len);
        let kept = read(medium);
        for (n, (new, old)) in seen.chunks(8).zip(kept.chunks(8)).enumerate() {
            if new == old {
                continue;
            }
            if random.below(2) == 0 {
                survival.kept += 1;
                write(medium, n * 8, new);
            } else {
                survival.lost += 1;
            }
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: pointer and length are those of the mapping made in `of`.
        let _ = unsafe { munmap(self.ptr.cast(), self.len) };
    }
}

/// A copy of the medium.
fn read(medium: &ScmMapping) -> Vec<u8> {
    let mut out = vec![0; medium.len()];
    // SAFETY: the mapping has that many bytes, and only this crate writes to it.
    unsafe { std::ptr::copy_nonoverlapping(medium.ptr(), out.as_mut_ptr(), out.len()) };
    out
}

/// Writes to the medium.
pub(super) fn write(medium: &ScmMapping, offset: usize, data: &[u8]) {
    assert!(offset + data.len() <= medium.len(), "outside of the medium");
    // SAFETY: inside the mapping, which only this crate writes to, under the store's lock.
    unsafe {
        std::ptr::copy_nonoverlapping(data.as_ptr(), medium.ptr().add(offset), data.len());
    }
}
