//! Shared mappings of region files. Unsafe code of this kind is here alone.

use crate::cpu::{self, LINE};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
use std::fs::File;
use std::io;

/// A file mapped for reading and writing; unmapped when dropped.
pub(crate) struct SharedMap {
    ptr: *mut u8,
    len: usize,
}

// SAFETY: the mapping is plain memory without a thread; users of the pointer synchronise.
unsafe impl Send for SharedMap {}

impl SharedMap {
    /// Maps the first `len` bytes of `file`, all of which it must have. A `synchronous` mapping is one
    /// whose blocks the file system has made durable before a store to them can happen, so that
    /// cache-line write-back is all it takes.
    pub(crate) fn new(file: &File, len: usize, synchronous: bool) -> Result<Self, Errno> {
        let flags = match synchronous {
            // Validated: a kernel that does not know the flag refuses it rather than ignore it.
            true => MapFlags::SHARED_VALIDATE | MapFlags::SYNC,
            false => MapFlags::SHARED,
        };
        // SAFETY: a new mapping at an address of the kernel's choice affects no other memory. For
        // large DAX files the kernel chooses an address that lets it use huge pages.
        let ptr = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
                file,
                0,
            )
        }?;
        Ok(Self {
            ptr: ptr.cast(),
            len,
        })
    }

    /// Whether the kernel grants synchronous mappings of this file, which has at least a byte.
    ///
    /// # Errors
    /// The file cannot be mapped at all.
    pub(crate) fn is_granted(file: &File) -> io::Result<bool> {
        match Self::new(file, 1, true) {
            Ok(_) => Ok(true),
            // The second from kernels before 4.15.
            Err(Errno::OPNOTSUPP | Errno::INVAL) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn ptr(&self) -> *mut u8 {
        self.ptr
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Writes zeroes to all of it, past the caches, and makes them durable on a synchronous mapping:
    /// every block is written and mapped by the file system then, which later stores need not wait for.
    pub(crate) fn zero(&mut self) {
        // SAFETY: the mapping is page aligned, and nobody else has it yet; its last page is whole.
        unsafe { cpu::stream_zeroes(self.ptr, self.len.next_multiple_of(LINE)) };
        cpu::fence();
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: pointer and length are those of the mapping made in `new`; whoever was handed
        // the pointer gave it up with the region.
        let _ = unsafe { munmap(self.ptr.cast(), self.len) };
    }
}

/// Makes the pages of a range durable.
///
/// # Safety
/// The range is inside one mapped region.
pub(crate) unsafe fn sync_range(ptr: *const u8, len: usize) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    // SAFETY: asks for a constant.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).map_err(|_| io::Error::last_os_error())?;
    let before = ptr.addr() % page;
    let start = ptr.wrapping_sub(before).cast_mut();
    // SAFETY: the caller's; regions begin at a page.
    unsafe { msync(start.cast(), before + len, MsyncFlags::SYNC) }?;
    Ok(())
}
