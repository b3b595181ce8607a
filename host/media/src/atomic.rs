//! Files that appear whole or not at all.
//!
//! A file is written beside its place under a staging name, made durable, and renamed into place;
//! then the directory is made durable. Whatever happens in between, the place has the old content
//! or the new one. What a crash leaves is the staging file, which the next write, or
//! [`remove_stale`], removes.
//!
//! A path must have one writer at a time.

use crate::steps;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried, for example "write".
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        FileError {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// The name under which the file at `path` is written before it appears: `.<name>.staging` in the
/// same directory.
pub fn staging_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".staging");
    path.with_file_name(name)
}

/// Writes the file at `path`, with exactly the access rights `mode`.
///
/// On return the content is durable. On error the old file, if any, is as it was, unless making
/// the directory durable failed: then it is the old or the new one.
///
/// # Errors
/// [`FileError`], with the staging file removed where that was possible.
pub fn write(path: &Path, mode: u32, content: &[u8]) -> Result<(), FileError> {
    let staging = staging_path(path);
    remove_stale(path)?;
    let written = write_staging(&staging, mode, content).and_then(|()| {
        steps::reached("file-staged");
        fs::rename(&staging, path)
    });
    if let Err(error) = written {
        // The first error is the one to tell.
        let _ = fs::remove_file(&staging);
        return Err(FileError::new("write", path, error));
    }
    steps::reached("file-renamed");
    sync_directory(path)
}

fn write_staging(staging: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    // `create_new` follows no symbolic link; the file is private until it is complete.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(staging)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
    file.sync_all()
}

/// Removes what an interrupted write to `path` left; true if there was something.
///
/// # Errors
/// [`FileError`].
pub fn remove_stale(path: &Path) -> Result<bool, FileError> {
    let staging = staging_path(path);
    match fs::remove_file(&staging) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FileError::new("remove the stale file", &staging, error)),
    }
}

/// Removes the file at `path` and makes that durable, together with what an interrupted write left;
/// true if the file was there.
///
/// # Errors
/// [`FileError`].
pub fn remove(path: &Path) -> Result<bool, FileError> {
    remove_stale(path)?;
    let removed = match fs::remove_file(path) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(FileError::new("remove", path, error)),
    };
    if removed {
        steps::reached("file-removed");
        sync_directory(path)?;
    }
    Ok(removed)
}

/// Reads the file at `path`, which must have at most `limit` bytes; `None` if there is none.
///
/// # Errors
/// [`FileError`].
pub fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    use std::io::Read as _;

    let fail = |error| FileError::new("read", path, error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut content = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut content)
        .map_err(fail)?;
    if content.len() as u64 > limit {
        let text = format!("it has more than {limit} bytes");
        return Err(fail(io::Error::new(ErrorKind::InvalidData, text)));
    }
    Ok(Some(content))
}

fn sync_directory(path: &Path) -> Result<(), FileError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| FileError::new("sync the directory", directory, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn writes_replaces_and_removes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for (content, mode) in [("one", 0o660), ("second", 0o664)] {
            write(&path, mode, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
                mode
            );
            assert_eq!(names(dir.path()), ["f"], "no staging file stays");
        }
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
        assert!(read(&path, 10).unwrap().is_none());
    }

    #[test]
    fn a_stale_staging_file_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(staging_path(&path), "torn").unwrap();
        write(&path, 0o600, b"whole").unwrap();
        assert_eq!(names(dir.path()), ["f"]);
        fs::write(staging_path(&path), "torn").unwrap();
        assert!(remove_stale(&path).unwrap());
        assert!(!remove_stale(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
    }

    #[test]
    fn a_link_in_the_way_is_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("f"), dir.path().join("other"));
        fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, staging_path(&path)).unwrap();
        write(&path, 0o600, b"new").unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        // A directory cannot be replaced by a file.
        let path = dir.path().join("f");
        fs::create_dir(&path).unwrap();
        let text = write(&path, 0o600, b"x").unwrap_err().to_string();
        assert!(
            text.starts_with("cannot write ") && text.contains("/f: "),
            "{text}"
        );
        assert_eq!(names(dir.path()), ["f"]);
        let missing = dir.path().join("missing/f");
        assert!(write(&missing, 0o600, b"x").is_err());
    }

    #[test]
    fn a_file_too_large_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap().unwrap(), b"12345");
        assert!(
            read(&path, 4)
                .unwrap_err()
                .to_string()
                .contains("more than 4 bytes")
        );
    }
}
