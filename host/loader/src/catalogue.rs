//! Files and built-ins in one list.

use crate::identity::FileIdentity;
use crate::info::PluginInfo;
use crate::inspect::{PluginFile, Policy, identity_of};
use crate::provider::NoProvider;
use crate::refusal::{Refusal, Refused};
use crate::state::Quarantine;
use daos_plugin_api::control::{ClassKind, provider_class};
use daos_plugin_api::sdk::BuiltIn;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Every plugin that may be used, and every file that may not, each with its reason.
///
/// Names and classes that are claimed twice:
///
/// * A file has the name of a built-in: the file is used (a note says so). That is how a newer
///   build of an emulation plugin is tried.
/// * Two files have one name: both are refused, since which of them runs would be an accident.
/// * Two plugins of different names declare one class: both stay; [`Catalogue::find`] takes the file if
///   the other is a built-in, and otherwise fails naming both, until the allow list (`plugins:` in
///   the config) leaves one.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Catalogue {
    /// Usable plugins, by name.
    pub plugins: Vec<PluginInfo>,
    /// Files (and built-ins) that are not used.
    pub refused: Vec<Refused>,
    /// Decisions worth telling the administrator.
    pub notes: Vec<String>,
    /// What this was read from.
    #[serde(skip)]
    read: Read,
}

/// States of files before they were read, none of one that was not there: of the directory, of what is in it, and of what
/// quarantine told of.
#[derive(Clone, Debug, Default)]
struct Read {
    directory: Option<(PathBuf, Option<FileIdentity>)>,
    files: HashMap<PathBuf, Option<FileIdentity>>,
}

impl Read {
    fn from(directory: Option<&Path>, quarantine: &Quarantine) -> Self {
        let entries = directory.map(std::fs::read_dir).into_iter().flatten();
        let inside = entries
            .flatten()
            .filter_map(|entry| entry.ok()?.path().canonicalize().ok());
        let told = quarantine.records.iter().map(|record| record.path.clone());
        let state = |path: PathBuf| {
            let now = identity_of(&path).ok();
            (path, now)
        };
        Self {
            directory: directory
                .and_then(|path| path.canonicalize().ok())
                .map(state),
            files: inside.chain(told).map(state).collect(),
        }
    }

    /// Whether something was put into the directory or taken out of it, or its mode has changed.
    fn is_of_another_directory(&self) -> bool {
        let directory = self.directory.as_ref();
        directory.is_some_and(|(path, then)| identity_of(path).ok() != *then)
    }
}

/// No plugin, or more than one, provides a class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassError {
    /// Nobody.
    #[error("no plugin provides {kind} class `{class}`; available: {}", known.join(", "))]
    Unknown {
        /// Kind of the class.
        kind: ClassKind,
        /// Its name.
        class: String,
        /// Classes of that kind that are available, sorted.
        known: Vec<String>,
    },
    /// Several.
    #[error("plugins {} all provide {kind} class `{class}`; leave one of them in the `plugins:` list of the config", plugins.join(" and "))]
    Ambiguous {
        /// Kind of the class.
        kind: ClassKind,
        /// Its name.
        class: String,
        /// Names of the plugins, each with its file.
        plugins: Vec<String>,
    },
    /// No plugin that may be used serves a fabric provider.
    #[error(transparent)]
    NoProvider(Box<NoProvider>),
}

impl Catalogue {
    /// Lists the plugins of a directory (`None` = there is none) and of this program.
    pub fn build(
        directory: Option<&Path>,
        built_ins: impl IntoIterator<Item = &'static BuiltIn>,
        policy: &Policy,
    ) -> Self {
        // First of all, so that what changes meanwhile is noticed.
        let mut out = Self {
            read: Read::from(directory, &policy.quarantine),
            ..Self::default()
        };
        let scanned = directory
            .map(|d| PluginFile::scan_dir(d, policy))
            .unwrap_or_default();
        let mut files = Vec::new();
        for result in scanned {
            match result {
                Ok(info) => files.push(info),
                Err(refused) => out.refused.push(refused),
            }
        }
        out.add_files(files);
        for built_in in built_ins {
            out.add_built_in(built_in, policy);
        }
        out.plugins.sort_by(|a, b| a.name().cmp(b.name()));
        out.note_classes();
        out.refused.sort_by(|a, b| a.path.cmp(&b.path));
        for refused in &out.refused {
            tracing::warn!("plugin refused: {refused}");
        }
        for note in &out.notes {
            tracing::info!("{note}");
        }
        out
    }

    /// Says who serves classes that several plugins declare.
    fn note_classes(&mut self) {
        let classes = self.plugins.iter().flat_map(|p| &p.manifest.classes);
        let names: BTreeSet<(ClassKind, &str)> =
            classes.map(|c| (c.kind, c.name.as_str())).collect();
        let mut notes = Vec::new();
        for (kind, class) in names {
            let all = self
                .plugins
                .iter()
                .filter(|p| p.class(kind, class).is_some());
            if all.clone().count() < 2 {
                continue;
            }
            notes.push(match self.find(kind, class) {
                Ok(chosen) => {
                    let others = all.filter(|p| p.name() != chosen.name());
                    let others: Vec<_> = others.map(PluginInfo::described).collect();
                    format!(
                        "{kind} class `{class}` is served by plugin {}, not by {}",
                        chosen.described(),
                        others.join(" or ")
                    )
                }
                Err(refused) => format!("{refused}; until then no engine can have that class"),
            });
        }
        self.notes.append(&mut notes);
    }

    fn add_files(&mut self, files: Vec<PluginInfo>) {
        let mut by_name: HashMap<String, Vec<PluginInfo>> = HashMap::new();
        for info in files {
            by_name
                .entry(info.name().to_owned())
                .or_default()
                .push(info);
        }
        for (name, mut same) in by_name {
            if same.len() == 1 {
                self.plugins.append(&mut same);
                continue;
            }
            for (i, info) in same.iter().enumerate() {
                let other = &same[if i == 0 { 1 } else { 0 }];
                let path = |info: &PluginInfo| info.path().unwrap_or(Path::new("")).to_owned();
                self.refused.push(Refused {
                    path: path(info),
                    reason: Refusal::DuplicateName {
                        name: name.clone(),
                        other: path(other),
                    },
                });
            }
        }
    }

    fn add_built_in(&mut self, built_in: &BuiltIn, policy: &Policy) {
        let allowed = |name: &str| {
            policy
                .allow
                .as_ref()
                .is_none_or(|allow| allow.entries.contains_key(name))
        };
        match PluginInfo::built_in(built_in) {
            Ok(info) if !allowed(info.name()) => self.refused.push(Refused {
                path: format!("built-in:{}", info.name()).into(),
                reason: Refusal::NotAllowed {
                    name: info.name().to_owned(),
                },
            }),
            Ok(info) => match self.get(info.name()) {
                Some(file) => self.notes.push(format!(
                    "plugin {} of {} is used instead of the built-in one",
                    info.name(),
                    file.path().unwrap_or(Path::new("")).display()
                )),
                None => self.plugins.push(info),
            },
            Err(reason) => self.refused.push(Refused {
                path: "built-in".into(),
                reason,
            }),
        }
    }

    /// Whether a file that was or has come into quarantine is another one by now, which this catalogue does not know as it is:
    /// quarantine ends with that. What it has read and refused it does not want to read again, unless something has changed
    /// that may be why: the file, or the directory.
    pub fn is_outdated(&self, quarantine: &Quarantine) -> bool {
        quarantine.records.iter().any(|record| {
            let now = identity_of(&record.path).ok();
            let (true, Some(then)) = (
                now != Some(record.identity),
                self.read.files.get(&record.path),
            ) else {
                return false;
            };
            let is_it = |refused: &Refused| {
                let real = refused.path.canonicalize();
                real.is_ok_and(|real| real == record.path)
            };
            now != *then || self.refused.iter().any(is_it) && self.read.is_of_another_directory()
        })
    }

    /// The usable plugin of that name.
    pub fn get(&self, name: &str) -> Option<&PluginInfo> {
        self.plugins.iter().find(|p| p.name() == name)
    }

    /// The plugin that provides a class.
    ///
    /// # Errors
    /// None does, or more than one does and they are equally eligible.
    pub fn find(&self, kind: ClassKind, class: &str) -> Result<&PluginInfo, ClassError> {
        let all: Vec<&PluginInfo> = self
            .plugins
            .iter()
            .filter(|p| p.class(kind, class).is_some())
            .collect();
        let files: Vec<&PluginInfo> = all.iter().copied().filter(|p| !p.is_built_in()).collect();
        match (files.as_slice(), all.as_slice()) {
            ([one], _) | ([], [one]) => Ok(one),
            (_, []) => Err(ClassError::Unknown {
                kind,
                class: class.to_owned(),
                known: self.classes(kind),
            }),
            _ => Err(ClassError::Ambiguous {
                kind,
                class: class.to_owned(),
                plugins: all.iter().map(|p| p.described()).collect(),
            }),
        }
    }

    /// The plugin that serves a fabric provider: that of its class, see [`provider_class`]. Nothing stands in for a
    /// plugin that cannot be used: who names a provider gets it or is told why not.
    ///
    /// # Errors
    /// None does, or more than one does and they are equally eligible.
    pub fn find_provider(&self, provider: &str) -> Result<&PluginInfo, ClassError> {
        let class = provider_class(provider).unwrap_or_default();
        match self.find(ClassKind::Fabric, class) {
            Err(ClassError::Unknown { .. }) => Err(ClassError::NoProvider(Box::new(
                NoProvider::of(self, provider),
            ))),
            found => found,
        }
    }

    /// Names of the available classes of a kind, sorted.
    pub fn classes(&self, kind: ClassKind) -> Vec<String> {
        let mut out: Vec<String> = self
            .plugins
            .iter()
            .flat_map(|p| &p.manifest.classes)
            .filter(|c| c.kind == kind)
            .map(|c| c.name.clone())
            .collect();
        out.sort();
        out.dedup();
        out
    }
}
