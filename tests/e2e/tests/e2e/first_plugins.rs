//! What `plugin new` writes, built as its README says and copied into the plugin directory, serves in an engine.

use crate::data::{Objects, bench};
use daos_e2e::{Bdev, Site};
use std::path::Path;
use std::process::{Command, Output};

/// In which language a plugin is written.
#[derive(Clone, Copy)]
enum Language {
    C,
    Rust,
}

/// Writes the plugin, builds it and puts it where the server looks.
fn build_into(site: &Site, name: &str, language: Language) {
    let place = match language {
        Language::C => site.path("tmp").join(name),
        // The same for each run: cargo keeps what it has built by the place.
        Language::Rust => scratch().join(name),
    };
    let _ = std::fs::remove_dir_all(&place);
    let shown = place.display().to_string();
    let options: &[&str] = match language {
        Language::C => &["--c"],
        Language::Rust => &[],
    };
    let new = [&["plugin", "new"], options, &[name, &shown]].concat();
    site.run("daos_server", &new).expect(0);
    let file = format!("lib{}.so", name.replace('-', "_"));
    let built = match language {
        Language::C => {
            let made = Command::new("make").arg("-C").arg(&place).output();
            must_succeed(made.expect("make runs"));
            place.join(&file)
        }
        Language::Rust => cargo_build(&place).join(&file),
    };
    std::fs::copy(built, site.path("plugins").join(&file)).expect("a built plugin");
}

fn scratch() -> &'static Path {
    Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/first-plugins"))
}

fn must_succeed(made: Output) {
    assert!(made.status.success(), "{made:?}");
}

/// Builds with the dependencies that this repository is locked to, which are built once for all; returns where the result is.
fn cargo_build(place: &Path) -> std::path::PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::copy(root.join("Cargo.lock"), place.join("Cargo.lock")).expect("the lock file");
    let target = scratch().join("target");
    // A result of its own for each, as they have different names.
    let made = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--offline"])
        .current_dir(place)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_INCREMENTAL", "0")
        .output();
    must_succeed(made.expect("cargo runs"));
    target.join("debug")
}

/// A site of one engine whose configuration has `to` instead of `from`.
fn serves(name: &str, language: Language, from: &str, to: &str) {
    let mut site = Site::new();
    site.use_plugins_dir();
    let bdev = match name.starts_with("bdev") {
        true => Bdev::Malloc,
        false => Bdev::File(site.path("bdev0")),
    };
    site.add_engine(bdev, 2);
    build_into(&site, name, language);
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

/// Server, engine and clients are processes of their own: a fabric that stays inside one is none.
fn takes_clients_to_an_engine(language: Language) {
    let mut site = Site::new();
    site.use_plugins_dir();
    site.use_own_provider("acme");
    site.add_engine(Bdev::File(site.path("bdev0")), 2);
    build_into(&site, "fabric-acme", language);
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

#[test]
fn a_first_block_device_in_c_holds_data() {
    let (from, to) = ("bdev_class: malloc", "bdev_class: acme");
    serves("bdev-acme", Language::C, from, to);
}

#[test]
fn a_first_block_device_in_rust_holds_data() {
    let (from, to) = ("bdev_class: malloc", "bdev_class: acme");
    serves("bdev-acme", Language::Rust, from, to);
}

#[test]
fn a_first_storage_class_memory_in_c_holds_logs_and_indexes() {
    let (from, to) = ("scm_class: ram", "scm_class: acme");
    serves("scm-acme", Language::C, from, to);
}

#[test]
fn a_first_storage_class_memory_in_rust_holds_logs_and_indexes() {
    let (from, to) = ("scm_class: ram", "scm_class: acme");
    serves("scm-acme", Language::Rust, from, to);
}

#[test]
fn a_first_fabric_in_c_takes_clients_to_an_engine() {
    takes_clients_to_an_engine(Language::C);
}

#[test]
fn a_first_fabric_in_rust_takes_clients_to_an_engine() {
    takes_clients_to_an_engine(Language::Rust);
}
