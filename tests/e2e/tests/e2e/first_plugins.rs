//! What `plugin new` writes, built with the system's compiler and copied into the plugin directory, serves in an engine.

use crate::data::{Objects, bench};
use daos_e2e::{Bdev, Site};
use std::process::Command;

/// Writes the plugin, builds it and puts it where the server looks.
fn build_into(site: &Site, name: &str) {
    let place = site.path("tmp").join(name);
    let shown = place.display().to_string();
    let new = ["plugin", "new", "--c", name, &shown];
    site.run("daos_server", &new).expect(0);
    let made = Command::new("make").arg("-C").arg(&place).output();
    let made = made.expect("make runs");
    assert!(made.status.success(), "{made:?}");
    let file = format!("lib{}.so", name.replace('-', "_"));
    let installed = site.path("plugins").join(&file);
    std::fs::copy(place.join(&file), installed).expect("a built plugin");
}

/// A site of one engine whose configuration has `to` instead of `from`.
fn serves(name: &str, from: &str, to: &str) {
    let mut site = Site::new();
    site.use_plugins_dir();
    let bdev = match name.starts_with("bdev") {
        true => Bdev::Malloc,
        false => Bdev::File(site.path("bdev0")),
    };
    site.add_engine(bdev, 2);
    build_into(&site, name);
    let text = site.config_text();
    assert!(text.contains(from), "{text}");
    site.write_text(&text.replacen(from, to, 1));
    let mut server = site.start_with(&["-o", "daos_server.yml", "start", "-i"]);
    server.wait_state("to be formatted", |s| s["phase"] == "maintenance");
    server.make_ready();
    let objects = Objects::put(&site);
    objects.check(&site);
    // Memory of the process would be gone with it.
    if !name.starts_with("bdev") {
        server.kill_engine(0);
        server.wait_state("served again", |s| s["phase"] == "ready");
        objects.check(&site);
    }
    server.stop();
}

#[test]
fn a_first_block_device_holds_data() {
    serves("bdev-acme", "bdev_class: malloc", "bdev_class: acme");
}

#[test]
fn a_first_storage_class_memory_holds_logs_and_indexes() {
    serves("scm-acme", "scm_class: ram", "scm_class: acme");
}

/// Server, engine and clients are processes of their own: a fabric that stays inside one is none.
#[test]
fn a_first_fabric_takes_clients_to_an_engine() {
    let mut site = Site::new();
    site.use_plugins_dir();
    site.use_own_provider("acme");
    site.add_engine(Bdev::File(site.path("bdev0")), 2);
    build_into(&site, "fabric-acme");
    site.write_config();
    let mut server = site.start_with(&["-o", "daos_server.yml", "start", "-i"]);
    server.wait_state("to be formatted", |s| s["phase"] == "maintenance");
    server.make_ready();
    let state = site.state().expect("the server answers");
    let uri = state["engines"][0]["uri"].as_str().unwrap_or_default();
    assert!(uri.starts_with("acme"), "{state:#}");
    let objects = Objects::put(&site);
    objects.check(&site);
    bench(&site);
    server.kill_engine(0);
    server.wait_state("served again", |s| s["phase"] == "ready");
    objects.check(&site);
    server.stop();
}
