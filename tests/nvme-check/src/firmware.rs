//! Firmware of a controller on a fabric: SPDK's NVMe-oF target with slots (tests/vm/nvmf-firmware).

use crate::load::Plugin;
use crate::{Case, Outcome, ensure};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    FirmwareActivation, FirmwareReport, FirmwareRequest, FirmwareUpdate,
};
use daos_plugin_api::host::{CallOptions, ControlOp};
use daos_plugin_api::sdk::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Against a target that has revision 1.0 in its first slot and nothing else. Images are in /run/fw.
pub(crate) const CASES: &[Case] = &[
    ("scan lists the controller by its name", scan),
    ("query tells the slots", query),
    (
        "what is not as expected is refused before anything is sent",
        refused,
    ),
    (
        "an image that the device does not take is refused in words",
        bad_image,
    ),
    (
        "cancelled in the middle, the device runs what it ran",
        cancelled,
    ),
    (
        "update: every piece, commit, reset, the new revision",
        update,
    ),
    (
        "an update into the other slot leaves the first as it is",
        second,
    ),
    ("data of a controller on a fabric, over a reset", data),
];

/// Ends the process in the middle of a download, as `kill -9` would.
pub(crate) const DIE: &[Case] = &[("killed in the middle of the download", die)];

/// Keeps devices until it is ended: for BUSY.
pub(crate) const HOLD: &[Case] = &[("devices are held", hold)];

/// After that.
pub(crate) const AGAIN: &[Case] = &[("an update after an interrupted one", again)];

/// While another process has what the variable NVME_CHECK_BUSY names.
pub(crate) const BUSY: &[Case] = &[("refused while another process has the controller", busy)];

/// A target whose commits ask for a reset that this side cannot give.
pub(crate) const PENDING: &[Case] = &[(
    "a reset of the subsystem is left to the administrator",
    pending,
)];

const DEVICE: &str = "far0";

fn ask(
    plugin: &Plugin,
    request: &FirmwareRequest,
    options: CallOptions<'_>,
) -> Result<FirmwareReport, Error> {
    let text =
        serde_json::to_string(request).map_err(|e| Error::new(Status::INTERNAL, e.to_string()))?;
    let answer = plugin
        .instance
        .control(ControlOp::Firmware, &text, options)?;
    serde_json::from_str(&answer).map_err(|e| Error::new(Status::INTERNAL, e.to_string()))
}

fn look(plugin: &Plugin) -> Result<FirmwareReport, String> {
    let device = DEVICE.to_owned();
    ask(
        plugin,
        &FirmwareRequest::Query { device },
        CallOptions::default(),
    )
    .map_err(|e| e.to_string())
}

fn wanted(image: &str, slot: u8) -> FirmwareUpdate {
    FirmwareUpdate {
        device: DEVICE.to_owned(),
        image: format!("/run/fw/{image}"),
        slot,
        ..FirmwareUpdate::default()
    }
}

fn try_update(plugin: &Plugin, update: FirmwareUpdate) -> Result<FirmwareReport, Error> {
    ask(
        plugin,
        &FirmwareRequest::Update(update),
        CallOptions::default(),
    )
}

fn revisions(report: &FirmwareReport) -> Vec<String> {
    let text = |slot: &daos_plugin_api::control::FirmwareSlot| {
        let marks = [
            (slot.read_only, " ro"),
            (slot.active, " active"),
            (slot.next, " next"),
        ];
        let marks: String = marks.iter().filter(|m| m.0).map(|m| m.1).collect();
        format!("{}:{}{marks}", slot.slot, slot.revision)
    };
    report.slots.iter().map(text).collect()
}

/// The update failed with a status, and says why.
fn fails(outcome: Result<FirmwareReport, Error>, status: Status, word: &str) -> Outcome {
    match outcome {
        Ok(report) => Err(format!("it was done: {report:?}")),
        Err(error) => {
            ensure!(
                error.status == status
                    && error.to_string().contains(word)
                    && !error.remedy.is_empty(),
                "{:?} {error}, not {status:?} with {word:?}",
                error.status
            );
            Ok(())
        }
    }
}

fn scan(plugin: &Plugin) -> Outcome {
    let report = plugin
        .instance
        .scan(CallOptions::default())
        .map_err(|e| e.to_string())?;
    let found: Vec<_> = report
        .devices
        .iter()
        .filter(|d| d.details.contains_key("transport"))
        .map(|d| {
            (
                d.address.as_str(),
                d.firmware.as_str(),
                d.size >> 20,
                d.block_size,
            )
        })
        .collect();
    ensure!(
        found == [(DEVICE, "1.0", 64, 4096)],
        "{found:?}, {:?}",
        report.notes
    );
    Ok(())
}

fn query(plugin: &Plugin) -> Outcome {
    let report = look(plugin)?;
    ensure!(
        report.updatable
            && report.revision == "1.0"
            && report.granularity == 4096
            && report.serial == "FIRMWARE1"
            && report.update.is_none()
            && revisions(&report) == ["1:1.0 ro active", "2:", "3:"],
        "{report:?}"
    );
    Ok(())
}

fn refused(plugin: &Plugin) -> Outcome {
    let good = || wanted("1.1", 2);
    let cases = [
        (
            FirmwareUpdate {
                model: "Other".into(),
                ..good()
            },
            "\"Other\"",
        ),
        (
            FirmwareUpdate {
                revision: "0.9".into(),
                ..good()
            },
            "\"0.9\"",
        ),
        (
            FirmwareUpdate {
                new_revision: "1.0".into(),
                ..good()
            },
            "already",
        ),
        (wanted("1.1", 1), "read-only"),
        (wanted("1.1", 4), "no slot 4"),
        (wanted("odd", 2), "multiple of 4"),
        (wanted("empty", 2), "empty"),
        (wanted("missing", 2), "No such file"),
        (
            FirmwareUpdate {
                image: "1.1".into(),
                ..good()
            },
            "absolute",
        ),
    ];
    for (update, word) in cases {
        fails(try_update(plugin, update), Status::INVALID, word)?;
    }
    let unknown = FirmwareUpdate {
        device: "far9".into(),
        ..good()
    };
    fails(try_update(plugin, unknown), Status::INVALID, "far9")?;
    let absent = FirmwareUpdate {
        device: "0000:99:00.0".into(),
        ..good()
    };
    fails(
        try_update(plugin, absent),
        Status::NOT_FOUND,
        "0000:99:00.0",
    )?;
    // QEMU's controllers have no commands for firmware.
    let without = FirmwareUpdate {
        device: crate::load::NVME_512.into(),
        ..good()
    };
    fails(
        try_update(plugin, without),
        Status::NOT_SUPPORTED,
        "no commands",
    )?;
    query(plugin)
}

fn bad_image(plugin: &Plugin) -> Outcome {
    let outcome = try_update(plugin, wanted("bad", 2));
    fails(outcome, Status::INVALID, "firmware image is not valid")?;
    query(plugin)
}

fn cancelled(plugin: &Plugin) -> Outcome {
    let cancel = AtomicBool::new(false);
    let progress = |done: u64, total: u64, _: &str| {
        if total != 0 && done * 2 >= total {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    let options = CallOptions {
        cancel: Some(&cancel),
        progress: Some(&progress),
        ..CallOptions::default()
    };
    let outcome = ask(plugin, &FirmwareRequest::Update(wanted("1.1", 2)), options);
    match outcome {
        Err(error) if error.status == Status::CANCELLED => query(plugin),
        other => Err(format!("{other:?}")),
    }
}

fn update(plugin: &Plugin) -> Outcome {
    let before = look(plugin)?;
    let steps = Mutex::new(Vec::new());
    let progress = |done: u64, total: u64, what: &str| {
        if let Ok(mut steps) = steps.lock() {
            steps.push((done, total, what.to_owned()));
        }
    };
    let options = CallOptions {
        progress: Some(&progress),
        ..CallOptions::default()
    };
    let request = FirmwareUpdate {
        model: before.model,
        revision: "1.0".into(),
        new_revision: "1.1".into(),
        ..wanted("1.1", 2)
    };
    let report =
        ask(plugin, &FirmwareRequest::Update(request), options).map_err(|e| e.to_string())?;
    let outcome = report.update.clone().ok_or("no outcome")?;
    ensure!(
        report.revision == "1.1"
            && outcome.from == "1.0"
            && outcome.slot == 2
            && outcome.bytes == 1_000_004
            && outcome.activation == FirmwareActivation::Active
            && revisions(&report) == ["1:1.0 ro", "2:1.1 active", "3:"],
        "{report:?}"
    );
    let steps = steps.into_inner().map_err(|e| e.to_string())?;
    let bytes: Vec<u64> = steps
        .iter()
        .filter(|(_, total, what)| *total == 1_000_004 && what == "downloading firmware")
        .map(|step| step.0)
        .collect();
    ensure!(
        bytes.len() > 10 && bytes.is_sorted() && bytes.last() == Some(&1_000_004),
        "progress {bytes:?}"
    );
    let after: Vec<&str> = steps
        .iter()
        .filter(|step| step.1 == 0)
        .map(|step| step.2.as_str())
        .collect();
    ensure!(
        after
            == [
                "committing firmware",
                "resetting the controller",
                "verifying the revision"
            ],
        "{after:?}"
    );
    Ok(())
}

fn second(plugin: &Plugin) -> Outcome {
    // The controller chooses the slot.
    let report = try_update(plugin, wanted("1.2", 0)).map_err(|e| e.to_string())?;
    ensure!(
        report.revision == "1.2" && revisions(&report) == ["1:1.0 ro", "2:1.1", "3:1.2 active"],
        "{report:?}"
    );
    // Another revision runs than the one that was expected.
    let update = FirmwareUpdate {
        new_revision: "9.9".into(),
        ..wanted("1.1", 2)
    };
    fails(try_update(plugin, update), Status::IO, "\"9.9\"")
}

fn die(plugin: &Plugin) -> Outcome {
    let progress = |done: u64, total: u64, _: &str| {
        if total != 0 && done * 2 >= total {
            // SAFETY: ends this process.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
    };
    let options = CallOptions {
        progress: Some(&progress),
        ..CallOptions::default()
    };
    let outcome = ask(plugin, &FirmwareRequest::Update(wanted("1.3", 3)), options);
    Err(format!("it lives: {outcome:?}"))
}

fn again(plugin: &Plugin) -> Outcome {
    let before = look(plugin)?;
    ensure!(before.revision == "1.1", "{before:?}");
    let report = try_update(plugin, wanted("1.3", 3)).map_err(|e| e.to_string())?;
    ensure!(
        report.revision == "1.3" && revisions(&report) == ["1:1.0 ro", "2:1.1", "3:1.3 active"],
        "{report:?}"
    );
    Ok(())
}

fn busy(plugin: &Plugin) -> Outcome {
    let names = std::env::var("NVME_CHECK_BUSY").map_err(|_| "NVME_CHECK_BUSY names no device")?;
    for device in names.split(' ') {
        let update = FirmwareUpdate {
            device: device.into(),
            ..wanted("1.1", 2)
        };
        fails(try_update(plugin, update), Status::BUSY, device)?;
        let query = FirmwareRequest::Query {
            device: device.into(),
        };
        fails(
            ask(plugin, &query, CallOptions::default()),
            Status::BUSY,
            device,
        )?;
    }
    Ok(())
}

fn hold(plugin: &Plugin) -> Outcome {
    for device in [DEVICE, crate::load::NVME_512] {
        plugin.device(device)?;
    }
    println!("holding");
    loop {
        std::thread::park();
    }
}

fn data(plugin: &Plugin) -> Outcome {
    crate::io::round_trip(plugin, DEVICE)?;
    crate::reset::idle_one(plugin, DEVICE)?;
    crate::io::round_trip(plugin, DEVICE)?;
    let query = FirmwareRequest::Query {
        device: DEVICE.into(),
    };
    fails(
        ask(plugin, &query, CallOptions::default()),
        Status::BUSY,
        DEVICE,
    )?;
    plugin.close_devices();
    look(plugin).map(drop)
}

fn pending(plugin: &Plugin) -> Outcome {
    let report = try_update(plugin, wanted("1.1", 2)).map_err(|e| e.to_string())?;
    let outcome = report.update.clone().ok_or("no outcome")?;
    ensure!(
        outcome.activation == FirmwareActivation::Pending
            && outcome.remedy.contains("off and on")
            && outcome
                .notes
                .iter()
                .any(|note| note.contains("reset of the NVM subsystem"))
            && report.revision == "1.0"
            && revisions(&report) == ["1:1.0 ro active", "2:1.1 next", "3:"],
        "{report:?}"
    );
    Ok(())
}
