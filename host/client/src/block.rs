//! Memory that is lent to the fabric: allocated once, never moved, reached through raw pointers
//! only, so that a peer may write it while this process holds it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Alignment of every block, as plugins want it for scratch and devices for transfers.
const ALIGN: usize = 4096;

/// Zeroed memory of fixed place and size.
pub(crate) struct Block {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: the block owns its memory; access goes through `&mut self`, or copies bytes out.
unsafe impl Send for Block {}

impl Block {
    /// Allocates `len` bytes; `len` 0 allocates nothing.
    pub(crate) fn new(len: usize) -> Self {
        if len == 0 {
            return Self {
                ptr: NonNull::dangling(),
                len,
            };
        }
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not zero.
        let ptr = unsafe { alloc_zeroed(layout) };
        let Some(ptr) = NonNull::new(ptr) else {
            handle_alloc_error(layout)
        };
        Self { ptr, len }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, ALIGN).expect("blocks are far smaller than the address space")
    }

    /// First byte; null if the block is empty.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        if self.len == 0 {
            std::ptr::null_mut()
        } else {
            self.ptr.as_ptr()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies `data` to the front. Panics if it does not fit.
    pub(crate) fn fill(&mut self, data: &[u8]) {
        assert!(data.len() <= self.len, "data fits the block");
        // SAFETY: the block is ours for `len` bytes and `data` cannot overlap it: nobody gets a
        // slice of it.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.ptr.as_ptr(), data.len()) };
    }

    /// Copies the first `len` bytes out. Panics if there are fewer. A peer that writes meanwhile
    /// against the protocol makes the copy any bytes; checksums are taken of the copy.
    pub(crate) fn copy(&self, len: usize) -> Vec<u8> {
        assert!(len <= self.len, "the block has these bytes");
        let mut out = Vec::with_capacity(len);
        // SAFETY: the block is initialised for `len` bytes, `out` has room for them.
        unsafe {
            std::ptr::copy_nonoverlapping(self.ptr.as_ptr(), out.as_mut_ptr(), len);
            out.set_len(len);
        }
        out
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(self.ptr.as_ptr(), Self::layout(self.len)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let mut block = Block::new(8192);
        assert_eq!(block.as_ptr() as usize % ALIGN, 0);
        assert_eq!(block.copy(3), [0, 0, 0]);
        block.fill(b"abc");
        assert_eq!(block.copy(4), b"abc\0");
        assert!(Block::new(0).as_ptr().is_null());
        assert!(Block::new(0).copy(0).is_empty());
    }

    #[test]
    #[should_panic(expected = "fits the block")]
    fn too_much_is_refused() {
        Block::new(2).fill(b"abc");
    }
}
