//! Values on the block device: which parts are free ([`alloc`]), when freed parts may be used again
//! ([`space`]), and moving bytes between buffers and the device ([`device`]).
//!
//! Space is counted in allocation units of [`unit_size`] bytes from the start of the target's share
//! of its device. Nothing about free space is stored: it is what no entry of the index and no
//! record of the log refers to.

pub mod alloc;
pub mod device;
pub mod space;

/// Smallest allocation unit in bytes.
pub const UNIT_MIN: u32 = 4096;

/// Bytes of an allocation unit on a device with blocks of `block_size` bytes.
pub fn unit_size(block_size: u32) -> u32 {
    block_size.max(UNIT_MIN)
}
