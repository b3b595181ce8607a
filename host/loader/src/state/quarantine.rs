//! Plugins that died while loading.

use super::{StateDir, StateError, now};
use crate::identity::FileIdentity;
use crate::info::{Origin, PluginInfo};
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// A file whose process was killed, not by itself as far as one can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// Name of the plugin.
    #[serde(default)]
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Which state of the file it was.
    pub identity: FileIdentity,
    /// What was done with it: "loaded".
    pub doing: String,
    /// How often in a row.
    pub kills: u32,
    /// When the last one of these was, in seconds since 1970.
    #[serde(default)]
    pub last: u64,
}

/// The quarantined files as they were when this was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The records, oldest first.
    pub records: Vec<QuarantineRecord>,
    /// Files that may come to it.
    #[serde(default)]
    pub suspects: Vec<Suspect>,
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

fn is_it(suspect: &Suspect, path: &Path, doing: &str) -> bool {
    suspect.path == path && suspect.doing == doing
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
            document.suspects.retain(|s| s.path != record.path);
            document.records.push(record);
            (true, ())
        })
    }

    /// Counts a process that was killed while something was done with the file of a plugin; returns how many that were in a
    /// row. Other states of the file do not count, nor what is less than `apart` after the last that did: whoever kills several
    /// processes of a plugin at once has one reason.
    ///
    /// # Errors
    /// The count cannot be written.
    pub fn quarantine_suspect(
        &self,
        info: &PluginInfo,
        doing: &str,
        apart: Duration,
    ) -> Result<u32, StateError> {
        let Origin::File { path, identity } = &info.origin else {
            return Ok(0);
        };
        let now = now();
        self.update(FILE, |document: &mut Quarantine| {
            let suspects = &mut document.suspects;
            suspects.retain(|s| &s.path != path || &s.identity == identity);
            let known = suspects.iter_mut().find(|s| is_it(s, path, doing));
            if let Some(suspect) = known {
                // A clock that was set back is no reason to wait for it.
                let since = now.checked_sub(suspect.last).map(Duration::from_secs);
                let is_another = since.is_none_or(|since| since >= apart);
                if is_another {
                    suspect.kills += 1;
                    suspect.last = now;
                }
                return (is_another, suspect.kills);
            }
            suspects.push(Suspect {
                name: info.name().to_owned(),
                path: path.clone(),
                identity: *identity,
                doing: doing.to_owned(),
                kills: 1,
                last: now,
            });
            (true, 1)
        })
    }

    /// Forgets such deaths: it went well.
    ///
    /// # Errors
    /// The change cannot be written.
    pub fn quarantine_clear(&self, info: &PluginInfo, doing: &str) -> Result<(), StateError> {
        let Origin::File { path, .. } = &info.origin else {
            return Ok(());
        };
        let is_suspected = |q: &Quarantine| q.suspects.iter().any(|s| is_it(s, path, doing));
        // Without the lock, since this is asked after every scan.
        if !is_suspected(&self.quarantine()?) {
            return Ok(());
        }
        self.update(FILE, |document: &mut Quarantine| {
            document.suspects.retain(|s| !is_it(s, path, doing));
            (true, ())
        })
    }

    /// Ends the quarantine of a plugin by name, and what might lead to it; returns how many files were quarantined.
    ///
    /// # Errors
    /// The change cannot be written.
    pub fn quarantine_reset(&self, name: &str) -> Result<usize, StateError> {
        self.update(FILE, |document: &mut Quarantine| {
            let before = (document.records.len(), document.suspects.len());
            document.records.retain(|r| r.name != name);
            document.suspects.retain(|s| s.name != name);
            let after = (document.records.len(), document.suspects.len());
            (after != before, before.0 - after.0)
        })
    }
}
