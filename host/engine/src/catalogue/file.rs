//! The database file of the catalogue.
//!
//! Tables `pools` (UUID) and `containers` (UUID of the pool, UUID): CRC-32C of key and document
//! (little-endian) · document (JSON). Table `meta`: whose catalogue it is.

use super::error::CatalogueError;
use super::snapshot::{Container, Pool, Snapshot};
use crate::index::{IndexError, store};
use daos_wire::crc32c;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use uuid::Uuid;

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;
const POOLS: Table = TableDefinition::new("pools");
const CONTAINERS: Table = TableDefinition::new("containers");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const IDENTITY: &str = "identity";

/// Most bytes of the file; kept free of targets when SCM is divided among them.
pub const CATALOGUE_BYTES: u64 = 4 << 20;
/// Memory for its pages.
const CACHE: usize = 1 << 20;

impl From<IndexError> for CatalogueError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::NoSpace(text) => Self::NoSpace(format!(
                "the catalogue of pools and containers is full: {text}; destroy some of them"
            )),
            IndexError::Corrupt(text) => Self::Corrupt(text),
            IndexError::Io(text) => Self::Io(text),
        }
    }
}

/// Anything of redb.
fn failed(error: impl Into<redb::Error>) -> CatalogueError {
    IndexError::from(error.into()).into()
}

/// The file. Each function is one durable change.
pub(super) struct File {
    database: Database,
}

impl File {
    pub(super) fn open(path: &Path, identity: &[u8], is_new: bool) -> Result<Self, CatalogueError> {
        if !is_new && !path.exists() {
            return Err(CatalogueError::Corrupt(format!(
                "{} is gone",
                path.display()
            )));
        }
        if is_new {
            store::discard_unfinished(path)?;
        }
        let database = store::database(path, CATALOGUE_BYTES, CACHE)?;
        let file = Self { database };
        file.change(|write| {
            write.open_table(POOLS).map_err(failed)?;
            write.open_table(CONTAINERS).map_err(failed)?;
            let mut meta = write.open_table(META).map_err(failed)?;
            let found = meta
                .get(IDENTITY)
                .map_err(failed)?
                .map(|v| v.value().to_vec());
            match found {
                Some(found) if found == identity => Ok(()),
                Some(_) => Err(CatalogueError::Corrupt(format!(
                    "{} belongs to another engine",
                    path.display()
                ))),
                None if !is_new => Err(CatalogueError::Corrupt(format!(
                    "{} belongs to no engine",
                    path.display()
                ))),
                None => meta.insert(IDENTITY, identity).map(drop).map_err(failed),
            }
        })?;
        Ok(file)
    }

    /// Everything.
    pub(super) fn load(&self) -> Result<Snapshot, CatalogueError> {
        let read = self.database.begin_read().map_err(failed)?;
        let mut snapshot = Snapshot::default();
        for entry in read
            .open_table(POOLS)
            .map_err(failed)?
            .iter()
            .map_err(failed)?
        {
            let (key, value) = entry.map_err(failed)?;
            let pool: Pool = decode(key.value(), value.value())?;
            snapshot.pools.insert(pool.id, pool);
        }
        for entry in read
            .open_table(CONTAINERS)
            .map_err(failed)?
            .iter()
            .map_err(failed)?
        {
            let (key, value) = entry.map_err(failed)?;
            let container: Container = decode(key.value(), value.value())?;
            let name = (container.pool, container.id);
            snapshot.containers.insert(name, container);
        }
        Ok(snapshot)
    }

    pub(super) fn put_pool(&self, pool: &Pool) -> Result<(), CatalogueError> {
        self.change(|write| put(write, POOLS, pool.id.as_bytes(), pool))
    }

    pub(super) fn put_container(&self, container: &Container) -> Result<(), CatalogueError> {
        let key = container_key(container.pool, container.id);
        self.change(|write| put(write, CONTAINERS, &key, container))
    }

    /// Removes a pool and its containers.
    pub(super) fn remove_pool(
        &self,
        pool: Uuid,
        containers: impl Iterator<Item = Uuid>,
    ) -> Result<(), CatalogueError> {
        self.change(|write| {
            for id in containers {
                remove(write, CONTAINERS, &container_key(pool, id))?;
            }
            remove(write, POOLS, pool.as_bytes())
        })
    }

    pub(super) fn remove_container(&self, pool: Uuid, id: Uuid) -> Result<(), CatalogueError> {
        self.change(|write| remove(write, CONTAINERS, &container_key(pool, id)))
    }

    fn change(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), CatalogueError>,
    ) -> Result<(), CatalogueError> {
        let write = self.database.begin_write().map_err(failed)?;
        change(&write)?;
        write.commit().map_err(failed)
    }
}

fn container_key(pool: Uuid, id: Uuid) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(pool.as_bytes());
    key[16..].copy_from_slice(id.as_bytes());
    key
}

fn checksum(key: &[u8], document: &[u8]) -> [u8; 4] {
    crc32c(&[key, document].concat()).to_le_bytes()
}

fn put(
    write: &WriteTransaction,
    table: Table,
    key: &[u8],
    entry: &impl Serialize,
) -> Result<(), CatalogueError> {
    let document = serde_json::to_vec(entry).map_err(|e| CatalogueError::Io(e.to_string()))?;
    let value = [&checksum(key, &document)[..], &document].concat();
    let mut table = write.open_table(table).map_err(failed)?;
    table
        .insert(key, value.as_slice())
        .map(drop)
        .map_err(failed)
}

fn remove(write: &WriteTransaction, table: Table, key: &[u8]) -> Result<(), CatalogueError> {
    let mut table = write.open_table(table).map_err(failed)?;
    table.remove(key).map(drop).map_err(failed)
}

fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, CatalogueError> {
    let damaged = |what: &dyn std::fmt::Display| {
        CatalogueError::Corrupt(format!("entry {}: {what}", key.escape_ascii()))
    };
    match value.split_first_chunk::<4>() {
        Some((crc, document)) if *crc == checksum(key, document) => {
            serde_json::from_slice(document).map_err(|e| damaged(&e))
        }
        _ => Err(damaged(&"its checksum does not match")),
    }
}
