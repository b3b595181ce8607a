//! Preparing a namespace for its label: deallocate, overwrite where signatures live, look whether it worked.

use crate::device::SpdkDevice;
use crate::sync::{Sync, WINDOW};
use daos_plugin_api::abi::{BdevGeometry, BdevOp, Status};
use daos_plugin_api::sdk::{Bdev, CallContext, Error, Result};

/// Bytes at both ends that are overwritten: where labels and signatures live.
const ENDS: u64 = WINDOW as u64;
/// Bytes deallocated between two looks at progress and cancellation.
const STEP: u64 = 4 << 30;

/// Empties a namespace. Returns remarks.
pub(crate) fn wipe(call: CallContext<'_>, device: &SpdkDevice, name: &str) -> Result<Vec<String>> {
    let geometry = device.geometry();
    let block = u64::from(geometry.block_size);
    let mut io = Sync::open(call, device)?;
    let mut notes = Vec::new();
    if geometry.deallocate_granularity != 0
        && let Err(error) = deallocate(call, &mut io, &geometry)
    {
        if error.status == Status::CANCELLED {
            return Err(error);
        }
        notes.push(format!("{name} could not be deallocated: {error}"));
    }
    let ends = (ENDS / block).min(geometry.block_count);
    let starts = [0, geometry.block_count - ends];
    for start in starts {
        call.progress(start, geometry.block_count, "overwriting both ends");
        io.buffer()[..(ends * block) as usize].fill(0);
        io.transfer(BdevOp::WRITE, start, ends)?;
    }
    io.run(BdevOp::FLUSH, 0, 0)?;
    for start in starts {
        call.progress(start, geometry.block_count, "verifying both ends");
        io.buffer()[..(ends * block) as usize].fill(0xff);
        io.transfer(BdevOp::READ, start, ends)?;
        if let Some(at) = io.buffer()[..(ends * block) as usize]
            .iter()
            .position(|byte| *byte != 0)
        {
            let byte = start * block + at as u64;
            return Err(
                Error::new(Status::IO, format!("{name} did not take zeroes"))
                    .cause(format!("byte {byte} reads back as another value"))
                    .remedy("replace the device"),
            );
        }
    }
    Ok(notes)
}

fn deallocate(call: CallContext<'_>, io: &mut Sync<'_>, geometry: &BdevGeometry) -> Result<()> {
    let step = STEP / u64::from(geometry.block_size);
    let mut at = 0;
    while at < geometry.block_count {
        call.check_cancelled()?;
        call.progress(at, geometry.block_count, "deallocating");
        let blocks = step.min(geometry.block_count - at);
        io.run(BdevOp::UNMAP, at, blocks)?;
        at += blocks;
    }
    Ok(())
}
