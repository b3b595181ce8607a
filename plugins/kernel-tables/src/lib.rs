//! The kernel's tables of mounts and of swap space, see proc(5), and which block devices are in use by them.
//!
//! Readers only: the text comes from the caller, so that it may be that of another root.

mod mounts;
mod usage;

pub use mounts::{Mounted, mounts};
pub use usage::{Member, Use, uses};

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Major and minor number of a device.
pub type Number = (u32, u32);

/// The devices and files in the text of `/proc/swaps`.
pub fn swaps(text: &[u8]) -> Vec<PathBuf> {
    text.split(|byte| *byte == b'\n')
        .skip(1)
        .filter_map(|line| line.split(|byte| matches!(byte, b' ' | b'\t')).next())
        .filter(|field| !field.is_empty())
        .map(path)
        .collect()
}

/// Undoes the octal escapes (`\040` for a blank) of a field. Paths are bytes, and stay what they are.
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
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

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// The number that a table or sysfs shows as `8:1`.
pub fn number(field: &[u8]) -> Option<Number> {
    let (major, minor) = std::str::from_utf8(field).ok()?.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blanks_come_back() {
        assert_eq!(unescape(b"/my\\040data\\134x"), b"/my data\\x");
        assert_eq!(unescape(b"\\04"), b"\\04");
        // More than a byte holds.
        assert_eq!(unescape(b"\\777"), b"\\777");
    }

    #[test]
    fn swap_has_a_heading_and_fields_of_any_width() {
        let text = b"Filename\t\t\tType\n/dev/sda1   partition 1\n/swap\\040file\tfile 1\n";
        let found = [PathBuf::from("/dev/sda1"), PathBuf::from("/swap file")];
        assert_eq!(swaps(text), found);
        assert_eq!(swaps(b""), Vec::<PathBuf>::new());
    }

    proptest! {
        #[test]
        fn escaped_bytes_come_back(field in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut escaped = Vec::new();
            for byte in &field {
                match byte {
                    b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").bytes()),
                    byte => escaped.push(*byte),
                }
            }
            prop_assert_eq!(unescape(&escaped), field);
        }

        #[test]
        fn any_bytes_are_taken(field in prop::collection::vec(any::<u8>(), 0..80)) {
            unescape(&field);
            mounts(&field);
            swaps(&field);
        }
    }
}
