//! The plugin of libfabric on a machine without libfabric: it says what to install, and all else works.

use crate::data::{Objects, bench};
use daos_e2e::{Bdev, Finished, Site, not_run};
use std::fs;
use std::path::{Path, PathBuf};

/// Renames the library that a plugin asks for, also in its manifest, to one that no machine has.
fn take_libfabric_away(plugin: &Path) {
    fixture_files::replace(plugin, b"libfabric.so.1", b"libfabrix.so.1");
}

#[track_caller]
fn assert_says_what_to_install(done: &Finished) {
    let text = done.text();
    for words in [
        "fabric-ofi",
        "libfabrix.so.1, which it needs, is not installed",
        "apt-get install libfabric1",
    ] {
        assert!(text.contains(words), "{words:?} is missing in {done}");
    }
}

fn plugin(site: &Site) -> PathBuf {
    site.path("plugins/libdaos_fabric_ofi.so")
}

#[test]
fn what_to_install_is_said_and_all_else_works() {
    let test = "what_to_install_is_said_and_all_else_works";
    let mut site = Site::new();
    if let Err(why) = site.use_ofi("ofi+tcp") {
        return not_run(test, &why);
    }
    take_libfabric_away(&plugin(&site));
    let index = site.add_engine(Bdev::File(site.path("bdev0")), 2);
    let dir = site.path("plugins").display().to_string();
    // Scans show what there is, and say what there could be.
    for what in ["storage", "network"] {
        let all = if what == "network" {
            &["-p", "all"][..]
        } else {
            &[]
        };
        let scan = [&["--plugins-dir", &dir, what, "scan"], all].concat();
        let done = site.run("daos_server", &scan);
        assert_says_what_to_install(&done);
        let found = if what == "network" { "tcp" } else { "ram" };
        assert!(done.stdout.contains(found), "{done}");
    }

    // Nothing is formatted for an engine that could not start.
    let mut server = site.start();
    server.wait_phase("maintenance");
    assert_says_what_to_install(&server.format(&[]).expect(1));
    assert!(!fs::exists(site.scm(0).join("superblock")).expect("our directory"));
    server.stop();

    // With another provider the node works, the plugin beside it.
    site.change_engine(index, |engine| {
        engine.extra = "  provider: tcp\n".to_owned()
    });
    let mut server = site.start();
    server.make_ready();
    let listed = site.shell(&["plugin", "list"]).expect(0);
    assert!(listed.stdout.contains("fabric-ofi"), "{listed}");
    let objects = Objects::put(&site);
    bench(&site);
    objects.check(&site);
    server.stop();
}

/// The engine has libfabric, a client has not; and an engine whose machine lost it.
#[test]
fn a_client_and_a_restarted_engine_say_it_too() {
    let test = "a_client_and_a_restarted_engine_say_it_too";
    let mut site = Site::new();
    if let Err(why) = site.use_ofi("ofi+tcp") {
        return not_run(test, &why);
    }
    site.add_engine(Bdev::File(site.path("bdev0")), 1);
    let mut server = site.start();
    server.make_ready();
    let objects = Objects::put(&site);
    let other = site.make_dir("other");
    fs::copy(plugin(&site), other.join("libdaos_fabric_ofi.so")).expect("our files");
    take_libfabric_away(&other.join("libdaos_fabric_ofi.so"));
    let (address, other) = (site.address(), other.display().to_string());
    let args = ["--access-point", &address, "--plugins-dir", &other, "bench"];
    assert_says_what_to_install(&site.run("daos", &args).expect(1));
    objects.check(&site);
    server.stop();

    let whole = fs::read(plugin(&site)).expect("our file");
    take_libfabric_away(&plugin(&site));
    let mut server = site.start();
    let state = server.wait_state("given up", |s| {
        let reason = s["engines"][0]["reason"].as_str().unwrap_or("");
        reason.contains("apt-get install libfabric1")
    });
    assert_ne!(state["phase"], "ready", "{state:#}");
    server.stop();
    // Installed again, everything is there.
    fs::write(plugin(&site), whole).expect("our file");
    let mut server = site.start();
    server.wait_phase("ready");
    objects.check(&site);
    server.stop();
}
