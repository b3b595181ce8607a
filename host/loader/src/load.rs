//! Loads a plugin into this process. Helpers and engines do that; the daemon never does.

use crate::dl::{self, EntryError};
use crate::info::{Origin, PluginInfo};
use crate::inspect::{PluginFile, Policy, identity_of};
use crate::layout::LayoutMismatch;
use crate::manifest;
use crate::refusal::Refusal;
use daos_plugin_api::abi::PluginTable;
use daos_plugin_api::control::Manifest;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A plugin in this process. It stays for the life of the process.
#[derive(Clone)]
pub struct Loaded {
    /// Its functions.
    pub table: &'static PluginTable,
    /// What it is.
    pub info: PluginInfo,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Loaded").field(&self.info).finish()
    }
}

/// Why a plugin could not be loaded: one sentence each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It does not pass inspection.
    #[error("cannot load {plugin}: {reason}")]
    Refused {
        /// Name or path.
        plugin: String,
        /// Why.
        reason: Refusal,
    },
    /// A built-in that this program does not have.
    #[error(
        "cannot load plugin {plugin}: it is not built into this program; install its shared object in plugins_dir"
    )]
    NotBuiltIn {
        /// Its name.
        plugin: String,
    },
    /// The dynamic linker failed.
    #[error("cannot load plugin {plugin} {version}: {cause}; {remedy}")]
    Link {
        /// Its name.
        plugin: String,
        /// Its version.
        version: String,
        /// What is missing, or the linker's message.
        cause: String,
        /// What to install.
        remedy: String,
    },
    /// No usable entry.
    #[error("cannot load plugin {plugin} {version}: {cause}; ask its vendor for a corrected build")]
    Entry {
        /// Its name.
        plugin: String,
        /// Its version.
        version: String,
        /// What is wrong.
        cause: String,
    },
    /// Its tables are laid out differently.
    #[error("cannot load plugin {plugin} {version}: {mismatch}")]
    Layout {
        /// Its name.
        plugin: String,
        /// Its version.
        version: String,
        /// Where they differ.
        mismatch: Box<LayoutMismatch>,
    },
    /// The table carries another manifest than the note.
    #[error(
        "plugin {plugin} {version} has one manifest in its file and another in its table; ask its vendor for a corrected build"
    )]
    ManifestDiffers {
        /// Its name.
        plugin: String,
        /// Its version.
        version: String,
    },
    /// Another plugin of this process brings the same exclusive runtime.
    #[error(
        "plugins {plugin} and {other} both bring the runtime `{runtime}`, which a process can have only once; run them in different engines"
    )]
    Exclusive {
        /// Its name.
        plugin: String,
        /// The one that is loaded already.
        other: String,
        /// The runtime.
        runtime: String,
    },
}

/// Exclusive runtimes of this process: runtime, plugin.
static EXCLUSIVE: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// Loads a plugin: repeats the whole inspection of its file, maps it, checks the interface, and
/// makes sure that what was mapped is what was inspected. Loading the same file again gives the
/// same table; different files give different tables.
///
/// # Errors
/// See [`LoadError`]. A plugin whose constructors crash takes the process along: load it in a
/// helper.
pub fn load(info: &PluginInfo, policy: &Policy) -> Result<Loaded, LoadError> {
    let info = match &info.origin {
        Origin::BuiltIn => return load_built_in(info),
        Origin::File { path, identity } => {
            let refused = |reason| LoadError::Refused {
                plugin: path.display().to_string(),
                reason,
            };
            let fresh = PluginFile::inspect(path, policy).map_err(refused)?;
            if !matches!(&fresh.origin, Origin::File { identity: now, .. } if now == identity) {
                return Err(refused(Refusal::Changed));
            }
            fresh
        }
    };
    let Origin::File { path, identity } = &info.origin else {
        unreachable!("inspection gives files");
    };
    claim_exclusive(&info)?;
    let table = map(&info, path)?;
    let now = identity_of(path);
    if now.as_ref() != Ok(identity) {
        return Err(LoadError::Refused {
            plugin: path.display().to_string(),
            reason: Refusal::Changed,
        });
    }
    Ok(Loaded { table, info })
}

fn map(info: &PluginInfo, path: &Path) -> Result<&'static PluginTable, LoadError> {
    let (plugin, version) = (info.name().to_owned(), info.manifest.version.clone());
    let mapped = dl::map(path).map_err(|message| {
        let (cause, remedy) = unlinked(&message, &info.manifest);
        LoadError::Link {
            plugin: plugin.clone(),
            version: version.clone(),
            cause,
            remedy,
        }
    })?;
    let table = if info.rust {
        dl::rust_table(&mapped, info.abi)
    } else {
        dl::c_table(&mapped)
    };
    let table = table.map_err(|e| match e {
        EntryError::Entry(cause) => LoadError::Entry {
            plugin: plugin.clone(),
            version: version.clone(),
            cause,
        },
        EntryError::Layout(mismatch) => {
            tracing::debug!(plugin, "layout report:\n{}", mismatch.report);
            LoadError::Layout {
                plugin: plugin.clone(),
                version: version.clone(),
                mismatch,
            }
        }
    })?;
    if (table.abi_major, table.abi_minor) != (info.abi.major, info.abi.minor) {
        return Err(LoadError::Entry {
            plugin,
            version,
            cause: format!(
                "its table is of interface {}.{}, its manifest of {}",
                table.abi_major, table.abi_minor, info.abi
            ),
        });
    }
    if manifest::parse(dl::manifest_of(table)).ok().as_ref() != Some(&info.manifest) {
        return Err(LoadError::ManifestDiffers { plugin, version });
    }
    Ok(table)
}

/// What the linker's message means, and what to install.
fn unlinked(message: &str, manifest: &Manifest) -> (String, String) {
    // Of glibc's dl-load.c: `NAME: cannot open shared object file: No such file or directory`. The
    // plugin itself was there a moment ago.
    let missing = message
        .strip_suffix(": cannot open shared object file: No such file or directory")
        .filter(|name| !name.contains('/'));
    let install = |packages: &[&str]| format!("run `apt-get install {}`", packages.join(" "));
    let known: Vec<&str> = manifest.libraries.values().map(String::as_str).collect();
    match missing {
        Some(library) => {
            let cause = format!("{library}, which it needs, is not installed");
            let remedy = match manifest.libraries.get(library) {
                Some(package) => {
                    install(&[package]) + ", or install your system's package of that library"
                }
                None => format!("install the package that has {library}"),
            };
            (cause, remedy)
        }
        None if known.is_empty() => (
            message.to_owned(),
            "install the libraries it needs".to_owned(),
        ),
        // Such as a symbol or a version that an old library does not have.
        None => {
            let remedy = format!(
                "install newer versions of the libraries it needs: {}",
                known.join(", ")
            );
            (message.to_owned(), remedy)
        }
    }
}

fn load_built_in(info: &PluginInfo) -> Result<Loaded, LoadError> {
    let found = daos_plugin_api::sdk::built_ins()
        .find(|b| PluginInfo::built_in(b).is_ok_and(|i| i.name() == info.name()));
    let built_in = found.ok_or_else(|| LoadError::NotBuiltIn {
        plugin: info.name().to_owned(),
    })?;
    let own = PluginInfo::built_in(built_in).map_err(|reason| LoadError::Refused {
        plugin: info.name().to_owned(),
        reason,
    })?;
    claim_exclusive(&own)?;
    Ok(Loaded {
        table: (built_in.table)(),
        info: own,
    })
}

/// Takes the exclusive runtimes of a plugin for it, all or none.
fn claim_exclusive(info: &PluginInfo) -> Result<(), LoadError> {
    let mut taken = EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner);
    for runtime in &info.manifest.exclusive {
        let holder = taken.iter().find(|(r, p)| r == runtime && p != info.name());
        if let Some((_, other)) = holder {
            return Err(LoadError::Exclusive {
                plugin: info.name().to_owned(),
                other: other.clone(),
                runtime: runtime.clone(),
            });
        }
    }
    for runtime in &info.manifest.exclusive {
        taken.push((runtime.clone(), info.name().to_owned()));
    }
    Ok(())
}
