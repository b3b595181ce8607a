//! The server's own end: engines never outlive it, and the next server finds the data.

use crate::data::Workload;
use crate::traces::assert_only_storage_is_left;
use daos_e2e::{Bdev, Site, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
