//! The manifest note.

use crate::info::AbiVersion;
use crate::manifest::{self, MAX_MANIFEST};
use crate::refusal::Refusal;
use daos_plugin_api::abi::{NOTE_PANIC_ABORT, NOTE_RUST};
use daos_plugin_api::control::Manifest;

/// Bytes of `NoteHeader`.
const HEADER: usize = 12;

/// Most bytes of a note section worth reading.
pub(crate) const MAX_NOTE: u64 = MAX_MANIFEST as u64 + 64;

/// What the note says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ManifestNote {
    pub(crate) abi: AbiVersion,
    pub(crate) rust: bool,
    pub(crate) manifest: Manifest,
}

/// Reads the descriptor of the note: header, then JSON.
pub(crate) fn parse(descriptor: &[u8]) -> Result<ManifestNote, Refusal> {
    let malformed = |detail: &str| Refusal::MalformedManifest {
        detail: detail.to_owned(),
    };
    let (header, rest) = descriptor
        .split_first_chunk::<HEADER>()
        .ok_or_else(|| malformed("the note is shorter than its header"))?;
    // Native byte order: files of another one are refused before this.
    let short = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let word = |at: usize| {
        u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let abi = AbiVersion {
        major: short(0),
        minor: short(2),
    };
    let flags = word(4);
    let json = usize::try_from(word(8))
        .ok()
        .filter(|len| *len <= MAX_MANIFEST)
        .and_then(|len| rest.get(..len))
        .ok_or_else(|| malformed("the note is shorter than the manifest it announces"))?;
    if abi.major != AbiVersion::HOST.major {
        // Another major may have other manifests: only the name is of use, if there is one.
        return Err(Refusal::OtherMajor {
            name: manifest::parse(json).map_or_else(|_| "?".to_owned(), |m| m.name),
            plugin: abi,
            host: AbiVersion::HOST,
        });
    }
    let manifest = manifest::parse(json)?;
    if flags & NOTE_PANIC_ABORT != 0 {
        return Err(Refusal::PanicAborts {
            name: manifest.name,
        });
    }
    Ok(ManifestNote {
        abi,
        rust: flags & NOTE_RUST != 0,
        manifest,
    })
}

/// Entry for fuzzers: reads `bytes` as a plugin file. Whatever they are, it returns.
pub fn fuzz(bytes: &[u8]) -> Result<String, Refusal> {
    crate::elf::read(bytes, bytes.len() as u64).map(|image| image.note.manifest.name)
}
