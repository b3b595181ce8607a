//! Plugins that died while loading.

use super::{StateDir, StateError, now};
use crate::identity::FileIdentity;
use crate::info::{Origin, PluginInfo};
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const FILE: &str = "quarantine.json";

/// One quarantined file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineRecord {
    /// Name of the plugin.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The file.
    pub path: PathBuf,
    /// Which state of the file it was; another one is not quarantined.
    pub identity: FileIdentity,
    /// What it did: "killed its process by SIGSEGV while loading".
    pub reason: String,
    /// Seconds since 1970.
    pub since: u64,
}

/// The quarantined files as they were when this was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The records, oldest first.
    pub records: Vec<QuarantineRecord>,
}

impl Quarantine {
    /// Refuses a plugin whose file is quarantined, in the state in which it was inspected.
    ///
    /// # Errors
    /// [`Refusal::Quarantined`].
    pub fn check(&self, info: &PluginInfo) -> Result<(), Refusal> {
        let Origin::File { path, identity } = &info.origin else {
            return Ok(());
        };
        let hit = self
            .records
            .iter()
            .find(|r| &r.path == path && &r.identity == identity);
        match hit {
            Some(record) => Err(Refusal::Quarantined {
                name: record.name.clone(),
                reason: record.reason.clone(),
            }),
            None => Ok(()),
        }
    }
}

impl StateDir {
    /// Reads the quarantine.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn quarantine(&self) -> Result<Quarantine, StateError> {
        self.read(FILE)
    }

    /// Quarantines the file of a plugin until it changes; replaces an older record of the same
    /// file. Built-ins are never quarantined: they are replaced together with the program.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn quarantine_add(&self, info: &PluginInfo, reason: &str) -> Result<(), StateError> {
        let Origin::File { path, identity } = &info.origin else {
            return Ok(());
        };
        let record = QuarantineRecord {
            name: info.name().to_owned(),
            version: info.manifest.version.clone(),
            path: path.clone(),
            identity: *identity,
            reason: reason.to_owned(),
            since: now(),
        };
        self.update(FILE, |document: &mut Quarantine| {
            document.records.retain(|r| r.path != record.path);
            document.records.push(record);
            (true, ())
        })
    }

    /// Ends the quarantine of a plugin by name; returns how many files that were.
    ///
    /// # Errors
    /// The change cannot be written.
    pub fn quarantine_reset(&self, name: &str) -> Result<usize, StateError> {
        self.update(FILE, |document: &mut Quarantine| {
            let before = document.records.len();
            document.records.retain(|r| r.name != name);
            let removed = before - document.records.len();
            (removed > 0, removed)
        })
    }
}
