//! Health and firmware of modules, on a machine that is played.

mod machine;

use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    FirmwareActivation, FirmwareReport, FirmwareRequest, FirmwareUpdate, HealthRecord, HealthStatus,
};
use daos_plugin_api::sdk::{Error, Result};
use machine::ipmctl::Installed;
use machine::{Machine, named};
use scm_dcpm::prepare::{Readings, firmware_with, scan_with};
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

const OLD: &str = "01.02.00.5435";
const NEW: &str = "02.02.00.1553";

fn image(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

fn ask(machine: &mut Machine, request: FirmwareRequest) -> Result<FirmwareReport> {
    firmware_with(machine, &request, &mut |_, _, _| Ok(()))
}

fn query(machine: &mut Machine, device: &str) -> Result<FirmwareReport> {
    let device = device.to_owned();
    ask(machine, FirmwareRequest::Query { device })
}

/// Health by a reading of its own.
fn health_with(machine: &mut Machine, address: &str) -> Result<HealthRecord> {
    Readings::default().of(machine, &Instant::now, address)
}

/// An update that fits.
fn update(image: &tempfile::NamedTempFile) -> FirmwareUpdate {
    FirmwareUpdate {
        device: "nmem1".to_owned(),
        image: image.path().display().to_string(),
        model: "NMA1XBD128GQS".to_owned(),
        revision: OLD.to_owned(),
        ..FirmwareUpdate::default()
    }
}

#[test]
fn new_firmware_is_staged_until_the_next_power_cycle() {
    let mut machine = Machine::dcpm(2, 1);
    let before = query(&mut machine, "nmem1").expect("told");
    assert_eq!(
        (before.revision.as_str(), before.model.as_str()),
        (OLD, "NMA1XBD128GQS")
    );
    assert!(before.updatable && before.update.is_none());
    assert!(before.slots[0].active && before.slots[0].next && before.slots[1].revision.is_empty());

    let file = image(&format!("image of {NEW}"));
    let wanted = FirmwareUpdate {
        new_revision: NEW.to_owned(),
        ..update(&file)
    };
    let after = ask(&mut machine, FirmwareRequest::Update(wanted)).expect("updated");
    assert_eq!(machine.dimm(1).staged.as_deref(), Some(NEW));
    assert_eq!(machine.dimm(0).staged, None);
    let outcome = after.update.expect("an outcome");
    assert_eq!(outcome.activation, FirmwareActivation::Pending);
    assert!(outcome.remedy.contains("off and on again") && outcome.from == OLD);
    assert_eq!(
        outcome.bytes,
        file.as_file().metadata().expect("a file").len()
    );
    assert!(after.slots[1].next && after.slots[1].revision == NEW);

    // Until then it takes no other.
    let again = ask(&mut machine, FirmwareRequest::Update(update(&file))).expect_err("refused");
    assert!(again.cause.contains("staged already"), "{again:?}");
    assert_eq!(machine.changes, 1);
}

#[test]
fn what_is_not_as_expected_is_refused_before_anything_is_sent() {
    let good = image(&format!("image of {NEW}"));
    let foreign = image("something else");
    let (empty, large) = (image(""), image(&"x".repeat((1 << 20) + 1)));
    type Change = fn(&mut FirmwareUpdate);
    let cases: [(&tempfile::NamedTempFile, Change, &str); 9] = [
        (&good, |u| u.model = "NMB".into(), "not \"NMB\""),
        (&good, |u| u.revision = "1.0".into(), "not \"1.0\""),
        (&good, |u| u.slot = 1, "slot 1 takes no image"),
        (&good, |u| u.sha256 = "00".into(), "looked at before"),
        (&good, |u| u.image = "/nonexistent".into(), "No such file"),
        (
            &good,
            |u| u.image = "/dev/zero".into(),
            "not a regular file",
        ),
        (&empty, |_| (), "0 bytes"),
        (&large, |_| (), "1 to 1048576"),
        (&foreign, |_| (), "Error 62 - Image file is not valid"),
    ];
    for (file, change, words) in cases {
        let mut machine = Machine::dcpm(2, 1);
        let mut wanted = update(file);
        change(&mut wanted);
        let error = ask(&mut machine, FirmwareRequest::Update(wanted)).expect_err(words);
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert_eq!(machine.changes, 0, "{words}");
    }
}

#[test]
fn a_module_whose_memory_is_used_a_cancelled_update_and_one_that_leads_nowhere() {
    let file = image(&format!("image of {NEW}"));
    let mut machine = Machine::dcpm(1, 2);
    machine.regions = Machine::labelled(1).regions;
    machine.regions[0].modules = vec![0, 1];
    let mut namespace = named("fsdax", 512 << 20, "daos");
    namespace.user = Some("mounted at /mnt/daos0".to_owned());
    machine.regions[0].add(namespace);
    let error = ask(&mut machine, FirmwareRequest::Update(update(&file))).expect_err("busy");
    assert_eq!(error.status, Status::BUSY);
    assert!(error.cause.contains("mounted at /mnt/daos0"), "{error:?}");
    query(&mut machine, "nmem1").expect("a query changes nothing");

    let mut machine = Machine::dcpm(2, 1);
    let request = FirmwareRequest::Update(update(&file));
    let stopped = firmware_with(&mut machine, &request, &mut |_, _, what| match what {
        "downloading firmware" => Err(Error::new(Status::CANCELLED, "enough")),
        _ => Ok(()),
    });
    assert_eq!(stopped.expect_err("stopped").status, Status::CANCELLED);
    assert_eq!(machine.changes, 0);

    let nothing = image("image of nothing");
    let error =
        ask(&mut machine, FirmwareRequest::Update(update(&nothing))).expect_err("nothing new");
    assert!(error.what.contains("not what it should be"), "{error:?}");
    let other = FirmwareUpdate {
        new_revision: "9".into(),
        ..update(&file)
    };
    let error = ask(&mut machine, FirmwareRequest::Update(other)).expect_err("another revision");
    assert!(error.cause.contains(NEW), "{error:?}");
}

#[test]
fn modules_that_ipmctl_does_not_know_and_a_missing_ipmctl_say_so() {
    let mut machine = Machine::labelled(1);
    let error = query(&mut machine, "nmem0").expect_err("not one of Intel's");
    assert_eq!(error.status, Status::NOT_SUPPORTED);
    assert_eq!(
        query(&mut machine, "nmem7").expect_err("none").status,
        Status::NOT_FOUND
    );
    let mut machine = Machine::dcpm(1, 1);
    machine.ipmctl = Installed::No;
    let error = query(&mut machine, "nmem0").expect_err("no ipmctl");
    assert_eq!(error.remedy, "apt-get install ipmctl");
    machine.ipmctl = Installed::Crashes;
    assert!(query(&mut machine, "nmem0").is_err());
}

#[test]
fn health_comes_from_the_sensors_the_kernel_and_bad_blocks() {
    let mut machine = Machine::dcpm(2, 1);
    // The sensors that were recorded are of modules with these names.
    let health = health_with(&mut machine, "nmem1").expect("health");
    assert_eq!(health.status, HealthStatus::Ok);
    assert_eq!(health.temperature_kelvin, Some(303));
    assert_eq!(
        (health.spare_percent, health.spare_threshold_percent),
        (Some(100), Some(10))
    );
    assert_eq!(
        (health.power_on_hours, health.power_cycles),
        (Some(100), Some(12))
    );
    assert_eq!(health.unsafe_shutdowns, Some(7));
    assert_eq!(health.details["controller_celsius"], 35);
    machine.dimm(1).health = "Noncritical";
    assert_eq!(
        health_with(&mut machine, "nmem1").expect("health").status,
        HealthStatus::Warning
    );
    machine.dimm(1).health = "Fatal";
    let health = health_with(&mut machine, "nmem1").expect("health");
    assert_eq!(health.status, HealthStatus::Critical);
    assert!(health.warnings[0].contains("Fatal") && health.warnings[0].contains("replace it"));

    machine.dimm(1).health = "Healthy";
    machine.ipmctl = Installed::NoSensors;
    let told = ["nmem0", "nmem1"].map(|name| health_with(&mut machine, name).expect("health"));
    assert!(
        told.iter()
            .all(|health| health.status == HealthStatus::Ok && health.warnings.is_empty()),
        "{told:?}"
    );
    assert!(
        told[0].notes[0].contains("no sensors") && told[0].notes == told[1].notes,
        "{told:?}"
    );

    // Without ipmctl, or with one that fails, the kernel's part stands. The scan's own remark is repeated as it is, so that
    // hosts tell it once, and no module has a warning for it.
    let without = [
        (Installed::No, "ipmctl is not installed"),
        (Installed::Fails("Error 7 - Driver failed"), "Driver failed"),
        (Installed::Crashes, "ended without an answer"),
    ];
    for (ipmctl, words) in without {
        machine.ipmctl = ipmctl;
        machine.modules[1].health = "ok";
        let health = health_with(&mut machine, "nmem1").expect("health");
        assert_eq!(health.status, HealthStatus::Ok);
        assert!(health.warnings.is_empty(), "{health:?}");
        let notes = scan_with(&mut machine).expect("a scan").notes;
        assert!(notes.len() == 1 && notes[0].contains(words), "{notes:?}");
        assert_eq!(health.notes, notes);
        machine.modules[1].health = "critical";
        let health = health_with(&mut machine, "nmem1").expect("health");
        assert_eq!(health.status, HealthStatus::Critical);
        machine.modules[1].health = "";
        let error = health_with(&mut machine, "nmem1").expect_err("nobody tells");
        assert_eq!(error.status, Status::NOT_FOUND);
        assert!(
            !error.cause.is_empty() && error.remedy.is_empty(),
            "{error:?}"
        );
    }

    let mut machine = Machine::labelled(1);
    let error = health_with(&mut machine, "nmem0").expect_err("it tells nothing");
    assert!(error.what.contains("tells nothing about its health"));
    machine.modules[0].health = "critical";
    assert_eq!(
        health_with(&mut machine, "nmem0").expect("health").status,
        HealthStatus::Critical
    );
    machine.regions[0].add(named("fsdax", 512 << 20, "daos"));
    let health = health_with(&mut machine, "/dev/pmem0").expect("health");
    assert_eq!(
        (health.status, health.media_errors),
        (HealthStatus::Ok, Some(0))
    );
    assert_eq!(
        health_with(&mut machine, "/dev/pmem7")
            .expect_err("none")
            .status,
        Status::NOT_FOUND
    );
}

#[test]
fn a_scan_reads_all_modules_at_once_and_the_next_one_anew() {
    let mut machine = Machine::dcpm(2, 1);
    let readings = Readings::default();
    let start = Instant::now();
    let at = |machine: &mut Machine, seconds, address: &str| {
        readings
            .of(machine, &|| start + Duration::from_secs(seconds), address)
            .expect("health")
    };
    for address in ["nmem0", "nmem1", "nmem0"] {
        let health = at(&mut machine, 1, address);
        assert_eq!(health.temperature_kelvin, Some(303), "{address}");
    }
    // One list of ndctl's, the modules and the sensors of ipmctl's.
    assert_eq!(machine.calls, 3);
    machine.dimm(1).health = "Fatal";
    assert_eq!(at(&mut machine, 6, "nmem1").status, HealthStatus::Ok);
    assert_eq!(at(&mut machine, 7, "nmem1").status, HealthStatus::Critical);
    assert_eq!(machine.calls, 6);
    // Who changes something makes what was read worthless.
    machine.dimm(1).health = "Healthy";
    readings.forget();
    assert_eq!(at(&mut machine, 8, "nmem1").status, HealthStatus::Ok);
    // Namespaces have no sensors.
    let mut machine = Machine::labelled(1);
    machine.regions[0].add(named("fsdax", 512 << 20, "daos"));
    readings.forget();
    at(&mut machine, 9, "/dev/pmem0");
    assert_eq!(machine.calls, 1);
    // A reading that failed is none.
    readings.forget();
    machine.has_ndctl = false;
    let later = start + Duration::from_secs(9);
    readings
        .of(&mut machine, &|| later, "/dev/pmem0")
        .expect_err("no ndctl");
    machine.has_ndctl = true;
    at(&mut machine, 9, "/dev/pmem0");
}

#[test]
fn what_takes_longer_to_read_than_it_is_good_for_is_read_once_all_the_same() {
    let mut machine = Machine::dcpm(2, 1);
    machine.call_takes = Duration::from_secs(2);
    let (start, time) = (Instant::now(), Rc::clone(&machine.time));
    let clock = || start + time.get();
    let readings = Readings::default();
    for address in ["nmem0", "nmem1"] {
        readings.of(&mut machine, &clock, address).expect("health");
    }
    assert_eq!((machine.calls, time.get().as_secs()), (3, 6));
    time.set(Duration::from_secs(12));
    readings.of(&mut machine, &clock, "nmem1").expect("health");
    assert_eq!(machine.calls, 6);
}

#[test]
fn a_device_that_was_not_there_a_moment_ago_is_looked_for_anew() {
    let mut machine = Machine::labelled(1);
    let (readings, now) = (Readings::default(), Instant::now());
    let health = |machine: &mut Machine, address| readings.of(machine, &|| now, address);
    let none = health(&mut machine, "/dev/pmem0").expect_err("not there yet");
    assert_eq!(none.status, Status::NOT_FOUND);
    machine.regions[0].add(named("fsdax", 512 << 20, "daos"));
    let health = health(&mut machine, "/dev/pmem0").expect("health");
    assert_eq!(health.status, HealthStatus::Ok);
}
