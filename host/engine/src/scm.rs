//! The log's memory in a region of the SCM plugin.
//!
//! It is written through the mapping and read, at recovery, through the file behind it: a medium
//! error is an error of pread(2), where a load from the mapping would end the process. A region that
//! no file stands behind is read from the mapping.

use crate::defect::Defect;
use crate::log::{LogError, LogMemory};
use crate::mapped::{self, Mapped};
use daos_plugin_api::abi::Status;
use daos_plugin_api::host::ScmMapping;
use daos_plugin_api::sdk::Error;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

/// A mapped region that one log uses.
pub struct ScmLog {
    // Before the mapping ends, the handler of SIGBUS forgets it.
    _known: Option<Mapped>,
    mapping: ScmMapping,
    file: Option<RegionFile>,
}

/// The file that a region is mapped from.
#[derive(Debug)]
pub struct RegionFile {
    file: File,
    path: PathBuf,
    /// Where the region begins in it.
    start: u64,
    len: u64,
}

impl RegionFile {
    /// The file behind `len` bytes of memory at `address`, as the kernel knows it; `None` if there is
    /// none, or none that can be opened and is the same file still.
    fn behind(address: usize, len: usize) -> Option<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let place = maps.lines().find_map(|line| Place::of(line, address))?;
        if place.end - address < len {
            return None; // several mappings: not how a region of a file looks
        }
        let path = PathBuf::from(place.path);
        let file = File::open(&path).ok()?;
        let found = file.metadata().ok()?;
        (found.ino() == place.inode).then_some(Self {
            file,
            path,
            start: place.offset + (address - place.start) as u64,
            len: len as u64,
        })
    }

    /// Another handle of the same file.
    pub fn try_clone(&self) -> Option<Self> {
        Some(Self {
            file: self.file.try_clone().ok()?,
            path: self.path.clone(),
            ..*self
        })
    }

    /// What happened to the file under the running engine, if anything: it is not all there, so a
    /// store to the mapping would end the process, or whoever starts next does not find it.
    pub fn loss(&self) -> Option<String> {
        let path = self.path.display();
        match self.file.metadata() {
            Err(error) => Some(format!("{path}: {error}")),
            Ok(found) if found.nlink() == 0 => Some(format!("{path} was deleted")),
            Ok(found) if found.len() < self.start + self.len => Some(format!(
                "{path} was cut to {} of {} bytes",
                found.len(),
                self.start + self.len
            )),
            Ok(_) => None,
        }
    }

    /// Why it must not be used any more, if an engine died of it.
    pub fn failure(&self) -> Option<String> {
        let (mark, what) = mapped::failed(&self.path)?;
        Some(format!(
            "the region is marked as failed: {what}; format the storage anew, or, if the memory has been mended and what \
             it held is there, remove {}",
            mark.display()
        ))
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), Status> {
        let at = self.start + offset as u64;
        self.file.read_exact_at(out, at).map_err(|error| {
            let path = self.path.display();
            tracing::error!(%error, at, bytes = out.len(), "{path} cannot be read");
            Status::MEDIA
        })
    }
}

/// Whether `maps` (the text of /proc/self/maps) has `len` bytes from `start` on, one mapping after the other, all for
/// reading and writing.
fn is_mapped(maps: &str, start: usize, len: usize) -> bool {
    let Some(end) = start.checked_add(len) else {
        return false;
    };
    let mut at = start;
    for line in maps.lines() {
        let Some((range, rest)) = line.split_once(' ') else {
            continue;
        };
        if let Some((from, to)) = addresses(range)
            && (from..to).contains(&at)
            && rest.starts_with("rw")
        {
            at = to;
        }
    }
    at >= end
}

/// The numbers of `start-end`.
fn addresses(range: &str) -> Option<(usize, usize)> {
    let (start, end) = range.split_once('-')?;
    Some((
        usize::from_str_radix(start, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    ))
}

/// A line of /proc/self/maps: start-end rights offset device inode path; numbers are hexadecimal but
/// for the inode.
struct Place<'a> {
    start: usize,
    end: usize,
    offset: u64,
    inode: u64,
    path: &'a str,
}

impl<'a> Place<'a> {
    fn of(line: &'a str, address: usize) -> Option<Self> {
        let mut parts = line.splitn(6, ' ');
        let (start, end) = addresses(parts.next()?)?;
        if !(start..end).contains(&address) {
            return None;
        }
        let offset = u64::from_str_radix(parts.nth(1)?, 16).ok()?;
        let inode = parts.nth(1)?.parse().ok()?;
        let path = parts.next()?.trim_start();
        path.starts_with('/').then_some(Self {
            start,
            end,
            offset,
            inode,
            path,
        })
    }
}

impl ScmLog {
    /// Uses a whole region.
    ///
    /// # Errors
    /// INTERNAL if the plugin has not mapped it for reading and writing: a first access would end the process, and
    /// nobody could tell in whose call.
    pub fn new(mapping: ScmMapping) -> Result<Self, Error> {
        let (address, len) = (mapping.ptr().addr(), mapping.len());
        // Where the kernel tells nothing the plugin is believed.
        if let Ok(maps) = std::fs::read_to_string("/proc/self/maps")
            && !is_mapped(&maps, address, len)
        {
            let plugin = mapping.memory().instance().described();
            return Err(Error::new(
                Status::INTERNAL,
                format!("plugin {plugin}, call open_region: it mapped nothing"),
            )
            .cause(format!(
                "{len} bytes at {address:#x} are not all there to be read and written"
            ))
            .remedy("report this to the plugin's vendor"));
        }
        let file = RegionFile::behind(address, len);
        let know =
            |file: &RegionFile| mapped::know(address, len, &file.file, &file.path, file.start);
        Ok(Self {
            _known: file.as_ref().map(know),
            file,
            mapping,
        })
    }

    /// The file behind it.
    pub fn file(&self) -> Option<&RegionFile> {
        self.file.as_ref()
    }

    fn place(&self, offset: usize, len: usize) -> *mut u8 {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.mapping.len()),
            "{len} bytes at {offset} leave the region"
        );
        self.mapping.ptr().wrapping_add(offset)
    }
}

impl LogMemory for ScmLog {
    fn len(&self) -> usize {
        self.mapping.len()
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), Status> {
        let from = self.place(offset, out.len());
        if let Some(file) = &self.file {
            return file.read(offset, out);
        }
        // SAFETY: inside the mapping (`place`), which only this object uses; `out` is elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        let to = self.place(offset, data.len());
        // SAFETY: as for `read`.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) };
    }

    fn persist(&mut self, offset: usize, len: usize) -> Result<(), LogError> {
        self.mapping.persist(offset, len).map_err(|status| {
            let plugin = self.mapping.memory().instance();
            LogError::Plugin(Defect::failed(plugin, "persist", status))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_not_all_there_is_not_mapped() {
        let maps = "1000-3000 rw-s 0 00:1a 42 /a\n3000-4000 rw-p 0 00:00 0 \n4000-5000 r--p 0 00:00 0 \n8000-9000 rw-p 0 0";
        for (start, len, expected) in [
            (0x1000, 0x3000, true),
            (0x2000, 0x1001, true),
            (0x1000, 0x3001, false),
            (0x4000, 0x1000, false),
            (0x5000, 1, false),
            (0x8000, 0x1001, false),
            (0x8000, usize::MAX, false),
        ] {
            assert_eq!(is_mapped(maps, start, len), expected, "{start:x} {len:x}");
        }
    }

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let line = "7f10-7f20 rw-s 00001000 00:1a 42                    /mnt/a b/target-0.log";
        let place = Place::of(line, 0x7f18).unwrap();
        assert_eq!((place.start, place.end), (0x7f10, 0x7f20));
        assert_eq!((place.offset, place.inode), (0x1000, 42));
        assert_eq!(place.path, "/mnt/a b/target-0.log");
        assert!(Place::of(line, 0x7f20).is_none());
        for other in [
            "",
            "x",
            "7f10-7f20 rw-p 00000000 00:00 0 ",
            "7f10-7f20 r-xp 0 00:00 0   [vdso]",
        ] {
            assert!(Place::of(other, 0x7f18).is_none(), "{other}");
        }
        let on_stack = 0u64;
        assert!(RegionFile::behind((&raw const on_stack).addr(), 8).is_none());
    }
}
