//! Where regions are mapped, for the moment when one cannot be accessed: a load from a bad block of persistent
//! memory, or a store behind the end of a file that somebody has cut, is a SIGBUS.
//!
//! The handler of a signal may take no memory and no lock. All that it tells - the file, its device, the
//! blocks it lies in - is found out when the region is mapped.

use daos_plugin_api::host::Board;
use rustix::fs::{major, minor};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Regions that can be mapped at once; of more than these nothing is told.
const MOST: usize = 512;

/// What is known of a mapped region.
#[derive(Debug)]
struct Known {
    /// Its file.
    path: Vec<u8>,
    /// Its file system's device, empty if it has none: `/dev/pmem0`.
    device: Vec<u8>,
    /// Where the mapping begins in the file.
    start: u64,
    /// Where the file lies on the device.
    extents: Vec<Extent>,
    /// The file that marks it as failed.
    mark: CString,
}

/// A piece of a file in one piece of its device. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
}

struct Slot {
    start: AtomicUsize,
    len: AtomicUsize,
    /// Leaked: a handler may be looking.
    known: AtomicPtr<Known>,
}

static SLOTS: [Slot; MOST] = [const {
    Slot {
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        known: AtomicPtr::new(ptr::null_mut()),
    }
}; MOST];

/// A region is known to the handler as long as this lives.
#[derive(Debug)]
pub(crate) struct Mapped(Option<usize>);

/// Makes `len` bytes at `address` known as those of an open file from `start` on.
pub(crate) fn know(address: usize, len: usize, file: &File, path: &Path, start: u64) -> Mapped {
    let Ok(mark) = CString::new(mark_of(path).into_os_string().as_bytes()) else {
        return Mapped(None);
    };
    let known = Known {
        path: path.as_os_str().as_bytes().to_vec(),
        device: device_of(file).unwrap_or_default(),
        start,
        extents: extents(file).unwrap_or_default(),
        mark,
    };
    let known = Box::into_raw(Box::new(known));
    let free = SLOTS.iter().position(|slot| {
        let taken = slot.known.compare_exchange(
            ptr::null_mut(),
            known,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        taken.is_ok()
    });
    if let Some(index) = free {
        let slot = &SLOTS[index];
        slot.start.store(address, Ordering::Release);
        slot.len.store(len, Ordering::Release);
    }
    Mapped(free)
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if let Some(slot) = self.0.map(|index| &SLOTS[index]) {
            slot.len.store(0, Ordering::Release);
            slot.start.store(0, Ordering::Release);
            slot.known.store(ptr::null_mut(), Ordering::Release);
        }
    }
}

/// The file that marks a region as failed: it has the line that the engine said when it died of it.
fn mark_of(region: &Path) -> PathBuf {
    let mut name = region.as_os_str().to_owned();
    name.push(".failed");
    PathBuf::from(name)
}

/// What the mark of a region says, and where it is; `None` if the region is not marked as failed.
pub(crate) fn failed(region: &Path) -> Option<(PathBuf, String)> {
    let mark = mark_of(region);
    let text = std::fs::read_to_string(&mark).ok()?;
    Some((mark, text.trim().to_owned()))
}

/// A line that is put together without memory of its own.
struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Line {
    fn add(&mut self, text: &[u8]) {
        // The last byte is for the end of the line.
        let count = text.len().min(self.bytes.len() - 1 - self.len);
        self.bytes[self.len..self.len + count].copy_from_slice(&text[..count]);
        self.len += count;
    }

    fn add_number(&mut self, mut number: u64, base: u64) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b"0123456789abcdef"[(number % base) as usize];
            number /= base;
            if number == 0 {
                break;
            }
        }
        self.add(&digits[at..]);
    }
}

/// Tells that an address in a mapped region cannot be accessed, and marks the region as failed; `false` if the
/// address is in none. Async-signal-safe.
pub(crate) fn tell_failure(prefix: &str, address: usize) -> bool {
    let Some((known, offset)) = find(address) else {
        return false;
    };
    let at = known.start + offset;
    let mut line = Line {
        bytes: [0; 512],
        len: 0,
    };
    line.add(prefix.as_bytes());
    line.add(b"SIGBUS at 0x");
    line.add_number(address as u64, 16);
    line.add(b": byte ");
    line.add_number(at, 10);
    line.add(b" of the region ");
    line.add(&known.path);
    line.add(b" cannot be accessed");
    let in_extent = |e: &&Extent| (e.logical..e.logical + e.length).contains(&at);
    if !known.device.is_empty() {
        line.add(b" (");
        if let Some(extent) = known.extents.iter().find(in_extent) {
            line.add(b"sector ");
            line.add_number((extent.physical + at - extent.logical) / 512, 10);
            line.add(b" of ");
        }
        line.add(&known.device);
        line.add(b")");
    }
    Board::leave_words(&line.bytes[prefix.len()..line.len]);
    line.bytes[line.len] = b'\n';
    let written = &line.bytes[..=line.len];
    // SAFETY: plain system calls with memory that is there; what cannot be written is lost.
    unsafe {
        libc::write(libc::STDERR_FILENO, written.as_ptr().cast(), written.len());
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC;
        let mark = libc::open(known.mark.as_ptr(), flags, 0o600);
        if mark >= 0 {
            let words = &written[prefix.len()..];
            libc::write(mark, words.as_ptr().cast(), words.len());
            libc::fsync(mark);
            libc::close(mark);
        }
    }
    true
}

/// The region that an address is in, and how far.
fn find(address: usize) -> Option<(&'static Known, u64)> {
    SLOTS.iter().find_map(|slot| {
        let len = slot.len.load(Ordering::Acquire);
        let start = slot.start.load(Ordering::Acquire);
        let offset = address.checked_sub(start).filter(|offset| *offset < len)?;
        // SAFETY: what a slot points to is never freed.
        let known = unsafe { slot.known.load(Ordering::Acquire).as_ref() }?;
        Some((known, offset as u64))
    })
}

/// The device of a file's file system.
fn device_of(file: &File) -> Option<Vec<u8>> {
    let number = file.metadata().ok()?.dev();
    let (major, minor) = (major(number), minor(number));
    let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let name = link.file_name()?.as_bytes();
    Some([b"/dev/", name].concat())
}

/// Where a file lies on its device. Regions are allocated in full and stay where they are.
fn extents(file: &File) -> Option<Vec<Extent>> {
    /// `_IOWR('f', 11, struct fiemap)` of <linux/fs.h>.
    const FS_IOC_FIEMAP: libc::Ioctl = 0xc020_660b_u32 as libc::Ioctl;
    const FIEMAP_FLAG_SYNC: u32 = 1;
    const ROOM: usize = 64;

    /// `struct fiemap` and `struct fiemap_extent` of <linux/fiemap.h>.
    #[repr(C)]
    struct Fiemap {
        start: u64,
        length: u64,
        flags: u32,
        mapped_extents: u32,
        extent_count: u32,
        reserved: u32,
        extents: [FiemapExtent; ROOM],
    }

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct FiemapExtent {
        logical: u64,
        physical: u64,
        length: u64,
        reserved64: [u64; 2],
        flags: u32,
        reserved: [u32; 3],
    }

    let mut found = Vec::new();
    let mut start = 0;
    loop {
        // SAFETY: numbers alone; all zeroes are valid.
        let mut map: Fiemap = unsafe { std::mem::zeroed() };
        map.start = start;
        map.length = u64::MAX - start;
        map.flags = FIEMAP_FLAG_SYNC;
        map.extent_count = ROOM as u32;
        // SAFETY: the structure that the request is for, with room for as many extents as it says.
        let outcome = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) };
        if outcome != 0 {
            // A file system in memory, or of another host.
            return None;
        }
        let count = (map.mapped_extents as usize).min(ROOM);
        found.extend(map.extents[..count].iter().map(|e| Extent {
            logical: e.logical,
            physical: e.physical,
            length: e.length,
        }));
        match found.last() {
            Some(last) if count == ROOM => start = last.logical + last.length,
            _ => return Some(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_its_region_as_long_as_that_is_mapped() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("log");
        std::fs::write(&path, [7; 9000]).expect("a file");
        let file = File::open(&path).expect("a file");
        // Nothing is mapped there.
        let mapped = know(0x10_0000, 8192, &file, &path, 4096);
        let (known, offset) = find(0x10_1000).expect("in the region");
        assert_eq!((known.start, offset), (4096, 4096));
        assert_eq!(known.path, path.as_os_str().as_bytes());
        assert!(find(0xf_ffff).is_none() && find(0x10_2000).is_none());

        assert!(failed(&path).is_none());
        assert!(!tell_failure("x: ", 0x10_2000));
        assert!(tell_failure("x: ", 0x10_0010));
        let (mark, text) = failed(&path).expect("marked");
        assert_eq!(mark, dir.path().join("log.failed"));
        assert!(
            text.starts_with("SIGBUS at 0x100010: byte 4112 of the region /"),
            "{text}"
        );
        assert!(text.contains("log cannot be accessed"), "{text}");
        drop(mapped);
        assert!(find(0x10_1000).is_none());
    }

    #[test]
    fn extents_cover_a_file_where_the_file_system_tells() {
        let dir = tempfile::tempdir_in(".").expect("temp dir");
        let path = dir.path().join("file");
        std::fs::write(&path, [7; 9000]).expect("a file");
        let Some(extents) = extents(&File::open(&path).expect("a file")) else {
            return;
        };
        let covered: u64 = extents.iter().map(|e| e.length).sum();
        assert!(covered >= 9000, "{extents:?}");
        assert_eq!(extents[0].logical, 0);
    }

    #[test]
    fn a_line_is_cut_rather_than_written_behind_its_end() {
        let mut line = Line {
            bytes: [0; 512],
            len: 0,
        };
        line.add_number(0, 10);
        line.add_number(u64::MAX, 10);
        line.add_number(0xbeef, 16);
        assert_eq!(&line.bytes[..line.len], b"018446744073709551615beef");
        (0..100).for_each(|_| line.add(b"0123456789"));
        assert_eq!(line.len, 511);
    }
}
