//! Burn-ins through the real programs: they go on by themselves, never write over what nobody gave away, make way for
//! engines, and tell the truth however they end.

use crate::data::Workload;
use daos_e2e::{
    Bdev, Finished, LoopDevice, Server, Site, eventually, finish, not_run, process_name,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;
use std::time::Duration;

/// Size of the device in the configuration.
const SIZE: u64 = 512 << 20;
const LONG: &[&str] = &["--duration", "1h"];

/// A node whose block device is there, blank, before any format.
pub(crate) fn blank_site() -> Site {
    let site = Site::with_file();
    let file = File::create(site.path("bdev0")).expect("our directory");
    file.set_len(SIZE).expect("a sparse file");
    site
}

fn device(site: &Site) -> String {
    format!("file:{}", site.path("bdev0").display())
}

#[track_caller]
fn burn_in(site: &Site, args: &[&str]) -> Finished {
    site.shell(&[&["--json", "storage", "burn-in"], args].concat())
}

/// Starts one on the device; the name of the run.
#[track_caller]
fn start(site: &Site, args: &[&str]) -> String {
    let done = burn_in(site, &[&["start", "--all"], args].concat()).expect(0);
    let run = done.json()["response"]["hosts"][site.address()]["run"].take();
    run.as_str().expect("a run").to_owned()
}

/// The report of the newest run.
#[track_caller]
fn report(site: &Site, code: i32) -> Value {
    let mut done = burn_in(site, &["report"]).expect(code).json();
    done["response"]["hosts"][site.address()][0].take()
}

/// Waits until a run has measured something.
#[track_caller]
fn wait_measured(site: &Site) {
    eventually("something is measured", || {
        let done = burn_in(site, &["status"]);
        let record = &done.json()["response"]["hosts"][site.address()];
        let last = record.as_array()?.last()?;
        assert_eq!(last["state"], "running", "{last:#}");
        (last["devices"][0]["reads"]["count"].as_u64()? > 0).then_some(())
    });
}

fn leased(site: &Site) -> bool {
    let text = fs::read_to_string(site.path("state/leases.json")).unwrap_or_default();
    text.contains(&device(site))
}

/// The helper of a burn-in, once it is the only one.
#[track_caller]
fn helper(server: &Server<'_>) -> u32 {
    eventually("one helper runs", || match server.helpers()[..] {
        [one] => Some(one),
        _ => None,
    })
}

#[test]
fn the_server_program_asks_the_server_of_its_machine() {
    let site = blank_site();
    let local = |args: &[&str]| {
        let line = ["-o", "daos_server.yml", "storage", "burn-in"];
        site.run("daos_server", &[&line, args].concat())
    };
    site.write_config();
    let alone = local(&["status"]).expect(1);
    assert!(
        alone.text().contains(&format!("localhost:{}", site.port())),
        "{alone}"
    );
    let mut server = site.start();
    server.wait_phase("maintenance");
    let planned = local(&["start", "--all", "--dry-run"]).expect(0);
    assert!(planned.stdout.contains(&device(&site)), "{planned}");
    local(&["start", "--all", "--duration", "1h"]).expect(0);
    wait_measured(&site);
    assert!(local(&["status"]).expect(0).stdout.contains("running"));
    local(&["stop", "--all"]).expect(0);
    let mut told = local(&["report", "--json"]).expect(0).json();
    let record = told["response"]["hosts"][format!("localhost:{}", site.port())][0].take();
    assert_eq!(record["state"], "stopped", "{record:#}");
    local(&["start", "--nonsense"]).expect(2);
    assert!(local(&["--help"]).expect(0).stdout.contains("report"));
    server.stop();
}

#[test]
fn it_goes_on_without_its_shell_and_leaves_a_blank_device_blank() {
    let site = blank_site();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let plan = burn_in(&site, &["start", "--all", "--dry-run"])
        .expect(0)
        .json();
    let planned = &plan["response"]["hosts"][site.address()]["devices"][0];
    assert_eq!(
        (&planned["mode"], &planned["holds"]),
        (&"read-write".into(), &"".into())
    );
    let run = start(&site, &["--duration", "2s", "--rate-iops", "300"]);
    // The shell has left.
    let followed = site
        .shell(&["storage", "burn-in", "status", "--follow"])
        .expect(0);
    let seen = followed.stderr.contains(&format!(" {run} "));
    assert!(
        seen || followed.stdout.contains("no burn-in"),
        "neither seen nor over: {followed}"
    );
    let record = eventually("it ends", || {
        let record = report(&site, 0);
        (record["state"] != "running").then_some(record)
    });
    assert_eq!(
        (&record["state"], &record["run"]),
        (&"passed".into(), &run.as_str().into()),
        "{record:#}"
    );
    let told = &record["devices"][0];
    assert_eq!(told["mode"], "read-write");
    for op in ["reads", "writes"] {
        let op = &told[op];
        assert!(
            op["count"].as_u64() > Some(0) && op["p99_us"].as_u64() >= op["p50_us"].as_u64(),
            "{told:#}"
        );
    }
    assert!(told["series"].as_array().is_some_and(|s| !s.is_empty()));
    let checked = &told["verification"];
    assert!(checked["bytes_written"].as_u64() > Some(0));
    assert_eq!(checked["bytes_read_back"], checked["bytes_written"]);
    assert_eq!(told["health_after"]["status"], "ok");
    let page = site.path("tmp/page.html");
    let shown = site
        .shell(&[
            "storage",
            "burn-in",
            "report",
            &run,
            "--html",
            &page.display().to_string(),
        ])
        .expect(0);
    assert!(
        shown.stdout.contains("passed") && shown.stdout.contains("read back"),
        "{shown}"
    );
    assert!(fs::read_to_string(page).expect("a page").contains("<svg"));
    assert!(!leased(&site));
    // A format finds nothing that is not ours.
    server.make_ready();
    server.stop();
}

#[test]
fn one_that_is_stopped_tells_what_it_measured() {
    let site = blank_site();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let run = start(&site, LONG);
    wait_measured(&site);
    // Everything else goes on meanwhile; what the burn-in has, nobody else gets.
    assert!(leased(&site));
    site.shell(&["storage", "scan"]).expect(0);
    let second = burn_in(&site, &["start", &device(&site)]).expect(1);
    assert!(
        second.text().contains(&format!("burn-in {run}")),
        "{second}"
    );
    let stopped = site.shell(&["storage", "burn-in", "stop", &run]).expect(0);
    assert!(stopped.stdout.contains("stopped"), "{stopped}");
    let record = report(&site, 0);
    assert_eq!(record["state"], "stopped");
    assert!(
        record["devices"][0]["cut_short"] == true
            && record["devices"][0]["elapsed_ms"].as_u64() > Some(0)
    );
    assert!(!leased(&site) && server.helpers().is_empty());
    let unknown = burn_in(&site, &["stop", "b99"]).expect(1);
    assert!(unknown.text().contains("b99"), "{unknown}");
    server.stop();
}

#[test]
fn a_format_ends_it_and_has_its_devices() {
    let site = blank_site();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let run = start(&site, LONG);
    wait_measured(&site);
    site.shell(&["storage", "format", "--dry-run"]).expect(0);
    assert!(leased(&site), "a plan changes nothing");
    server.make_ready();
    let record = report(&site, 0);
    assert_eq!(
        (&record["state"], &record["run"]),
        (&"stopped".into(), &run.as_str().into())
    );
    assert!(
        record["reason"]
            .as_str()
            .is_some_and(|r| r.contains("engine 0")),
        "{record:#}"
    );
    // It is the engine's now.
    let refused = burn_in(&site, &["start", "--all"]).expect(1);
    assert!(
        refused.text().contains("engine 0") && refused.text().contains("system stop"),
        "{refused}"
    );
    server.stop();
}

#[test]
fn a_labelled_device_is_only_read_and_makes_way_for_its_engine() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    let workload = Workload::new(&site, "work");
    workload.write();
    site.shell(&["system", "stop"]).expect(0);
    // Whatever writes is refused, and so is half a consent.
    let name = device(&site);
    let line = ["storage", "burn-in", "start", &name, "--rw", "randrw"];
    let refused = site.shell(&line).expect(1);
    assert!(
        refused.text().contains("data of engine") && refused.text().contains("--destroy-data"),
        "{refused}"
    );
    let destroy = [&line[..], &["--destroy-data", &name]].concat();
    let silent = site.shell(&destroy).expect(1);
    assert!(silent.stderr.contains("Nothing was started"), "{silent}");
    let other = site
        .shell(&[&destroy[..], &["--consent", "file:/other"]].concat())
        .expect(1);
    assert!(other.stderr.contains("repeat the name exactly"), "{other}");
    let wrong = typed(&site, &destroy, "yes\n").expect(1);
    assert!(wrong.stderr.contains("Nothing was started"), "{wrong}");
    // Without any word about writing it is only read.
    start(&site, LONG);
    wait_measured(&site);
    let record = report(&site, 0);
    let told = &record["devices"][0];
    assert_eq!(
        (&told["mode"], &told["writes"]["count"]),
        (&"read-only".into(), &0.into()),
        "{told:#}"
    );
    assert!(
        told["held"]
            .as_str()
            .is_some_and(|held| held.contains("engine")),
        "{told:#}"
    );
    site.shell(&["system", "start"]).expect(0);
    server.wait_phase("ready");
    assert_eq!(report(&site, 0)["state"], "stopped");
    workload.verify();
    server.stop();
}

/// Runs the shell with a line on standard input.
#[track_caller]
fn typed(site: &Site, args: &[&str], line: &str) -> Finished {
    let input = site.path("tmp/line");
    fs::write(&input, line).expect("our directory");
    let mut command = site.command_of(std::path::Path::new("/bin/sh"));
    command
        .args(["-c", "exec \"$@\" <\"$0\""])
        .arg(&input)
        .arg(site.program("daos_shell"))
        .args(["-i", "-l", &site.address()])
        .args(args)
        .stdin(Stdio::null());
    finish(command, Duration::from_secs(60))
}

#[test]
fn whoever_types_the_name_may_destroy_and_the_label_goes_first() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    site.shell(&["system", "stop"]).expect(0);
    let name = device(&site);
    let line = [
        "storage",
        "burn-in",
        "start",
        &name,
        "--duration",
        "1s",
        "--follow",
        "--destroy-data",
        &name,
    ];
    let done = typed(&site, &line, &format!("{name}\n")).expect(0);
    assert!(
        done.stderr.contains("DESTROYED") && done.stdout.contains("destroyed data of engine"),
        "{done}"
    );
    let state = site.shell(&["system", "start"]).expect(1);
    assert!(state.text().contains("it is blank"), "{state}");
    // For scripts; nothing is left to destroy, which is no error.
    site.shell(&[&line[..], &["--consent", &name]].concat())
        .expect(0);
    server.stop();
}

#[test]
fn an_error_that_is_found_has_an_exit_status_of_its_own() {
    let site = blank_site();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let job = site.path("tmp/job.fio");
    fs::write(&job, "[small]\nrw=randrw\nbs=4k\nsize=4m\nruntime=1h\ntime_based\nrate_iops=500\nverify=crc32c\n").expect("our directory");
    start(&site, &["--job-file", &job.display().to_string()]);
    wait_measured(&site);
    // The device forgets everything, again and again, until it is noticed.
    let file = File::options()
        .write(true)
        .open(site.path("bdev0"))
        .expect("the device");
    eventually("the loss is noticed", || {
        file.write_all_at(&vec![0; 4 << 20], 1 << 20)
            .expect("the device can be written");
        let status = burn_in(&site, &["status"]);
        (status.json()["response"]["hosts"][site.address()][0]["devices"][0]["error_counts"]["lost-write"].as_u64()? > 0).then_some(())
    });
    site.shell(&["storage", "burn-in", "stop", "--all"])
        .expect(0);
    let record = report(&site, 3);
    assert_eq!(record["state"], "failed");
    let errors = record["devices"][0]["errors"].as_array().expect("errors");
    let lost = errors
        .iter()
        .find(|e| e["kind"] == "lost-write" && e["found"] == "zeroes");
    let lba = lost.expect("what was lost is told")["lba"].as_u64();
    assert!(
        lba >= Some(256) && lba < Some(256 + 1024),
        "within the 4 MiB behind the first: {record:#}"
    );
    fs::write(&job, "[small]\nrw=randrw\nbssplt=4k\n").expect("our directory");
    let wrong = burn_in(
        &site,
        &["start", "--all", "--job-file", &job.display().to_string()],
    )
    .expect(1);
    assert!(
        wrong.text().contains("job.fio:3") && wrong.text().contains("bssplit"),
        "{wrong}"
    );
    server.stop();
}

#[test]
fn a_helper_that_is_killed_costs_one_burn_in_which_says_so() {
    let site = blank_site();
    let mut server = site.start();
    server.wait_phase("maintenance");
    start(&site, LONG);
    wait_measured(&site);
    let pid = helper(&server);
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("the helper can be killed");
    let record = eventually("it has ended", || {
        let done = burn_in(&site, &["report"]);
        let record = done.json()["response"]["hosts"][site.address()][0].take();
        (record["state"] != "running").then_some(record)
    });
    assert_eq!(record["state"], "interrupted", "{record:#}");
    assert!(
        record["reason"]
            .as_str()
            .is_some_and(|r| r.contains("SIGKILL")),
        "{record:#}"
    );
    assert!(
        record["devices"][0]["reads"]["count"].as_u64() > Some(0),
        "{record:#}"
    );
    report(&site, 1);
    assert!(!leased(&site));
    // The device is free again, as soon as the kernel has taken the dead helper's requests apart.
    eventually("another one starts", || {
        let done = burn_in(&site, &["start", "--all", "--duration", "1s"]);
        (done.code == Some(0)).then_some(())
    });
    server.make_ready();
    server.stop();
}

#[test]
fn a_server_that_is_killed_leaves_a_record_of_what_was_measured() {
    let site = blank_site();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let run = start(&site, LONG);
    wait_measured(&site);
    let path = site.path(&format!("state/burn-in/{run}.json"));
    let kept = || -> Option<Value> { serde_json::from_str(&fs::read_to_string(&path).ok()?).ok() };
    eventually("it is kept", || {
        (kept()?["devices"][0]["reads"]["count"].as_u64()? > 0).then_some(())
    });
    let pid = helper(&server);
    server.kill();
    eventually("the helper ends with its server", || {
        (process_name(pid) != "daos_server_hel").then_some(())
    });
    drop(server);
    let mut server = site.start();
    server.wait_phase("maintenance");
    let record = report(&site, 1);
    assert_eq!(
        (&record["state"], &record["run"]),
        (&"interrupted".into(), &run.as_str().into()),
        "{record:#}"
    );
    assert!(record["devices"][0]["reads"]["count"].as_u64() > Some(0));
    assert_eq!(kept().expect("a record")["state"], "interrupted");
    let second = start(&site, LONG);
    assert_ne!(second, run);
    wait_measured(&site);
    // An orderly end is noted, too.
    server.stop();
    let path = site.path(&format!("state/burn-in/{second}.json"));
    let record: Value =
        serde_json::from_str(&fs::read_to_string(path).expect("a record")).expect("JSON");
    assert_eq!(
        (&record["state"], &record["reason"]),
        (&"interrupted".into(), &"the server was stopped".into())
    );
}

#[test]
fn a_file_system_on_a_disk_is_only_read() {
    const MAGIC: [u8; 2] = [0x53, 0xef];
    let name = "a_file_system_on_a_disk_is_only_read";
    let site = Site::new();
    let image = site.path("disk.img");
    let disk = match LoopDevice::attach(&image, 64 << 20) {
        Ok(disk) => disk,
        Err(reason) => return not_run(name, &reason),
    };
    // The magic number of ext2 in the place of its superblock.
    let file = File::options().write(true).open(disk.path());
    file.and_then(|f| {
        f.write_all_at(&MAGIC, 1024 + 56)
            .and_then(|()| f.sync_all())
    })
    .expect("the disk can be written");
    site.add_engine(Bdev::Malloc, 1);
    let mut server = site.start();
    server.wait_phase("maintenance");
    // The configuration does not name the disk: it is found by its path, beside memory that may be written.
    let path = disk.path().display().to_string();
    let line = ["storage", "burn-in", "start", &path, "malloc0"];
    let refused = site
        .shell(&[&line[..], &["--rw", "randwrite"]].concat())
        .expect(1);
    assert!(refused.text().contains("ext2 file system"), "{refused}");
    site.shell(&[&line[..], &["--duration", "1s", "--follow"]].concat())
        .expect(0);
    let record = report(&site, 0);
    let modes: Vec<_> = (0..2)
        .map(|n| record["devices"][n]["mode"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(modes, ["read-only", "read-write"], "{record:#}");
    let mut found = [0; 2];
    let file = File::open(disk.path());
    file.and_then(|f| f.read_exact_at(&mut found, 1024 + 56))
        .expect("the disk can be read");
    assert_eq!(found, MAGIC);
    server.stop();
}
