//! Traits of an SCM plugin; contracts of the functions stand beside the members of
//! [`ScmTable`](crate::abi::ScmTable).

use super::{CallContext, Plugin, Result};
use crate::abi::{ScmInfo, Status};
use crate::control::DeviceSpec;
use std::path::Path;

/// A plugin with storage-class memory.
pub trait ScmPlugin: Plugin {
    /// Open memory.
    type Memory: Scm;

    /// Opens formatted, mounted storage.
    fn open(&self, call: CallContext<'_>, device: DeviceSpec) -> Result<Self::Memory>;
}

/// Open storage-class memory.
pub trait Scm: Send + Sync + 'static {
    /// A mapped region; dropping it unmaps.
    type Region: Region;

    /// What the memory is like, with its current free space.
    fn info(&self) -> Result<ScmInfo, Status>;

    /// Directory for files.
    fn mount_point(&self) -> &Path;

    /// Maps the existing region `name`.
    fn open_region(&self, call: CallContext<'_>, name: &str) -> Result<Self::Region>;

    /// Makes and maps the region `name` of `len` zero bytes, all of it allocated.
    fn create_region(&self, call: CallContext<'_>, name: &str, len: u64) -> Result<Self::Region>;

    /// Deletes a region that is not open.
    fn remove_region(&self, call: CallContext<'_>, name: &str) -> Result<()>;

    /// Starts writing the range (inside one region) back. Any thread.
    fn flush(&self, ptr: *const u8, len: usize) -> Result<(), Status>;

    /// Waits for the flushes of this thread.
    fn drain(&self) -> Result<(), Status>;

    /// Makes the range durable.
    fn persist(&self, ptr: *const u8, len: usize) -> Result<(), Status> {
        self.flush(ptr, len)?;
        self.drain()
    }
}

/// A mapped region.
pub trait Region: Send + 'static {
    /// First byte; fixed while the region is open.
    fn ptr(&self) -> *mut u8;

    /// Bytes.
    fn len(&self) -> usize;

    /// Never: regions have at least a page.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
