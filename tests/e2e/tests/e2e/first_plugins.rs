//! What `plugin new` writes, built as its README says and copied into the plugin directory, serves in an engine.

use crate::data::{Objects, bench};
use daos_e2e::{Bdev, Site, finish};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a build may take; the first one builds what all depend on.
const BUILD: Duration = Duration::from_secs(900);

/// In which language a plugin is written.
#[derive(Clone, Copy)]
enum Language {
    C,
    Rust,
}

/// Where Rust plugins are written and built. It is the same for every run, since cargo keeps what it has built by the place;
/// one run has it at a time, whatever profile its programs are of.
struct Workshop {
    place: PathBuf,
    target: PathBuf,
    /// Ends with this process, too.
    _lock: File,
}

impl Workshop {
    fn enter(name: &str) -> Self {
        let dir = Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/first-plugins"));
        fs::create_dir_all(dir).expect("cargo's directory");
        let lock = File::create(dir.join("lock")).expect("a directory of ours");
        lock.lock().expect("a lock");
        let place = dir.join(name);
        // A run that was killed leaves it.
        let _ = fs::remove_dir_all(&place);
        Self {
            place,
            target: dir.join("target"),
            _lock: lock,
        }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // It may not have been made.
        let _ = fs::remove_dir_all(&self.place);
    }
}

/// Writes the plugin, builds it and puts it where the server looks.
fn build_into(site: &Site, name: &str, language: Language) {
    let file = format!("lib{}.so", name.replace('-', "_"));
    let installed = site.path("plugins").join(&file);
    let write = |options: &[&str], place: &Path| {
        let shown = place.display().to_string();
        let new = [&["plugin", "new"], options, &[name, &shown]].concat();
        site.run("daos_server", &new).expect(0);
    };
    let built = match language {
        Language::C => {
            let place = site.path("tmp").join(name);
            write(&["--c"], &place);
            let mut make = Command::new("make");
            make.arg("-C").arg(&place);
            finish(make, BUILD).expect(0);
            fs::copy(place.join(&file), installed)
        }
        Language::Rust => {
            let workshop = Workshop::enter(name);
            write(&[], &workshop.place);
            fs::copy(cargo_build(&workshop).join(&file), installed)
        }
    };
    built.expect("a built plugin");
}

/// Builds with the dependencies that this repository is locked to, which are built once for all; returns where the result is.
fn cargo_build(workshop: &Workshop) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let lock = workshop.place.join("Cargo.lock");
    fs::copy(root.join("Cargo.lock"), lock).expect("the lock file");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(["build", "--quiet", "--offline"])
        .current_dir(&workshop.place)
        .env("CARGO_TARGET_DIR", &workshop.target)
        .env("CARGO_INCREMENTAL", "0");
    finish(cargo, BUILD).expect(0);
    workshop.target.join("debug")
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
