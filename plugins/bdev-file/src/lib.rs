//! Block devices of class `file`: regular files, through io_uring.
//!
//! A file is made with all its space (`fallocate`), so that a full file system is an error of
//! `format` and never one of a write. I/O bypasses the page cache where the file system can
//! (`O_DIRECT`); an advisory lock (`flock`) makes a file belong to one process at a time.
//!
//! Settings (`plugins: bdev-file: settings:`):
//! * `io_engine`: `auto` (default), `uring` or `threads`;
//! * `unmap`: `keep` (default) zeroes unmapped ranges and keeps their space reserved, `release`
//!   gives it back to the file system, where later writes may then find none.

mod config;
mod control;
mod create;
mod data;
mod manifest;

pub use control::BdevFile;
pub use data::FileDevice;
pub use manifest::MANIFEST;

daos_plugin_api::declare_plugin!(BdevFile, bdev);
