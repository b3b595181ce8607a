//! What is known about a plugin before any of its code runs.

use crate::identity::FileIdentity;
use daos_plugin_api::abi::{ABI_MAJOR, ABI_MINOR};
use daos_plugin_api::control::{Class, ClassKind, Manifest, provider_class};
use daos_plugin_api::sdk::BuiltIn;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Version of the plugin interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AbiVersion {
    /// Must equal the host's.
    pub major: u16,
    /// May differ either way.
    pub minor: u16,
}

impl AbiVersion {
    /// The version of this host.
    pub const HOST: Self = Self {
        major: ABI_MAJOR,
        minor: ABI_MINOR,
    };
}

impl std::fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Where a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Linked into the programs of this project.
    BuiltIn,
    /// A shared object.
    File {
        /// Its path with all symbolic links resolved.
        path: PathBuf,
        /// Which file it was when it was inspected.
        identity: FileIdentity,
    },
}

/// A plugin that may be used: manifest and origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginInfo {
    /// What it says about itself.
    pub manifest: Manifest,
    /// Interface version it was built with.
    pub abi: AbiVersion,
    /// Has the Rust entry (else the C entry only).
    pub rust: bool,
    /// Where it comes from.
    pub origin: Origin,
    /// SHA-256 of the file, hexadecimal; computed only when an allow list pins one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl PluginInfo {
    /// Describes a plugin that is linked into this binary.
    ///
    /// # Errors
    /// The manifest is malformed: a defect of that plugin, found by its own tests.
    pub fn built_in(plugin: &BuiltIn) -> Result<Self, crate::Refusal> {
        Ok(Self {
            manifest: crate::manifest::parse(plugin.manifest.as_bytes())?,
            abi: AbiVersion::HOST,
            rust: true,
            origin: Origin::BuiltIn,
            sha256: None,
        })
    }

    /// Unique name.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// Whether it is linked into the binary.
    pub fn is_built_in(&self) -> bool {
        self.origin == Origin::BuiltIn
    }

    /// Its name, and where it comes from, for people.
    pub fn described(&self) -> String {
        match self.path() {
            Some(path) => format!("{} ({})", self.name(), path.display()),
            None => format!("{} (built in)", self.name()),
        }
    }

    /// The file it comes from.
    pub fn path(&self) -> Option<&Path> {
        match &self.origin {
            Origin::BuiltIn => None,
            Origin::File { path, .. } => Some(path),
        }
    }

    /// Whether it has the class of a fabric provider.
    pub fn serves(&self, provider: &str) -> bool {
        provider_class(provider).is_some_and(|class| self.class(ClassKind::Fabric, class).is_some())
    }

    /// The class of that kind and name, if it provides it.
    pub fn class(&self, kind: ClassKind, name: &str) -> Option<&Class> {
        self.manifest
            .classes
            .iter()
            .find(|c| c.kind == kind && c.name == name)
    }
}
