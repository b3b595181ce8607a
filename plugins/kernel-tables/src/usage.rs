//! Which of some block devices are in use.

use crate::{Number, mounts, swaps};
use std::fmt;
use std::path::{Path, PathBuf};

/// A device or partition that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Kernel name (`sda1`).
    pub name: String,
    /// Its number, where that is known.
    pub number: Option<Number>,
    /// Devices that are made of it (`dm-0`, `md127`).
    pub holders: Vec<String>,
}

/// How a device is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// It, or a file system that has it among others, is mounted at these places.
    Mounted(Vec<PathBuf>),
    /// Swap space.
    Swap,
    /// A part of other devices.
    PartOf(Vec<String>),
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted(places) => {
                let places: Vec<_> = places.iter().map(|at| at.display().to_string()).collect();
                write!(f, "mounted at {}", places.join(", "))
            }
            Self::Swap => f.write_str("used as swap space"),
            Self::PartOf(holders) => write!(f, "part of {}", holders.join(", ")),
        }
    }
}

/// The uses of the members of `family`: first the mounted ones, then swap space, then parts of others, each in the
/// family's order. `mountinfo` and `swap` are the texts of `/proc/PID/mountinfo` and `/proc/swaps`; `number_of` tells the
/// number of the block device at a path, if there is one.
pub fn uses<'a>(
    mountinfo: &[u8],
    swap: &[u8],
    family: &'a [Member],
    number_of: &dyn Fn(&Path) -> Option<Number>,
) -> Vec<(&'a Member, Use)> {
    let mounts = mounts(mountinfo);
    let swaps = swaps(swap);
    let mounted = family.iter().filter_map(|member| {
        let places: Vec<PathBuf> = mounts
            .iter()
            // File systems of several devices show another number than the device's, so the source is looked at, too.
            .filter(|m| {
                member.number == Some(m.device) || is(member, Path::new(&m.source), number_of)
            })
            .map(|mount| mount.at.clone())
            .collect();
        (!places.is_empty()).then_some((member, Use::Mounted(places)))
    });
    let swapped = family
        .iter()
        .filter(|member| swaps.iter().any(|path| is(member, path, number_of)))
        .map(|member| (member, Use::Swap));
    let held = family
        .iter()
        .filter(|member| !member.holders.is_empty())
        .map(|member| (member, Use::PartOf(member.holders.clone())));
    mounted.chain(swapped).chain(held).collect()
}

/// Whether a path is the member's, by its name or by the number of what lies there.
fn is(member: &Member, path: &Path, number_of: &dyn Fn(&Path) -> Option<Number>) -> bool {
    path.strip_prefix("/dev").is_ok_and(|name| {
        name == Path::new(&member.name)
            || member.number.is_some() && number_of(path) == member.number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, number: Number) -> Member {
        Member {
            name: name.to_owned(),
            number: Some(number),
            holders: Vec::new(),
        }
    }

    fn nodes(path: &Path) -> Option<Number> {
        (path == Path::new("/dev/disk/by-id/one")).then_some((8, 1))
    }

    /// What is said of `sda1` and `sda2`.
    fn said(mountinfo: &str, swap: &str) -> Vec<String> {
        let family = [member("sda1", (8, 1)), member("sda2", (8, 2))];
        uses(mountinfo.as_bytes(), swap.as_bytes(), &family, &nodes)
            .into_iter()
            .map(|(member, usage)| format!("{} {usage}", member.name))
            .collect()
    }

    #[test]
    fn mounts_are_found_by_number_by_source_and_by_name() {
        let by_number = "36 35 8:1 / /my\\040data rw,noatime shared:1 - ext4 /dev/root rw\n\
                         37 35 8:1 / /again rw - ext4 /dev/root rw";
        assert_eq!(said(by_number, ""), ["sda1 mounted at /my data, /again"]);
        let by_source = "36 35 0:45 /sub /b rw - btrfs /dev/disk/by-id/one rw";
        assert_eq!(said(by_source, ""), ["sda1 mounted at /b"]);
        let by_name = "36 35 0:45 /sub /b rw - btrfs /dev/sda2 rw";
        assert_eq!(said(by_name, ""), ["sda2 mounted at /b"]);
        let others = "36 35 8:17 / /b rw - ext4 /dev/sda22 rw\n37 35 0:5 / /proc rw - proc sda1 rw";
        assert_eq!(said(others, ""), Vec::<String>::new());
    }

    #[test]
    fn swap_counts_and_files_on_a_disk_do_not() {
        let swap = "Filename Type Size Used Priority\n/dev/disk/by-id/one partition 1 0 -2\n/dev/sda2 partition 1 0 -2\n";
        let found = ["sda1 used as swap space", "sda2 used as swap space"];
        assert_eq!(said("", swap), found);
        assert_eq!(
            said("", "Filename\n/sda1 file 1 0 -2\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn parts_of_others_come_last() {
        let mut part = member("sda1", (8, 1));
        part.holders = vec!["md127".to_owned(), "dm-0".to_owned()];
        let family = [part, member("sda2", (8, 2))];
        let found = uses(b"36 35 8:2 / /b rw - ext4 x rw", b"", &family, &nodes);
        let said: Vec<_> = found.iter().map(|(_, usage)| usage.to_string()).collect();
        assert_eq!(said, ["mounted at /b", "part of md127, dm-0"]);
        assert_eq!(found[1].0, &family[0]);
    }

    /// Two devices whose numbers nobody knows are not the same one.
    #[test]
    fn unknown_numbers_are_not_equal() {
        let mut unknown = member("sda1", (8, 1));
        unknown.number = None;
        let found = uses(
            b"36 35 0:9 / /b rw - ext4 /dev/other rw",
            b"",
            std::slice::from_ref(&unknown),
            &|_| None,
        );
        assert!(found.is_empty(), "{found:?}");
    }
}
