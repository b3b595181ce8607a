//! Memory that is lent to the fabric: allocated once, never moved, reached through raw pointers
//! only, so that a peer may write it while this process holds it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

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

/// A caller's vector while it is lent: taken apart, so that there is no reference to its bytes.
pub(crate) struct LentVec {
    ptr: NonNull<u8>,
    len: usize,
    capacity: usize,
}

// SAFETY: the memory of a `Vec<u8>`, which this owns, may be used and freed from any thread.
unsafe impl Send for LentVec {}

impl LentVec {
    /// Takes `vec` apart; what is lent are the bytes that it has, not its spare capacity.
    pub(crate) fn new(vec: Vec<u8>) -> Self {
        let mut vec = ManuallyDrop::new(vec);
        let (len, capacity) = (vec.len(), vec.capacity());
        Self {
            ptr: NonNull::new(vec.as_mut_ptr()).unwrap_or(NonNull::dangling()),
            len,
            capacity,
        }
    }

    /// The vector again. Nobody may reach its memory any more.
    pub(crate) fn back(self) -> Vec<u8> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the parts of the vector that `new` took apart; `this` does not free them.
        unsafe { Vec::from_raw_parts(this.ptr.as_ptr(), this.len, this.capacity) }
    }
}

impl Drop for LentVec {
    fn drop(&mut self) {
        // SAFETY: as in `back`, which forgets the value.
        drop(unsafe { Vec::from_raw_parts(self.ptr.as_ptr(), self.len, self.capacity) });
    }
}

/// Memory that the fabric may reach, whoever it comes from.
pub(crate) enum Memory {
    /// Our own.
    Block(Block),
    /// A caller's, to be written by a peer.
    Vec(LentVec),
    /// A caller's, to be read by a peer: nobody writes to it while we hold it.
    Shared(Arc<[u8]>),
}

impl Memory {
    /// First byte. That of shared memory is for reading.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        match self {
            Self::Block(block) => block.as_ptr(),
            Self::Vec(vec) => vec.ptr.as_ptr(),
            Self::Shared(bytes) => bytes.as_ptr().cast_mut(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Block(block) => block.len(),
            Self::Vec(vec) => vec.len,
            Self::Shared(bytes) => bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lent_vector_comes_back_as_it_was() {
        let mut vec = Vec::with_capacity(100);
        vec.extend_from_slice(b"abc");
        let (ptr, capacity) = (vec.as_ptr(), vec.capacity());
        let lent = LentVec::new(vec);
        let memory = Memory::Vec(lent);
        assert_eq!((memory.as_ptr().cast_const(), memory.len()), (ptr, 3));
        let Memory::Vec(lent) = memory else {
            unreachable!()
        };
        let vec = lent.back();
        assert_eq!(
            (&vec[..], vec.as_ptr(), vec.capacity()),
            (&b"abc"[..], ptr, capacity)
        );
        drop(LentVec::new(vec));
        assert!(LentVec::new(Vec::new()).back().is_empty());
    }

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
