//! The commands about a controller's firmware.

use super::{Attached, Phase, lock};
use crate::{env, sys};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::FirmwareSlot;
use daos_plugin_api::sdk::{Error, Result};
use std::io;

/// Slots that a controller can have; the log page has room for their revisions.
const MAX_SLOTS: u8 = 7;

/// Bytes of a piece where the controller sets no granularity, unless it takes fewer. Small enough that progress shows.
const PIECE: u32 = 32 << 10;

/// Bytes of a piece where the controller does not tell its granularity: what drives took before they could.
const CAUTIOUS_PIECE: u32 = 4096;

/// What a controller says about its firmware.
#[derive(Debug, PartialEq)]
pub(crate) struct Slots {
    /// It takes images.
    pub(crate) updatable: bool,
    /// Bytes that pieces are a multiple of; 0 = it does not tell.
    pub(crate) granularity: u32,
    /// Bytes of a piece of an image; 0 = its granularity is more than a transfer of its.
    pub(crate) piece: u32,
    pub(crate) slots: Vec<FirmwareSlot>,
}

/// The status by which a controller ended a command: its type in bits 8 to 10, its code below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told(pub(crate) u32);

impl Told {
    pub(crate) const SUCCESS: Self = Self(0);
    /// After a commit: done, and a conventional reset (of the PCI slot) is needed.
    pub(crate) const NEEDS_CONVENTIONAL_RESET: Self = Self(0x10b);
    /// After a commit: done, and a reset of the NVM subsystem is needed.
    pub(crate) const NEEDS_SUBSYSTEM_RESET: Self = Self(0x110);
    /// After a commit: done, and a reset of the controller is needed.
    pub(crate) const NEEDS_CONTROLLER_RESET: Self = Self(0x111);

    /// In words (NVMe base specification, "Command Specific Status Values" and "Generic Command Status Values").
    pub(crate) fn words(self) -> String {
        let words = match self.0 {
            0x001 => "the command is not known",
            0x002 => "a field of the command is not valid",
            0x004 => "the transfer of data failed",
            0x006 => "internal error",
            0x00c => "the commands came in a wrong order",
            0x106 => "there is no such firmware slot, or it is read-only",
            0x107 => "the firmware image is not valid for this controller",
            0x10b => "a conventional reset is needed to activate the firmware",
            0x110 => "a reset of the NVM subsystem is needed to activate the firmware",
            0x111 => "a reset of the controller is needed to activate the firmware",
            0x112 => "to activate the firmware takes longer than the controller may be away",
            0x113 => "the activation of this firmware is prohibited",
            0x114 => "pieces of the firmware image overlap",
            0x11e => "the boot partition is write protected",
            _ => "the command failed",
        };
        format!("{words} (status {}/{:02x}h)", self.0 >> 8, self.0 & 0xff)
    }
}

impl Slots {
    /// What the log page and the controller's data say.
    fn read(info: &sys::daos_spdk_firmware_info) -> Self {
        let (active, next) = (info.page[0] & 7, info.page[0] >> 4 & 7);
        let revision = |slot: u8| {
            let start = 8 * usize::from(slot);
            let bytes = &info.page[start..start + 8];
            String::from_utf8_lossy(bytes)
                .trim_matches(|c: char| c == '\0' || c.is_whitespace())
                .to_owned()
        };
        let slots = (1..=info.slots.min(MAX_SLOTS)).map(|slot| FirmwareSlot {
            slot,
            revision: revision(slot),
            read_only: slot == 1 && info.first_read_only,
            active: slot == active,
            next: slot == next,
        });
        Self {
            updatable: info.updatable,
            granularity: if info.any_piece { 4 } else { info.granularity },
            piece: piece(info),
            slots: slots.collect(),
        }
    }
}

/// Bytes of the pieces in which the controller takes an image.
fn piece(info: &sys::daos_spdk_firmware_info) -> u32 {
    let most = info.max_transfer_bytes;
    if info.any_piece {
        return PIECE.min(most) / 4 * 4;
    }
    match info.granularity {
        0 => CAUTIOUS_PIECE.min(most) / 4 * 4,
        unit if unit > most => 0,
        unit => unit * (PIECE.min(most) / unit).max(1),
    }
}

/// Memory for the pieces of an image. It must live longer than the controller that was given it: one that does not
/// answer may still read it until it is detached.
pub(crate) struct Buffer {
    memory: *mut u8,
    len: usize,
}

impl Buffer {
    /// Of `len` bytes, on any node. The environment runs.
    pub(crate) fn new(len: usize) -> Result<Self> {
        let memory = env::allocate(len, -1)?;
        Ok(Self { memory, len })
    }

    /// Puts data at its start.
    pub(crate) fn fill(&mut self, data: &[u8]) {
        assert!(
            data.len() <= self.len,
            "a piece is larger than the memory for it"
        );
        // SAFETY: allocated with this length; the controller reads it only inside `download`, which borrows it.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.memory, data.len()) };
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`; the controller that could read it was detached before.
        unsafe { env::free(self.memory) };
    }
}

impl Attached {
    /// What is in the slots.
    pub(crate) fn firmware(&self) -> Result<Slots> {
        let what = || format!("cannot read the firmware slots of {}", self.address);
        let _idle = self.idle(what)?;
        // SAFETY: all members are plain data, for which zeroes are valid values.
        let mut info: sys::daos_spdk_firmware_info = unsafe { std::mem::zeroed() };
        // SAFETY: an attached controller and room for the answer.
        let code = unsafe { sys::daos_spdk_firmware_info(self.handle, &mut info) };
        answered(code, what)?;
        Ok(Slots::read(&info))
    }

    /// Gives the controller `len` bytes of an image, from the start of `buffer`, that belong to `offset`.
    pub(crate) fn download(&self, buffer: &mut Buffer, len: u32, offset: u32) -> Result<Told> {
        let what = || format!("cannot load firmware into {}", self.address);
        let _idle = self.idle(what)?;
        assert!(
            len as usize <= buffer.len,
            "a piece is larger than its memory"
        );
        let mut status = 0;
        // SAFETY: an attached controller; the memory is for I/O, as long as said, and outlives the controller.
        let code = unsafe {
            sys::daos_spdk_firmware_download(
                self.handle,
                buffer.memory.cast(),
                len,
                offset,
                &mut status,
            )
        };
        answered(code, what)?;
        Ok(Told(status))
    }

    /// Puts the loaded image into a slot (0 = the controller chooses), for the next reset to take.
    pub(crate) fn commit(&self, slot: u8) -> Result<Told> {
        let what = || format!("cannot commit firmware to {}", self.address);
        let _idle = self.idle(what)?;
        let mut status = 0;
        // SAFETY: an attached controller and room for the status.
        let code = unsafe { sys::daos_spdk_firmware_commit(self.handle, slot.into(), &mut status) };
        answered(code, what)?;
        Ok(Told(status))
    }

    /// Keeps queues from being opened while this lives; BUSY if one is.
    fn idle(&self, what: impl Fn() -> String) -> Result<impl Drop + '_> {
        let queues = lock(&self.queues);
        match self.phase() {
            Phase::Working if queues.is_empty() => Ok(queues),
            Phase::Working => Err(Error::new(Status::BUSY, what())
                .cause("this process has the device open")
                .remedy("close it first")),
            Phase::Failed => Err(Error::new(Status::IO, what())
                .cause("the controller failed")
                .remedy("reset it")),
            Phase::Removed => {
                Err(Error::new(Status::DEVICE_GONE, what()).cause("the device was removed"))
            }
        }
    }
}

fn answered(code: i32, what: impl Fn() -> String) -> Result<()> {
    match code {
        0 => Ok(()),
        code => {
            Err(Error::new(Status::IO, what())
                .cause(io::Error::from_raw_os_error(-code).to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(granularity: u32, any_piece: bool, most: u32) -> sys::daos_spdk_firmware_info {
        let mut page = [0; 512];
        page[0] = 0x21; // runs slot 1, then slot 2
        page[8..16].copy_from_slice(b"1.0     ");
        page[16..20].copy_from_slice(b"1.1b");
        sys::daos_spdk_firmware_info {
            updatable: true,
            first_read_only: true,
            slots: 3,
            granularity,
            any_piece,
            max_transfer_bytes: most,
            page,
        }
    }

    #[test]
    fn slots_are_read_from_the_log_page() {
        let told = Slots::read(&info(4096, false, 1 << 20));
        let texts: Vec<_> = told
            .slots
            .iter()
            .map(|s| (s.slot, s.revision.as_str(), s.read_only, s.active, s.next))
            .collect();
        assert_eq!(
            texts,
            [
                (1, "1.0", true, true, false),
                (2, "1.1b", false, false, true),
                (3, "", false, false, false)
            ]
        );
    }

    #[test]
    fn pieces_keep_the_granularity_and_the_size_of_a_transfer() {
        for (granularity, any, most, expected) in [
            (4096, false, 1 << 20, 32 << 10),
            (12 << 10, false, 1 << 20, 24 << 10),
            (64 << 10, false, 1 << 20, 64 << 10),
            (64 << 10, false, 16 << 10, 0),
            (0, false, 1 << 20, 4096),
            (0, true, 1 << 20, 32 << 10),
            (0, true, 10, 8),
        ] {
            let piece = piece(&info(granularity, any, most));
            assert_eq!(piece, expected, "{granularity} {any} {most}");
        }
    }

    #[test]
    fn a_status_is_told_in_words_and_numbers() {
        assert_eq!(
            Told(0x107).words(),
            "the firmware image is not valid for this controller (status 1/07h)"
        );
        assert!(Told(0x2ff).words().ends_with("(status 2/ffh)"));
    }
}
