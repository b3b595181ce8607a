//! Why a file is not taken as a plugin.

use crate::info::AbiVersion;
use serde::{Serialize, Serializer};
use std::path::PathBuf;

/// Why a file is not taken as a plugin: what was found, then what mends it, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The file or its directory cannot be read.
    #[error(
        "it cannot be read: {cause}; check that it exists and that its permissions allow reading"
    )]
    Unreadable {
        /// The system's error.
        cause: String,
    },
    /// A directory, device, socket ...
    #[error(
        "it is {found}, not a regular file; plugins are shared objects, remove it from the plugin directory"
    )]
    NotRegular {
        /// What it is instead: "a directory".
        found: &'static str,
    },
    /// The first bytes are not those of an ELF file.
    #[error(
        "it is not an ELF file; plugins are shared objects, remove it from the plugin directory"
    )]
    NotElf,
    /// An ELF file, but an executable, object file or core dump.
    #[error(
        "it is an ELF {found}, not a shared object; build the plugin as a cdylib or with `cc -shared`"
    )]
    NotSharedObject {
        /// What it is instead: "object file".
        found: &'static str,
    },
    /// Parts that the headers announce lie beyond the end of the file.
    #[error("it is truncated ({detail}); copy the plugin again")]
    Truncated {
        /// What is missing.
        detail: String,
    },
    /// Headers that contradict themselves.
    #[error("its ELF headers are damaged ({detail}); copy the plugin again or ask its vendor")]
    Damaged {
        /// What is wrong.
        detail: String,
    },
    /// Built for another processor, word size or byte order.
    #[error(
        "it is built for {found}, this machine is {host}; install the vendor's build for {host}"
    )]
    WrongMachine {
        /// Machine of the file.
        found: String,
        /// This machine.
        host: String,
    },
    /// No manifest note.
    #[error(
        "it has no plugin manifest; if it is a plugin, rebuild it with the SDK's export macro (a library it needs belongs elsewhere)"
    )]
    NoManifest,
    /// The note or its JSON cannot be understood.
    #[error("its manifest is malformed ({detail}); ask the vendor for a corrected build")]
    MalformedManifest {
        /// What is wrong.
        detail: String,
    },
    /// Built for another major version of the plugin interface.
    #[error("plugin {name} is built for plugin interface {plugin}, this server speaks {host}; {}", other_major_remedy(*plugin, *host))]
    OtherMajor {
        /// The plugin's name, "?" if the manifest of that version cannot be read here.
        name: String,
        /// The plugin's interface version.
        plugin: AbiVersion,
        /// This host's.
        host: AbiVersion,
    },
    /// Built with panic=abort.
    #[error(
        "plugin {name} is built with panic=abort, so that one panic would kill the process around it; rebuild it with panic=unwind"
    )]
    PanicAborts {
        /// The plugin's name.
        name: String,
    },
    /// Two files with one name.
    #[error("plugin name {name} is also that of {}; remove one of the two files", other.display())]
    DuplicateName {
        /// The name.
        name: String,
        /// The other file.
        other: PathBuf,
    },
    /// Somebody else may write to the file, a directory above it, or a library it needs.
    #[error("{} (mode {mode:04o}) is writable by {who}; run `chmod {} {}`", path.display(), who.chmod(), path.display())]
    Writable {
        /// The offending file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Who may write.
        who: Writers,
    },
    /// The file, a directory above it, or a library it needs belongs to somebody else.
    #[error("{} belongs to user {uid}, who could change what runs here; run `chown root {}`", path.display(), path.display())]
    WrongOwner {
        /// The offending file or directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// A run path that depends on the working directory or cannot be followed.
    #[error(
        "its library search path `{entry}` is not absolute or $ORIGIN-relative; rebuild the plugin with an absolute run path"
    )]
    RunPath {
        /// The entry of RPATH, RUNPATH or DT_NEEDED.
        entry: String,
    },
    /// There is an allow list without this name.
    #[error(
        "plugin {name} is not in the allow list; add it under `plugins:` in the config if you trust it"
    )]
    NotAllowed {
        /// The plugin's name.
        name: String,
    },
    /// The allow list pins another hash.
    #[error(
        "plugin {name} has SHA-256 {found}, the config pins {pinned}; restore the pinned file, or change `plugins: {name}: sha256:` if the update is wanted"
    )]
    HashDiffers {
        /// The plugin's name.
        name: String,
        /// Hash of the file, hexadecimal.
        found: String,
        /// Hash in the allow list.
        pinned: String,
    },
    /// The file was replaced while it was looked at.
    #[error("it changed while it was being checked; try again once the installation is finished")]
    Changed,
    /// An earlier load of the same file killed the helper process.
    #[error(
        "plugin {name} is quarantined: {reason}; replace the file, or run `daos_server plugin reset {name}` to try it again"
    )]
    Quarantined {
        /// The plugin's name.
        name: String,
        /// What it did.
        reason: String,
    },
}

/// Who besides its owner may write to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Everybody.
    Others,
    /// The members of a group.
    Group(u32),
}

impl Writers {
    fn chmod(self) -> &'static str {
        match self {
            Self::Others => "o-w",
            Self::Group(_) => "g-w",
        }
    }
}

impl std::fmt::Display for Writers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Others => f.write_str("everybody"),
            Self::Group(gid) => write!(f, "group {gid}"),
        }
    }
}

fn other_major_remedy(plugin: AbiVersion, host: AbiVersion) -> String {
    if plugin.major > host.major {
        format!("update this server, or install a build of the plugin for interface {host}")
    } else {
        format!("install a newer build of the plugin, for interface {host}")
    }
}

impl Refusal {
    /// Stable word for programs: `not_elf`, `truncated` ...
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::NotRegular { .. } => "not_regular",
            Self::NotElf => "not_elf",
            Self::NotSharedObject { .. } => "not_shared_object",
            Self::Truncated { .. } => "truncated",
            Self::Damaged { .. } => "damaged",
            Self::WrongMachine { .. } => "wrong_machine",
            Self::NoManifest => "no_manifest",
            Self::MalformedManifest { .. } => "malformed_manifest",
            Self::OtherMajor { .. } => "other_major",
            Self::PanicAborts { .. } => "panic_aborts",
            Self::DuplicateName { .. } => "duplicate_name",
            Self::Writable { .. } => "writable",
            Self::WrongOwner { .. } => "wrong_owner",
            Self::RunPath { .. } => "run_path",
            Self::NotAllowed { .. } => "not_allowed",
            Self::HashDiffers { .. } => "hash_differs",
            Self::Changed => "changed",
            Self::Quarantined { .. } => "quarantined",
        }
    }

    pub(crate) fn unreadable(error: impl Into<std::io::Error>) -> Self {
        Self::Unreadable {
            cause: error.into().to_string(),
        }
    }
}

/// A refused file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct Refused {
    /// The file, as it was found.
    pub path: PathBuf,
    /// Why.
    #[serde(serialize_with = "reason")]
    pub reason: Refusal,
}

/// `{"code": ..., "message": ...}`.
fn reason<S: Serializer>(reason: &Refusal, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeStruct as _;
    let mut out = serializer.serialize_struct("Refusal", 2)?;
    out.serialize_field("code", reason.code())?;
    out.serialize_field("message", &reason.to_string())?;
    out.end()
}
