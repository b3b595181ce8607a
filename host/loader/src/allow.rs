//! The allow list of the config: which plugins may be used, some with a pinned hash.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};

/// What the list says about one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowEntry {
    /// Accepted SHA-256 digests of the file, hexadecimal; empty = any file.
    #[serde(default)]
    pub sha256: Vec<String>,
}

/// Plugins that may be used, by name. The name counts for built-ins too; a hash pins files only,
/// since a built-in is as trustworthy as the program it is part of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AllowList {
    /// The entries.
    pub entries: BTreeMap<String, AllowEntry>,
}

impl FromIterator<(String, Vec<String>)> for AllowList {
    fn from_iter<I: IntoIterator<Item = (String, Vec<String>)>>(entries: I) -> Self {
        Self {
            entries: entries
                .into_iter()
                .map(|(name, sha256)| (name, AllowEntry { sha256 }))
                .collect(),
        }
    }
}

/// SHA-256 of a file from its start, in lower-case hexadecimal.
///
/// # Errors
/// Those of reading the file.
pub fn sha256_of(mut file: &File) -> io::Result<String> {
    file.rewind()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 256 << 10];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect())
}
