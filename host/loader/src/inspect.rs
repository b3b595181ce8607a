//! Judges one file: manifest and trust, without running it.

use crate::allow::{AllowList, sha256_of};
use crate::elf;
use crate::identity::FileIdentity;
use crate::info::{Origin, PluginInfo};
use crate::libraries::{self, Dependency};
use crate::refusal::{Refusal, Refused};
use crate::state::Quarantine;
use crate::trust::Trust;
use object::read::ReadCache;
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::path::{Path, PathBuf};

/// What a plugin must satisfy besides being one.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whose files are trusted.
    pub trust: Trust,
    /// Allow list of the config; `None` = every plugin may be used.
    pub allow: Option<AllowList>,
    /// Files that killed a helper while loading.
    pub quarantine: Quarantine,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            trust: Trust::current(),
            allow: None,
            quarantine: Quarantine::default(),
        }
    }
}

/// Operations on plugin files.
pub struct PluginFile;

impl PluginFile {
    /// Reads the manifest of a file and checks that it may be loaded: type and machine of the
    /// file, interface version, owner and mode of it, of the directories above it and of the
    /// libraries it needs, allow list, quarantine. Hashes the file only if the allow list pins it.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn inspect(path: &Path, policy: &Policy) -> Result<PluginInfo, Refusal> {
        let opened = Opened::new(path)?;
        policy.trust.file(&opened.real, &opened.stat)?;
        // A symbolic link is as trustworthy as its directory.
        if let Some(directory) = path.parent().and_then(|d| d.canonicalize().ok()) {
            policy.trust.above(&directory.join("entry"))?;
        }
        let image = opened.image()?;
        libraries::check(&opened.real, &image.dynamic, policy.trust)?;
        let mut info = opened.info(image);
        if let Some(allow) = &policy.allow {
            info.sha256 = check_allowed(allow, &info, &opened.file)?;
        }
        if opened.stat_now()? != opened.identity {
            return Err(Refusal::Changed);
        }
        policy.quarantine.check(&info)?;
        Ok(info)
    }

    /// Reads the manifest of any file, trusted or not, for showing it.
    ///
    /// # Errors
    /// It is not a plugin for this machine and interface.
    pub fn read_manifest(path: &Path) -> Result<PluginInfo, Refusal> {
        let opened = Opened::new(path)?;
        let image = opened.image()?;
        Ok(opened.info(image))
    }

    /// What the dynamic linker will look at on behalf of any file, trusted or not, for showing it. Libraries of the
    /// system end the search: what they need is the distribution's business.
    ///
    /// # Errors
    /// It is no shared object for this machine.
    pub fn dependencies(path: &Path, trust: Trust) -> Result<Vec<Dependency>, Refusal> {
        let opened = Opened::new(path)?;
        let reader = opened.file.try_clone().map_err(Refusal::unreadable)?;
        let dynamic = elf::read_dynamic(&ReadCache::new(reader), opened.identity.size)?;
        Ok(libraries::list(&opened.real, &dynamic, trust))
    }

    /// Inspects every entry of a directory, by name. The outcome of one has no influence on the
    /// others. Names that more than one file claims are judged by
    /// [`Catalogue::build`](crate::Catalogue::build).
    pub fn scan_dir(directory: &Path, policy: &Policy) -> Vec<Result<PluginInfo, Refused>> {
        let refused = |path: PathBuf, reason| Refused { path, reason };
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(e) => return vec![Err(refused(directory.to_owned(), Refusal::unreadable(e)))],
        };
        let mut paths = Vec::new();
        let mut out = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => paths.push(entry.path()),
                Err(e) => out.push(Err(refused(directory.to_owned(), Refusal::unreadable(e)))),
            }
        }
        paths.sort();
        out.extend(
            paths
                .into_iter()
                .map(|path| Self::inspect(&path, policy).map_err(|reason| refused(path, reason))),
        );
        out
    }
}

/// A file, opened by its resolved path.
struct Opened {
    real: PathBuf,
    file: File,
    stat: rustix::fs::Stat,
    identity: FileIdentity,
}

impl Opened {
    fn new(path: &Path) -> Result<Self, Refusal> {
        let real = path.canonicalize().map_err(Refusal::unreadable)?;
        // Judge the type before opening: opening a device or FIFO can have effects.
        regular(&rustix::fs::lstat(&real).map_err(Refusal::unreadable)?)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file: File = rustix::fs::open(&real, flags, Mode::empty())
            .map_err(Refusal::unreadable)?
            .into();
        let stat = rustix::fs::fstat(&file).map_err(Refusal::unreadable)?;
        regular(&stat)?;
        Ok(Self {
            real,
            file,
            identity: FileIdentity::of(&stat),
            stat,
        })
    }

    fn image(&self) -> Result<elf::Image, Refusal> {
        let reader = self.file.try_clone().map_err(Refusal::unreadable)?;
        elf::read(&ReadCache::new(reader), self.identity.size)
    }

    fn info(&self, image: elf::Image) -> PluginInfo {
        PluginInfo {
            manifest: image.note.manifest,
            abi: image.note.abi,
            rust: image.note.rust,
            origin: Origin::File {
                path: self.real.clone(),
                identity: self.identity,
            },
            sha256: None,
        }
    }

    /// Identity of what the path leads to now.
    fn stat_now(&self) -> Result<FileIdentity, Refusal> {
        identity_of(&self.real)
    }
}

/// Identity of what a resolved path leads to now.
pub(crate) fn identity_of(real: &Path) -> Result<FileIdentity, Refusal> {
    let stat = rustix::fs::lstat(real).map_err(Refusal::unreadable)?;
    Ok(FileIdentity::of(&stat))
}

fn regular(stat: &rustix::fs::Stat) -> Result<(), Refusal> {
    let found = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::BlockDevice | FileType::CharacterDevice => "a device",
        FileType::Unknown => "of unknown type",
    };
    Err(Refusal::NotRegular { found })
}

fn check_allowed(
    allow: &AllowList,
    info: &PluginInfo,
    file: &File,
) -> Result<Option<String>, Refusal> {
    let name = info.name();
    let entry = allow.entries.get(name).ok_or_else(|| Refusal::NotAllowed {
        name: name.to_owned(),
    })?;
    if entry.sha256.is_empty() {
        return Ok(None);
    }
    let found = sha256_of(file).map_err(Refusal::unreadable)?;
    if !entry
        .sha256
        .iter()
        .any(|pinned| found.eq_ignore_ascii_case(pinned))
    {
        return Err(Refusal::HashDiffers {
            name: name.to_owned(),
            found,
            pinned: entry.sha256.join(" or "),
        });
    }
    Ok(Some(found))
}
