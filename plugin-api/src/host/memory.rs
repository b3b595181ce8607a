//! I/O memory of an engine: allocated by the bdev plugin, or by the host and offered to it.

use super::bdev::bdev_table;
use super::call::CallOptions;
use super::crumb::CallName;
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
                .call(CallOptions::default(), CallName::MemoryAlloc, |call| {
                    // SAFETY: live handle, call and out pointer.
                    unsafe { alloc(instance.handle(), call, len, numa_node, &mut ptr) }
                })
                .map_err(|cause| failure(instance, len, &cause))?;
            // Null leaves it to the host.
            if !ptr.is_null() {
                check_given(ptr.addr(), len).map_err(|why| given_wrongly(instance, why))?;
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
                .call(CallOptions::default(), CallName::MemoryRegister, |call| {
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
                    self.instance.inside(CallName::MemoryFree, || unsafe {
                        free(self.instance.handle(), self.ptr.cast(), self.len)
                    });
                }
            }
            Owner::Host { registered } => {
                if registered && let Some(unregister) = self.table.memory_unregister {
                    // SAFETY: live handle; pointer and length are those of the registration.
                    self.instance.inside(CallName::MemoryUnregister, || unsafe {
                        unregister(self.instance.handle(), self.ptr.cast(), self.len)
                    });
                }
                // SAFETY: allocated with the same layout in `allocate`.
                unsafe { std::alloc::dealloc(self.ptr, layout(self.len)) }
            }
        }
    }
}

/// What is wrong with memory that a plugin gave, as far as this process can tell without touching it.
fn check_given(start: usize, len: usize) -> Result<(), String> {
    let Some(end) = start.checked_add(len) else {
        return Err(format!("{len} bytes at {start:#x} go beyond all memory"));
    };
    if !start.is_multiple_of(GRAIN) {
        return Err(format!("{start:#x} is not a multiple of 2 MiB"));
    }
    // Where the kernel does not tell, the first access will.
    match std::fs::read_to_string("/proc/self/maps") {
        Ok(maps) if !is_writable(&maps, start, end) => Err(format!(
            "the {len} bytes at {start:#x} are not mapped, or may not be written to"
        )),
        _ => Ok(()),
    }
}

/// Whether mappings of `/proc/PID/maps`, which are in order, let all of a range be read and written.
fn is_writable(maps: &str, start: usize, end: usize) -> bool {
    let mut from = start;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let range = words.next().and_then(|range| range.split_once('-'));
        let number = |text| usize::from_str_radix(text, 16).unwrap_or(0);
        let (first, behind) = range.map_or((0, 0), |(a, b)| (number(a), number(b)));
        let is_open = words.next().is_some_and(|mode| mode.starts_with("rw"));
        if from >= behind || !is_open {
            continue;
        }
        if first > from {
            return false;
        }
        from = behind;
        if from >= end {
            return true;
        }
    }
    false
}

fn given_wrongly(instance: &Instance, why: String) -> Error {
    let plugin = instance.described();
    Error::new(
        Status::INTERNAL,
        format!("plugin {plugin}, call memory_alloc: it gave memory that cannot be used"),
    )
    .cause(why)
    .remedy("report this to the plugin's vendor")
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

#[cfg(test)]
mod tests {
    use super::is_writable;

    #[test]
    fn a_range_is_writable_where_mappings_without_a_gap_say_so() {
        let maps = "1000-3000 rw-p 00000000 00:00 0\n3000-5000 rw-s 00000000 00:01 7 /dev/zero\n\
                    5000-6000 r--p 00000000 00:00 0 \n7000-9000 rw-p 00000000 00:00 0 [heap]\n";
        for (start, end, expected) in [
            (0x1000, 0x3000, true),
            (0x1000, 0x5000, true),
            (0x2000, 0x4000, true),
            (0x0, 0x2000, false),
            (0x4000, 0x6000, false),
            (0x5000, 0x6000, false),
            (0x6000, 0x8000, false),
            (0x7000, 0x9000, true),
            (0x8000, 0xa000, false),
        ] {
            assert_eq!(is_writable(maps, start, end), expected, "{start:x}-{end:x}");
        }
    }
}
