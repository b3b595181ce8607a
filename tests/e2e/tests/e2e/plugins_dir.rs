//! What does not belong into the plugin directory is refused by name, each file with its reason; the
//! others load and serve.

use crate::data;
use daos_e2e::{Bdev, Finished, Site};
use fixture_files::{
    HOSTILE, RAW, chmod, install, patch_machine, patch_major, put, replace, truncate,
};
use serde_json::Value;
use std::path::Path;

/// Machine numbers of ELF: RISC-V, which no test machine is by accident while it claims another.
const OTHER_MACHINE: u16 = if cfg!(target_arch = "riscv64") {
    62
} else {
    243
};

/// Bad files and what must be said about each.
fn put_bad_files(dir: &Path) -> Vec<(&'static str, &'static [&'static str])> {
    put(dir, "notes.so", b"#!/bin/sh\nexit 0\n");
    truncate(&install(HOSTILE, dir, "cut.so"), 50);
    patch_machine(&install(HOSTILE, dir, "machine.so"), OTHER_MACHINE);
    let bare = install(HOSTILE, dir, "bare.so");
    let note = [&0x504c_5547u32.to_ne_bytes()[..], b"DAOS\0\0\0\0"].concat();
    let other = [&0x504c_5547u32.to_ne_bytes()[..], b"SOAD\0\0\0\0"].concat();
    replace(&bare, &note, &other);
    patch_major(&install(HOSTILE, dir, "newer.so"), 2);
    chmod(&install(RAW, dir, "open.so"), 0o666);
    vec![
        ("notes.so", &["not an ELF file"]),
        ("cut.so", &["truncated"]),
        ("machine.so", &["built for", "this machine"]),
        ("bare.so", &["no plugin manifest"]),
        ("newer.so", &["fixture-hostile", "interface 2.", "1."]),
        ("open.so", &["0666", "writable by everybody"]),
    ]
}

#[track_caller]
fn assert_refused(plugins: &[Value], file: &str, words: &[&str]) {
    let row = plugins.iter().find(|p| p["name"] == file);
    let row = row.unwrap_or_else(|| panic!("{file} is not listed in {plugins:#?}"));
    assert_eq!(row["state"], "refused", "{row:#}");
    let told = row["fault"].to_string();
    for word in words {
        assert!(told.contains(word), "{word:?} is missing in {row:#}");
    }
    assert_ne!(row["fault"]["remedy"], "", "{row:#}");
}

fn rows(document: &Value) -> Vec<Value> {
    document["plugins"].as_array().cloned().unwrap_or_default()
}

#[test]
fn bad_files_are_refused_by_name_and_the_others_serve() {
    let mut site = Site::with_file();
    site.use_plugin_files();
    let bad = put_bad_files(&site.path("plugins"));
    site.write_config();

    let list = |args: &[&str]| -> Finished { site.run("daos_server", args).expect(0) };
    let text = list(&["-o", "daos_server.yml", "plugin", "list"]).stdout;
    let json = list(&["-o", "daos_server.yml", "plugin", "list", "--json"]).json();
    let found = rows(&json["response"]);
    for (file, words) in &bad {
        assert_refused(&found, file, words);
        for word in [file].into_iter().chain(*words) {
            assert!(text.contains(word), "{word:?} is missing in {text}");
        }
        let path = site.path("plugins").join(file).display().to_string();
        let inspected = site
            .run(
                "daos_server",
                &[
                    "-o",
                    "daos_server.yml",
                    "plugin",
                    "inspect",
                    &path,
                    "--json",
                ],
            )
            .expect(1)
            .json();
        let error = inspected["error"].as_str().unwrap_or("");
        assert!(error.contains(file), "{inspected:#}");
        for word in *words {
            assert!(error.contains(word), "{word:?} is missing in {inspected:#}");
        }
    }
    for name in [
        "bdev-file",
        "fabric-tcp",
        "scm-ram",
        "bdev-malloc",
        "bdev-kdev",
    ] {
        let row = found.iter().find(|p| p["name"] == name);
        let row = row.unwrap_or_else(|| panic!("{name} is not listed in {json:#}"));
        assert_eq!(
            (&row["state"], &row["builtin"]),
            (&"usable".into(), &false.into())
        );
    }

    let mut server = site.start();
    server.make_ready();
    let served = site.shell(&["--json", "plugin", "list"]).expect(0).json();
    let served = rows(&served["response"]["hosts"][site.address()]);
    for (file, words) in &bad {
        assert_refused(&served, file, words);
    }
    data::bench(&site);
    server.stop();
}

#[test]
fn files_below_a_directory_that_others_may_write_to_are_refused() {
    let mut site = Site::with_file();
    let open = site.make_dir("open");
    let dir = site.make_dir("open/plugins");
    daos_e2e::Programs::built().install_plugins(&dir);
    chmod(&open, 0o777);
    site.add_config(&format!("plugins_dir: '{}'\n", dir.display()));
    site.write_config();
    let json = site
        .run(
            "daos_server",
            &["-o", "daos_server.yml", "plugin", "list", "--json"],
        )
        .expect(0)
        .json();
    let found = rows(&json["response"]);
    let way = open.display().to_string();
    for file in daos_e2e::PLUGIN_FILES {
        assert_refused(&found, file, &[&way, "0777", "chmod"]);
    }
    // The built-in ones are as good as ever.
    let mut server = site.start();
    server.make_ready();
    server.stop();
}

/// A vendor's class need not have `bdev_list` or `bdev_number`: devices come from whatever keys it has.
#[test]
fn a_class_without_a_list_of_devices_has_some_all_the_same() {
    let site = Site::new();
    site.add_engine(Bdev::Malloc, 1);
    let text = site.config_text();
    assert!(text.contains("  bdev_number: 1\n"), "{text}");
    site.write_text(&text.replace("  bdev_number: 1\n", ""));
    let mut server = site.start_with(&["-o", "daos_server.yml", "start", "-i"]);
    server.make_ready();
    data::bench(&site);
    server.stop();
}
