//! The mount table, see proc(5).

use daos_plugin_api::sdk::{Error, Result};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub at: PathBuf,
    /// Its device, major and minor number.
    pub device: (u32, u32),
    /// Type of the file system.
    pub kind: String,
    /// Source, as `mount` was told.
    pub source: String,
}

/// Everything that is mounted, in the order in which it was.
///
/// # Errors
/// The mount table cannot be read.
pub fn all() -> Result<Vec<Mounted>> {
    let text = fs::read("/proc/thread-self/mountinfo")
        .map_err(|e| Error::io("cannot read /proc/thread-self/mountinfo", e))?;
    Ok(parse(&text))
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

fn parse(mountinfo: &[u8]) -> Vec<Mounted> {
    let lines = mountinfo.split(|b| *b == b'\n');
    lines.filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|b| *b == b' ');
    let (major, minor) = std::str::from_utf8(fields.nth(2)?).ok()?.split_once(':')?;
    let at = unescape(fields.nth(1)?);
    let mut rest = fields.skip_while(|f| *f != b"-");
    let (kind, source) = (rest.nth(1)?, rest.next()?);
    let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    Some(Mounted {
        at: PathBuf::from(OsString::from_vec(at)),
        device: (major.parse().ok()?, minor.parse().ok()?),
        kind: text(kind),
        source: text(source),
    })
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
        let mounts = parse(info);
        let top = Mounted {
            at: PathBuf::from("/mnt/a b"),
            device: (0, 39),
            kind: "tmpfs".to_owned(),
            source: "none".to_owned(),
        };
        assert_eq!(at(&mounts, Path::new("/mnt/a b")), Some(&top));
        assert_eq!(at(&mounts, Path::new("/mnt/a")), None);
        assert_eq!(mounts.len(), 3);
    }
}
