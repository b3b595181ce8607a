//! An engine that is killed comes back by itself with everything that it acknowledged; one whose data died
//! with it says so.

use crate::data::{Workload, bench};
use crate::traces::assert_only_storage_is_left;
use daos_e2e::{Bdev, LoopDevice, Site, User, eventually, not_run};
use std::fs;
use std::thread;
use std::time::Duration;

fn killed_while_writing(site: &Site, bdev: Bdev) {
    site.add_engine(bdev, 2);
    let mut server = site.start();
    server.make_ready();
    let workload = Workload::new(site, "work");
    for (life, pause) in [300, 50, 700].into_iter().enumerate() {
        let before = workload.acknowledged();
        let mut writer = workload.write_on();
        eventually("something is acknowledged", || {
            (workload.acknowledged() > before + 20).then_some(())
        });
        thread::sleep(Duration::from_millis(pause));
        let dead = server.kill_engine(0);
        let state = server.wait_state("restarted", |s| {
            s["phase"] == "ready" && s["engines"][0]["restarts"] == life + 1
        });
        assert_ne!(state["engines"][0]["pid"], dead, "{state:#}");
        writer.kill().expect("our child can be killed");
        writer.wait().expect("our child can be waited for");
        workload.verify();
    }
    let log = server.log();
    assert!(
        log.contains("SIGKILL"),
        "the reason of the death is missing in the log"
    );
    bench(site);
    server.stop();
    assert_only_storage_is_left(site);
}

#[test]
fn everything_acknowledged_on_a_file_survives() {
    let site = Site::new();
    killed_while_writing(&site, Bdev::File(site.path("bdev0")));
}

#[test]
fn everything_acknowledged_on_a_file_survives_without_privileges() {
    let site = Site::of(User::Unprivileged);
    let disk = site.make_dir("disk");
    killed_while_writing(&site, Bdev::File(disk.join("bdev0")));
}

#[test]
fn everything_acknowledged_on_a_kernel_device_survives() {
    let site = Site::new();
    match LoopDevice::attach(&site.path("disk.img"), 512 << 20) {
        Ok(disk) => killed_while_writing(&site, Bdev::Kdev(disk.path().to_owned())),
        Err(reason) => not_run(
            "everything_acknowledged_on_a_kernel_device_survives",
            &reason,
        ),
    }
}

#[test]
fn a_client_that_comes_while_the_engine_is_restarted_waits() {
    let site = Site::new();
    site.add_engine(Bdev::File(site.path("bdev0")), 1);
    let mut server = site.start();
    server.make_ready();
    site.ensure_pool();
    server.kill_engine(0);
    server.wait_state("about to be restarted", |s| {
        s["engines"][0]["state"] == "restarting"
    });
    site.daos(&["bench", "--verify", "--seconds", "1"])
        .expect(0);
    // One that an administrator has to start is not waited for.
    site.shell(&["system", "stop"]).expect(0);
    let start = std::time::Instant::now();
    let refused = site.daos(&["query"]).expect(1);
    assert!(refused.text().contains("stopped"), "{}", refused.text());
    assert!(start.elapsed() < Duration::from_secs(20), "it waited");
    server.stop();
}

#[test]
fn memory_that_died_with_its_engine_is_a_lost_device() {
    let site = Site::new();
    site.add_engine(Bdev::Malloc, 2);
    let mut server = site.start();
    server.make_ready();
    let workload = Workload::new(&site, "work");
    workload.write();
    workload.verify();
    server.kill_engine(0);
    let state = server.wait_phase("maintenance");
    let engine = &state["engines"][0];
    assert_eq!(engine["state"], "storage-mismatch", "{state:#}");
    let told = format!("{} {}", engine["reason"], engine["hint"]);
    for word in ["malloc", "--reformat"] {
        assert!(told.contains(word), "{word:?} is missing in {state:#}");
    }
    // Without the word, nothing is destroyed; with it, the node serves again.
    let superblock = fs::read(site.scm(0).join("superblock")).expect("a superblock");
    server.format(&[]).expect(1);
    let after = fs::read(site.scm(0).join("superblock")).expect("a superblock");
    assert_eq!(superblock, after);
    server.format(&["--reformat"]).expect(0);
    server.wait_phase("ready");
    // What is lost is said to be lost: no other bytes in its place.
    workload.verify_fails(3);
    bench(&site);
    server.stop();

    // The end of the engine is the end of the data, also when it was asked to end.
    let mut server = site.start();
    let state = server.wait_phase("maintenance");
    let reason = state["engines"][0]["reason"].to_string();
    assert!(
        reason.contains("malloc") && reason.contains("lost"),
        "{state:#}"
    );
    server.stop();
}
