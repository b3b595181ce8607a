//! Daemon, helper and engine are killed at random moments while a client writes: everything acknowledged is
//! read back, and what a killed engine left is opened by the next one as it is.

use crate::data::{Workload, bench};
use crate::soak::{Random, rounds, tell};
use daos_e2e::{Bdev, Server, Site, User, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Child;
use std::thread;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Daemon,
    Helper,
    Engine,
    /// The engine, and its successor while that reads what is there.
    EngineAndSuccessor,
}

const VICTIMS: &[Victim] = &[
    Victim::Daemon,
    Victim::Helper,
    Victim::Engine,
    Victim::EngineAndSuccessor,
];

/// Rounds on one site; then a new one, so that records stay short.
const ROUNDS_PER_SITE: u64 = 25;

fn signal(process: &Child, signal: Signal) {
    // Fails only if it has just ended.
    let _ = kill(Pid::from_raw(process.id() as i32), signal);
}

fn is_engine(pid: u32) -> bool {
    daos_e2e::process_name(pid) == "daos_io_server"
}

/// Kills helpers while plugins are asked what they see: nobody but who asks is to notice.
fn kill_helpers(site: &Site, server: &Server<'_>) {
    let address = site.address();
    let mut scan = site
        .command("daos_shell")
        .args(["-i", "-l", &address, "storage", "scan"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("daos_shell can be started");
    loop {
        for helper in server.helpers() {
            // Fails only if it has just ended.
            let _ = kill(Pid::from_raw(helper as i32), Signal::SIGKILL);
        }
        if scan.try_wait().expect("our child").is_some() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Some rounds on one site.
fn life(site: &Site, random: &mut Random, first: u64, count: u64) {
    let mut server = site.start();
    server.make_ready();
    let workload = Workload::new(site, "work");
    let mut writer = workload.write_on();
    // Deaths of engines since the server started: after six in a row it gives an engine up, and pauses grow.
    let mut deaths = 0;
    for round in first..first + count {
        let victim = match deaths {
            0..3 => random.choose(VICTIMS),
            _ => Victim::Daemon,
        };
        deaths += match victim {
            Victim::Daemon | Victim::Helper => 0,
            Victim::Engine => 1,
            Victim::EngineAndSuccessor => 2,
        };
        let pause = Duration::from_micros(random.below(300_000));
        let what = format!("round {round}: {victim:?} killed after {pause:?}");
        let before = workload.acknowledged();
        eventually("something is acknowledged", || {
            if writer.try_wait().expect("our child").is_some() {
                writer = workload.write_on();
            }
            (workload.acknowledged() > before + 20).then_some(())
        });
        thread::sleep(pause);
        match victim {
            Victim::Daemon => {
                deaths = 0;
                server.kill();
                drop(server);
                server = site.start();
                let state = server.wait_state(&what, |s| s["phase"] != "starting");
                assert_eq!(state["phase"], "ready", "{what}: {state:#}");
            }
            Victim::Engine | Victim::EngineAndSuccessor => {
                let mut dead = server.kill_engine(0);
                if victim == Victim::EngineAndSuccessor {
                    let next = eventually("the next engine starts", || {
                        let pids = server.processes();
                        let mut engines = pids.into_iter().filter(|p| *p != dead && is_engine(*p));
                        engines.next()
                    });
                    thread::sleep(Duration::from_micros(random.below(60_000)));
                    // Fails only if it has just ended.
                    let _ = kill(Pid::from_raw(next as i32), Signal::SIGKILL);
                    dead = next;
                }
                let state = server.wait_state(&what, |s| {
                    let engine = &s["engines"][0];
                    let (state, pid) = (engine["state"].as_str(), engine["pid"].as_u64());
                    let between = matches!(state, Some("restarting" | "starting"));
                    !between && pid != Some(dead.into())
                });
                assert_eq!(state["phase"], "ready", "{what}: {state:#}");
            }
            Victim::Helper => {
                let alive = server.engine_pid(0);
                kill_helpers(site, &server);
                assert_eq!(server.engine_pid(0), alive, "{what}");
            }
        }
        // The writer stands still: what it has not been told of may be there or not.
        signal(&writer, Signal::SIGSTOP);
        workload.verify();
        signal(&writer, Signal::SIGCONT);
    }
    writer.kill().expect("our child can be killed");
    writer.wait().expect("our child can be waited for");
    workload.verify();
    bench(site);
    server.stop();
}

fn chaos(test: &str, everyday: u64, user: User) {
    let mut random = Random::new(test);
    let total = rounds(everyday, 1000);
    let mut done = 0;
    while done < total {
        let site = Site::of(user);
        let disk = site.make_dir("disk");
        site.add_engine(Bdev::File(disk.join("bdev0")), 2);
        let count = ROUNDS_PER_SITE.min(total - done);
        life(&site, &mut random, done, count);
        done += count;
        tell(test, done, total);
    }
}

#[test]
fn everything_acknowledged_survives_whoever_dies() {
    chaos(
        "everything_acknowledged_survives_whoever_dies",
        8,
        User::Caller,
    );
}

#[test]
fn everything_acknowledged_survives_whoever_dies_without_privileges() {
    let test = "everything_acknowledged_survives_whoever_dies_without_privileges";
    chaos(test, 4, User::Unprivileged);
}

/// Memory of an engine dies with it: that is said, nothing is served, and a reformat serves again.
#[test]
fn memory_is_lost_with_its_engine_and_only_with_it() {
    let mut random = Random::new("memory_is_lost_with_its_engine_and_only_with_it");
    let site = Site::new();
    site.add_engine(Bdev::Malloc, 2);
    let mut server = site.start();
    server.make_ready();
    for round in 0..rounds(3, 300) {
        let victim = random.choose(&[Victim::Daemon, Victim::Engine]);
        let pause = Duration::from_micros(random.below(100_000));
        let what = format!("round {round}: {victim:?} killed after {pause:?}");
        let workload = Workload::new(&site, &format!("work{round}"));
        let mut writer = workload.write_on();
        eventually("something is acknowledged", || {
            (workload.acknowledged() > 20).then_some(())
        });
        kill_helpers(&site, &server);
        thread::sleep(pause);
        match victim {
            Victim::Engine => drop(server.kill_engine(0)),
            _ => {
                server.kill();
                drop(server);
                server = site.start();
            }
        }
        writer.kill().expect("our child can be killed");
        writer.wait().expect("our child can be waited for");
        let state = server.wait_state(&what, |s| s["engines"][0]["state"] == "storage-mismatch");
        let reason = state["engines"][0]["reason"].as_str().unwrap_or("");
        assert!(reason.contains("lost"), "{what}: {state:#}");
        server.format(&["--reformat"]).expect(0);
        server.wait_phase("ready");
        workload.verify_fails(3);
    }
    server.stop();
}
