//! The lock that the one opener of storage holds: an advisory lock on a file whose text is the
//! holder's process id.

use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

/// Tries while somebody only looks whether the lock is held, and the time between them.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// A lock; released when dropped, and when the process ends.
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the file `path`, which exists. `what` names the storage in an error:
    /// "ram storage /mnt/daos".
    ///
    /// # Errors
    /// BUSY, naming the holder.
    pub fn take(path: &Path, what: &str) -> Result<Self> {
        let fail = |e: io::Error| Error::io(format!("cannot lock {}", path.display()), e);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(fail)?;
        let mut holder = String::new();
        // A probe (see `holder`) leaves no name and is over at once: try again.
        for _ in 0..TRIES {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    file.set_len(0).map_err(fail)?;
                    write!(file, "{}", std::process::id()).map_err(fail)?;
                    return Ok(Self { file });
                }
                Err(Errno::WOULDBLOCK) => {}
                Err(e) => return Err(fail(e.into())),
            }
            file.read_to_string(&mut holder).map_err(fail)?;
            if !holder.is_empty() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        let holder = named(&holder);
        Err(Error::new(Status::BUSY, format!("{what} is in use"))
            .cause(format!("{holder} has it open"))
            .remedy(format!("stop {holder} first")))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The text only informs; a stale one is never read, since only a failed lock reads it.
        let _ = self.file.set_len(0);
    }
}

/// Who holds the lock of the file `path`; changes nothing.
///
/// # Errors
/// The file cannot be opened or read.
pub fn holder(path: &Path) -> Result<Option<String>> {
    let fail = |e: io::Error| Error::io(format!("cannot look at {}", path.display()), e);
    let mut file = File::open(path).map_err(fail)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(fail)?;
            Ok(Some(named(&text)))
        }
        Err(e) => Err(fail(e.into())),
    }
}

fn named(holder: &str) -> String {
    if holder.is_empty() {
        "another process".to_owned()
    } else {
        format!("process {holder}")
    }
}
