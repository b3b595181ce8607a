//! What is on a device, or in a file, before we write to it.
//!
//! Looks at the first and the last [`WINDOW`] bytes. That is where partition tables, file systems,
//! volume managers and RAID keep what they are recognised by; content in between, with nothing at
//! either end, is not seen. Signatures are searched for, not verified: a damaged file system is
//! still somebody's.

mod known;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use known::Reader;

/// Bytes that are looked at, at either end.
pub const WINDOW: usize = 1 << 20;

/// One thing that was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// What it is, such as "ext4 file system".
    pub name: &'static str,
    /// Where its signature begins, in bytes from the start of the device.
    pub offset: u64,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.name, self.offset)
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing but zeroes.
    Blank,
    /// Something known; at least one entry, in the order of the table of signatures.
    Known(Vec<Match>),
    /// Not zeroes, and nothing known.
    Unknown {
        /// The first byte that is not zero, counted from the start of the device.
        offset: u64,
    },
}

impl Content {
    /// Whether the only thing known there is our own label.
    pub fn is_ours(&self) -> bool {
        matches!(self, Content::Known(found) if found.iter().all(|one| one.name == OWN_LABEL))
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Blank => f.write_str("blank"),
            Content::Known(found) => {
                for (position, one) in found.iter().enumerate() {
                    write!(f, "{}{one}", if position == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Content::Unknown { offset } => {
                write!(f, "unknown content (first non-zero byte at {offset})")
            }
        }
    }
}

/// Name under which our own label is found.
pub const OWN_LABEL: &str = "DAOS block device label";

/// Looks at a device of `size` bytes of which `head` are the first and `tail` the last.
///
/// Both should have [`WINDOW`] bytes, or `size` if that is less; with fewer, less is seen. They may
/// overlap.
pub fn detect(head: &[u8], tail: &[u8], size: u64) -> Content {
    let reader = Reader::new(head, tail, size);
    let found = known::search(&reader);
    if !found.is_empty() {
        return Content::Known(found);
    }
    match reader.first_nonzero() {
        Some(offset) => Content::Unknown { offset },
        None => Content::Blank,
    }
}

/// Looks at an open file or device of `size` bytes.
///
/// # Errors
/// When it cannot be read; a file that is shorter than `size` is an error of kind `UnexpectedEof`.
pub fn detect_file(file: &File, size: u64) -> io::Result<Content> {
    let length = WINDOW.min(usize::try_from(size).unwrap_or(WINDOW));
    let (mut head, mut tail) = (vec![0; length], vec![0; length]);
    file.read_exact_at(&mut head, 0)?;
    file.read_exact_at(&mut tail, size - length as u64)?;
    Ok(detect(&head, &tail, size))
}
