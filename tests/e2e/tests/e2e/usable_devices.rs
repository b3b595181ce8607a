//! A class of block devices without `bdev_list`: what is usable is taken at the format, and nothing else afterwards. On a
//! class of files whose scan finds what a test has put into a directory.

use crate::data::bench;
use crate::firmware::Bed;
use daos_e2e::{Server, Site};
use serde_json::{Value, json};
use std::fs::{self, File};

fn start(site: &Site) -> Server<'_> {
    site.start_with(&["-o", "daos_server.yml", "start", "-i"])
}

/// A device beside those of the bed, as if it were plugged in.
fn plug(bed: &Bed, name: &str) {
    bed.set(name, &json!({}));
    let file = File::create(bed.path(name)).expect("our directory");
    file.set_len(256 << 20).expect("a sparse file");
}

/// Replaces the line of `bdev_list`; none with an empty text.
fn list(bed: &Bed, line: &str) {
    let text = fs::read_to_string(bed.site.path("daos_server.yml")).expect("written before");
    let kept = text.lines().filter(|l| !l.trim().starts_with("bdev_list:"));
    let text: Vec<&str> = kept.collect();
    let class = "  bdev_class: fwfile\n";
    bed.site
        .write_text(&(text.join("\n") + "\n").replace(class, &format!("{class}{line}")));
}

/// Devices that the engine is told.
fn told(bed: &Bed) -> Vec<String> {
    let text = fs::read(bed.site.scm(0).join("daos_nvme.conf")).expect("a list of devices");
    let file: Value = serde_json::from_slice(&text).expect("JSON");
    let devices = file["daos_data"]["devices"].as_array().expect("devices");
    let address = |device: &Value| device["address"].as_str().expect("an address").to_owned();
    devices.iter().map(address).collect()
}

#[test]
fn what_is_usable_is_taken_once() {
    let bed = Bed::new();
    list(&bed, "");
    let (a, b, c) = (bed.path("a"), bed.path("b"), bed.path("c"));
    let mut server = bed.start();
    server.make_ready();
    assert_eq!(told(&bed), [a.clone(), b.clone()]);
    bench(&bed.site);
    server.stop();

    // What comes later is nobody's.
    plug(&bed, "c");
    let mut server = start(&bed.site);
    server.wait_phase("ready");
    bench(&bed.site);
    let refused = server.format(&["--engine", "0"]);
    assert_ne!(refused.code, Some(0), "{refused}");
    server.kill();
    let mut server = start(&bed.site);
    server.wait_phase("ready");
    assert_eq!(told(&bed), [a.clone(), b.clone()]);
    server.stop();

    // Written down it is the same; another list is another configuration.
    list(&bed, &format!("  bdev_list: ['{a}', '{b}']\n"));
    let mut server = start(&bed.site);
    server.wait_phase("ready");
    server.stop();
    list(&bed, &format!("  bdev_list: ['{a}', '{c}']\n"));
    let mut server = start(&bed.site);
    let state = server.wait_phase("maintenance");
    let reason = state["engines"][0]["reason"].as_str().unwrap_or("");
    assert!(reason.contains("bdev_list"), "{state:#}");
    server.stop();

    // A new format takes what there is then.
    list(&bed, "");
    let mut server = start(&bed.site);
    server.wait_phase("ready");
    bed.site.shell(&["system", "stop"]).expect(0);
    server.format(&["--reformat"]).expect(0);
    server.wait_phase("ready");
    assert_eq!(told(&bed), [a, b, c]);
    server.stop();
}

#[test]
fn a_device_that_is_gone_is_missed() {
    let bed = Bed::new();
    list(&bed, "");
    let mut server = bed.start();
    server.make_ready();
    server.stop();
    let away = bed.path("away");
    fs::rename(bed.path("b"), away).expect("our directory");
    let mut server = start(&bed.site);
    let state = server.wait_phase("maintenance");
    assert!(state.to_string().contains(&bed.path("b")), "{state:#}");
    server.stop();
}

#[test]
fn without_devices_or_with_two_engines_it_is_told_what_to_write() {
    let bed = Bed::new();
    list(&bed, "");
    let text = fs::read_to_string(bed.site.path("daos_server.yml")).expect("written before");
    let (top, engine) = text.split_once("servers:\n").expect("servers");
    let other = engine.replace(
        &bed.site.scm(0).display().to_string(),
        &bed.site.make_dir("scm-of-another").display().to_string(),
    );
    bed.site
        .write_text(&format!("{top}servers:\n{engine}{other}"));
    let mut server = start(&bed.site);
    server.wait_phase("maintenance");
    let refused = server.format(&[]).expect(1);
    for words in [
        "several servers take all usable devices",
        "write a bdev_list for each of the servers servers[0], servers[1]",
        &bed.path("a"),
    ] {
        assert!(refused.text().contains(words), "{words}: {refused}");
    }
    server.stop();

    bed.site.write_text(&text);
    for name in ["a", "b"] {
        fs::remove_file(format!("{}.fw.json", bed.path(name))).expect("our directory");
    }
    let mut server = start(&bed.site);
    server.wait_phase("maintenance");
    let refused = server.format(&[]).expect(1);
    for words in ["none was found", "storage prepare"] {
        assert!(refused.text().contains(words), "{words}: {refused}");
    }
    server.stop();
}

#[test]
fn nvme_format_of_what_another_controller_has_is_refused_in_the_plan() {
    let bed = Bed::new();
    // The second device: the first one is not formatted either.
    bed.set("b", &json!({"shared": true}));
    let mut server = bed.start();
    let refused = server.format(&["--nvme-format"]).expect(1);
    for words in [&bed.path("b"), "another controller has it, too"] {
        assert!(refused.text().contains(words), "{words}: {refused}");
    }
    assert!(!bed.site.scm(0).join("superblock").exists());
    let head = fs::read(bed.path("a")).expect("a device");
    assert!(
        head[..1 << 20].iter().all(|byte| *byte == 0),
        "the first device was touched"
    );
    let planned = bed
        .site
        .shell(&["storage", "format", "--dry-run", "--nvme-format"]);
    assert!(
        planned.text().contains("another controller has it, too"),
        "{planned}"
    );
    bed.set("b", &json!({}));
    server.format(&["--nvme-format"]).expect(0);
    server.wait_phase("ready");
    server.stop();
}
