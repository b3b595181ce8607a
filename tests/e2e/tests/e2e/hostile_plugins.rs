//! A plugin that misbehaves in a control call is named with the operation and how it failed; the others'
//! devices are there, and engines go on serving.

use crate::data;
use daos_e2e::{Finished, Site};
use fixture_files::{HOSTILE, install};

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
