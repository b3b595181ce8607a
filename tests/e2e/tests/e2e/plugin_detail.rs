//! `plugin inspect` and `plugin reset`: what is known of a plugin, and its way out of quarantine.

use daos_e2e::Site;
use fixture_files::{HOSTILE, install};
use serde_json::Value;

/// The only host's part of an answer.
pub(crate) fn answer(document: &Value) -> &Value {
    let hosts = document["response"]["hosts"].as_object();
    let (_, part) = hosts.and_then(|h| h.iter().next()).expect("a host");
    part
}

fn inspect(site: &Site) -> Value {
    let done = site.shell(&["--json", "plugin", "inspect", "fixture-hostile"]);
    answer(&done.expect(0).json()).clone()
}

#[test]
fn a_plugin_in_quarantine_is_shown_with_its_history_and_let_out() {
    let mut site = Site::with_file();
    site.use_plugin_files();
    let file = install(HOSTILE, &site.path("plugins"), "hostile.so");
    let when = site.path("tmp").join("bad");
    site.add_config(&format!(
        "plugins:\n  bdev-file: {{}}\n  fabric-tcp: {{}}\n  scm-ram: {{}}\n  fixture-hostile:\n    settings: \
         {{on: {{scan: segfault}}, when: '{}'}}\n",
        when.display()
    ));
    let mut server = site.start();
    server.make_ready();
    site.shell(&["storage", "scan"]).expect(0);
    let well = inspect(&site);
    assert_eq!(well["state"], "usable", "{well:#}");
    assert_eq!(well["manifest"]["classes"][0]["name"], "hostile");
    assert_eq!(well["paths"][0]["path"], file.display().to_string());
    assert!(well["paths"].as_array().map_or(0, Vec::len) > 1, "{well:#}");
    let pulled = well["dependencies"].as_array().expect("a list");
    let libc = pulled.iter().find(|d| d["name"] == "libc.so.6");
    assert_eq!(libc.expect("every program's")["kind"], "system", "{well:#}");
    assert_eq!(well["log_level"], "INFO");
    assert_eq!(well["helper"]["deaths"], 0);
    assert_eq!(well["metrics"][0]["process"], "helper");
    let used = site.shell(&["--json", "plugin", "inspect", "bdev-file"]);
    let used = used.expect(0).json();
    assert_eq!(answer(&used)["uses"][0]["engine"], 0, "{used:#}");
    // It has nothing to mount, which is an answer.
    let memory = site.shell(&["--json", "plugin", "inspect", "scm-ram"]);
    let memory = answer(&memory.expect(0).json())["helper"].clone();
    assert!(memory["calls"].as_u64() > Some(0), "{memory:#}");
    assert_eq!(memory["failures"], 0, "{memory:#}");

    std::fs::write(&when, "").expect("our directory");
    site.shell(&["storage", "scan"]).expect(1);
    let ill = inspect(&site);
    assert_eq!(ill["state"], "quarantined", "{ill:#}");
    assert!(ill["since_ms"].as_u64() > Some(0));
    assert_eq!(ill["helper"]["deaths"], 1);
    let incident = &ill["incidents"][0];
    assert_eq!(incident["process"], "helper");
    for word in ["scan", "SIGSEGV", "0.6.6"] {
        assert!(incident["what"].to_string().contains(word), "{ill:#}");
    }
    assert!(
        incident["log"].to_string().contains("about to write"),
        "{ill:#}"
    );
    let shown = site
        .shell(&["plugin", "inspect", "fixture-hostile"])
        .expect(0);
    assert!(shown.text().contains("plugin reset"), "{shown}");

    // Also when the server has never seen it well.
    server.stop();
    std::fs::remove_file(&when).expect("our file");
    let mut server = site.start();
    server.wait_phase("ready");
    let later = inspect(&site);
    assert_eq!(later["state"], "quarantined");
    assert_eq!(later["incidents"], ill["incidents"], "the history is kept");
    let local = site.run(
        "daos_server",
        &[
            "-o",
            "daos_server.yml",
            "plugin",
            "inspect",
            "fixture-hostile",
        ],
    );
    let local = local.expect(1).text();
    assert!(local.contains("quarantined") && local.contains("SIGSEGV"));
    let reset = site
        .shell(&["plugin", "reset", "fixture-hostile"])
        .expect(0);
    assert!(reset.text().contains("1 file(s)"), "{reset}");
    assert_eq!(inspect(&site)["state"], "usable");
    let scan = site.shell(&["--json", "storage", "scan"]).expect(0);
    assert!(scan.text().contains("hostile:0"), "{scan}");
    let again = site
        .shell(&["plugin", "reset", "fixture-hostile"])
        .expect(0);
    assert!(again.text().contains("no file"), "{again}");
    for command in ["inspect", "reset"] {
        let unknown = site.shell(&["plugin", command, "bdev-nothing"]).expect(1);
        assert!(
            unknown.text().contains("no plugin bdev-nothing"),
            "{unknown}"
        );
        let near = site.shell(&["plugin", command, "fixture-hostle"]).expect(1);
        assert!(
            near.text().contains("did you mean fixture-hostile?"),
            "{near}"
        );
    }
    let local = |name| ["-o", "daos_server.yml", "plugin", "reset", name];
    let unknown = site.run("daos_server", &local("fixture-hostle")).expect(1);
    for words in ["no plugin fixture-hostle", "did you mean fixture-hostile?"] {
        assert!(unknown.text().contains(words), "{unknown}");
    }
    let known = site.run("daos_server", &local("fixture-hostile")).expect(0);
    assert!(known.text().contains("no file"), "{known}");
    server.stop();
}
