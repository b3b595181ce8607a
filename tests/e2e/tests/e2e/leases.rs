//! A device belongs to one process at a time.

use daos_e2e::{Bdev, LoopDevice, Site, not_run};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

fn file(site: &Site) -> PathBuf {
    site.path("state/leases.json")
}

fn leases(site: &Site) -> Value {
    let text = fs::read_to_string(file(site)).expect("the leases");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn an_engine_holds_its_devices_from_start_to_stop() {
    let site = Site::new();
    site.add_engine(Bdev::File(site.path("bdev0")), 1);
    let mut server = site.start();
    server.make_ready();
    let pid = server.engine_pid(0);
    let device = format!("file:{}", site.path("bdev0").display());
    assert_eq!(leases(&site)["devices"][&device]["pid"], pid);
    server.stop();
    assert_eq!(leases(&site)["devices"], json!({}));
}

#[test]
fn a_scan_names_the_engine_that_has_a_device() {
    let site = Site::new();
    let disk = match LoopDevice::attach(&site.path("disk.img"), 512 << 20) {
        Ok(disk) => disk,
        Err(reason) => return not_run("a_scan_names_the_engine_that_has_a_device", &reason),
    };
    site.add_engine(Bdev::Kdev(disk.path().to_owned()), 1);
    let mut server = site.start();
    server.make_ready();
    let told = format!("engine 0 (process {})", server.engine_pid(0));
    let scan = site.shell(&["storage", "scan"]).expect(0);
    assert!(scan.text().contains(&told), "{}", scan.text());
    server.stop();
}

#[test]
fn a_device_of_another_live_process_is_refused() {
    let site = Site::new();
    site.add_engine(Bdev::File(site.path("bdev0")), 1);
    let mut server = site.start();
    server.make_ready();
    server.stop();
    // This test's own process stands for an engine of another server with the same state directory.
    let stat = fs::read_to_string("/proc/self/stat").expect("our own state");
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name")..]
        .split(' ')
        .collect();
    let started: u64 = fields[20].parse().expect("a start time");
    let device = format!("file:{}", site.path("bdev0").display());
    let lease = json!({"pid": std::process::id(), "started": started, "engine": 7, "since": 1});
    let text = json!({"devices": {device.as_str(): lease}}).to_string();
    fs::write(file(&site), text).expect("the leases");
    let mut server = site.start();
    let state = server.wait_state("refused", |s| s["engines"][0]["state"] == "errored");
    let reason = state["engines"][0]["reason"].to_string();
    assert!(
        reason.contains(&device) && reason.contains("engine 7"),
        "{state:#}"
    );
    server.stop();
}
