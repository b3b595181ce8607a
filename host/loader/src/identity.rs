//! Which file a path led to.

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

/// Tells one state of one file from every other: another file under the same path, or another
/// content of the same file, has another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Last modification in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Last status change in nanoseconds since 1970; nobody can set it back.
    pub changed_ns: i64,
}

impl FileIdentity {
    // The types of `Stat`'s members differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    pub(crate) fn of(stat: &Stat) -> Self {
        let ns = |seconds: i64, nanoseconds: i64| {
            seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(nanoseconds)
        };
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as u64,
            modified_ns: ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed_ns: ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}
