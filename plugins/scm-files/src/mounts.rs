//! The mount table, see proc(5).

use daos_plugin_api::sdk::{Error, Result};
pub use kernel_tables::Mounted;
use std::fs;
use std::path::Path;

/// Everything that is mounted, in the order in which it was.
///
/// # Errors
/// The mount table cannot be read.
pub fn all() -> Result<Vec<Mounted>> {
    let text = fs::read("/proc/thread-self/mountinfo")
        .map_err(|e| Error::io("cannot read /proc/thread-self/mountinfo", e))?;
    Ok(kernel_tables::mounts(&text))
}

/// The file system mounted exactly at `path`, the topmost if there are several.
///
/// # Errors
/// The mount table cannot be read.
pub fn mounted(path: &Path) -> Result<Option<Mounted>> {
    Ok(at(&all()?, path).cloned())
}

/// The topmost of those mounted exactly at `path`.
fn at<'a>(mounts: &'a [Mounted], path: &Path) -> Option<&'a Mounted> {
    mounts.iter().rfind(|mount| mount.at == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_of_a_point_with_a_space_is_found() {
        let info = b"36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext4 /dev/root rw\n\
                     37 36 0:39 / /mnt/a\\040b rw - tmpfs none rw\n\
                     38 36 0:40 / /mnt/other rw - xfs none rw\n";
        let mounts = kernel_tables::mounts(info);
        let top = at(&mounts, Path::new("/mnt/a b")).unwrap();
        assert_eq!((top.device, top.kind.as_str()), ((0, 39), "tmpfs"));
        assert_eq!(at(&mounts, Path::new("/mnt/a")), None);
        assert_eq!(mounts.len(), 3);
    }
}
