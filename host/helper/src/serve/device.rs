//! Labels and contents of block devices, through the data face of whatever plugin drives them.

use crate::operation::{DeviceInspection, LabelRequest, LabelState, LabelWritten};
use daos_media::label::{self, Copies, Label, LabelError, Layout};
use daos_media::signature::{self, Content};
use daos_media::steps;
use daos_plugin_api::abi::{BdevGeometry, Status};
use daos_plugin_api::control::DeviceSpec;
use daos_plugin_api::host::{BdevDevice, CallOptions, Instance, SyncBdev};
use daos_plugin_api::sdk::Error;
use std::time::Duration;

/// Time for one request to a device that is neither dead nor alive.
const REQUEST: Duration = Duration::from_secs(30);

/// An open device, with the places of its label.
struct Open {
    bdev: SyncBdev,
    geometry: BdevGeometry,
    bytes: u64,
}

fn open(instance: &Instance, device: &DeviceSpec, options: CallOptions<'_>) -> Result<Open, Error> {
    with_queue(&instance.open_bdev(device, options)?)
}

fn with_queue(opened: &BdevDevice) -> Result<Open, Error> {
    Ok(Open {
        bytes: opened.size(),
        bdev: SyncBdev::new(opened, REQUEST)?,
        geometry: *opened.geometry(),
    })
}

impl Open {
    fn layout(&self) -> Result<Layout, Error> {
        let g = &self.geometry;
        Layout::of(g.block_count, g.block_size).map_err(|e| {
            Error::new(Status::INVALID, "the device cannot carry a label").cause(e.to_string())
        })
    }

    /// Bytes at either end in which contents are recognised.
    fn window(&self) -> usize {
        let block = self.geometry.block_size as usize;
        let all = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        signature::WINDOW.min(all).next_multiple_of(block)
    }

    fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; len];
        self.bdev.read(offset, &mut out)?;
        Ok(out)
    }

    /// The blocks that a label copy at `offset` lies in, with their place.
    fn around(&self, offset: u64) -> (u64, usize) {
        let block = u64::from(self.geometry.block_size);
        let start = offset / block * block;
        let end = (offset + label::SIZE as u64).next_multiple_of(block);
        (start, (end - start) as usize)
    }

    fn read_copy(&mut self, offset: u64) -> Result<Vec<u8>, Error> {
        let (start, len) = self.around(offset);
        let blocks = self.read(start, len)?;
        let at = (offset - start) as usize;
        Ok(blocks[at..at + label::SIZE].to_vec())
    }

    fn write_copy(&mut self, offset: u64, record: &[u8; label::SIZE]) -> Result<(), Error> {
        let (start, len) = self.around(offset);
        let mut blocks = self.read(start, len)?;
        let at = (offset - start) as usize;
        blocks[at..at + label::SIZE].copy_from_slice(record);
        self.bdev.write(start, &blocks)?;
        self.bdev.flush()?;
        if self.read_copy(offset)? != record {
            return Err(Error::new(
                Status::MEDIA,
                format!("the label at byte {offset} does not read back as it was written"),
            )
            .remedy("replace the device"));
        }
        Ok(())
    }

    fn copies(&mut self) -> Result<Copies, Error> {
        let layout = self.layout()?;
        let (first, second) = (self.read_copy(0)?, self.read_copy(layout.second_copy)?);
        Ok(label::decode_copies(&first, &second))
    }
}

/// Geometry, label and content.
pub(super) fn inspect(
    instance: &Instance,
    device: &DeviceSpec,
    options: CallOptions<'_>,
) -> Result<DeviceInspection, Error> {
    look(&mut open(instance, device, options)?)
}

/// The same of a device that is open already.
pub(super) fn inspect_open(device: &BdevDevice) -> Result<DeviceInspection, Error> {
    look(&mut with_queue(device)?)
}

/// Overwrites with zeroes where a label, a partition table or a file system is recognised: whatever was on the device,
/// nobody takes it for that any more.
pub(super) fn clear_ends(device: &BdevDevice) -> Result<(), Error> {
    let mut open = with_queue(device)?;
    let window = open.window();
    let zeroes = vec![0; window];
    open.bdev.write(0, &zeroes)?;
    open.bdev.write(open.bytes - window as u64, &zeroes)?;
    open.bdev.flush()
}

fn look(open: &mut Open) -> Result<DeviceInspection, Error> {
    let window = open.window();
    let head = open.read(0, window)?;
    let tail = open.read(open.bytes - window as u64, window)?;
    let content = signature::detect(&head, &tail, open.bytes);
    // A device that is too small for a label has none.
    let label = match open.layout() {
        Ok(_) => state_of(open.copies()?),
        Err(_) => LabelState::None,
    };
    let g = &open.geometry;
    let flag = |flag| g.flags & flag != 0;
    Ok(DeviceInspection {
        block_size: g.block_size,
        blocks: g.block_count,
        numa_node: g.numa_node,
        ephemeral: flag(BdevGeometry::EPHEMERAL),
        volatile_cache: flag(BdevGeometry::VOLATILE_CACHE),
        read_only: flag(BdevGeometry::READ_ONLY),
        blank: content == Content::Blank,
        foreign: content != Content::Blank && !content.is_ours(),
        content: content.to_string(),
        label,
    })
}

fn state_of(copies: Copies) -> LabelState {
    let present = |label: &Label, repair: Option<String>| LabelState::Present {
        volatile: label.volatile,
        label: request_of(label),
        repair,
    };
    match copies {
        Copies::Agree(label) => present(&label, None),
        Copies::One { label, other, .. } => present(&label, Some(other.to_string())),
        Copies::Differ { first, second } => LabelState::Differ {
            first: request_of(&first),
            second: request_of(&second),
        },
        Copies::None {
            first: LabelError::NotALabel { .. },
            second: LabelError::NotALabel { .. },
        } => LabelState::None,
        Copies::None { first, second } => LabelState::Damaged {
            detail: match first {
                LabelError::NotALabel { .. } => second.to_string(),
                first => first.to_string(),
            },
        },
    }
}

fn request_of(label: &Label) -> LabelRequest {
    LabelRequest {
        engine: label.engine,
        generation: label.generation,
        index: label.index,
        count: label.count,
        device: label.device,
        created: label.created,
    }
}

/// Writes both copies.
pub(super) fn write_label(
    instance: &Instance,
    device: &DeviceSpec,
    request: &LabelRequest,
    options: CallOptions<'_>,
) -> Result<LabelWritten, Error> {
    let mut open = open(instance, device, options)?;
    let layout = open.layout()?;
    let written = LabelWritten {
        block_size: open.geometry.block_size,
        blocks: open.geometry.block_count,
        volatile: open.geometry.flags & BdevGeometry::EPHEMERAL != 0,
    };
    let record = Label {
        engine: request.engine,
        generation: request.generation,
        index: request.index,
        count: request.count,
        device: request.device,
        blocks: written.blocks,
        block_size: written.block_size,
        created: request.created,
        volatile: written.volatile,
    }
    .encode()
    .map_err(|e| e.to_string())
    // Whatever is written must be readable.
    .and_then(|record| {
        Label::decode(&record)
            .map(|_| record)
            .map_err(|e| e.to_string())
    })
    .map_err(|e| Error::new(Status::INVALID, "the label to be written is impossible").cause(e))?;
    // The second copy first: whoever finds the first may rely on the second.
    open.write_copy(layout.second_copy, &record)?;
    steps::reached("label-second-copy");
    open.write_copy(0, &record)?;
    steps::reached("label-first-copy");
    Ok(written)
}

/// Overwrites copies of our label; whatever else is in their place stays.
pub(super) fn clear_label(
    instance: &Instance,
    device: &DeviceSpec,
    options: CallOptions<'_>,
) -> Result<bool, Error> {
    let mut open = open(instance, device, options)?;
    let layout = open.layout()?;
    let mut cleared = false;
    for offset in [0, layout.second_copy] {
        let ours = open.read_copy(offset)?.starts_with(&label::MAGIC);
        if ours {
            open.write_copy(offset, &[0; label::SIZE])?;
            cleared = true;
        }
    }
    Ok(cleared)
}
