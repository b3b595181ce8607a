//! A wrong configuration is one clear error with its place; nothing is started, nothing is touched.

use crate::traces::snapshot;
use daos_e2e::{Bdev, Site};

/// A configuration that is right but for one thing.
struct Wrong {
    name: &'static str,
    /// Makes the right text wrong.
    change: fn(&str) -> String,
    /// Where the error must be: the last occurrence of this in the wrong text.
    at: &'static str,
    /// Words that the error must have.
    says: &'static [&'static str],
}

fn add(text: &str, line: &str) -> String {
    format!("{line}\n{text}")
}

fn swap(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in {text}");
    text.replacen(from, to, 1)
}

const TABLE: &[Wrong] = &[
    Wrong {
        name: "a number of the wrong type",
        change: |t| swap(t, "targets: 2", "targets: two"),
        at: "two",
        says: &["targets"],
    },
    Wrong {
        name: "a number out of range",
        change: |t| swap(t, "targets: 2", "targets: 5000"),
        at: "5000",
        says: &["targets", "1024"],
    },
    Wrong {
        name: "an unknown key",
        change: |t| add(t, "socket_dri: /tmp"),
        at: "socket_dri",
        says: &["socket_dri", "did you mean \"socket_dir\"?"],
    },
    Wrong {
        name: "an unknown key of an engine",
        change: |t| swap(t, "  nr_xs_helpers: 0", "  nr_xs_helper: 0"),
        at: "nr_xs_helper: ",
        says: &["nr_xs_helper", "did you mean \"nr_xs_helpers\"?"],
    },
    Wrong {
        name: "a key given twice",
        change: |t| format!("{t}name: other\n"),
        at: "name: other",
        says: &["name"],
    },
    Wrong {
        name: "a class that no plugin declares",
        change: |t| swap(t, "bdev_class: file", "bdev_class: floppy"),
        at: "floppy",
        says: &["floppy", "file", "kdev", "malloc"],
    },
    Wrong {
        name: "a key that breaks the plugin's schema",
        change: |t| swap(t, "bdev_size_mib: 512", "bdev_size_mib: much"),
        at: "much",
        says: &["bdev_size_mib"],
    },
    Wrong {
        name: "two engines on one mount",
        change: |t| swap(t, "/scm1'", "/scm0'"),
        at: "scm0'",
        says: &["scm0", "servers[0].scm_mount", "servers[1].scm_mount"],
    },
    Wrong {
        name: "two engines on one device",
        change: |t| swap(t, "/bdev1'", "/bdev0'"),
        at: "bdev0'",
        says: &[
            "bdev0",
            "servers[0].bdev_list[0]",
            "servers[1].bdev_list[0]",
        ],
    },
    Wrong {
        name: "a text that is no YAML",
        change: |t| swap(t, "servers:", "servers: ["),
        at: "",
        says: &[],
    },
];

fn site() -> Site {
    let site = Site::new();
    for name in ["bdev0", "bdev1"] {
        let bdev = Bdev::File(site.path(name));
        site.add_engine(bdev, 2);
    }
    site
}

#[test]
fn one_error_with_its_place_and_nothing_touched() {
    let site = site();
    site.write_config();
    site.run("daos_server", &["config", "check", "daos_server.yml"])
        .expect(0);
    for wrong in TABLE {
        let text = (wrong.change)(&site.config_text());
        let file = site.write_text(&text);
        let before = snapshot(&[site.dir(), site.memory_dir()]);

        let start = site
            .run("daos_server", &["-o", "daos_server.yml", "start", "-i"])
            .expect(1);
        assert_eq!(
            before,
            snapshot(&[site.dir(), site.memory_dir()]),
            "{}: something was touched",
            wrong.name
        );
        assert_eq!(start.stdout, "", "{}", wrong.name);
        for word in wrong.says {
            assert!(
                start.stderr.contains(word),
                "{}: {word:?} is missing in {start}",
                wrong.name
            );
        }

        let check = site
            .run(
                "daos_server",
                &["--json", "config", "check", "daos_server.yml"],
            )
            .expect(1)
            .json();
        assert_ne!(check["status"], 0, "{check:#}");
        assert!(check["error"].is_string(), "{check:#}");
        let findings = check["response"]["findings"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let errors: Vec<_> = findings
            .iter()
            .filter(|f| f["severity"] == "error")
            .collect();
        assert_eq!(errors.len(), 1, "{}: {check:#}", wrong.name);
        let (line, column) = (&errors[0]["line"], &errors[0]["column"]);
        if !wrong.at.is_empty() {
            assert_eq!(
                (line.as_u64(), column.as_u64()),
                place(&text, wrong),
                "{}: {check:#}",
                wrong.name
            );
        }
        let shown = format!("daos_server.yml:{line}:{column}");
        assert!(
            start.stderr.contains(&shown),
            "{}: {shown} is missing in {start}",
            wrong.name
        );
        std::fs::remove_file(file).expect("our file");
    }
}

/// Line and column of the error, from 1; of the value that holds the mark when it is quoted.
fn place(text: &str, wrong: &Wrong) -> (Option<u64>, Option<u64>) {
    let mark = text.rfind(wrong.at).expect("the mark is in the text");
    let line_start = text[..mark].rfind('\n').map_or(0, |at| at + 1);
    let quoted = wrong.at.ends_with('\'');
    let start = if quoted {
        line_start + text[line_start..mark].find('\'').expect("an opening quote")
    } else {
        mark
    };
    let line = text[..start].matches('\n').count() + 1;
    let column = text[line_start..start].chars().count() + 1;
    (Some(line as u64), Some(column as u64))
}

#[test]
fn a_plugins_dir_that_is_not_there_is_named() {
    let mut site = site();
    let missing = site.path("no-such-dir");
    site.add_config(&format!("plugins_dir: '{}'\n", missing.display()));
    site.write_config();
    let before = snapshot(&[site.dir()]);
    let start = site
        .run("daos_server", &["-o", "daos_server.yml", "start", "-i"])
        .expect(1);
    assert!(start.stderr.contains("no-such-dir"), "{start}");
    assert_eq!(before, snapshot(&[site.dir()]));
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let site = site();
    let start = site
        .run("daos_server", &["-o", "none.yml", "start", "-i"])
        .expect(1);
    assert!(start.stderr.contains("none.yml"), "{start}");
}
