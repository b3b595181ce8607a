//! The control function `firmware`: what is in a controller's slots, and an update of it step by step.

use crate::controller::{Attached, Buffer, Told};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    FirmwareActivation, FirmwareOutcome, FirmwareReport, FirmwareUpdate,
};
use daos_plugin_api::sdk::{CallContext, Error, Result};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Largest image that is taken; those of drives have a few MiB.
const MAX_IMAGE: u64 = 256 << 20;

/// How long a controller may take to come back with new firmware.
const RETURN: Duration = Duration::from_secs(60);

/// What a controller says.
pub(crate) fn query(controller: &Attached) -> Result<FirmwareReport> {
    let told = controller.firmware()?;
    Ok(FirmwareReport {
        address: controller.address.clone(),
        model: controller.info.model.clone(),
        serial: controller.info.serial.clone(),
        revision: controller.info.firmware.clone(),
        updatable: told.updatable,
        slots: told.slots,
        granularity: told.granularity,
        update: None,
    })
}

/// An image for a controller.
pub(crate) struct Image(Vec<u8>);

impl Image {
    /// Reads it whole, so that a file that cannot be read ends nothing halfway.
    ///
    /// # Errors
    /// If it cannot be read, is no image, or is another one than `sha256` (lower-case hexadecimal; empty = any).
    pub(crate) fn read(path: &str, sha256: &str) -> Result<Self> {
        let what = || format!("firmware image {path} cannot be used");
        let unfit = |cause: String| Error::new(Status::INVALID, what()).cause(cause);
        if !Path::new(path).is_absolute() {
            return Err(unfit("the path is not absolute".to_owned()).remedy("give the whole path"));
        }
        let unreadable = |error: std::io::Error| {
            unfit(error.to_string()).remedy("name a file that this process may read")
        };
        // Looked at before it is opened: to open a pipe would wait for its writer.
        let meta = std::fs::metadata(path).map_err(unreadable)?;
        if !meta.is_file() {
            return Err(
                unfit("it is not a regular file".to_owned()).remedy("name the image's file")
            );
        }
        let mut data = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_IMAGE + 1).read_to_end(&mut data))
            .map_err(unreadable)?;
        let cause = match data.len() as u64 {
            0 => "it is empty".to_owned(),
            len if len > MAX_IMAGE => format!("it has more than {} MiB", MAX_IMAGE >> 20),
            len if !len.is_multiple_of(4) => {
                format!("its {len} bytes are not a multiple of 4, as every image is")
            }
            _ => {
                let found: String = Sha256::digest(&data)
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                if !sha256.is_empty() && sha256 != found {
                    let cause =
                        format!("its SHA-256 is {found}, not {sha256}: it was changed meanwhile");
                    return Err(
                        unfit(cause).remedy("repeat the update when nobody writes the file")
                    );
                }
                return Ok(Self(data));
            }
        };
        Err(unfit(cause).remedy("take the file as the vendor ships it, unpacked"))
    }
}

/// Refuses what is not as expected, before anything is sent.
fn check(report: &FirmwareReport, wanted: &FirmwareUpdate) -> Result<()> {
    let what = || format!("the firmware of {} is not updated", report.address);
    if !report.updatable {
        return Err(Error::new(Status::NOT_SUPPORTED, what())
            .cause(format!("{} has no commands for it", report.model))
            .remedy("use the vendor's own tool"));
    }
    let unexpected = |cause: String, remedy: &str| {
        Err(Error::new(Status::INVALID, what())
            .cause(cause)
            .remedy(remedy))
    };
    let (model, revision) = (wanted.model.trim(), wanted.revision.trim());
    if !model.is_empty() && model != report.model {
        let cause = format!("its model is {:?}, not {model:?}", report.model);
        return unexpected(cause, "name the model that `firmware query` shows");
    }
    if !revision.is_empty() && revision != report.revision {
        let cause = format!("it runs revision {:?}, not {revision:?}", report.revision);
        return unexpected(cause, "name the revision that `firmware query` shows");
    }
    let new = wanted.new_revision.trim();
    if !new.is_empty() && new == report.revision {
        let cause = format!("it runs revision {new:?} already");
        return unexpected(cause, "nothing is to be done");
    }
    if wanted.slot == 0 {
        return Ok(());
    }
    let Some(slot) = report.slots.iter().find(|slot| slot.slot == wanted.slot) else {
        let cause = match report.slots.len() {
            1 => format!("there is no slot {}, only slot 1", wanted.slot),
            count => format!("there is no slot {}, only 1 to {count}", wanted.slot),
        };
        return unexpected(cause, "name a slot that `firmware query` shows, or 0");
    };
    if slot.read_only {
        let cause = format!("slot {} is read-only", slot.slot);
        return unexpected(cause, "name another slot, or 0");
    }
    Ok(())
}

/// Updates a controller that nobody else holds. `attach` takes it once more, after its reset.
pub(crate) fn update(
    call: CallContext<'_>,
    controller: Arc<Attached>,
    wanted: &FirmwareUpdate,
    image: &Image,
    attach: impl Fn() -> Result<Arc<Attached>>,
) -> Result<FirmwareReport> {
    let before = query(&controller)?;
    check(&before, wanted)?;
    let piece = controller.firmware()?.piece as usize;
    if piece == 0 {
        return Err(Error::new(
            Status::NOT_SUPPORTED,
            format!("{} cannot take firmware from here", before.address),
        )
        .cause("its granularity is larger than its transfers")
        .remedy("use the vendor's own tool"));
    }
    let mut buffer = Buffer::new(piece)?;
    // Declared after the buffer, it goes before it.
    let controller = controller;
    download(call, &controller, image, &mut buffer, piece)?;
    call.check_cancelled()?;
    call.progress(0, 0, "committing firmware");
    let told = controller.commit(wanted.slot)?;
    let mut outcome = FirmwareOutcome {
        from: before.revision.clone(),
        slot: wanted.slot,
        bytes: image.0.len() as u64,
        ..FirmwareOutcome::default()
    };
    match told {
        Told::SUCCESS => {}
        Told::NEEDS_CONTROLLER_RESET => outcome
            .notes
            .push(format!("the device says: {}", told.words())),
        Told::NEEDS_CONVENTIONAL_RESET | Told::NEEDS_SUBSYSTEM_RESET => {
            outcome
                .notes
                .push(format!("the device says: {}", told.words()));
            return Ok(FirmwareReport {
                update: Some(FirmwareOutcome {
                    activation: FirmwareActivation::Pending,
                    remedy: "switch the device or the machine off and on again".to_owned(),
                    ..outcome
                }),
                ..query(&controller)?
            });
        }
        refused => return Err(refusal(&before.address, "did not take the image", refused)),
    }
    call.progress(0, 0, "resetting the controller");
    // Taking it once more resets it as well, and takes one that this reset did not bring back.
    let reset = controller.reset();
    drop(controller);
    let controller = again(&before.address, attach, reset.err())?;
    call.progress(0, 0, "verifying the revision");
    let report = query(&controller)?;
    verify(&before.revision, wanted, &report)?;
    if let Some(active) = report.slots.iter().find(|slot| slot.active)
        && wanted.slot != 0
        && active.slot != wanted.slot
    {
        outcome
            .notes
            .push(format!("what runs came from slot {}", active.slot));
    }
    Ok(FirmwareReport {
        update: Some(outcome),
        ..report
    })
}

fn refusal(address: &str, what: &str, told: Told) -> Error {
    Error::new(Status::INVALID, format!("{address} {what}"))
        .cause(format!("the device says: {}", told.words()))
        .remedy("check that the image is for this model and revision; the device runs what it ran before")
}

fn download(
    call: CallContext<'_>,
    controller: &Attached,
    image: &Image,
    buffer: &mut Buffer,
    piece: usize,
) -> Result<()> {
    let step = "downloading firmware";
    let total = image.0.len() as u64;
    let mut done = 0;
    for data in image.0.chunks(piece) {
        call.check_cancelled()?;
        call.progress(done, total, step);
        buffer.fill(data);
        // An image has less than 2^32 bytes.
        let told = controller.download(buffer, data.len() as u32, done as u32)?;
        if told != Told::SUCCESS {
            let what = format!("did not take the piece at {done} of {total} bytes");
            return Err(refusal(&controller.address, &what, told));
        }
        done += data.len() as u64;
    }
    call.progress(total, total, step);
    Ok(())
}

/// Takes the controller after its reset, which may have failed for the reason given.
fn again(
    address: &str,
    attach: impl Fn() -> Result<Arc<Attached>>,
    reset: Option<Error>,
) -> Result<Arc<Attached>> {
    let begun = Instant::now();
    loop {
        let error = match attach() {
            Ok(controller) => return Ok(controller),
            Err(error) => error,
        };
        if begun.elapsed() >= RETURN {
            let first = reset
                .map(|error| format!("{error}; then "))
                .unwrap_or_default();
            return Err(Error::new(
                Status::IO,
                format!("{address} did not come back after its firmware was committed"),
            )
            .cause(format!("{first}{error}"))
            .remedy("switch the device off and on again, then look with `firmware query`"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn verify(from: &str, wanted: &FirmwareUpdate, after: &FirmwareReport) -> Result<()> {
    let new = wanted.new_revision.trim();
    let runs = &after.revision;
    let cause = if runs == from {
        format!("the device still runs revision {from:?}")
    } else if !new.is_empty() && new != runs {
        format!("the device runs revision {runs:?}, not {new:?}")
    } else {
        return Ok(());
    };
    Err(Error::new(
        Status::IO,
        format!("the firmware of {} is not what it should be", after.address),
    )
    .cause(cause)
    .remedy("look at the slots with `firmware query`; the image may hold another revision than expected"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_plugin_api::control::FirmwareSlot;

    fn report() -> FirmwareReport {
        let slot = |slot, read_only| FirmwareSlot {
            slot,
            read_only,
            ..FirmwareSlot::default()
        };
        FirmwareReport {
            address: "0000:41:00.0".to_owned(),
            model: "A Model".to_owned(),
            revision: "1.0".to_owned(),
            updatable: true,
            slots: vec![slot(1, true), slot(2, false)],
            ..FirmwareReport::default()
        }
    }

    fn wanted(slot: u8, model: &str, revision: &str, new: &str) -> FirmwareUpdate {
        FirmwareUpdate {
            slot,
            model: model.to_owned(),
            revision: revision.to_owned(),
            new_revision: new.to_owned(),
            ..FirmwareUpdate::default()
        }
    }

    #[test]
    fn what_is_not_as_expected_is_refused() {
        for good in [wanted(0, "", "", ""), wanted(2, "A Model ", " 1.0", "1.1")] {
            check(&report(), &good).unwrap();
        }
        for (bad, word) in [
            (wanted(0, "B Model", "", ""), "\"B Model\""),
            (wanted(0, "", "0.9", ""), "\"0.9\""),
            (wanted(0, "", "", "1.0"), "already"),
            (wanted(1, "", "", ""), "read-only"),
            (wanted(3, "", "", ""), "1 to 2"),
        ] {
            let error = check(&report(), &bad).unwrap_err();
            assert_eq!(error.status, Status::INVALID, "{error}");
            assert!(
                error.cause.contains(word) && !error.remedy.is_empty(),
                "{error}"
            );
        }
        let without = FirmwareReport {
            updatable: false,
            ..report()
        };
        let error = check(&without, &wanted(0, "", "", "")).unwrap_err();
        assert_eq!(error.status, Status::NOT_SUPPORTED);
    }

    #[test]
    fn the_revision_must_have_changed_and_be_the_expected_one() {
        let after = |revision: &str| FirmwareReport {
            revision: revision.to_owned(),
            ..report()
        };
        verify("1.0", &wanted(0, "", "", ""), &after("1.1")).unwrap();
        verify("1.0", &wanted(0, "", "", "1.1"), &after("1.1")).unwrap();
        for (new, runs) in [("", "1.0"), ("1.2", "1.1"), ("1.1", "1.0")] {
            let error = verify("1.0", &wanted(0, "", "", new), &after(runs)).unwrap_err();
            assert_eq!(error.status, Status::IO);
        }
    }

    #[test]
    fn only_whole_images_in_regular_files_are_read() {
        let folder = std::env::temp_dir().join(format!("nvme-image-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let file = |name: &str, data: &[u8]| {
            let path = folder.join(name);
            std::fs::write(&path, data).unwrap();
            path.to_string_lossy().into_owned()
        };
        let good = file("good", b"12345678");
        let bad = [
            ("relative".to_owned(), "absolute"),
            (file("empty", b""), "empty"),
            (file("odd", b"12345"), "multiple of 4"),
            (folder.to_string_lossy().into_owned(), "regular file"),
            (format!("{good}.missing"), "No such file"),
        ];
        assert_eq!(Image::read(&good, "").unwrap().0, b"12345678");
        let digest = "ef797c8118f02dfb649607dd5d3f8c7623048c9c063d532cc95c5ed7a898a64f";
        assert!(Image::read(&good, digest).is_ok());
        let changed = file("changed", b"12345679");
        let error = Image::read(&changed, digest).map(drop).unwrap_err();
        assert!(error.cause.contains("changed meanwhile"), "{error}");
        for (path, word) in bad {
            let error = Image::read(&path, "").map(drop).unwrap_err();
            assert_eq!(error.status, Status::INVALID);
            assert!(
                error.cause.contains(word) && !error.remedy.is_empty(),
                "{error}"
            );
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
