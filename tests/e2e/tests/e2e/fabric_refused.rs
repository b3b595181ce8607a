//! A provider of libfabric whose plugin is missing, refused or in quarantine: nothing stands in for it, and server,
//! engine and client say what is wrong with the plugin and what mends it.

use crate::data::Objects;
use daos_e2e::{Bdev, Finished, Site, not_run};
use daos_loader::{PluginFile, Policy, StateDir};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

fn plugin(site: &Site) -> PathBuf {
    site.path("plugins/libdaos_fabric_ofi.so")
}

fn set_mode(site: &Site, mode: u32) {
    fs::set_permissions(plugin(site), fs::Permissions::from_mode(mode)).expect("our file");
}

#[track_caller]
fn assert_says(done: &Finished, words: &[&str]) {
    let text = done.text();
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in {done}");
    }
}

/// A server that does not start, and a check of the configuration that says the same.
#[track_caller]
fn assert_refused(site: &Site, words: &[&str]) {
    let path = site.write_config().display().to_string();
    for command in [&["start", "-i"][..], &["config", "check", &path]] {
        let args = [&["--config", &path][..], command].concat();
        assert_says(&site.run("daos_server", &args).expect(1), words);
    }
    assert!(!site.scm(0).join("superblock").exists());
}

#[test]
fn servers_and_clients_say_what_is_wrong_with_the_plugin() {
    let test = "servers_and_clients_say_what_is_wrong_with_the_plugin";
    let mut site = Site::new();
    if let Err(why) = site.use_ofi("ofi+tcp") {
        return not_run(test, &why);
    }
    site.add_engine(Bdev::File(site.path("bdev0")), 1);

    let away = site.path("away.so");
    fs::rename(plugin(&site), &away).expect("our file");
    let missing = ["ofi+tcp", "libdaos_fabric_ofi.so", "available: ", "tcp"];
    assert_refused(&site, &missing);
    fs::rename(&away, plugin(&site)).expect("our file");

    set_mode(&site, 0o646);
    let chmod = format!("chmod o-w {}", plugin(&site).display());
    let refused = ["ofi+tcp", "is writable by everybody", &chmod];
    assert_refused(&site, &refused);
    set_mode(&site, 0o644);

    let state = StateDir::open(site.path("state")).expect("our directory");
    let info = PluginFile::inspect(&plugin(&site), &Policy::default()).expect("our plugin");
    state
        .quarantine_add(&info, "killed its process by SIGSEGV while loading")
        .expect("our directory");
    let reset = "plugin reset fabric-ofi";
    assert_refused(&site, &["ofi+tcp", "quarantined", "SIGSEGV", reset]);
    let config = site.write_config().display().to_string();
    site.run(
        "daos_server",
        &["--config", &config, "plugin", "reset", "fabric-ofi"],
    )
    .expect(0);

    // Mended, it works; a client whose plugin is refused is told in the same words.
    let mut server = site.start();
    server.make_ready();
    let objects = Objects::put(&site);
    let log = server.log();
    assert!(log.contains("the provider is plugin fabric-ofi"), "{log}");
    let other = site.make_dir("other");
    let copy = other.join("libdaos_fabric_ofi.so");
    fs::copy(plugin(&site), &copy).expect("our files");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o646)).expect("our file");
    let (address, other) = (site.address(), other.display().to_string());
    let args = ["--access-point", &address, "--plugins-dir", &other, "bench"];
    let told = site.run("daos", &args).expect(1);
    let chmod = format!("chmod o-w {}", copy.display());
    assert_says(&told, &["ofi+tcp", "is writable by everybody", &chmod]);
    objects.check(&site);
    server.stop();
}
