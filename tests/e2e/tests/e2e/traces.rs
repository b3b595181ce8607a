//! What a node leaves, seen from outside.

use daos_e2e::{Site, mounts_below};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Requires that nothing of a stopped node is left but its storage, its state and its log. SCM in memory
/// stays: its contents would be lost with it.
#[track_caller]
pub(crate) fn assert_only_storage_is_left(site: &Site) {
    let entries = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).expect("a directory of the site");
        entries.map(|e| e.expect("an entry").path()).collect()
    };
    let sockets = entries(&site.path("sockets"));
    let is_socket = |p: &&PathBuf| fs::symlink_metadata(p).is_ok_and(|m| m.file_type().is_socket());
    let left: Vec<_> = sockets.iter().filter(is_socket).collect();
    assert!(left.is_empty(), "sockets are left: {left:?}");
    let temporary = entries(&site.path("tmp"));
    assert!(
        temporary.is_empty(),
        "temporary files are left: {temporary:?}"
    );
    let scms = site.scms();
    let mut foreign = mounts_below(site.dir());
    foreign.retain(|mount| !scms.contains(mount));
    assert!(foreign.is_empty(), "mounts are left: {foreign:?}");
}

/// Everything below some directories: kind, size, owner, mode and time of change of each entry.
pub(crate) fn snapshot(roots: &[&Path]) -> BTreeMap<PathBuf, (u64, u32, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut todo: Vec<PathBuf> = roots.iter().map(|p| p.to_path_buf()).collect();
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).expect("an entry that does not vanish");
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).expect("a readable directory");
            todo.extend(entries.map(|e| e.expect("an entry").path()));
        }
        let mode = std::os::unix::fs::MetadataExt::mode(&metadata);
        let modified = metadata.modified().expect("a time of change");
        found.insert(path, (metadata.len(), mode, modified));
    }
    found
}
