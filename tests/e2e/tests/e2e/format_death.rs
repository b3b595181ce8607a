//! A format that is killed: at each of its steps, and whoever dies, what is left never starts, and a new
//! format succeeds.

use crate::data::bench;
use crate::soak::{Random, rounds, tell};
use daos_e2e::{Bdev, Server, Site, eventually, is_stopped, not_run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

/// Stops a process at the named step, see `daos_media::steps`.
pub(crate) const STOP_AT: &str = "DAOS_STOP_AT";

/// Steps of a first format of an engine with two devices, in order; with how often each is reached before
/// the process stops.
const STEPS: &[&str] = &[
    "scm-formatted",
    "scm-mounted",
    "bdev-formatted",
    "label-second-copy",
    "label-first-copy",
    "labelled",
    "bdev-formatted:2",
    "label-second-copy:2",
    "label-first-copy:2",
    "labelled:2",
    // The list of devices, then the superblock.
    "file-staged",
    "file-renamed",
    "devices-listed",
    "file-staged:2",
    "file-renamed:2",
    "formatted",
];

/// Those that only a format of storage that was formatted before has.
const REFORMAT_STEPS: &[&str] = &["file-removed", "invalidated"];

/// A helper that stands still here may go on when its daemon dies (the kernel continues what is stopped and
/// orphaned), and get done with the one rename that is left before it notices: then the format is complete.
const EITHER: &str = "file-staged:2";

/// From here on the storage is formatted.
const COMPLETE: &[&str] = &["file-renamed:2", "formatted"];

/// Whether the programs, which are of the same profile as this one, stop at steps.
pub(crate) fn can_stop(test: &str) -> bool {
    if !cfg!(debug_assertions) {
        not_run(
            test,
            "programs without debug assertions do not stop at steps",
        );
    }
    cfg!(debug_assertions)
}

/// Who is killed while the format stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Daemon,
    Helper,
}

fn site() -> Site {
    let site = Site::new();
    let files = vec![site.path("bdev0"), site.path("bdev1")];
    site.add_engine(Bdev::Files(files), 2);
    site
}

fn kill_process(pid: u32, signal: Signal) {
    // Fails only if it has just ended.
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

/// `daos_shell storage format`, which nobody waits for.
fn start_format(site: &Site) -> Child {
    let address = site.address();
    site.command("daos_shell")
        .args([
            "-i",
            "-l",
            &address,
            "storage",
            "format",
            "-f",
            "--reformat",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("daos_shell can be started")
}

/// Starts a server on what a killed format left; complete storage serves, everything else waits for a
/// format, which succeeds. Returns whether it was complete.
#[track_caller]
fn assert_never_half(site: &Site, what: &str) -> bool {
    let superblock = site.scm(0).join("superblock").exists();
    let mut server = site.start();
    let state = server.wait_state("settled", |s| s["phase"] != "starting");
    let engine = &state["engines"][0]["state"];
    assert_eq!(
        superblock,
        engine == "ready",
        "{what}: superblock {superblock}, {state:#}"
    );
    if superblock {
        bench(site);
        server.stop();
        return true;
    }
    assert!(
        engine == "await-format" || engine == "storage-mismatch",
        "{what}: {state:#}"
    );
    assert_formats(&mut server);
    server.stop();
    false
}

#[track_caller]
fn assert_formats(server: &mut Server<'_>) {
    server.format(&["--reformat"]).expect(0);
    server.wait_phase("ready");
}

/// The next round finds storage that was never formatted.
fn make_blank(site: &Site) {
    for mount in daos_e2e::mounts_below(&site.scm(0)) {
        nix::mount::umount2(&mount, nix::mount::MntFlags::empty()).expect("nobody uses it");
    }
    for path in [site.scm(0), site.path("bdev0"), site.path("bdev1")] {
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        if let Err(error) = removed {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}

fn kill_at(site: &mut Site, step: &str, victim: Victim) {
    let what = format!("{victim:?} killed at {step}");
    site.set_env(STOP_AT, step);
    let mut server = site.start();
    server.wait_state("formattable", |s| s["phase"] != "starting");
    let mut format = start_format(site);
    let stopped = server.wait_stopped(&what);
    // A daemon that stands still has a helper that waits for it, and the other way round.
    let daemon = server.pid();
    match victim {
        Victim::Daemon => {
            server.kill();
            format.wait().expect("our child can be waited for");
            drop(server);
        }
        Victim::Helper => {
            let helpers = server.helpers();
            for helper in &helpers {
                kill_process(*helper, Signal::SIGKILL);
            }
            if stopped == daemon {
                kill_process(daemon, Signal::SIGCONT);
            }
            format.wait().expect("our child can be waited for");
            let state = server.wait_state("settled", |s| {
                let state = s["engines"][0]["state"].as_str().unwrap_or("");
                !["formatting", "starting"].contains(&state)
            });
            if state["engines"][0]["state"] != "ready" {
                let reason = state["engines"][0]["reason"].as_str().unwrap_or("");
                assert!(
                    reason.contains("the last format failed"),
                    "{what}: {state:#}"
                );
                assert!(!site.scm(0).join("superblock").exists() || COMPLETE.contains(&step));
            }
            server.kill();
            drop(server);
        }
    }
    site.clear_env(STOP_AT);
    let complete = assert_never_half(site, &what);
    if victim == Victim::Daemon && step != EITHER {
        assert_eq!(complete, COMPLETE.contains(&step), "{what}");
    }
}

#[test]
fn killed_at_every_step_of_a_first_format() {
    if !can_stop("killed_at_every_step_of_a_first_format") {
        return;
    }
    let mut site = site();
    for step in STEPS {
        kill_at(&mut site, step, Victim::Daemon);
        make_blank(&site);
    }
}

#[test]
fn a_helper_killed_at_every_step_fails_the_format_alone() {
    if !can_stop("a_helper_killed_at_every_step_fails_the_format_alone") {
        return;
    }
    let mut site = site();
    for step in STEPS {
        kill_at(&mut site, step, Victim::Helper);
        make_blank(&site);
    }
}

#[test]
fn killed_at_every_step_of_a_reformat() {
    if !can_stop("killed_at_every_step_of_a_reformat") {
        return;
    }
    let mut site = site();
    let mut server = site.start();
    server.make_ready();
    server.stop();
    for step in REFORMAT_STEPS.iter().chain(STEPS) {
        // A server without the old superblock cannot be told from one that waits for a first format.
        let superblock = site.scm(0).join("superblock");
        assert!(superblock.exists(), "before {step}");
        let mut server = site.start();
        server.wait_phase("ready");
        server.stop();
        reformat_killed_at(&mut site, step);
    }
}

/// As [`kill_at`], of a stopped engine.
fn reformat_killed_at(site: &mut Site, step: &str) {
    site.set_env(STOP_AT, step);
    let mut server = site.start();
    server.wait_phase("ready");
    site.shell(&["system", "stop"]).expect(0);
    let mut format = start_format(site);
    server.wait_stopped(step);
    server.kill();
    format.wait().expect("our child can be waited for");
    drop(server);
    site.clear_env(STOP_AT);
    assert_never_half(site, &format!("reformat killed at {step}"));
}

/// Moments at random rather than steps: also inside of what the plugins do.
#[test]
fn killed_at_random_moments() {
    let mut random = Random::new("killed_at_random_moments");
    let site = site();
    let total = rounds(4, 1000);
    for round in 0..total {
        tell("killed_at_random_moments", round, total);
        let victim = random.choose(&[Victim::Daemon, Victim::Helper]);
        let pause = Duration::from_micros(random.below(600_000));
        let what = format!("round {round}: {victim:?} killed after {pause:?}");
        let mut server = site.start();
        server.wait_state("formattable", |s| s["phase"] != "starting");
        let mut format = start_format(&site);
        thread::sleep(pause);
        if victim == Victim::Helper {
            for helper in server.helpers() {
                kill_process(helper, Signal::SIGKILL);
            }
            format.wait().expect("our child can be waited for");
        }
        server.kill();
        format.wait().expect("our child can be waited for");
        drop(server);
        assert_never_half(&site, &what);
        make_blank(&site);
    }
}

/// The first start after a format labels and lays out: an engine that is killed in it starts again.
#[test]
fn an_engine_killed_in_its_first_start_starts_again() {
    let mut random = Random::new("an_engine_killed_in_its_first_start_starts_again");
    let site = site();
    for round in 0..rounds(3, 200) {
        let mut server = site.start();
        server.wait_phase("maintenance");
        let mut format = start_format(&site);
        let engine = eventually("the engine starts", || {
            let mut all = server.processes().into_iter();
            all.find(|pid| daos_e2e::process_name(*pid) == "daos_io_server")
        });
        let pause = Duration::from_micros(random.below(100_000));
        thread::sleep(pause);
        kill_process(engine, Signal::SIGKILL);
        format.wait().expect("our child can be waited for");
        let what = format!("round {round}: killed after {pause:?}");
        let state = server.wait_state(&what, |s| {
            let engine = &s["engines"][0];
            engine["restarts"] == 1
                && !["starting", "restarting"].contains(&engine["state"].as_str().unwrap_or(""))
        });
        assert_eq!(state["phase"], "ready", "{what}: {state:#}");
        bench(&site);
        server.stop();
        make_blank(&site);
    }
}

#[test]
fn a_client_that_leaves_does_not_stop_the_format() {
    if !can_stop("a_client_that_leaves_does_not_stop_the_format") {
        return;
    }
    let mut site = site();
    site.set_env(STOP_AT, "labelled");
    let mut server = site.start();
    server.wait_phase("maintenance");
    let mut format = start_format(&site);
    let daemon = server.wait_stopped("the daemon stops after the first label");
    assert_eq!(daemon, server.pid());
    format.kill().expect("our child can be killed");
    format.wait().expect("our child can be waited for");
    kill_process(daemon, Signal::SIGCONT);
    let state = server.wait_phase("ready");
    assert_eq!(state["engines"][0]["restarts"], 0, "{state:#}");
    bench(&site);
    server.stop();
}

#[test]
fn of_two_formats_at_once_the_second_is_refused() {
    if !can_stop("of_two_formats_at_once_the_second_is_refused") {
        return;
    }
    let mut site = site();
    site.set_env(STOP_AT, "label-second-copy");
    let mut server = site.start();
    server.wait_phase("maintenance");
    let mut first = start_format(&site);
    // The helper stands still, the daemon answers.
    let helper = server.wait_stopped("the helper stops between the copies of a label");
    assert_ne!(helper, server.pid());
    let state = server.wait_phase("maintenance");
    assert_eq!(state["engines"][0]["state"], "formatting", "{state:#}");
    let second = server.format(&["--reformat"]).expect(1);
    assert!(
        second.text().contains("a format is running already"),
        "{second}"
    );
    assert!(is_stopped(helper));
    kill_process(helper, Signal::SIGCONT);
    let done = eventually("the first format ends", || {
        first.try_wait().expect("our child")
    });
    assert!(done.success());
    server.wait_phase("ready");
    server.stop();
}

/// SIGTERM while a helper is in the middle of a label: the server ends in order, the format does not count.
#[test]
fn a_server_that_is_told_to_end_during_a_format_ends() {
    if !can_stop("a_server_that_is_told_to_end_during_a_format_ends") {
        return;
    }
    let mut site = site();
    site.set_env(STOP_AT, "label-second-copy");
    let mut server = site.start();
    server.wait_phase("maintenance");
    let mut format = start_format(&site);
    server.wait_stopped("the helper stops between the copies of a label");
    // Ends well, and no process is left: also not the helper that stands still.
    server.stop();
    let done = format.wait().expect("our child can be waited for");
    assert_eq!(done.code(), Some(1), "the client is told");
    site.clear_env(STOP_AT);
    assert!(!assert_never_half(&site, "told to end during a format"));
}
