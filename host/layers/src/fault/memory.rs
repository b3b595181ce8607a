//! The memory of requests, byte by byte. All `unsafe` that touches it is here.

use daos_plugin_api::abi::{IoVec, Request};

/// Bytes that a request's memory has; 0 if it names none.
///
/// # Safety
/// The request's iovec array is readable.
pub unsafe fn len(request: &Request) -> u64 {
    // SAFETY: the caller vouches for the array; it is read here and not kept.
    let pieces = unsafe { pieces(request) };
    pieces.iter().map(|piece| piece.len as u64).sum()
}

/// The pieces of a request's memory.
///
/// # Safety
/// The request's iovec array is readable for `'a`.
pub unsafe fn pieces<'a>(request: &Request) -> &'a [IoVec] {
    if request.iov.is_null() || request.iov_count == 0 {
        return &[];
    }
    // SAFETY: not null; the caller vouches for `iov_count` entries that are readable for `'a`, which an `IoVec` of any
    // bits is.
    unsafe { std::slice::from_raw_parts(request.iov, request.iov_count as usize) }
}

/// Flips the bit with this number, counted from the first byte of the request's memory. One beyond
/// its end flips nothing.
///
/// # Safety
/// The request's iovec array is readable, the memory that it names is writable, and nobody else uses it.
pub unsafe fn flip(request: &Request, bit: u64) {
    let mut at = bit / 8;
    // SAFETY: the caller vouches for the array; it is not kept.
    for piece in unsafe { pieces(request) } {
        if at < piece.len as u64 {
            // SAFETY: `at` is below the length of the piece, whose bytes the caller lets nobody else use.
            unsafe { *piece.ptr.add(at as usize) ^= 1 << (bit % 8) };
            return;
        }
        at -= piece.len as u64;
    }
}

/// Copies bytes of the request's memory, from `offset` on, to `out`.
///
/// # Safety
/// The request's iovec array is readable, and the memory that it names has `offset + out.len()` readable bytes that
/// nobody writes to.
pub unsafe fn gather(request: &Request, offset: u64, out: &mut [u8]) {
    let (mut skip, mut done) = (offset, 0);
    // SAFETY: the caller vouches for the array; it is not kept.
    for piece in unsafe { pieces(request) } {
        if skip >= piece.len as u64 {
            skip -= piece.len as u64;
            continue;
        }
        let from = skip as usize; // below the length of the piece
        let count = (piece.len - from).min(out.len() - done);
        let target = &mut out[done..done + count];
        // SAFETY: `from + count` is at most the length of the piece, which the caller lets us read; the target is a slice
        // of `count` bytes of another owner, so the two do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(piece.ptr.add(from), target.as_mut_ptr(), count) };
        done += count;
        skip = 0;
        if done == out.len() {
            return;
        }
    }
}

/// Appends the pieces of the first `bytes` bytes of the request's memory to `out`.
///
/// # Safety
/// The request's iovec array is readable.
pub unsafe fn front(request: &Request, bytes: u64, out: &mut Vec<IoVec>) {
    let mut left = bytes;
    // SAFETY: the caller vouches for the array; its entries are copied, what they name is not touched.
    for piece in unsafe { pieces(request) } {
        if left == 0 {
            return;
        }
        let len = (piece.len as u64).min(left);
        out.push(IoVec {
            ptr: piece.ptr,
            len: len as usize, // at most the piece's
        });
        left -= len;
    }
}

/// Block number `index` of the layer's memory, `size` bytes.
///
/// # Safety
/// The memory has `(index + 1) * size` bytes, and nobody else uses the block for `'a`.
pub unsafe fn block<'a>(memory: *mut u8, index: usize, size: usize) -> &'a mut [u8] {
    // SAFETY: the caller vouches for the bytes of this block, and that the slice is their only user for `'a`.
    unsafe { std::slice::from_raw_parts_mut(memory.add(index * size), size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_plugin_api::abi::BdevOp;

    #[test]
    fn bytes_are_found_across_pieces() {
        let mut bytes: Vec<u8> = (0..16).collect();
        let start = bytes.as_mut_ptr();
        let piece = |at: usize, len| IoVec {
            ptr: start.wrapping_add(at),
            len,
        };
        let iov = [piece(8, 4), piece(0, 3)];
        let request = Request {
            op: BdevOp::READ,
            flags: 0,
            reserved: 0,
            iov_count: 2,
            lba: 0,
            blocks: 1,
            iov: iov.as_ptr(),
            tag: 0,
            scratch: std::ptr::null_mut(),
        };
        // SAFETY: everything lives in this function and is used by it alone.
        unsafe {
            assert_eq!(len(&request), 7);
            let mut out = [0; 3];
            gather(&request, 3, &mut out);
            assert_eq!(out, [11, 0, 1]);
            flip(&request, 4 * 8 + 1);
            flip(&request, 1000);
            let mut short = Vec::new();
            front(&request, 5, &mut short);
            let lengths: Vec<_> = short.iter().map(|p| p.len).collect();
            assert_eq!(lengths, [4, 1]);
        }
        assert_eq!(bytes[0], 2);
    }
}
