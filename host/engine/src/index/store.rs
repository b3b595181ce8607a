//! The index file: a redb database on the SCM mount.

use super::overlay::Batch;
use super::value::Damaged;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;
use uuid::Uuid;

const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
const CLIENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("clients");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const APPLIED: &str = "applied";
const IDENTITY: &str = "identity";

/// Why the index failed.
#[derive(Debug, Error)]
pub enum IndexError {
    /// No space left in the file's share of SCM.
    #[error("the index has no space left: {0}")]
    NoSpace(String),
    /// The file or an entry in it is damaged.
    #[error("the index is damaged: {0}")]
    Corrupt(String),
    /// Reading or writing the file failed.
    #[error("the index file failed: {0}")]
    Io(String),
}

impl From<Damaged> for IndexError {
    fn from(damaged: Damaged) -> Self {
        Self::Corrupt(damaged.to_string())
    }
}

impl From<redb::Error> for IndexError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(text) => Self::Corrupt(text),
            redb::Error::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                Self::NoSpace(error.to_string())
            }
            other => Self::Io(other.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($type:ty),*) => { $(impl From<$type> for IndexError {
        fn from(error: $type) -> Self {
            redb::Error::from(error).into()
        }
    })* };
}
from_redb!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

/// File with a limit, all of it allocated, so that a full SCM is an error of `set_len` and not of
/// some later write.
#[derive(Debug)]
struct Backend {
    file: File,
    limit: u64,
    /// Bytes that it shall have.
    len: AtomicU64,
}

impl Backend {
    /// Whether the file is still what it was when it was opened. A commit to a file that somebody
    /// deleted or cut must not let the log forget anything.
    fn check(&self) -> io::Result<()> {
        let found = self.file.metadata()?;
        let len = self.len.load(Ordering::Relaxed);
        let why = match (found.nlink(), found.len()) {
            (0, _) => "the file was deleted under the running engine".to_owned(),
            (_, now) if now < len => {
                format!("the file was cut to {now} of {len} bytes under the running engine")
            }
            _ => return Ok(()),
        };
        Err(io::Error::other(why))
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.limit {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("{len} bytes wanted, {} allowed", self.limit),
            ));
        }
        let before = self.file.metadata()?.len();
        if len > before {
            rustix::fs::fallocate(
                &self.file,
                rustix::fs::FallocateFlags::empty(),
                before,
                len - before,
            )?;
        }
        self.file.set_len(len)?;
        self.len.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}

/// The index file and a view of its last commit.
pub struct Store {
    database: Arc<Database>,
    entries: ReadOnlyTable<&'static [u8], &'static [u8]>,
    applied: u64,
    identity: Vec<u8>,
}

/// Commits batches to an index file, from any thread.
#[derive(Clone)]
pub struct Writer {
    database: Arc<Database>,
}

/// Opens a database file of at most `limit` bytes, or makes one. Whatever it has is allocated, see
/// [`Store::open`].
///
/// # Errors
/// As for [`Store::open`].
pub fn database(path: &Path, limit: u64, cache: usize) -> Result<Database, IndexError> {
    let at = |error: io::Error| IndexError::Io(format!("{}: {error}", path.display()));
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(at)?;
    let len = AtomicU64::new(file.metadata().map_err(at)?.len());
    checked(
        Database::builder()
            .set_cache_size(cache)
            .create_with_backend(Backend { file, limit, len })?,
    )
}

/// First bytes of a database file; redb writes them last when it makes one.
const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// Removes a database file whose making was interrupted, so that it is made anew. Only for files that
/// nobody can have relied on yet: a finished one whose beginning is damaged looks the same.
///
/// # Errors
/// If the file cannot be read or removed.
pub fn discard_unfinished(path: &Path) -> Result<(), IndexError> {
    let at = |error: io::Error| IndexError::Io(format!("{}: {error}", path.display()));
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(at)?,
    };
    let mut begin = [0u8; MAGIC.len()];
    match file.read_exact_at(&mut begin, 0) {
        Ok(()) if begin == MAGIC => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(at(error)),
        _ => {}
    }
    tracing::info!(file = %path.display(), "making it was interrupted; it is made anew");
    std::fs::remove_file(path).map_err(at)
}

/// Every page against its checksum: one that changed might lead to the wrong entry, or to none.
fn checked(mut database: Database) -> Result<Database, IndexError> {
    if !database.check_integrity()? {
        // To the commit before, if it had to be; whether the log has what is missing is seen then.
        tracing::warn!("a database file was damaged and went back to an intact state");
    }
    Ok(database)
}

impl Store {
    /// Opens the index file, or makes one. `limit` is the most bytes that it may have, `cache` the
    /// bytes of memory for its pages.
    ///
    /// # Errors
    /// [`IndexError`]: damaged, full, or not readable.
    pub fn open(path: &Path, limit: u64, cache: usize) -> Result<Self, IndexError> {
        Self::over(database(path, limit, cache)?)
    }

    /// Opens or makes an index on anything that can be read, written and synced.
    ///
    /// # Errors
    /// As for `open`.
    pub fn on(backend: impl StorageBackend, cache: usize) -> Result<Self, IndexError> {
        Self::over(checked(
            Database::builder()
                .set_cache_size(cache)
                .create_with_backend(backend)?,
        )?)
    }

    fn over(database: Database) -> Result<Self, IndexError> {
        let write = database.begin_write()?;
        let (applied, identity) = {
            write.open_table(ENTRIES)?;
            write.open_table(CLIENTS)?;
            let meta = write.open_table(META)?;
            let applied = match meta.get(APPLIED)? {
                None => 0,
                Some(bytes) => u64::from_le_bytes(bytes.value().try_into().map_err(|_| {
                    IndexError::Corrupt("the applied sequence is no number".into())
                })?),
            };
            let identity = meta.get(IDENTITY)?.map(|bytes| bytes.value().to_vec());
            (applied, identity.unwrap_or_default())
        };
        write.commit()?;
        let entries = database.begin_read()?.open_table(ENTRIES)?;
        Ok(Self {
            database: Arc::new(database),
            entries,
            applied,
            identity,
        })
    }

    /// What `set_identity` was told; empty in a new file.
    pub fn identity(&self) -> &[u8] {
        &self.identity
    }

    /// Marks the file as somebody's; durable on return.
    ///
    /// # Errors
    /// As for a commit.
    pub fn set_identity(&mut self, identity: &[u8]) -> Result<(), IndexError> {
        let write = self.database.begin_write()?;
        write.open_table(META)?.insert(IDENTITY, identity)?;
        write.commit()?;
        self.identity = identity.to_vec();
        Ok(())
    }

    /// Last log sequence in the file.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Commits from other threads.
    pub fn writer(&self) -> Writer {
        Writer {
            database: Arc::clone(&self.database),
        }
    }

    /// Takes note of a commit up to `applied`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn refresh(&mut self, applied: u64) -> Result<(), IndexError> {
        self.entries = self.database.begin_read()?.open_table(ENTRIES)?;
        self.applied = applied;
        Ok(())
    }

    /// The rows of all clients.
    ///
    /// # Errors
    /// If the file cannot be read or a key is no client.
    pub fn clients(&self) -> Result<Vec<(Uuid, Vec<u8>)>, IndexError> {
        let table = self.database.begin_read()?.open_table(CLIENTS)?;
        let mut rows = Vec::new();
        for row in table.range::<&[u8]>(..)? {
            let (key, value) = row?;
            let client = Uuid::from_slice(key.value())
                .map_err(|_| IndexError::Corrupt("the name of a client is none".into()))?;
            rows.push((client, value.value().to_vec()));
        }
        Ok(rows)
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn get<R>(&self, key: &[u8], f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, IndexError> {
        Ok(self.entries.get(key)?.map(|value| f(value.value())))
    }

    /// Shows entries whose key begins with `prefix` in order until `f` returns false.
    ///
    /// # Errors
    /// If the file cannot be read, and what `f` returns.
    pub fn scan(
        &self,
        prefix: &[u8],
        f: impl FnMut(&[u8], &[u8]) -> Result<bool, IndexError>,
    ) -> Result<(), IndexError> {
        self.scan_from(prefix, prefix, f)
    }

    /// Likewise, from the first key not below `start`.
    ///
    /// # Errors
    /// As for `scan`.
    pub fn scan_from(
        &self,
        start: &[u8],
        prefix: &[u8],
        mut f: impl FnMut(&[u8], &[u8]) -> Result<bool, IndexError>,
    ) -> Result<(), IndexError> {
        for entry in self.entries.range::<&[u8]>(start..)? {
            let (key, value) = entry?;
            if !key.value().starts_with(prefix) || !f(key.value(), value.value())? {
                break;
            }
        }
        Ok(())
    }
}

impl Store {
    /// Shows entries from `start` on and below `end`, last first, until `f` returns false.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn scan_back(
        &self,
        start: &[u8],
        end: &[u8],
        mut f: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexError> {
        for entry in self.entries.range::<&[u8]>(start..end)?.rev() {
            let (key, value) = entry?;
            if !f(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }
}

impl Writer {
    /// Commits a batch; durable on return.
    ///
    /// # Errors
    /// [`IndexError`]; nothing of the batch is in the file then.
    pub fn commit(&self, batch: &Batch) -> Result<(), IndexError> {
        let write = self.database.begin_write()?;
        {
            let mut entries = write.open_table(ENTRIES)?;
            for (key, value) in &batch.changes {
                match value {
                    Some(value) => entries.insert(&**key, &**value)?,
                    None => entries.remove(&**key)?,
                };
            }
            let mut clients = write.open_table(CLIENTS)?;
            for (client, row) in &batch.clients {
                let key = client.as_bytes().as_slice();
                match row {
                    Some(row) => clients.insert(key, row.as_slice())?,
                    None => clients.remove(key)?,
                };
            }
            let applied = batch.upto.to_le_bytes();
            write
                .open_table(META)?
                .insert(APPLIED, applied.as_slice())?;
        }
        Ok(write.commit()?)
    }
}
