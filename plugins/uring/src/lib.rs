//! Block I/O on a file descriptor, shared by the plugins whose devices the kernel drives.
//!
//! A [`FdDevice`] is an open file or block device with its geometry. Its queues run on io_uring:
//! the descriptor and the memory that the host offered are registered with the ring, a batch of
//! requests costs one `io_uring_enter`, and polling reads the completion ring without a system call
//! unless the kernel has work that only the queue's thread may do. Where io_uring is forbidden or
//! absent a few threads with `preadv2`/`pwritev2` take its place behind the same interface.
//!
//! A request becomes a short program of actions (read, write, sync, allocate, discard) that
//! either engine carries out, so that short transfers, fallbacks of the file system and multi-step
//! operations behave the same on both.

mod device;
mod holders;
mod memory;
mod pool;
mod queue;
mod release;
mod ring;
mod ring_queue;
mod slots;
mod status;
mod sys;
mod target;
mod task;
mod thread_queue;

pub use device::{Engine, FdDevice};
pub use holders::{Opened, holders};
pub use memory::Registrations;
pub use queue::FdQueue;
pub use release::until_released;
pub use status::status_of;
pub use sys::discard;
pub use target::{Shape, Target, UnmapMode, ZeroMode};
