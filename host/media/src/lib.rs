//! What a storage node keeps on its media.
//!
//! * [`superblock`]: the record on SCM that makes an engine formatted;
//! * [`label`]: the record on each block device that says whose it is;
//! * [`device_config`]: the file that tells an engine its block devices;
//! * [`signature`]: what is on a device or in a file before we write to it;
//! * [`atomic`]: files that appear whole or not at all;
//! * [`steps`]: where tests stop what changes any of that.
//!
//! Everything that decodes takes any bytes and never panics; nothing here opens a device.

pub mod atomic;
pub mod device_config;
pub mod label;
pub mod signature;
pub mod steps;
pub mod superblock;
