//! Engines of one server stand alone.

use crate::data::Workload;
use daos_e2e::{Bdev, Site};
use std::fs;

fn site() -> Site {
    let site = Site::new();
    for name in ["bdev0", "bdev1"] {
        let bdev = Bdev::File(site.path(name));
        site.add_engine(bdev, 1);
    }
    site
}

#[test]
fn one_that_lost_its_device_leaves_the_other_serving() {
    let site = site();
    let mut server = site.start();
    let state = server.make_ready();
    assert_eq!(state["engines"][1]["state"], "ready", "{state:#}");
    assert_ne!(
        state["engines"][0]["rank"], state["engines"][1]["rank"],
        "{state:#}"
    );
    let first = Workload::on_rank(&site, "first", 0);
    let second = Workload::on_rank(&site, "second", 1);
    first.write();
    second.write();
    server.stop();
    fs::remove_file(site.path("bdev1")).expect("our file");

    let mut server = site.start();
    let state = server.wait_state("serving with one engine", |s| {
        s["engines"][0]["state"] == "ready" && s["engines"][1]["state"] == "storage-mismatch"
    });
    assert_eq!(state["phase"], "maintenance", "{state:#}");
    assert!(
        state["reason"].as_str().unwrap_or("").contains("engine 1"),
        "{state:#}"
    );
    first.verify();
    first.write();

    // Mending one does not touch the other.
    let pid = server.engine_pid(0);
    server.format(&["--reformat"]).expect(0);
    server.wait_phase("ready");
    assert_eq!(server.engine_pid(0), pid);
    first.verify();
    // The rank's part of the pool went with its storage.
    site.shell(&["pool", "create", "anew", "-r", "1", "--size", "100%"])
        .expect(0);
    let anew = Workload::on_rank(&site, "anew", 1);
    anew.write();
    anew.verify();
    server.stop();
}

#[test]
fn one_that_is_killed_leaves_the_other_serving() {
    let site = site();
    let mut server = site.start();
    server.make_ready();
    let (first, second) = (
        Workload::on_rank(&site, "first", 0),
        Workload::on_rank(&site, "second", 1),
    );
    first.write();
    second.write();
    let pid = server.engine_pid(0);
    server.kill_engine(1);
    first.verify();
    server.wait_state("restarted", |s| {
        s["phase"] == "ready" && s["engines"][1]["restarts"] == 1
    });
    assert_eq!(server.engine_pid(0), pid);
    second.verify();
    server.stop();
}

#[test]
fn a_client_waits_for_the_rank_that_has_its_container() {
    let site = site();
    let mut server = site.start();
    server.make_ready();
    site.ensure_pool();
    let container = |verb| site.daos(&["container", verb, "--pool", "tank", "first"]);
    // Without --rank it is made on rank 0, and rank 1 knows nothing of it.
    container("create").expect(0);
    server.kill_engine(0);
    server.wait_state("about to be restarted", |s| {
        s["engines"][0]["state"] == "restarting" && s["engines"][1]["state"] == "ready"
    });
    container("query").expect(0);
    server.stop();
}
