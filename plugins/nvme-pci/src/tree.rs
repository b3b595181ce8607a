//! Reading what the kernel shows as files, below a root that tests can choose.

use std::fs;
use std::path::{Path, PathBuf};

/// A root folder with `sys`, `proc`, `dev` and `etc` in it.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The tree below `root`; `/` for the machine itself.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where an absolute path lies really.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The path as the tree's own processes see it; `None` if it is not below the root.
    pub fn inside(&self, real: &Path) -> Option<PathBuf> {
        // Also for a root that is reached through a link.
        let root = fs::canonicalize(&self.root).ok()?;
        let rest = real.strip_prefix(&root).ok()?;
        Some(Path::new("/").join(rest))
    }

    /// Text of a file without blanks at its ends; `None` if there is none or it cannot be read.
    pub fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path))
            .ok()
            .map(|text| text.trim().to_owned())
    }

    /// Bytes of a file; none if there is none or it cannot be read.
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap_or_default()
    }

    /// A number in a file.
    pub fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// Last part of what a link points to.
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Names in a folder, sorted; none if there is no such folder.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Whether there is something, or a link to something.
    pub fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }
}
