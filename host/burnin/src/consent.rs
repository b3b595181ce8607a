//! Whether a burn-in may write to a device. The daemon asks before it starts one, the helper asks again with the
//! device open, so that nothing can come in between.

use crate::record::Mode;
use serde::{Deserialize, Serialize};

/// What the administrator wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Nothing was said: write if nothing can be lost, else only read.
    #[default]
    Auto,
    /// Only read.
    ReadOnly,
    /// The load that was asked for writes. What is on the device may go if it is exactly this.
    Write {
        /// What is on the device, in the words in which it was shown to whoever agreed.
        destroy: Option<String>,
    },
}

/// Decides. `holds` is what would be lost, in words; `None` = nothing.
///
/// # Errors
/// Why the device is not written to; what to do stands behind the semicolon.
pub fn decide(access: &Access, holds: Option<&str>, refuses_writes: bool) -> Result<Mode, String> {
    match (access, holds) {
        (Access::ReadOnly, _) => Ok(Mode::ReadOnly),
        (Access::Auto, _) if refuses_writes => Ok(Mode::ReadOnly),
        (Access::Write { .. }, _) if refuses_writes => {
            Err("the device refuses writes; burn it in with --rw randread".to_owned())
        }
        (Access::Auto, None) | (Access::Write { .. }, None) => Ok(Mode::ReadWrite),
        (Access::Auto, Some(_)) => Ok(Mode::ReadOnly),
        (
            Access::Write {
                destroy: Some(agreed),
            },
            Some(found),
        ) if agreed == found => Ok(Mode::ReadWrite),
        (
            Access::Write {
                destroy: Some(agreed),
            },
            Some(found),
        ) => Err(format!(
            "it holds {found}, and not {agreed} as when its destruction was agreed to; look again"
        )),
        (Access::Write { destroy: None }, Some(found)) => Err(format!(
            "it holds {found}; only read it (leave --rw and --job-file out, or --rw randread), or name it with \
             --destroy-data if that may be destroyed"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_over_what_nobody_gave_away() {
        let write = |destroy: Option<&str>| Access::Write {
            destroy: destroy.map(str::to_owned),
        };
        let ext4 = Some("ext4 file system");
        for (access, holds, refuses, expected) in [
            (Access::Auto, None, false, Ok(Mode::ReadWrite)),
            (Access::Auto, None, true, Ok(Mode::ReadOnly)),
            (Access::Auto, ext4, false, Ok(Mode::ReadOnly)),
            (Access::ReadOnly, None, false, Ok(Mode::ReadOnly)),
            (Access::ReadOnly, ext4, false, Ok(Mode::ReadOnly)),
            (write(None), None, false, Ok(Mode::ReadWrite)),
            (write(None), None, true, Err("refuses writes")),
            (write(None), ext4, false, Err("--destroy-data")),
            (write(Some("blank")), ext4, false, Err("look again")),
            (
                write(Some("ext4 file system")),
                ext4,
                false,
                Ok(Mode::ReadWrite),
            ),
            // Nothing is left to destroy: fine.
            (
                write(Some("ext4 file system")),
                None,
                false,
                Ok(Mode::ReadWrite),
            ),
        ] {
            match (decide(&access, holds, refuses), expected) {
                (Ok(mode), Ok(expected)) => assert_eq!(mode, expected, "{access:?} {holds:?}"),
                (Err(why), Err(word)) => assert!(why.contains(word), "{why}"),
                (got, expected) => panic!("{access:?} {holds:?}: {got:?}, not {expected:?}"),
            }
        }
    }
}
