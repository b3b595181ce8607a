//! Reading and writing files that hold secrets.

use crate::error::{Kind, Problem};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Largest file that is read as a certificate or a key: bytes.
const LARGEST: u64 = 1 << 20;

/// Widest mode of a certificate file, as in the DAOS 2.8 control plane.
pub(crate) const CERTIFICATE_MODE: u32 = 0o664;

/// Identifies the content of a file as far as a look at its inode can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|meta| Self::from(&meta))
    }
}

impl From<&std::fs::Metadata> for Stamp {
    fn from(meta: &std::fs::Metadata) -> Self {
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Reads a file whose mode must not be wider than `widest`, and what identifies it.
pub(crate) fn read(
    path: &Path,
    widest: u32,
    missing: &str,
) -> Result<(Vec<u8>, Stamp), Box<Problem>> {
    let unreadable = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound {
            return Problem::new(path, Kind::Missing, "there is no such file", missing);
        }
        Problem::new(
            path,
            Kind::Unreadable,
            format!("cannot be read: {error}"),
            "give it to the user that this program runs as, or run it as the owner",
        )
    };
    let file = File::open(path).map_err(unreadable)?;
    // Of the open file: what is checked is what is read.
    let meta = file.metadata().map_err(unreadable)?;
    let mode = meta.permissions().mode() & 0o7777;
    if !meta.is_file() {
        return Err(Problem::new(
            path,
            Kind::Unreadable,
            "is no regular file",
            missing,
        ));
    }
    if mode & !widest != 0 {
        return Err(Problem::new(
            path,
            Kind::Unreadable,
            format!("has mode {mode:04o}, which is wider than {widest:04o}"),
            format!("run: chmod {:04o} {}", mode & widest, path.display()),
        ));
    }
    let mut content = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut content)
        .map_err(unreadable)?;
    if content.len() as u64 > LARGEST {
        return Err(Problem::invalid(
            path,
            format!("is longer than {LARGEST} bytes"),
            missing,
        ));
    }
    Ok((content, Stamp::from(&meta)))
}

/// Makes a file that must not be there yet, with exactly this mode, and makes its content durable.
///
/// # Errors
/// If it is there already or cannot be written; then no part of it is left.
pub fn create(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    let written = file
        .write_all(content)
        // The umask may have taken bits away.
        .and_then(|()| file.set_permissions(std::fs::Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key is worse than none; that it could not be written is what is reported.
        let _ = std::fs::remove_file(path);
    }
    written
}
