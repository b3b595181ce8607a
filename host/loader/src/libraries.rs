//! The libraries that the dynamic linker will pull in with a plugin.
//!
//! Follows DT_NEEDED through DT_RPATH, `LD_LIBRARY_PATH`, DT_RUNPATH and the system's directories
//! in the linker's order, and holds each library outside the system's directories, and each
//! directory that is searched for it, to the rule of [`Trust`]. The system's own libraries are the
//! distribution's business: neither they nor what they need is looked at. A library that is found
//! nowhere is left to the linker, which names it when the plugin is loaded.

use crate::elf::{self, Dynamic};
use crate::identity::FileIdentity;
use crate::refusal::Refusal;
use crate::trust::Trust;
use object::read::ReadCache;
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

const SYSTEM: &[&str] = &[
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
];

/// Something that the dynamic linker will look at on behalf of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// As the file that asks says it: the name of a library, or an entry of a search path.
    pub name: String,
    /// The file that asks.
    pub needed_by: PathBuf,
    /// What it is.
    pub found: Found,
    /// Why a plugin with it is not loaded.
    pub refusal: Option<Refusal>,
}

/// What a [`Dependency`] is, with its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is no such library where the linker looks; or the entry of a search path leads nowhere.
    Nowhere,
    /// A library of the system.
    System(PathBuf),
    /// Another library, all symbolic links resolved.
    Library(PathBuf),
    /// A directory that is searched, outside of the system's. It need not exist.
    Directory(PathBuf),
}

/// Everything that `dynamic`, of the object at `path`, pulls in, in the linker's order.
pub(crate) fn list(path: &Path, dynamic: &Dynamic, trust: Trust) -> Vec<Dependency> {
    let mut walk = Walk {
        trust,
        seen: HashSet::new(),
        configured: None,
        out: Vec::new(),
    };
    walk.object(path, dynamic);
    walk.out
}

/// Checks everything that `dynamic`, of the object at `path`, pulls in.
pub(crate) fn check(path: &Path, dynamic: &Dynamic, trust: Trust) -> Result<(), Refusal> {
    let refusals = list(path, dynamic, trust).into_iter();
    match refusals.filter_map(|d| d.refusal).next() {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

struct Walk {
    trust: Trust,
    seen: HashSet<PathBuf>,
    configured: Option<Vec<PathBuf>>,
    out: Vec<Dependency>,
}

impl Walk {
    fn object(&mut self, path: &Path, dynamic: &Dynamic) {
        let origin = path.parent().unwrap_or(Path::new("/"));
        let private = self.private_directories(path, origin, dynamic);
        for name in &dynamic.needed {
            match self.find(name, origin, &private) {
                Ok(Some(found)) => self.library(name, path, &found),
                Ok(None) => self.add(name, path, Found::Nowhere, None),
                Err(refusal) => self.add(name, path, Found::Nowhere, Some(refusal)),
            }
        }
    }

    fn add(&mut self, name: &str, needed_by: &Path, found: Found, refusal: Option<Refusal>) {
        self.out.push(Dependency {
            name: name.to_owned(),
            needed_by: needed_by.to_owned(),
            found,
            refusal,
        });
    }

    /// Directories searched before the system's, each checked.
    fn private_directories(
        &mut self,
        path: &Path,
        origin: &Path,
        dynamic: &Dynamic,
    ) -> Vec<PathBuf> {
        let environment = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
        // DT_RPATH is ignored by the linker where there is a DT_RUNPATH.
        let before = dynamic
            .rpath
            .as_deref()
            .filter(|_| dynamic.runpath.is_none());
        let lists = [before, Some(&environment), dynamic.runpath.as_deref()];
        let mut out = Vec::new();
        for list in lists.into_iter().flatten().filter(|list| !list.is_empty()) {
            for entry in list.split([':', ';']) {
                match expand(entry, origin) {
                    Ok(directory) => {
                        if !is_system(&directory) {
                            let refusal = self.trust.search_directory(&directory).err();
                            self.add(entry, path, Found::Directory(directory.clone()), refusal);
                        }
                        out.push(directory);
                    }
                    Err(refusal) => self.add(entry, path, Found::Nowhere, Some(refusal)),
                }
            }
        }
        out
    }

    fn find(
        &mut self,
        name: &str,
        origin: &Path,
        private: &[PathBuf],
    ) -> Result<Option<PathBuf>, Refusal> {
        if name.contains('/') {
            return expand(name, origin).map(Some);
        }
        let configured = self.configured.get_or_insert_with(configured_directories);
        Ok(private
            .iter()
            .chain(configured.iter())
            .map(|directory| directory.join(name))
            .find(|candidate| candidate.exists()))
    }

    fn library(&mut self, name: &str, needed_by: &Path, found: &Path) {
        let real = match found.canonicalize() {
            Ok(real) => real,
            Err(error) => {
                let refusal = Some(Refusal::unreadable(error));
                return self.add(name, needed_by, Found::Nowhere, refusal);
            }
        };
        if !self.seen.insert(real.clone()) {
            return;
        }
        if is_system(&real) {
            return self.add(name, needed_by, Found::System(real), None);
        }
        let judged = self.judge(found, &real);
        let refusal = judged.as_ref().err().cloned();
        self.add(name, needed_by, Found::Library(real.clone()), refusal);
        if let Ok(dynamic) = judged {
            self.object(&real, &dynamic);
        }
    }

    /// What a library of others than the system needs, if it can be trusted.
    fn judge(&self, found: &Path, real: &Path) -> Result<Dynamic, Refusal> {
        // Whoever can write to the directory of a symbolic link decides where it leads.
        if let Some(directory) = found.parent() {
            self.trust.search_directory(directory)?;
        }
        let file = File::open(real).map_err(Refusal::unreadable)?;
        let stat = rustix::fs::fstat(&file).map_err(Refusal::unreadable)?;
        self.trust.file(real, &stat)?;
        elf::read_dynamic(&ReadCache::new(file), FileIdentity::of(&stat).size)
    }
}

fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|directory| path.starts_with(directory))
}

/// Replaces `$ORIGIN`. Anything that would depend on the working directory or on the linker's own
/// idea of a platform is refused.
fn expand(entry: &str, origin: &Path) -> Result<PathBuf, Refusal> {
    let origin = origin.to_string_lossy();
    let text = entry
        .replace("${ORIGIN}", &origin)
        .replace("$ORIGIN", &origin);
    if !text.starts_with('/') || text.contains('$') {
        return Err(Refusal::RunPath {
            entry: entry.to_owned(),
        });
    }
    Ok(PathBuf::from(text))
}

/// The linker's configured directories, then its built-in ones.
fn configured_directories() -> Vec<PathBuf> {
    let mut out = Vec::new();
    read_configuration(Path::new("/etc/ld.so.conf"), 0, &mut out);
    out.extend(SYSTEM.iter().map(PathBuf::from));
    let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
    out.extend(["/lib", "/usr/lib"].map(|d| Path::new(d).join(&multiarch)));
    out
}

fn read_configuration(path: &Path, depth: u32, out: &mut Vec<PathBuf>) {
    let Ok(text) = std::fs::read_to_string(path) else {
        return;
    };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include ") {
            // Patterns in use are a directory and `*.conf`.
            let pattern = Path::new("/etc").join(pattern.trim());
            let (Some(directory), true) = (pattern.parent(), depth < 4) else {
                continue;
            };
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let mut files: Vec<PathBuf> = entries.map(|e| e.path()).collect();
            files.retain(|f| f.extension() == pattern.extension());
            files.sort();
            for file in files {
                read_configuration(&file, depth + 1, out);
            }
        } else if line.starts_with('/') {
            out.push(PathBuf::from(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_paths_are_absolute_or_relative_to_the_plugin() {
        let origin = Path::new("/opt/x");
        assert_eq!(
            expand("$ORIGIN/lib", origin).unwrap(),
            Path::new("/opt/x/lib")
        );
        assert_eq!(expand("${ORIGIN}", origin).unwrap(), origin);
        for bad in ["", ".", "lib", "$LIB", "/x/$PLATFORM"] {
            assert_eq!(expand(bad, origin).unwrap_err().code(), "run_path", "{bad}");
        }
    }

    #[test]
    fn libc_is_found_where_the_system_has_it() {
        let found = configured_directories()
            .iter()
            .map(|d| d.join("libc.so.6"))
            .find(|p| p.exists())
            .expect("a glibc system");
        assert!(
            is_system(&found.canonicalize().unwrap()),
            "{}",
            found.display()
        );
    }
}
