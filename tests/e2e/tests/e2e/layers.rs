//! Layers over block devices, by configuration and at run time: an engine whose device fails answers with errors,
//! never with other data.

use crate::data::bench;
use daos_e2e::{Bdev, Finished, Server, Site};
use serde_json::Value;
use std::path::PathBuf;

/// Bytes of a value that lies on the block device, in several requests and not in whole blocks.
const LEN: u32 = 700_001;

fn ready(site: &Site) -> Server<'_> {
    site.add_engine(Bdev::File(site.path("bdev0")), 2);
    let mut server = site.start();
    server.make_ready();
    site.ensure_pool();
    site.daos(&["container", "create", "--pool", "tank", "faults"])
        .expect(0);
    server
}

fn set(site: &Site, layers: &str) {
    site.shell(&["storage", "layers", "set", layers]).expect(0);
}

/// The layers of the first device.
fn layers(site: &Site) -> Value {
    let answer = site
        .shell(&["storage", "layers", "list", "--json"])
        .expect(0)
        .json();
    answer["response"]["hosts"][site.address()]["engines"][0]["devices"][0]["layers"].clone()
}

/// A value that no other number has.
fn value(site: &Site, number: u32) -> PathBuf {
    let path = site.path("tmp").join(format!("value-{number}"));
    let byte = |i: u32| (i.wrapping_add(number).wrapping_mul(2_654_435_761) >> 24) as u8;
    std::fs::write(&path, (0..LEN).map(byte).collect::<Vec<u8>>()).expect("our directory");
    path
}

fn object(site: &Site, verb: &str, number: u32, file: &str) -> Finished {
    let (object, akey) = (format!("0.{number}"), "value");
    site.daos(&[
        "object", verb, "--pool", "tank", "--cont", "faults", &object, "day", akey, "--file", file,
    ])
}

fn put(site: &Site, number: u32) -> Finished {
    let file = value(site, number);
    object(site, "put", number, &file.display().to_string())
}

/// Fetches a value: whether it came. What comes is what was written.
#[track_caller]
fn get(site: &Site, number: u32) -> bool {
    let got = site.path("tmp").join("got");
    // What an earlier get left would be taken for what this one fetched.
    let _ = std::fs::remove_file(&got);
    let done = object(site, "get", number, &got.display().to_string());
    if done.code == Some(0) {
        let same = std::fs::read(&got).expect("the file")
            == std::fs::read(value(site, number)).expect("ours");
        assert!(same, "value {number} came with other bytes: {done}");
        return true;
    }
    assert!(!done.stderr.is_empty() && !got.exists(), "{done}");
    false
}

#[test]
fn layers_of_the_configuration_are_there_from_the_start() {
    let site = Site::new();
    site.add_engine(Bdev::File(site.path("bdev0")), 2);
    site.change_engine(0, |engine| {
        engine.extra +=
            "  bdev_layers:\n  - stats:\n  - delay: {rules: [{op: [write], fixed_us: 3000}]}\n";
    });
    let mut server = site.start();
    let state = server.make_ready();
    assert_eq!(
        state["engines"][0]["layers"],
        serde_json::json!(["stats", "delay"])
    );
    bench(&site);
    let stats = &layers(&site)[0]["stats"];
    let writes = stats
        .as_array()
        .expect("rows")
        .iter()
        .filter(|r| r["op"] == "write");
    let writes: Vec<_> = writes.collect();
    assert!(!writes.is_empty(), "{stats:#}");
    assert!(
        writes.iter().all(|r| r["p50_us"].as_f64() >= Some(2900.0)),
        "{stats:#}"
    );

    site.shell(&["storage", "layers", "clear"]).expect(0);
    assert_eq!(layers(&site), serde_json::json!([]));
    bench(&site);
    server.kill_engine(0);
    let again = server.wait_state("restarted", |s| {
        s["phase"] == "ready" && s["engines"][0]["restarts"] == 1
    });
    assert_eq!(
        again["engines"][0]["layers"],
        serde_json::json!(["stats", "delay"])
    );
    server.stop();
}

#[test]
fn injected_faults_end_in_errors_and_never_in_other_data() {
    let site = Site::new();
    let server = ready(&site);
    put(&site, 1).expect(0);

    // Errors: told, and gone with their cause.
    set(
        &site,
        "[{fault: {rules: [{do: error, op: [read], status: media}]}}]",
    );
    assert!(!get(&site, 1), "a read error came as data");
    set(&site, "[{fault: {rules: [{do: error, op: [write]}]}}]");
    put(&site, 2).expect(1);
    set(&site, "[{fault: {seed: 3, rules: [{do: flip}]}}]");
    assert!(!get(&site, 1), "a flipped bit came as data");
    assert!(layers(&site)[0]["rules"][0]["fired"].as_u64() >= Some(1));
    set(&site, "[]");
    assert!(get(&site, 1), "what was read wrongly is well on the device");
    assert!(!get(&site, 2), "a refused value is not there");

    // A device that lies about writes: they are acknowledged, and their loss is noticed.
    let lies = [
        "[{fault: {rules: [{do: torn}]}}]",
        "[{fault: {rules: [{do: drop}]}}]",
        "[{fault: {rules: [{do: flip, op: [write]}]}}]",
    ];
    for (number, lie) in (10..).zip(lies) {
        set(&site, lie);
        put(&site, number).expect(0);
        site.shell(&["storage", "layers", "clear"]).expect(0);
        assert!(!get(&site, number), "{lie} was not noticed");
    }
    // Some faults, many values: whatever comes is right.
    set(
        &site,
        "[{stats: }, {fault: {seed: 9, rules: [{do: flip, probability: 0.2}, {do: error, probability: 0.2}]}}]",
    );
    let told: Vec<_> = (20..28)
        .filter(|n| put(&site, *n).code == Some(0))
        .collect();
    for number in told {
        get(&site, number);
    }
    let query = site.shell(&["system", "query"]).expect(0);
    assert!(query.stdout.contains("FAULTS ARE INJECTED"), "{query}");
    assert!(server.log().contains("FAULTS ARE INJECTED"));
    set(&site, "[]");
    assert!(get(&site, 1));
    server.stop();
}

#[test]
fn a_device_that_is_removed_at_will_is_told_and_comes_back_with_its_engine() {
    let site = Site::new();
    let mut server = ready(&site);
    put(&site, 1).expect(0);
    set(&site, "[{fault: {rules: [{do: remove, op: [write]}]}}]");
    put(&site, 2).expect(1);
    assert!(!get(&site, 1), "data came from a device that is gone");
    server.kill_engine(0);
    server.wait_state("restarted", |s| {
        s["phase"] == "ready" && s["engines"][0]["restarts"] == 1
    });
    assert_eq!(
        layers(&site),
        serde_json::json!([]),
        "layers of the run time end with the engine"
    );
    assert!(get(&site, 1), "what was acknowledged is there");
    put(&site, 2).expect(0);
    server.stop();
}

#[test]
fn wrong_layers_are_refused_before_anything_is_changed() {
    let site = Site::new();
    let server = ready(&site);
    let wrong = site
        .shell(&["storage", "layers", "set", "[{fautl: {}}]"])
        .expect(1);
    assert!(wrong.stderr.contains("fautl"), "{wrong}");
    let wrong = site
        .shell(&["storage", "layers", "set", "-r", "7", "[{stats: {}}]"])
        .expect(1);
    assert!(wrong.stderr.contains("rank 7"), "{wrong}");
    assert_eq!(layers(&site), serde_json::json!([]));
    server.stop();
}

#[test]
fn a_change_that_fails_leaves_the_layers_that_are_listed() {
    let site = Site::new();
    let server = ready(&site);
    // Longer than a change waits, shorter than the engine's patience with a device.
    set(
        &site,
        "[{delay: {rules: [{op: [write], fixed_us: 28000000}]}}]",
    );
    let before = layers(&site);
    assert_eq!(
        before[0]["spec"]["delay"]["rules"][0]["fixed_us"], 28_000_000,
        "{before:#}"
    );
    let file = value(&site, 1).display().to_string();
    let mut writer = site
        .command("daos")
        .args(site.client_args())
        .args(["object", "put", "--pool", "tank", "--cont", "faults"])
        .args(["0.1", "day", "value", "--file", &file])
        .spawn()
        .expect("daos can be started");
    // One target has a request under way then, the other has none.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let refused = site
        .shell(&["storage", "layers", "set", "[{stats: {}}]"])
        .expect(1);
    for word in ["I/O outstanding", "old layers"] {
        assert!(
            refused.text().contains(word),
            "{word:?} is missing in {refused}"
        );
    }
    assert_eq!(layers(&site), before);
    let state = site.state().expect("the server answers");
    assert_eq!(state["engines"][0]["layers"], serde_json::json!(["delay"]));
    assert!(
        writer
            .wait()
            .expect("our child can be waited for")
            .success()
    );
    assert_eq!(layers(&site), before, "nothing goes over later");
    set(&site, "[]");
    assert_eq!(layers(&site), serde_json::json!([]));
    assert!(get(&site, 1));
    server.stop();
}
