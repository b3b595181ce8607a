//! The mount table.

use crate::{Number, number, path, text};
use std::path::PathBuf;

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub at: PathBuf,
    /// Its device. File systems of several devices have another number than any of these.
    pub device: Number,
    /// Type of the file system.
    pub kind: String,
    /// Source, as `mount` was told.
    pub source: String,
    /// Options of the file system, separated by commas.
    pub options: String,
}

/// The mounts in the text of `/proc/PID/mountinfo`, in the order in which they were made.
pub fn mounts(mountinfo: &[u8]) -> Vec<Mounted> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    lines.filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = number(fields.nth(2)?)?;
    let at = path(fields.nth(1)?);
    // Behind the mount's own options come any number of others, up to a dash.
    let mut rest = fields.skip(1).skip_while(|field| *field != b"-");
    Some(Mounted {
        at,
        device,
        kind: text(rest.nth(1)?),
        source: text(rest.next()?),
        options: text(rest.next().unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found() {
        let info = b"36 35 98:0 / /mnt/a\\040b rw,noatime master:1 shared:2 - ext4 /dev/root rw,errors=continue\n\
                     37 36 0:39 / /mnt/c rw - tmpfs none\n\
                     no line\n";
        let ext4 = Mounted {
            at: PathBuf::from("/mnt/a b"),
            device: (98, 0),
            kind: "ext4".to_owned(),
            source: "/dev/root".to_owned(),
            options: "rw,errors=continue".to_owned(),
        };
        let tmpfs = Mounted {
            at: PathBuf::from("/mnt/c"),
            device: (0, 39),
            kind: "tmpfs".to_owned(),
            source: "none".to_owned(),
            options: String::new(),
        };
        assert_eq!(mounts(info), [ext4, tmpfs]);
    }
}
