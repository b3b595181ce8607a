//! Paths that root is about to touch on behalf of somebody else.

use daos_loader::Trust;
use std::path::{Component, Path};

/// Refuses a path that others than root could make lead elsewhere: each directory above it must be root's and closed to
/// others, and there may be no link on the way. What the path itself names may be anybody's, but no link.
///
/// # Errors
/// A sentence.
pub(crate) fn check(path: &Path, root: Trust) -> Result<(), String> {
    let shown = path.display();
    let plain = |c: Component<'_>| matches!(c, Component::RootDir | Component::Normal(_));
    let parent = path
        .parent()
        .filter(|_| path.is_absolute() && path.components().all(plain));
    let Some(parent) = parent else {
        return Err(format!("{shown} is no absolute path without `..`"));
    };
    let is_link = |p: &&Path| std::fs::symlink_metadata(p).is_ok_and(|m| m.is_symlink());
    if let Some(link) = path.ancestors().find(is_link) {
        return Err(format!(
            "{} on the way to {shown} is a symbolic link",
            link.display()
        ));
    }
    root.search_directory(parent).map_err(|refusal| {
        format!("others than root could exchange {shown}: {refusal}; put it below directories that only root can write to")
    })
}
