//! `storage scan` by the shell: what an engine holds is told by the engine, with its health.

use daos_e2e::{Bdev, Site};
use serde_json::Value;

fn held<'v>(scan: &'v Value, site: &Site) -> &'v Value {
    let report = &scan["response"]["hosts"][site.address()];
    let devices = report["devices"].as_array().map_or(&[][..], Vec::as_slice);
    devices
        .iter()
        .find(|device| device["class"] == "file")
        .unwrap_or_else(|| panic!("no device of class file in {scan:#}"))
}

#[test]
fn devices_of_a_running_engine_are_told_by_it() {
    let site = Site::new();
    site.add_engine(Bdev::File(site.path("bdev0")), 1);
    let mut server = site.start();
    server.wait_phase("maintenance");
    site.shell(&["storage", "format", "--force"]).expect(0);
    server.wait_phase("ready");

    let scan = site.shell(&["--json", "storage", "scan"]).expect(0).json();
    let device = held(&scan, &site);
    assert!(
        device["use_reason"]
            .as_str()
            .unwrap_or("")
            .contains("engine 0"),
        "{device:#}"
    );
    assert!(
        device["health"].is_null(),
        "nobody asked for it: {device:#}"
    );
    let scan = site
        .shell(&["--json", "storage", "scan", "--health"])
        .expect(0)
        .json();
    let device = held(&scan, &site);
    assert_eq!(device["health"]["status"], "ok", "{device:#}");
    let text = site
        .shell(&["storage", "scan", "--health", "--verbose"])
        .expect(0);
    assert!(text.stdout.contains("Health:"), "{text}");
    server.stop();

    // Without its engine nobody lists it: a scan lists what could be used, and files can be anywhere.
    let local = site
        .run("daos_server", &["--json", "storage", "scan", "--health"])
        .expect(0)
        .json();
    let devices = local["response"]["devices"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(devices.iter().all(|d| d["class"] != "file"), "{local:#}");
}
