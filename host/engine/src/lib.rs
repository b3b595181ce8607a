//! The built-in engine: a small single-node object store on three plugins.
//!
//! Each target is one thread with everything of its own - an endpoint, a queue per device, a
//! [`log`], an [`index`] and a share of a block device ([`extents`]) - and takes no lock that
//! another target takes.

pub mod index;
pub mod log;
