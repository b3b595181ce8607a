//! Making the file of a device with all its space.

use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{CallContext, Error, Result};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::{Resource, getrlimit};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Bytes allocated between two looks at progress and cancellation.
const STEP: u64 = 1 << 30;
/// The same where zeroes must be written.
const WRITE_STEP: usize = 8 << 20;

/// A file that is taken back unless it is finished.
struct Unfinished<'a> {
    path: &'a Path,
    file: Option<File>,
    ours: bool,
}

impl Unfinished<'_> {
    fn finish(mut self) {
        self.file = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Some(file) = &self.file else { return };
        // What cannot be taken back stays; the error that led here is reported.
        let _ = if self.ours {
            fs::remove_file(self.path)
        } else {
            file.set_len(0)
        };
    }
}

/// Makes `path` a file of `size` zeroes, all allocated, readable and writable by its owner alone.
///
/// # Errors
/// FOREIGN for a file of another size that is not empty, unless `overwrite`; BUSY if somebody holds
/// the file; NO_SPACE, after which a file made here is gone again.
pub(crate) fn create(
    call: CallContext<'_>,
    path: &Path,
    size: u64,
    overwrite: bool,
) -> Result<Vec<String>> {
    let shown = path.display();
    check_limit(path, size)?;
    let mut notes = Vec::new();
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let (file, ours) = match options.clone().create_new(true).open(path) {
        Ok(file) => (file, true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let file = options
                .open(path)
                .map_err(|e| Error::io(format!("cannot open {shown} to format it"), e))?;
            (file, false)
        }
        Err(error) => return Err(cannot_create(path, error)),
    };
    if !ours {
        crate::data::lock(&file, path)?;
        let found = file
            .metadata()
            .map_err(|e| Error::io(format!("cannot examine {shown}"), e))?;
        crate::data::require_regular(&found, path)?;
        let len = found.len();
        if len != 0 && len != size {
            if !overwrite {
                return Err(foreign(path, len, size));
            }
            notes.push(format!("{shown} held {len} bytes, which are overwritten"));
        }
        file.set_len(0)
            .map_err(|e| Error::io(format!("cannot empty {shown}"), e))?;
    } else {
        crate::data::lock(&file, path)?;
    }
    let mut unfinished = Unfinished {
        path,
        file: Some(file),
        ours,
    };
    let file = unfinished.file.as_mut().expect("just stored");
    let failed = |error: io::Error| {
        let error = Error::io(
            format!("cannot allocate {} MiB for {shown}", size >> 20),
            error,
        );
        match error.status {
            Status::NO_SPACE => error.remedy("free space on its file system or lower bdev_size"),
            _ => error,
        }
    };
    // Its length first: a file of that length without contents is what an interrupted format leaves, and
    // what the next one takes for blank.
    file.set_len(size).map_err(failed)?;
    if !allocate(call, file, size, &failed)? {
        let note = format!("the file system of {shown} cannot reserve space: zeroes were written");
        notes.push(note);
        write_zeroes(call, file, size, &failed)?;
    }
    file.sync_all().map_err(failed)?;
    sync_directory(path)?;
    unfinished.finish();
    Ok(notes)
}

/// A file longer than the process may write ends it with SIGXFSZ, so it is not even tried.
fn check_limit(path: &Path, size: u64) -> Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if limit < size => {
            let what = format!("cannot allocate {} MiB for {}", size >> 20, path.display());
            Err(Error::new(Status::NO_SPACE, what)
                .cause(format!(
                    "files of this process are limited to {limit} bytes"
                ))
                .remedy("raise the limit of the file size (ulimit -f) or lower bdev_size"))
        }
        _ => Ok(()),
    }
}

/// The error for a file that holds something else than a device of this config.
pub(crate) fn foreign(path: &Path, len: u64, size: u64) -> Error {
    let what = format!(
        "{} holds {len} bytes that are no device of this config",
        path.display()
    );
    Error::new(Status::FOREIGN, what).cause(format!("the configured size is {size} bytes")).remedy(
        "move the file away, correct bdev_list or bdev_size, or allow overwriting foreign content",
    )
}

fn cannot_create(path: &Path, cause: io::Error) -> Error {
    let missing = cause.kind() == ErrorKind::NotFound;
    let error = Error::io(format!("cannot create {}", path.display()), cause);
    match path.parent() {
        Some(parent) if missing => error.remedy(format!("make the directory {}", parent.display())),
        _ => error,
    }
}

/// Reserves the space; false if the file system has no way to.
fn allocate(
    call: CallContext<'_>,
    file: &File,
    size: u64,
    failed: &dyn Fn(io::Error) -> Error,
) -> Result<bool> {
    let mut at = 0;
    while at < size {
        call.check_cancelled()?;
        call.progress(at, size, "allocating");
        let len = STEP.min(size - at);
        match fallocate(file, FallocateFlags::empty(), at, len) {
            Ok(()) => at += len,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::OPNOTSUPP) => return Ok(false),
            Err(error) => return Err(failed(error.into())),
        }
    }
    Ok(true)
}

fn write_zeroes(
    call: CallContext<'_>,
    file: &mut File,
    size: u64,
    failed: &dyn Fn(io::Error) -> Error,
) -> Result<()> {
    let zeroes = vec![0u8; WRITE_STEP];
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut at = 0;
    while at < size {
        call.check_cancelled()?;
        call.progress(at, size, "writing zeroes");
        let len = (WRITE_STEP as u64).min(size - at);
        file.write_all(&zeroes[..len as usize]).map_err(failed)?;
        at += len;
    }
    Ok(())
}

/// Makes the file's name durable.
fn sync_directory(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| Error::io(format!("cannot sync the directory {}", parent.display()), e))
}

/// Bytes of `found` that are allocated.
pub(crate) fn allocated(found: &fs::Metadata) -> u64 {
    found.blocks() * 512
}
