//! Preparing a device for its label.

use crate::sysfs::Block;
use bdev_uring::discard;
use daos_plugin_api::sdk::{CallContext, Error, Result};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// Bytes at both ends that are overwritten: where signatures of other software live.
const ENDS: u64 = 1 << 20;
/// Bytes discarded between two looks at progress and cancellation.
const STEP: u64 = 4 << 30;

/// Discards the device where it can, and overwrites both ends with zeroes. Returns remarks.
pub(crate) fn wipe(
    call: CallContext<'_>,
    file: &File,
    block: &Block,
    size: u64,
) -> Result<Vec<String>> {
    let failed = |error| Error::io(format!("cannot wipe {}", block.node()), error);
    let mut notes = Vec::new();
    if block.discard_granularity().is_some() {
        let mut at = 0;
        while at < size {
            call.check_cancelled()?;
            call.progress(at, size, "discarding");
            let len = STEP.min(size - at);
            if let Err(error) = discard(file.as_fd(), at, len) {
                notes.push(format!("{} could not be discarded: {error}", block.node()));
                break;
            }
            at += len;
        }
    }
    let zeroes = vec![0u8; ENDS.min(size) as usize];
    for at in [0, size.saturating_sub(ENDS)] {
        call.check_cancelled()?;
        file.write_all_at(&zeroes, at).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    Ok(notes)
}
