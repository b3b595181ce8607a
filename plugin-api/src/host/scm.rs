//! Open storage-class memory and its regions.

use super::bdev::check;
use super::call::CallOptions;
use super::crumb::CallName;
use super::instance::{Instance, encode};
use crate::abi::{Handle, SCM_CREATE, ScmInfo, ScmRegion, ScmTable, Sink, Status, Str};
use crate::control::DeviceSpec;
use crate::sdk::Error;
use core::ffi::c_void;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

fn check_info(info: &ScmInfo) -> Result<(), String> {
    let granularity = info.persist_granularity;
    if !granularity.is_power_of_two() || u64::from(granularity) > info.total {
        return Err(format!("persist_granularity is {granularity}"));
    }
    if !(1..=1 << 62).contains(&info.total) {
        return Err(format!("total is {}", info.total));
    }
    if info.available > info.total {
        return Err(format!(
            "available is {}, and total {}",
            info.available, info.total
        ));
    }
    Ok(())
}

/// Open storage-class memory; clones share it.
#[derive(Clone)]
pub struct ScmMemory {
    inner: Arc<Inner>,
}

struct Inner {
    // Kept so that the plugin outlives its handles.
    instance: Instance,
    table: &'static ScmTable,
    handle: Handle,
}

// SAFETY: `persist`, `flush`, `drain` may be called from any thread; the others by one at a time,
// which `ScmMemory`'s users keep (the engine opens regions from its main thread).
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the live handle of `open`; regions hold an `Arc` of this and are gone.
        self.instance.inside(CallName::Close, || unsafe {
            (self.table.close)(self.handle)
        });
    }
}

impl ScmMemory {
    pub(super) fn open(
        instance: &Instance,
        device: &DeviceSpec,
        options: CallOptions<'_>,
    ) -> Result<Self, Error> {
        let table: &'static ScmTable = instance.tables().scm.ok_or_else(|| {
            Error::new(
                Status::NOT_SUPPORTED,
                format!("plugin {} has no SCM class", instance.manifest().name),
            )
        })?;
        let request = encode(device)?;
        let handle = instance.open(CallName::Open, options, |call, handle| {
            // SAFETY: live handle, call, request and out pointer.
            unsafe { (table.open)(instance.handle(), call, Str::new(&request), handle) }
        })?;
        let memory = Self {
            inner: Arc::new(Inner {
                instance: instance.clone(),
                table,
                handle,
            }),
        };
        let told = memory.told().map_err(|status| {
            Error::new(
                status,
                "the memory does not say what it is like (call info)",
            )
        })?;
        check_info(&told).map_err(|why| {
            Error::new(Status::INTERNAL, "the memory describes itself impossibly")
                .cause(why)
                .remedy("report this to the plugin's vendor")
        })?;
        Ok(memory)
    }

    /// What the memory is like, with its current free space.
    ///
    /// # Errors
    /// The plugin's; INTERNAL for what cannot be.
    pub fn info(&self) -> Result<ScmInfo, Status> {
        let info = self.told()?;
        check_info(&info).map_err(|_| Status::INTERNAL)?;
        Ok(info)
    }

    fn told(&self) -> Result<ScmInfo, Status> {
        let mut info = ScmInfo {
            total: 0,
            available: 0,
            persist_granularity: 0,
            numa_node: -1,
            flags: 0,
        };
        let inner = &self.inner;
        // SAFETY: live handle and out pointer.
        let call = || unsafe { (inner.table.info)(inner.handle, &mut info) };
        check(inner.instance.inside(CallName::Info, call))?;
        Ok(info)
    }

    /// The plugin's instance.
    pub fn instance(&self) -> &Instance {
        &self.inner.instance
    }

    /// Directory for files.
    pub fn mount_point(&self) -> Result<PathBuf, Status> {
        let mut bytes: Vec<u8> = Vec::new();
        let sink = Sink {
            ctx: (&raw mut bytes).cast(),
            write: append,
        };
        let inner = &self.inner;
        // SAFETY: live handle; the sink's context lives for the call.
        let call = || unsafe { (inner.table.mount_point)(inner.handle, sink) };
        check(inner.instance.inside(CallName::MountPoint, call))?;
        Ok(PathBuf::from(OsString::from_vec(bytes)))
    }

    /// Maps an existing region.
    pub fn open_region(&self, name: &str, options: CallOptions<'_>) -> Result<ScmMapping, Error> {
        self.map(name, 0, 0, options)
    }

    /// Makes and maps a region of `len` zero bytes.
    pub fn create_region(
        &self,
        name: &str,
        len: u64,
        options: CallOptions<'_>,
    ) -> Result<ScmMapping, Error> {
        self.map(name, len, SCM_CREATE, options)
    }

    fn map(
        &self,
        name: &str,
        len: u64,
        flags: u32,
        options: CallOptions<'_>,
    ) -> Result<ScmMapping, Error> {
        let mut region = ScmRegion {
            handle: std::ptr::null_mut(),
            ptr: std::ptr::null_mut(),
            len: 0,
        };
        self.inner
            .instance
            .call(options, CallName::OpenRegion, |call| {
                // SAFETY: live handle, call, name and out pointer.
                unsafe {
                    (self.inner.table.open_region)(
                        self.inner.handle,
                        call,
                        Str::new(name),
                        len,
                        flags,
                        &mut region,
                    )
                }
            })?;
        check_region(&region, len).map_err(|what| {
            let plugin = self.inner.instance.described();
            Error::new(
                Status::INTERNAL,
                format!("plugin {plugin}, call open_region: region {name} is not mapped as asked"),
            )
            .cause(what)
            .remedy("report this to the plugin's vendor")
        })?;
        Ok(ScmMapping {
            memory: self.clone(),
            region,
        })
    }

    /// Deletes a region that is not open.
    pub fn remove_region(&self, name: &str, options: CallOptions<'_>) -> Result<(), Error> {
        self.inner
            .instance
            .call(options, CallName::RemoveRegion, |call| {
                // SAFETY: live handle, call and name.
                unsafe { (self.inner.table.remove_region)(self.inner.handle, call, Str::new(name)) }
            })
            .map(drop)
    }
}

/// What is wrong with a region of at least `len` bytes, if anything is.
fn check_region(region: &ScmRegion, len: u64) -> Result<(), String> {
    /// Smallest page of any machine.
    const PAGE: usize = 4096;
    let (start, bytes) = (region.ptr.addr(), region.len);
    // No object has more bytes than a pointer difference can tell.
    let fits = isize::try_from(bytes).is_ok() && start.checked_add(bytes).is_some();
    if start == 0 || !start.is_multiple_of(PAGE) || bytes == 0 || (bytes as u64) < len || !fits {
        return Err(format!("{bytes} bytes at {start:#x}"));
    }
    Ok(())
}

/// Appends to the `Vec<u8>` behind `ctx`.
///
/// # Safety
/// `ctx` points to a live `Vec<u8>` that nobody else uses, `data` to `len` bytes.
pub(super) unsafe extern "C" fn append(ctx: *mut c_void, data: *const u8, len: usize) {
    if len > 0 {
        // SAFETY: the caller vouches for it.
        unsafe { (*ctx.cast::<Vec<u8>>()).extend_from_slice(std::slice::from_raw_parts(data, len)) }
    }
}

/// A mapped region; unmapped when dropped, its contents stay.
pub struct ScmMapping {
    memory: ScmMemory,
    region: ScmRegion,
}

// SAFETY: a mapping has no thread; whoever shares it synchronises accesses to the bytes.
unsafe impl Send for ScmMapping {}
// SAFETY: as above.
unsafe impl Sync for ScmMapping {}

impl ScmMapping {
    /// First byte, page aligned.
    pub fn ptr(&self) -> *mut u8 {
        self.region.ptr
    }

    /// Bytes.
    #[allow(clippy::len_without_is_empty)] // regions have at least a page
    pub fn len(&self) -> usize {
        self.region.len
    }

    /// The memory it belongs to.
    pub fn memory(&self) -> &ScmMemory {
        &self.memory
    }

    /// Makes `len` bytes at `offset` durable.
    ///
    /// # Errors
    /// INVALID if the range leaves the region; else what the plugin says.
    pub fn persist(&self, offset: usize, len: usize) -> Result<(), Status> {
        self.range(CallName::Persist, offset, len, |table, handle, ptr| {
            // SAFETY: live handle, range inside the region.
            unsafe { (table.persist)(handle, ptr, len) }
        })
    }

    /// Starts writing `len` bytes at `offset` back; durable after this thread's next `drain`.
    pub fn flush(&self, offset: usize, len: usize) -> Result<(), Status> {
        self.range(CallName::Flush, offset, len, |table, handle, ptr| {
            // SAFETY: live handle, range inside the region.
            unsafe { (table.flush)(handle, ptr, len) }
        })
    }

    /// Waits for this thread's flushes.
    pub fn drain(&self) -> Result<(), Status> {
        let inner = &self.memory.inner;
        // SAFETY: live handle.
        let drain = || unsafe { (inner.table.drain)(inner.handle) };
        check(inner.instance.inside(CallName::Drain, drain))
    }

    fn range(
        &self,
        call: CallName,
        offset: usize,
        len: usize,
        f: impl FnOnce(&ScmTable, Handle, *const u8) -> Status,
    ) -> Result<(), Status> {
        if offset
            .checked_add(len)
            .is_none_or(|end| end > self.region.len)
        {
            return Err(Status::INVALID);
        }
        // SAFETY: the offset is inside the region.
        let ptr = unsafe { self.region.ptr.add(offset) };
        let inner = &self.memory.inner;
        check(
            inner
                .instance
                .inside(call, || f(inner.table, inner.handle, ptr)),
        )
    }
}

impl Drop for ScmMapping {
    fn drop(&mut self) {
        let inner = &self.memory.inner;
        // SAFETY: the live handles of `open` and `open_region`.
        inner.instance.inside(CallName::CloseRegion, || unsafe {
            (inner.table.close_region)(inner.handle, self.region.handle)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_memory_can_be_is_refused_by_name() {
        let check = |total, available, persist_granularity| {
            check_info(&ScmInfo {
                total,
                available,
                persist_granularity,
                numa_node: -1,
                flags: 0,
            })
        };
        assert_eq!(check(1 << 30, 1 << 29, 64), Ok(()));
        assert_eq!(check(1 << 30, 0, 1), Ok(()));
        let refused = |total, available, granularity| {
            check(total, available, granularity).expect_err("refused")
        };
        assert!(refused(1 << 30, 0, 0).contains("persist_granularity is 0"));
        assert!(refused(1 << 30, 0, 3).contains("persist_granularity is 3"));
        assert!(
            refused(0, 0, 1).contains("persist_granularity") || refused(0, 0, 1).contains("total")
        );
        assert!(refused(u64::MAX, 0, 64).contains("total"));
        // Half of it would be a pool of exbibytes.
        assert!(refused(1 << 30, u64::MAX, 64).contains("available"));
    }
}
