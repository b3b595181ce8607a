//! The same system on libfabric's providers, chosen by the config alone: the main job, and an engine that is
//! killed while a client writes.

use crate::data::{Objects, Workload, bench};
use crate::traces::assert_only_storage_is_left;
use daos_e2e::{Bdev, Server, Site, eventually, not_run};
use std::fs;

fn on_provider(test: &str, provider: &str, extra: &str) {
    let mut site = Site::new();
    if let Err(why) = site.use_ofi(provider) {
        return not_run(test, &why);
    }
    let index = site.add_engine(Bdev::File(site.path("bdev0")), 2);
    site.change_engine(index, |engine| engine.extra += extra);
    let mut server = site.start();
    server.make_ready();
    assert_maps(&server, "libfabric.so");

    let objects = Objects::put(&site);
    bench(&site);
    objects.check(&site);

    let workload = Workload::new(&site, "work");
    let mut writer = workload.write_on();
    eventually("something is acknowledged", || {
        (workload.acknowledged() > 20).then_some(())
    });
    let dead = server.kill_engine(0);
    let state = server.wait_state("restarted", |s| {
        s["phase"] == "ready" && s["engines"][0]["restarts"] == 1
    });
    assert_ne!(state["engines"][0]["pid"], dead, "{state:#}");
    // The next engine has removed what provider shm keeps there.
    let left = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let left: Vec<_> = left
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(&format!("{dead}:")))
        .collect();
    assert!(left.is_empty(), "{left:?} of the killed engine");
    // The writer is still the same: it has found the new engine.
    let before = workload.acknowledged();
    eventually("the client writes on", || {
        (workload.acknowledged() > before + 20).then_some(())
    });
    assert!(
        writer.try_wait().expect("our child").is_none(),
        "the client gave up"
    );
    writer.kill().expect("our child can be killed");
    writer.wait().expect("our child can be waited for");
    workload.verify();
    objects.check(&site);

    server.stop();
    assert_only_storage_is_left(&site);
    let mut server = site.start();
    server.wait_phase("ready");
    workload.verify();
    objects.check(&site);
    server.stop();
    remove_shared_memory();
}

/// The engine has a library mapped, and the server has not.
fn assert_maps(server: &Server<'_>, library: &str) {
    let maps = |pid: u32| fs::read_to_string(format!("/proc/{pid}/maps")).expect("our process");
    assert!(maps(server.engine_pid(0)).contains(library));
    assert!(!maps(server.pid()).contains(library));
}

/// Removes what dead processes left of libfabric's shared memory, named `PID:...`.
fn remove_shared_memory() {
    for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name
            .split_once(':')
            .and_then(|(pid, _)| pid.parse::<u32>().ok())
        else {
            continue;
        };
        if !fs::exists(format!("/proc/{pid}")).unwrap_or(true) {
            let _ = fs::remove_file(entry.path()); // another test may have done so
        }
    }
}

#[test]
fn tcp_with_rxm() {
    on_provider("tcp_with_rxm", "ofi+tcp;ofi_rxm", "");
}

/// Each engine comes back at the address of its predecessor.
#[test]
fn tcp_with_rxm_at_a_fixed_port() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let number = port.local_addr().expect("an address").port();
    drop(port);
    let extra = format!("  fabric_iface_port: {number}\n");
    on_provider("tcp_with_rxm_at_a_fixed_port", "ofi+tcp;ofi_rxm", &extra);
}

/// Engine and client choose the same one, and the engine says which.
#[test]
fn the_best_tcp() {
    let mut site = Site::new();
    if let Err(why) = site.use_ofi("ofi+tcp") {
        return not_run("the_best_tcp", &why);
    }
    site.add_engine(Bdev::File(site.path("bdev0")), 2);
    let mut server = site.start();
    server.make_ready();
    assert!(
        server
            .log()
            .contains("chose the best of tcp;ofi_rxm, tcp, net"),
        "{}",
        server.log()
    );
    Objects::put(&site).check(&site);
    server.stop();
}

#[test]
fn net() {
    on_provider("net", "ofi+net", "");
}

#[test]
fn sockets() {
    on_provider("sockets", "ofi+sockets", "");
}

#[test]
fn shm() {
    on_provider("shm", "ofi+shm", "");
}

/// A format refuses to write for an engine that could not start, each time with the reason.
#[test]
fn providers_that_cannot_be_are_refused_before_a_format() {
    let test = "providers_that_cannot_be_are_refused_before_a_format";
    let mut site = Site::new();
    if let Err(why) = site.use_ofi("ofi+tcp") {
        return not_run(test, &why);
    }
    let index = site.add_engine(Bdev::File(site.path("bdev0")), 1);
    for (lines, words) in [
        (
            "  provider: 'ofi+vebrs;ofi_rxm'\n",
            ["ofi+vebrs;ofi_rxm", "ofi+verbs;ofi_rxm"],
        ),
        ("  provider: ofi+gni\n", ["built without", "gni"]),
        ("  fabric_iface: no-such-0\n", ["no-such-0", "lo ("]),
    ] {
        site.change_engine(index, |engine| engine.extra = lines.to_owned());
        let mut server = site.start();
        server.wait_phase("maintenance");
        let refused = server.format(&[]).expect(1);
        let told = format!("{}{}", refused.stdout, refused.stderr);
        for word in words {
            assert!(told.contains(word), "{word:?} is missing in {refused}");
        }
        assert!(!site.path("bdev0").exists(), "the device was made");
        assert!(
            !site.scm(index).join("superblock").exists(),
            "the SCM was formatted"
        );
        server.stop();
    }
}
