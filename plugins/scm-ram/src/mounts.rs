//! The mount table, see proc(5).

use daos_plugin_api::sdk::{Error, Result};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A mounted file system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// Type of the file system.
    pub(crate) kind: String,
    /// Source, as `mount` was told.
    pub(crate) source: String,
}

/// The file system mounted exactly at `path`, the topmost if there are several.
pub(crate) fn mounted(path: &Path) -> Result<Option<Mounted>> {
    let text = fs::read("/proc/thread-self/mountinfo")
        .map_err(|e| Error::io("cannot read /proc/thread-self/mountinfo", e))?;
    Ok(mounted_in(&text, path))
}

fn mounted_in(mountinfo: &[u8], path: &Path) -> Option<Mounted> {
    mountinfo
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|b| *b == b' ');
            let at = fields.nth(4)?;
            let mut rest = fields.skip_while(|f| *f != b"-");
            let (kind, source) = (rest.nth(1)?, rest.next()?);
            let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
            (unescape(at) == path.as_os_str().as_bytes()).then(|| Mounted {
                kind: text(kind),
                source: text(source),
            })
        })
        .next_back()
}

/// Undoes the octal escapes (`\040`) of mountinfo.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'\\'
            && let [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', more @ ..] = tail
        {
            out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = more;
        } else {
            out.push(*first);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_of_a_point_with_a_space_is_found() {
        let info = b"36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext4 /dev/root rw\n\
                     37 36 0:39 / /mnt/a\\040b rw - tmpfs none rw\n\
                     38 36 0:40 / /mnt/other rw - xfs none rw\n";
        let top = Mounted {
            kind: "tmpfs".to_owned(),
            source: "none".to_owned(),
        };
        assert_eq!(mounted_in(info, Path::new("/mnt/a b")), Some(top));
        assert_eq!(mounted_in(info, Path::new("/mnt/a")), None);
    }
}
