//! Firmware of Intel's modules, through `ipmctl`. A module takes new firmware at its next power cycle, not before.

use super::inventory::{Inventory, Module};
use super::ipmctl::{self, Dimm, elements};
use super::run::{list, words};
use super::tools::{Program, System, Tools};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    FirmwareActivation, FirmwareOutcome, FirmwareReport, FirmwareRequest, FirmwareSlot,
    FirmwareUpdate,
};
use daos_plugin_api::sdk::{CallContext, Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};

/// Larger than any image: a module says how large its may be.
const LARGEST: u64 = 64 << 20;
/// What the running and the staged firmware are called as slots.
const RUNNING: u8 = 1;
const STAGED: u8 = 2;

/// What a module says of its firmware.
#[derive(Default)]
struct Told {
    active: String,
    /// Runs after the next power cycle; empty if there is none.
    staged: String,
    /// `Staged successfully`, `Update loaded successfully`, ...
    status: String,
    /// Bytes.
    largest: u64,
}

/// The control function `firmware` on this machine.
pub(crate) fn firmware(call: CallContext<'_>, request: &FirmwareRequest) -> Result<FirmwareReport> {
    let mut go_on = |done: u64, of: u64, what: &str| {
        call.progress(done, of, what);
        call.check_cancelled()
    };
    firmware_with(&mut System::default(), request, &mut go_on)
}

/// The control function `firmware`; `go_on` is told of each step and may stop the update before the image is sent.
///
/// # Errors
/// NOT_FOUND for a module that is not there, NOT_SUPPORTED for one that `ipmctl` does not know, BUSY for one whose
/// region is used, INVALID for an image or a module that is not what is expected.
pub fn firmware_with(
    tools: &mut dyn Tools,
    request: &FirmwareRequest,
    go_on: &mut dyn FnMut(u64, u64, &str) -> Result<()>,
) -> Result<FirmwareReport> {
    let inventory = list(tools, 1)?;
    let (module, dimm) = named(&inventory, request.device())?;
    let told = ask(tools, dimm)?;
    let before = report(module, dimm, &told);
    let FirmwareRequest::Update(update) = request else {
        return Ok(before);
    };
    free(tools, &inventory, module)?;
    let what = || format!("the firmware of {} is not updated", module.dev);
    expected(&before, update)?;
    let image = image(update, told.largest)?;
    let path = image.path().display().to_string();
    go_on(0, 2, "examining the image")?;
    // The plugin's promise: nothing is sent that the module would not take.
    let examine = [
        "load", "-o", "nvmxml", "-source", &path, "-examine", "-dimm", &dimm.id,
    ];
    let said = tools.run(Program::Ipmctl, &examine)?;
    if !said.success || ipmctl::hidden_failure(&said.out) {
        return Err(Error::new(Status::INVALID, what())
            .cause(ipmctl::words(&said.out).unwrap_or_else(|| words(&said)))
            .remedy("use an image that is made for this model"));
    }
    go_on(1, 2, "downloading firmware")?;
    // Too late to stop: the module works on it.
    let _ = go_on(0, 0, "committing firmware");
    let load = [
        "load", "-o", "nvmxml", "-f", "-source", &path, "-dimm", &dimm.id,
    ];
    let said = tools.run(Program::Ipmctl, &load)?;
    let failure = (!said.success || ipmctl::hidden_failure(&said.out))
        .then(|| ipmctl::words(&said.out).unwrap_or_else(|| words(&said)));
    if let Some(cause) = failure {
        return Err(Error::new(Status::IO, what()).cause(cause).remedy(
            "look at `ipmctl show -firmware`; a module that has an image staged takes another only after a power cycle",
        ));
    }
    let after = ask(tools, dimm)?;
    let new = match after.active == told.active {
        true => &after.staged,
        false => &after.active,
    };
    let wanted = update.new_revision.trim();
    if new.is_empty() || (!wanted.is_empty() && new != wanted) {
        return Err(Error::new(
            Status::IO,
            format!("the firmware of {} is not what it should be", module.dev),
        )
        .cause(format!(
            "it runs {:?} and has {:?} staged; its state is {:?}",
            after.active, after.staged, after.status
        ))
        .remedy("look at it with `ipmctl show -a -firmware`"));
    }
    let pending = after.active == told.active;
    let mut done = report(module, dimm, &after);
    done.update = Some(FirmwareOutcome {
        from: told.active,
        slot: update.slot,
        bytes: image.as_file().metadata().map_or(0, |m| m.len()),
        activation: match pending {
            true => FirmwareActivation::Pending,
            false => FirmwareActivation::Active,
        },
        remedy: match pending {
            true => format!("switch the machine off and on again: {new} runs then"),
            false => String::new(),
        },
        notes: Vec::new(),
    });
    Ok(done)
}

/// The module of a name.
fn named<'a>(inventory: &'a Inventory, name: &str) -> Result<(&'a Module, &'a Dimm)> {
    let module = inventory
        .modules
        .iter()
        .find(|module| module.dev == name || module.id == name);
    let Some(module) = module else {
        return Err(
            Error::new(Status::NOT_FOUND, format!("there is no module {name}"))
                .remedy("`daos_server storage scan` lists modules: nmem0 ..."),
        );
    };
    if let Some(dimm) = inventory.dimm_of(module) {
        return Ok((module, dimm));
    }
    Err(match &inventory.dimms_unknown {
        Some(error) => Error {
            what: format!("the firmware of {name} is out of reach: {}", error.what),
            ..error.clone()
        },
        None => Error::new(
            Status::NOT_SUPPORTED,
            format!("the firmware of {name} is out of reach"),
        )
        .cause("it is no module that ipmctl knows: only Intel's are"),
    })
}

fn ask(tools: &mut dyn Tools, dimm: &Dimm) -> Result<Told> {
    let command = ["show", "-o", "nvmxml", "-a", "-dimm", &dimm.id, "-firmware"];
    let said = tools.run(Program::Ipmctl, &command)?;
    let mut told = None;
    elements(&said.out, "DimmFirmware", &mut |of| {
        let staged = of("StagedFWVersion");
        told = Some(Told {
            active: of("ActiveFWVersion"),
            staged: match staged.as_str() {
                "N/A" => String::new(),
                _ => staged,
            },
            status: of("FWUpdateStatus"),
            largest: of("FWImageMaxSize").parse().unwrap_or(0),
        });
    })?;
    told.ok_or_else(|| {
        Error::new(
            Status::IO,
            format!("module {} tells nothing of its firmware", dimm.id),
        )
        .cause(words(&said))
        .remedy(format!(
            "try it by hand: ipmctl show -a -dimm {} -firmware",
            dimm.id
        ))
    })
}

fn report(module: &Module, dimm: &Dimm, told: &Told) -> FirmwareReport {
    let has_staged = !told.staged.is_empty();
    let running = FirmwareSlot {
        slot: RUNNING,
        revision: told.active.clone(),
        read_only: true,
        active: true,
        next: !has_staged,
    };
    let staged = FirmwareSlot {
        slot: STAGED,
        revision: told.staged.clone(),
        read_only: false,
        active: false,
        next: has_staged,
    };
    FirmwareReport {
        address: module.dev.clone(),
        model: dimm.part.clone(),
        serial: dimm.uid.clone(),
        revision: told.active.clone(),
        updatable: dimm.manageability == "Manageable",
        slots: vec![running, staged],
        granularity: 0,
        update: None,
    }
}

/// Refuses a module while anybody uses what is on it.
fn free(tools: &mut dyn Tools, inventory: &Inventory, module: &Module) -> Result<()> {
    let is_in = |region: &&super::Region| region.mappings.iter().any(|m| m.dimm == module.dev);
    for region in inventory.regions.iter().filter(is_in) {
        for namespace in region.real().filter(|n| !n.blockdev.is_empty()) {
            if let Some(user) = tools.user(&namespace.blockdev)? {
                return Err(
                    Error::new(Status::BUSY, format!("{} is in use", module.dev))
                        .cause(format!("{} of its region is {user}", namespace.address()))
                        .remedy("stop the engine, and unmount it"),
                );
            }
        }
    }
    Ok(())
}

/// What the request expects of the module, before anything is sent.
fn expected(before: &FirmwareReport, update: &FirmwareUpdate) -> Result<()> {
    let differs = |wanted: &str, own: &str| !wanted.trim().is_empty() && wanted.trim() != own;
    let cause = if differs(&update.model, &before.model) {
        format!("it is {:?}, not {:?}", before.model, update.model.trim())
    } else if differs(&update.revision, &before.revision) {
        format!(
            "it runs {:?}, not {:?}",
            before.revision,
            update.revision.trim()
        )
    } else if ![0, STAGED].contains(&update.slot) {
        format!("slot {} takes no image: use {STAGED} or 0", update.slot)
    } else if before
        .slots
        .iter()
        .any(|slot| slot.slot == STAGED && slot.next)
    {
        "it has firmware staged already, which runs after the next power cycle".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(
        Status::INVALID,
        format!("the firmware of {} is not updated", before.address),
    )
    .cause(cause)
    .remedy("see `firmware query`"))
}

/// The image in a file of its own: what was compared is what `ipmctl` reads, and the open file of a caller has no name
/// that another program could use.
fn image(update: &FirmwareUpdate, largest: u64) -> Result<tempfile::NamedTempFile> {
    let path = &update.image;
    let what = || format!("firmware image {path} cannot be used");
    let fail = |e: std::io::Error| Error::io(what(), e);
    let file = File::open(path).map_err(fail)?;
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(Error::new(Status::INVALID, what()).cause("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    let size = bytes.len() as u64;
    let most = if largest > 0 { largest } else { LARGEST };
    if size == 0 || size > most {
        return Err(Error::new(Status::INVALID, what()).cause(format!(
            "it has {size} bytes, and the module takes 1 to {most}"
        )));
    }
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    if !update.sha256.is_empty() && update.sha256 != digest {
        return Err(Error::new(Status::INVALID, what())
            .cause("it is not the file any more that was looked at before")
            .remedy("run the command again"));
    }
    let mut copy = tempfile::Builder::new()
        .prefix("scm-dcpm-")
        .suffix(".bin")
        .tempfile()
        .map_err(|e| Error::io("no place for a copy of the firmware image", e))?;
    copy.write_all(&bytes)
        .and_then(|()| copy.flush())
        .map_err(|e| Error::io("the firmware image cannot be copied", e))?;
    Ok(copy)
}
