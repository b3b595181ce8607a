//! The engine's own record on the SCM mount: that its targets were made, and how.
//!
//! `engine.json` is written once all targets are there. An engine without it has never served, so
//! its targets are made anew; an engine with it never makes one, so that a lost log or index is an
//! error and not an empty target.

use crate::catalogue::CATALOGUE_BYTES;
use crate::error::StartError;
use daos_media::atomic;
use daos_media::superblock::Superblock;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Name of the record.
const FILE_NAME: &str = "engine.json";
const VERSION: u32 = 2;
const LOG_MIN: u64 = 1 << 20;
const LOG_MAX: u64 = 64 << 20;
const INDEX_MIN: u64 = 4 << 20;

/// How the targets were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineState {
    version: u32,
    /// The engine.
    pub engine: Uuid,
    /// Its format.
    pub generation: u64,
    /// Number of targets.
    pub targets: u32,
    /// Bytes of each log region.
    pub log_bytes: u64,
    /// Most bytes of each index file.
    pub index_bytes: u64,
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
struct Recorded {
    #[serde(flatten)]
    state: EngineState,
    /// Of the fields before.
    #[serde(default)]
    checksum: u32,
}

impl EngineState {
    /// The record of an engine; `None` if it has never served.
    ///
    /// # Errors
    /// If the record is damaged or of another engine.
    pub fn read(mount: &Path, superblock: &Superblock) -> Result<Option<Self>, StartError> {
        let path = mount.join(FILE_NAME);
        let Some(bytes) = atomic::read(&path, 1 << 20).map_err(StartError::failed)? else {
            return Ok(None);
        };
        let damaged = |why: &dyn std::fmt::Display| {
            StartError::storage(format_args!("{} is damaged: {why}", path.display()))
        };
        let Recorded { state, checksum } =
            serde_json::from_slice(&bytes).map_err(|e| damaged(&e))?;
        if state.version == VERSION && state.checksum()? != checksum {
            return Err(damaged(&"it does not match its checksum"));
        }
        if state.version != VERSION {
            return Err(StartError::storage(format_args!(
                "{} has version {}, this program reads version {VERSION}; use the program that made it, or format with --reformat",
                path.display(),
                state.version
            )));
        }
        if (state.engine, state.generation) != (superblock.uuid, superblock.generation) {
            return Err(StartError::storage(format_args!(
                "{} belongs to engine {} format {}, the superblock to engine {} format {}",
                path.display(),
                state.engine,
                state.generation,
                superblock.uuid,
                superblock.generation
            )));
        }
        Ok(Some(state))
    }

    /// Divides `available` bytes of SCM among the targets of a new engine.
    ///
    /// # Errors
    /// If that is too little.
    pub fn plan(superblock: &Superblock, targets: u32, available: u64) -> Result<Self, StartError> {
        let share = available.saturating_sub(CATALOGUE_BYTES) / u64::from(targets);
        let log_bytes = (share / 8).clamp(LOG_MIN, LOG_MAX) / 4096 * 4096;
        // An eighth stays free for the file system and for what later versions keep there.
        let index_bytes = share.saturating_sub(log_bytes) / 8 * 7;
        if index_bytes < INDEX_MIN {
            return Err(StartError::config(format_args!(
                "{} MiB of SCM are too little for {targets} targets, each needs {} MiB, beside {} MiB for all; raise scm_size or lower targets, then format",
                available >> 20,
                (INDEX_MIN / 7 * 8 + LOG_MIN).div_ceil(1 << 20),
                CATALOGUE_BYTES >> 20
            )));
        }
        Ok(Self {
            version: VERSION,
            engine: superblock.uuid,
            generation: superblock.generation,
            targets,
            log_bytes,
            index_bytes,
        })
    }

    /// Writes the record; durable on return.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, mount: &Path) -> Result<(), StartError> {
        let record = Recorded {
            state: self.clone(),
            checksum: self.checksum()?,
        };
        let text = serde_json::to_vec_pretty(&record).map_err(StartError::failed)?;
        atomic::write(&mount.join(FILE_NAME), 0o640, &text).map_err(StartError::failed)
    }

    /// CRC-32C of the fields as compact JSON.
    fn checksum(&self) -> Result<u32, StartError> {
        let text = serde_json::to_vec(self).map_err(StartError::failed)?;
        Ok(daos_wire::crc32c(&text))
    }

    /// Name of a target's log region.
    pub fn log_name(target: u32) -> String {
        format!("target-{target}.log")
    }

    /// Path of a target's index file.
    pub fn index_path(mount: &Path, target: u32) -> PathBuf {
        mount.join(format!("target-{target}.index"))
    }

    /// Path of the catalogue of pools and containers.
    pub fn catalogue_path(mount: &Path) -> PathBuf {
        mount.join("catalogue")
    }

    /// What the catalogue is marked with.
    pub fn identity(&self) -> Vec<u8> {
        format!("{} {}", self.engine, self.generation).into_bytes()
    }

    /// What a target's index is marked with.
    pub fn index_identity(&self, target: u32) -> Vec<u8> {
        format!("{} {} {target}", self.engine, self.generation).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Superblock {
        Superblock {
            version: daos_media::superblock::VERSION,
            uuid: Uuid::from_u128(1),
            system: "s".into(),
            rank: Some(0),
            uri: String::new(),
            validrank: true,
            hostfaultdomain: "/h".into(),
            incarnation: 0,
            generation: 5,
            immutable: Default::default(),
            devices: Vec::new(),
        }
    }

    #[test]
    fn comes_back_and_belongs_to_one_engine() {
        let dir = tempfile::tempdir().unwrap();
        let sb = superblock();
        assert!(EngineState::read(dir.path(), &sb).unwrap().is_none());
        let state = EngineState::plan(&sb, 2, 64 << 20).unwrap();
        assert!(2 * (state.log_bytes + state.index_bytes) <= 64 << 20);
        state.write(dir.path()).unwrap();
        assert_eq!(EngineState::read(dir.path(), &sb).unwrap(), Some(state));
        let other = Superblock {
            generation: 6,
            ..sb.clone()
        };
        let error = EngineState::read(dir.path(), &other).unwrap_err();
        assert_eq!(error.code, crate::error::exit::STORAGE);
        std::fs::write(dir.path().join(FILE_NAME), b"{").unwrap();
        assert!(EngineState::read(dir.path(), &sb).is_err());
    }

    #[test]
    fn too_little_memory_is_refused_with_numbers() {
        let error = EngineState::plan(&superblock(), 8, 16 << 20).unwrap_err();
        assert!(
            error.text.contains("16 MiB") && error.text.contains("8 targets"),
            "{error}"
        );
    }
}
