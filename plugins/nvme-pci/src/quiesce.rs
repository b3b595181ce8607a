//! Bringing a controller to rest whose user has died.
//!
//! vfio disables a device when its last user lets go of it, and with it the way to memory. Behind uio, and where
//! there is no IOMMU, a controller may go on with the commands of a process that is gone, into memory that
//! has another owner by then. What ends that for good is to take bus mastering from it; a reset makes it forget the
//! commands. Whoever opens it next sets both up anew.

use crate::address::PciAddress;
use crate::controller::{Controller, DEVICES};
use crate::processes::Processes;
use crate::system::System;
use crate::usage;
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Command register of PCI configuration space (PCI Local Bus Specification 3.0, 6.2.2): two bytes, little endian.
const COMMAND: u64 = 4;
/// Its bit that lets the device move data by itself.
const BUS_MASTER: u16 = 1 << 2;
/// What reads give of a device that does not answer.
const NOBODY: u16 = 0xffff;

/// Makes sure that the controller at `address` moves no data for a process that is gone; tells what had to be done,
/// which is nothing for one that is at rest, is not there, or is driven by the kernel.
///
/// # Errors
/// BUSY: one of `processes` has it. Otherwise its registers cannot be read or changed.
pub fn quiesce(
    system: &mut dyn System,
    address: PciAddress,
    processes: &Processes,
) -> Result<Vec<String>> {
    let Some(controller) = Controller::read(system.tree(), address) else {
        return Ok(Vec::new());
    };
    if controller.driver.is_some() && !controller.is_for_user_space() {
        return Ok(Vec::new());
    }
    let users = usage::reasons(system, &controller, processes);
    if !users.is_empty() {
        let what = format!("{address} is in use, so it cannot be brought to rest");
        return Err(Error::new(Status::BUSY, what)
            .cause(users.join("; "))
            .remedy("stop whoever has it"));
    }
    let config = format!("{DEVICES}/{address}/config");
    let cannot = |what: &str, error: io::Error| {
        Error::io(format!("cannot {what} bus mastering of {address}"), error).remedy(
            "run as root; a controller that may still write to memory is not used again before a restart of the \
             machine otherwise",
        )
    };
    let command = command(system, &config).map_err(|e| cannot("read", e))?;
    if command == NOBODY || command & BUS_MASTER == 0 {
        return Ok(Vec::new());
    }
    system
        .write_at(&config, COMMAND, &(command & !BUS_MASTER).to_le_bytes())
        .map_err(|e| cannot("take away", e))?;
    let now = self::command(system, &config).map_err(|e| cannot("read", e))?;
    if now != NOBODY && now & BUS_MASTER != 0 {
        let error = io::Error::other("the register did not take the change");
        return Err(cannot("take away", error));
    }
    let mut notes = vec![format!(
        "{address} could still move data: bus mastering was taken from it"
    )];
    let reset = format!("{DEVICES}/{address}/reset");
    if system.tree().exists(&reset) {
        notes.push(match system.write(&reset, "1") {
            Ok(()) => format!("{address} was reset"),
            // It cannot reach memory any more; whoever opens it resets it once more.
            Err(error) => format!("{address} could not be reset: {error}"),
        });
    }
    Ok(notes)
}

fn command(system: &dyn System, config: &str) -> io::Result<u16> {
    let mut bytes = [0; 2];
    File::open(system.tree().path(config))?.read_exact_at(&mut bytes, COMMAND)?;
    Ok(u16::from_le_bytes(bytes))
}
