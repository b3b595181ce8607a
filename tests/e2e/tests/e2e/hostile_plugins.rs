//! A plugin that misbehaves in a control call is named with the operation and how it failed; the others'
//! devices are there, and engines go on serving.

use crate::data;
use daos_e2e::{Finished, Site};
use fixture_files::{HOSTILE, install};
use serde_json::Value;

fn site(behaviour: &str) -> Site {
    let mut site = Site::with_file();
    site.use_plugin_files();
    install(HOSTILE, &site.path("plugins"), "hostile.so");
    site.add_config(&format!(
        "plugins:\n  bdev-file: {{}}\n  fabric-tcp: {{}}\n  scm-ram: {{}}\n  fixture-hostile:\n    settings: \
         {{on: {{scan: {behaviour}}}}}\n"
    ));
    site
}

#[track_caller]
fn assert_named(scan: &Finished, words: &[&str]) {
    for word in ["fixture-hostile", "scan"].iter().chain(words) {
        assert!(scan.text().contains(word), "{word:?} is missing in {scan}");
    }
}

fn scan_names_it(behaviour: &str, words: &[&str]) {
    let site = site(behaviour);
    site.write_config();
    let scan = site
        .run(
            "daos_server",
            &["-o", "daos_server.yml", "--json", "storage", "scan"],
        )
        .expect(1);
    assert_named(&scan, words);
    let document = scan.json();
    assert!(
        document["error"]
            .as_str()
            .unwrap_or("")
            .contains("fixture-hostile"),
        "{scan}"
    );
    let faults = document["response"]["faults"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let names: Vec<_> = faults.keys().collect();
    assert_eq!(names, ["fixture-hostile"], "{scan}");
    let devices = document["response"]["devices"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for kind in ["scm", "fabric"] {
        assert!(
            devices.iter().any(|d| d["kind"] == kind),
            "no {kind} in {scan}"
        );
    }
}

#[test]
fn a_plugin_that_panics() {
    scan_names_it("panic", &["panic"]);
}

#[test]
fn a_plugin_that_aborts() {
    scan_names_it("abort", &["SIGABRT", "about to abort"]);
}

#[test]
fn a_plugin_that_segfaults() {
    scan_names_it("segfault", &["SIGSEGV"]);
}

#[test]
fn a_plugin_that_exits() {
    scan_names_it("'exit:3'", &["exited with code 3"]);
}

#[test]
fn a_plugin_that_never_returns() {
    scan_names_it("hang", &["did not return within"]);
}

#[test]
fn an_engine_serves_while_a_plugin_dies_beside_it() {
    let site = site("segfault");
    let mut server = site.start();
    server.make_ready();
    let pid = server.engine_pid(0);
    for _ in 0..3 {
        let scan = site.shell(&["storage", "scan"]).expect(1);
        assert_named(&scan, &["SIGSEGV"]);
    }
    data::bench(&site);
    assert_eq!(server.engine_pid(0), pid);
    server.stop();
}

/// The row of a plugin in `plugin list`.
fn listed(site: &Site) -> Value {
    let list = site.shell(&["--json", "plugin", "list"]).expect(0).json();
    let hosts = list["response"]["hosts"].as_object().expect("hosts");
    let (_, part) = hosts.iter().next().expect("a host");
    let rows = part["plugins"].as_array().expect("plugins");
    let row = rows.iter().find(|row| row["name"] == HOSTILE);
    row.expect("the plugin").clone()
}

#[test]
fn a_plugin_that_takes_its_helper_along_while_it_is_loaded_is_in_quarantine_until_it_is_let_out() {
    let mut site = Site::with_file();
    site.use_plugin_files();
    let file = install(HOSTILE, &site.path("plugins"), "hostile.so");
    let marker = file.with_file_name("hostile.so.onload");
    let mut server = site.start();
    server.make_ready();
    for (behaviour, said) in [
        ("segfault", "SIGSEGV"),
        ("exit:0", "exited with code 0"),
        ("close-range", "closed its process's connection"),
        ("close-fds", "closed its process's connection"),
        ("replace-fds", "closed its process's connection"),
        ("write-fds", "sent nonsense"),
    ] {
        std::fs::write(&marker, behaviour).expect("our directory");
        let scan = site.shell(&["storage", "scan"]).expect(1);
        for word in [
            "fixture-hostile 0.6.6",
            "load",
            said,
            "plugin reset fixture-hostile",
        ] {
            assert!(scan.text().contains(word), "{word:?} is missing in {scan}");
        }
        std::fs::remove_file(&marker).expect("our file");
        let row = listed(&site);
        assert_eq!(row["state"], "quarantined", "{behaviour}: {row:#}");
        assert!(row["since_ms"].as_u64() > Some(0), "{row:#}");
        let fault = row["fault"].to_string();
        for word in [said, "loaded", "plugin reset"] {
            assert!(fault.contains(word), "{word:?} is missing in {row:#}");
        }
        // Not tried again, although nothing is wrong any more.
        site.shell(&["storage", "scan"]).expect(1);
        // A new build is another plugin, also for a server that has never seen it well.
        if behaviour == "replace-fds" {
            server.stop();
            server = site.start();
            server.wait_phase("ready");
            assert_eq!(listed(&site)["state"], "quarantined");
        }
        let engine = server.engine_pid(0);
        if ["close-range", "replace-fds"].contains(&behaviour) {
            install(HOSTILE, &site.path("plugins"), "hostile.so");
        } else {
            site.shell(&["plugin", "reset", HOSTILE]).expect(0);
        }
        assert_eq!(listed(&site)["state"], "usable", "{behaviour}");
        let scan = site.shell(&["--json", "storage", "scan"]).expect(0);
        assert!(scan.text().contains("hostile:0"), "{scan}");
        assert_eq!(server.engine_pid(0), engine, "{behaviour}");
        // The next round needs a new process.
        server.stop();
        server = site.start();
        server.wait_phase("ready");
    }
    server.stop();
}
