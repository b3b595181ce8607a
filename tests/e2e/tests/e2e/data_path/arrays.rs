//! Arrays with the `daos` program, while their engine dies.

use daos_e2e::{Finished, Server, Site, eventually};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

const PLACE: [&str; 5] = ["--pool", "tank", "--cont", "arrays", "0.9"];

fn bytes(seed: u32, len: usize) -> Vec<u8> {
    let byte = |n: usize| ((n as u32 ^ seed).wrapping_mul(2_654_435_761) >> 23) as u8;
    (0..len).map(byte).collect()
}

#[track_caller]
fn array(site: &Site, verb: &str, akey: &str, args: &[&str]) -> Finished {
    let all = [&["array", verb][..], &PLACE, &["run7", akey], args].concat();
    site.daos(&all).expect(0)
}

#[track_caller]
fn put(site: &Site, dir: &Path, akey: &str, args: &[&str], data: &[u8]) {
    let path = dir.join("in");
    std::fs::write(&path, data).expect("our directory");
    let path = path.display().to_string();
    array(site, "put", akey, &[args, &["--file", &path]].concat());
}

#[track_caller]
fn check(site: &Site, dir: &Path, akey: &str, want: &[u8]) {
    let path: PathBuf = dir.join("out");
    array(site, "get", akey, &["--file", &path.display().to_string()]);
    let got = std::fs::read(&path).expect("our file");
    assert!(got == want, "{akey} is not what was acknowledged");
}

/// Writes a stream that takes longer than the engine lives.
fn stream(site: &Site, data: Vec<u8>) -> (Child, thread::JoinHandle<()>) {
    let mut command = site.command("daos");
    let args = [&["array", "put"][..], &PLACE, &["run7", "stream"]].concat();
    command.args(site.client_args()).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().expect("daos can be started");
    let mut input = child.stdin.take().expect("a pipe");
    let feeder = thread::spawn(move || {
        for block in data.chunks(1 << 20) {
            // A writer that ended early is found by its status.
            if input.write_all(block).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    });
    (child, feeder)
}

#[track_caller]
fn kill_and_wait(server: &mut Server, restarts: u64) {
    server.kill_engine(0);
    server.wait_state("restarted", |state| {
        state["phase"] == "ready" && state["engines"][0]["restarts"] == restarts
    });
}

#[test]
fn array_data_survives_the_death_of_its_engine() {
    let site = Site::with_file();
    let dir = site.make_dir("arrays");
    let mut server = site.start();
    server.make_ready();
    site.ensure_pool();
    site.daos(&["container", "create", "arrays"]).expect(0);

    // Written over, across chunks and inside of them, and punched.
    let mut want = bytes(1, 6_000_000);
    put(&site, &dir, "samples", &["--record-size", "8"], &want);
    let middle = bytes(2, 1_500_000);
    put(&site, &dir, "samples", &["--offset", "87501"], &middle);
    want[700_008..2_200_008].copy_from_slice(&middle);
    array(
        &site,
        "punch",
        "samples",
        &["--offset", "500000", "--count", "33333"],
    );
    want[4_000_000..4_266_664].fill(0);
    array(&site, "punch", "samples", &["--offset", "700000"]);
    want.truncate(5_600_000);
    check(&site, &dir, "samples", &want);

    // One command writes on while its engine dies twice.
    let long = bytes(3, 96 << 20);
    let (mut writer, feeder) = stream(&site, long.clone());
    for restarts in 1..=2 {
        eventually("the stream has grown", || {
            let all = [
                &["array", "stat"][..],
                &PLACE,
                &["run7", "stream", "--json"],
            ]
            .concat();
            let said = site.daos(&all);
            // Before its first part it is no array yet.
            let records = said.json()["response"]["records"].as_u64()?;
            (records > restarts * (16 << 20)).then_some(())
        });
        kill_and_wait(&mut server, restarts);
        check(&site, &dir, "samples", &want);
    }
    assert!(writer.wait().expect("our child").success());
    feeder.join().expect("the feeder has ended");
    check(&site, &dir, "stream", &long);

    let list = site.daos(&[&["object", "list"][..], &PLACE, &["run7"]].concat());
    assert_eq!(list.expect(0).stdout, "samples\nstream\n");
    // An orderly end, and another life.
    server.stop();
    let mut server = site.start();
    server.wait_phase("ready");
    check(&site, &dir, "samples", &want);
    check(&site, &dir, "stream", &long);
    let stat = array(&site, "stat", "samples", &["--json"]).json();
    assert_eq!(stat["response"]["records"], 700_000);
    server.stop();
}
