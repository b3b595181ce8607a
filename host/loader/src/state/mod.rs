//! `state_dir`: what must survive a restart of the daemon, as small JSON files.
//!
//! Files are replaced as a whole (temporary file, sync, rename, sync of the directory), so a crash
//! leaves the old or the new one. Every change is made under a lock file, since the daemon and its
//! command line (`daos_server plugin reset`) may both make one.

mod incidents;
mod leases;
mod quarantine;

pub use incidents::Incident;
pub use leases::{Lease, LeaseError, Leases};
pub use quarantine::{Quarantine, QuarantineRecord, Suspect};

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Serialize, de::DeserializeOwned};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The state directory.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// State cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {}: {cause}; {}", path.display(), remedy(.verb))]
pub struct StateError {
    /// "read", "write" ...
    pub verb: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    pub cause: std::io::Error,
}

fn remedy(verb: &str) -> &'static str {
    match verb {
        "understand" => "move the file away to start without what it recorded",
        _ => "check space and permissions of state_dir",
    }
}

impl StateDir {
    /// Opens the directory, making it (mode 0700) and its parents if needed.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StateError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = path.into();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|cause| StateError {
                verb: "make",
                path: path.clone(),
                cause,
            })?;
        Ok(Self { path })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a document (JSON) by the name of its file; absent files are the default one.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn read<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, StateError> {
        let path = self.path.join(name);
        let fail = |verb, cause| StateError {
            verb,
            path: path.clone(),
            cause,
        };
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| fail("understand", e.into())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
            Err(e) => Err(fail("read", e)),
        }
    }

    /// Changes a document under the lock; `f` says whether to write it back, durably.
    ///
    /// # Errors
    /// It cannot be read, understood or written.
    pub fn update<T: Serialize + DeserializeOwned + Default, R>(
        &self,
        name: &str,
        f: impl FnOnce(&mut T) -> (bool, R),
    ) -> Result<R, StateError> {
        let _lock = self.lock()?;
        let mut document: T = self.read(name)?;
        let (changed, result) = f(&mut document);
        if changed {
            self.write(name, &document)?;
        }
        Ok(result)
    }

    /// Replaces a document; under the lock.
    fn write(&self, name: &str, document: &impl Serialize) -> Result<(), StateError> {
        self.replace(name, document).map_err(|cause| StateError {
            verb: "write",
            path: self.path.join(name),
            cause,
        })
    }

    /// Held until dropped. The lock file itself is never removed.
    fn lock(&self) -> Result<File, StateError> {
        let path = self.path.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
            .and_then(|file| {
                rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
                Ok(file.into())
            })
            .map_err(|e| StateError {
                verb: "lock",
                path,
                cause: e.into(),
            })
    }

    fn replace(&self, name: &str, document: &impl Serialize) -> std::io::Result<()> {
        let temporary = self.path.join(format!("{name}.new"));
        let mut file = File::create(&temporary)?;
        serde_json::to_writer_pretty(&file, document)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&temporary, self.path.join(name))?;
        File::open(&self.path)?.sync_all()
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}
