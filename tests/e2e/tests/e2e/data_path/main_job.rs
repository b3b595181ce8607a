//! The main job: start, maintenance, format, data through everything and back, a clean end. The same for
//! every backend, by configuration alone.

use crate::data;
use crate::traces::assert_only_storage_is_left;
use daos_e2e::{Bdev, LoopDevice, Site, User, may_mount, mounts_below, not_run};
use std::fs;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plugins {
    BuiltIn,
    Files,
}

fn main_job(mut site: Site, bdev: Bdev, plugins: Plugins) {
    let class = bdev.class();
    site.add_engine(bdev, 2);
    if plugins == Plugins::Files {
        site.use_plugin_files();
    }
    let mut server = site.start();

    let state = server.wait_phase("maintenance");
    assert_eq!(state["engines"][0]["state"], "await-format", "{state:#}");
    assert!(
        state["hint"]
            .as_str()
            .unwrap_or("")
            .contains("storage format"),
        "{state:#}"
    );

    let formatted = server.format(&[]).expect(0);
    assert!(
        formatted.stdout.contains("1 engine(s) started"),
        "{formatted}"
    );
    let state = server.wait_phase("ready");
    assert_eq!(state["engines"][0]["targets"], 2, "{state:#}");

    let pid = server.engine_pid(0);
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"));
    let mapped = format!("libdaos_bdev_{class}.so");
    match maps {
        Ok(maps) => assert_eq!(
            maps.contains(&mapped),
            plugins == Plugins::Files,
            "{mapped} in {maps}"
        ),
        Err(error) => panic!("cannot look into process {pid}: {error}"),
    }
    let listed = site.shell(&["--json", "plugin", "list"]).expect(0).json();
    let rows = listed["response"]["hosts"][site.address()]["plugins"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for name in [
        &format!("bdev-{class}")[..],
        "scm-ram",
        site.fabric_plugin(),
    ] {
        let row = rows.iter().find(|r| r["name"] == name);
        let row = row.unwrap_or_else(|| panic!("no {name} in {listed:#}"));
        assert_eq!(row["used_by"][0], 0, "{row:#}");
        // libfabric's plugin is never built in.
        let built_in = plugins == Plugins::BuiltIn && name != "fabric-ofi";
        assert_eq!(row["builtin"], built_in, "{row:#}");
    }

    let objects = data::Objects::put(&site);
    data::bench(&site);
    objects.check(&site);

    server.stop();
    assert_only_storage_is_left(&site);
    let superblock = site.scm(0).join("superblock");
    assert!(superblock.is_file(), "{} is gone", superblock.display());
    let privileged = may_mount() && site.scm(0).starts_with(site.dir());
    assert_eq!(
        mounts_below(&site.scm(0)).len(),
        usize::from(privileged),
        "SCM that was mounted stays mounted"
    );
    if class != "malloc" {
        let mut server = site.start();
        server.wait_phase("ready");
        objects.check(&site);
        server.stop();
    }
}

fn on_file(user: User, plugins: Plugins) {
    let site = Site::of(user);
    let bdev = Bdev::File(site.make_dir("disk").join("bdev0"));
    main_job(site, bdev, plugins);
}

fn on_kdev(test: &str, plugins: Plugins) {
    let site = Site::new();
    match LoopDevice::attach(&site.path("disk.img"), 512 << 20) {
        Ok(disk) => main_job(site, Bdev::Kdev(disk.path().to_owned()), plugins),
        Err(reason) => not_run(test, &reason),
    }
}

#[test]
fn ram_file_built_in() {
    on_file(User::Caller, Plugins::BuiltIn);
}

#[test]
fn ram_file_from_files() {
    on_file(User::Caller, Plugins::Files);
}

#[test]
fn ram_malloc_built_in() {
    main_job(Site::new(), Bdev::Malloc, Plugins::BuiltIn);
}

#[test]
fn ram_malloc_from_files() {
    main_job(Site::new(), Bdev::Malloc, Plugins::Files);
}

#[test]
fn ram_kdev_built_in() {
    on_kdev("ram_kdev_built_in", Plugins::BuiltIn);
}

#[test]
fn ram_kdev_from_files() {
    on_kdev("ram_kdev_from_files", Plugins::Files);
}

#[test]
fn ram_file_built_in_without_privileges() {
    on_file(User::Unprivileged, Plugins::BuiltIn);
}

#[test]
fn ram_file_from_files_without_privileges() {
    on_file(User::Unprivileged, Plugins::Files);
}

#[test]
fn ram_malloc_built_in_without_privileges() {
    main_job(Site::of(User::Unprivileged), Bdev::Malloc, Plugins::BuiltIn);
}
