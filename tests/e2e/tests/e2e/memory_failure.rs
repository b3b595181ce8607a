//! Memory that cannot be accessed any more: the engine that dies of it says where, and is not started again and again.

use daos_e2e::{Finished, Site, eventually};
use std::fs::{self, OpenOptions};

fn put(site: &Site, key: &str) -> Finished {
    let file = site.path("tmp").join("value");
    fs::write(&file, [7; 3000]).expect("our directory");
    let file = file.display().to_string();
    let put = [
        "object", "put", "--pool", "tank", "--cont", "values", "0.1", key, "a", "--file", &file,
    ];
    site.daos(&put)
}

#[test]
fn an_engine_that_dies_of_its_memory_says_where_and_stays_down_until_a_format() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    site.ensure_pool();
    site.daos(&["container", "create", "--pool", "tank", "values"])
        .expect(0);
    // Past the first page of the log.
    for key in ["a", "b", "c", "d"] {
        put(&site, key).expect(0);
    }
    let region = site.scm(0).join("regions/target-0.log");
    let log = OpenOptions::new()
        .write(true)
        .open(&region)
        .expect("the log of the target");
    let mut pid = server.engine_pid(0);
    // What is cut off cannot be accessed, as a bad block cannot. An engine that notices before it stores anything stops
    // its target instead; its log is whole then but for what is cut.
    let whole = log.metadata().expect("a file").len();
    let state = eventually("an engine that died of its memory", || {
        log.set_len(4096).expect("cut");
        let _ = put(&site, "e");
        let died = server.wait_state("the end of the engine", |s| {
            s["engines"][0]["state"] == "errored" || s["engines"][0]["pid"] != pid
        });
        if died["engines"][0]["state"] == "errored" {
            return Some(died);
        }
        log.set_len(whole).expect("mended");
        server.wait_state("another try", |s| s["engines"][0]["state"] == "ready");
        pid = server.engine_pid(0);
        None
    });
    let engine = &state["engines"][0];
    let reason = engine["reason"].as_str().unwrap_or_default();
    let path = region.display().to_string();
    for word in ["SIGBUS at 0x", "of the region", &path] {
        assert!(reason.contains(word), "{word} in {state:#}");
    }
    assert!(
        engine["hint"]
            .as_str()
            .unwrap_or_default()
            .contains("format"),
        "{state:#}"
    );
    // It is not started again by itself, and nobody else starts on that region either.
    site.shell(&["system", "start"]);
    let state = server.wait_state("a mismatch", |s| {
        s["engines"][0]["state"] == "storage-mismatch"
    });
    let reason = state["engines"][0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("marked as failed: SIGBUS"), "{state:#}");
    // What is open keeps its file system mounted.
    drop(log);
    server.format(&["--reformat"]).expect(0);
    server.wait_phase("ready");
    server.stop();
}
