//! The server's own end: engines never outlive it, and the next server finds the data.

use crate::data::{Workload, bench};
use crate::traces::assert_only_storage_is_left;
use daos_e2e::{Bdev, Site, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

#[test]
fn engines_die_with_a_killed_server_and_the_next_one_serves_the_same_data() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    let workload = Workload::new(&site, "work");
    workload.write();
    let engine = server.engine_pid(0);
    server.kill();
    eventually("the engine dies with the server", || {
        (!server.processes().contains(&engine)).then_some(())
    });
    eventually("no process is left", || {
        server.processes().is_empty().then_some(())
    });

    let mut next = site.start();
    next.wait_phase("ready");
    workload.verify();
    next.stop();
    assert_only_storage_is_left(&site);
}

#[test]
fn everything_acknowledged_survives_a_server_that_is_killed_while_clients_write() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    let workload = Workload::new(&site, "work");
    for pause in [100, 400] {
        let before = workload.acknowledged();
        let mut writer = workload.write_on();
        eventually("something is acknowledged", || {
            (workload.acknowledged() > before + 20).then_some(())
        });
        thread::sleep(Duration::from_millis(pause));
        server.kill();
        writer.kill().expect("our child can be killed");
        writer.wait().expect("our child can be waited for");
        drop(server);
        server = site.start();
        server.wait_phase("ready");
        workload.verify();
    }
    server.stop();
}

#[test]
fn a_format_that_was_killed_never_starts_and_can_be_repeated() {
    let site = Site::with_file();
    for pause in [0, 10, 30, 60, 100, 200, 300] {
        let mut server = site.start();
        server.wait_state("formattable", |s| s["phase"] != "starting");
        let mut format = site
            .command("daos_shell")
            .args([
                "-i",
                "-l",
                &site.address(),
                "storage",
                "format",
                "--force",
                "--reformat",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("daos_shell can be started");
        thread::sleep(Duration::from_millis(pause));
        server.kill();
        format.wait().expect("our child can be waited for");
        drop(server);

        let mut server = site.start();
        let state = server.wait_state("settled", |s| s["phase"] != "starting");
        let engine = &state["engines"][0]["state"];
        if engine == "ready" {
            // Done before the end came. Lose the memory, so that the next round can format.
            bench(&site);
            server.stop();
            fs::remove_file(site.scm(0).join("superblock")).expect("a superblock");
            continue;
        }
        assert!(
            engine == "await-format" || engine == "storage-mismatch",
            "after {pause} ms: {state:#}"
        );
        server.format(&["--reformat"]).expect(0);
        server.wait_phase("ready");
        bench(&site);
        server.stop();
        fs::remove_file(site.scm(0).join("superblock")).expect("a superblock");
    }
}

#[test]
fn stop_and_start_keep_the_data() {
    let site = Site::new();
    let bdev = Bdev::File(site.path("bdev0"));
    site.add_engine(bdev, 2);
    let workload = Workload::new(&site, "work");
    let mut server = site.start();
    server.make_ready();
    workload.write();
    server.stop();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = site.start();
        let state = server.wait_phase("ready");
        assert_eq!(state["engines"][0]["restarts"], 0, "{state:#}");
        workload.verify();
        workload.write();
        kill(Pid::from_raw(server.pid() as i32), signal).expect("the server can be asked");
        assert!(server.wait().success());
        assert!(server.processes().is_empty());
        assert_only_storage_is_left(&site);
    }
}
