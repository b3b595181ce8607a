//! I/O memory of an engine: allocated by the bdev plugin, or by the host and offered to it.

use super::bdev::bdev_table;
use super::call::CallOptions;
use super::instance::Instance;
use crate::abi::{BdevTable, Handle, Status};
use crate::sdk::Error;
use std::alloc::Layout;

/// Alignment and granularity of pool memory in bytes (hugepage size of x86-64 and aarch64).
const GRAIN: usize = 2 << 20;

/// Zeroed I/O memory; freed when dropped, which must happen after the queues that used it are gone
/// and after fabric registrations of it have ended.
pub struct PoolMemory {
    instance: Instance,
    table: &'static BdevTable,
    ptr: *mut u8,
    len: usize,
    owner: Owner,
}

enum Owner {
    Plugin,
    Host { registered: bool },
}

// SAFETY: memory has no thread; whoever shares it synchronises accesses.
unsafe impl Send for PoolMemory {}
// SAFETY: as above.
unsafe impl Sync for PoolMemory {}

impl PoolMemory {
    /// Allocates `len` bytes, rounded up to 2 MiB, near `numa_node` (-1 = any) for the devices of
    /// a plugin.
    ///
    /// # Errors
    /// NO_MEMORY, or what the plugin says of its allocation or registration.
    pub fn allocate(instance: &Instance, len: usize, numa_node: i32) -> Result<Self, Error> {
        let table = bdev_table(instance)?;
        let len = len.max(1).next_multiple_of(GRAIN);
        if let Some(alloc) = table.memory_alloc {
            let mut ptr: Handle = std::ptr::null_mut();
            instance
                .call(CallOptions::default(), &"memory_alloc", |call| {
                    // SAFETY: live handle, call and out pointer.
                    unsafe { alloc(instance.handle(), call, len, numa_node, &mut ptr) }
                })
                .map_err(|cause| failure(instance, len, &cause))?;
            if !ptr.is_null() {
                // SAFETY: the plugin gave `len` writable bytes.
                unsafe { std::ptr::write_bytes(ptr.cast::<u8>(), 0, len) };
                return Ok(Self {
                    instance: instance.clone(),
                    table,
                    ptr: ptr.cast(),
                    len,
                    owner: Owner::Plugin,
                });
            }
        }
        // SAFETY: the layout has a size above zero.
        let ptr = unsafe { std::alloc::alloc_zeroed(layout(len)) };
        if ptr.is_null() {
            return Err(failure(instance, len, &Error::from(Status::NO_MEMORY)));
        }
        let mut memory = Self {
            instance: instance.clone(),
            table,
            ptr,
            len,
            owner: Owner::Host { registered: false },
        };
        if let Some(register) = table.memory_register {
            instance
                .call(CallOptions::default(), &"memory_register", |call| {
                    // SAFETY: live handle and call; the memory stays until `drop` unregisters it.
                    unsafe { register(instance.handle(), call, ptr.cast(), len) }
                })
                .map_err(|cause| failure(instance, len, &cause))?;
            memory.owner = Owner::Host { registered: true };
        }
        Ok(memory)
    }

    /// First byte; 2 MiB aligned.
    pub fn ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// Bytes; a multiple of 2 MiB.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for PoolMemory {
    fn drop(&mut self) {
        match self.owner {
            Owner::Plugin => {
                if let Some(free) = self.table.memory_free {
                    // SAFETY: pointer and length are those of `memory_alloc`.
                    unsafe { free(self.instance.handle(), self.ptr.cast(), self.len) }
                }
            }
            Owner::Host { registered } => {
                if registered && let Some(unregister) = self.table.memory_unregister {
                    // SAFETY: live handle; pointer and length are those of the registration.
                    unsafe { unregister(self.instance.handle(), self.ptr.cast(), self.len) };
                }
                // SAFETY: allocated with the same layout in `allocate`.
                unsafe { std::alloc::dealloc(self.ptr, layout(self.len)) }
            }
        }
    }
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, GRAIN).expect("len is a multiple of the grain")
}

/// The plugin's own explanation and remedy, below a line that says what the memory was for.
fn failure(instance: &Instance, len: usize, cause: &Error) -> Error {
    let name = &instance.manifest().name;
    let remedy = match cause.remedy.as_str() {
        "" => "lower the number of targets, or allocate more hugepages if the class uses them",
        plugin => plugin,
    };
    Error::new(
        cause.status,
        format!("no {} MiB of I/O memory for plugin {name}", len >> 20),
    )
    .cause(match cause.cause.as_str() {
        "" => cause.what.clone(),
        deeper => format!("{}: {deeper}", cause.what),
    })
    .remedy(remedy)
}
