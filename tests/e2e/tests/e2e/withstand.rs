//! What befalls a server: a clock that jumps, a disk without room for its log, certificates that are replaced while it works.

use crate::data::bench;
use daos_e2e::{Site, eventually, finish, may_mount, not_run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const START: &[&str] = &["-o", "daos_server.yml", "start", "-i"];

/// Lies about the time of day, by as many seconds as a file says. Time that only passes is left alone.
const LIAR: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long *shift;
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_SHIFT");
    int fd = path ? open(path, O_RDONLY) : -1;
    void *at = fd < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) shift = at;
}
int clock_gettime(clockid_t id, struct timespec *t) {
    int result = syscall(SYS_clock_gettime, id, t);
    if (!result && shift && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += *shift;
    return result;
}
int gettimeofday(struct timeval *t, void *zone) {
    int result = syscall(SYS_gettimeofday, t, zone);
    if (!result && shift) t->tv_sec += *shift;
    return result;
}
time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
"#;

/// The clock of everything that a site starts.
struct Clock(PathBuf);

impl Clock {
    /// Takes the clock of a site's programs into its hands; `None` without a C compiler.
    fn of(site: &mut Site) -> Option<Self> {
        let (source, object, shift) = (
            site.path("liar.c"),
            site.path("liar.so"),
            site.path("shift"),
        );
        fs::write(&source, LIAR).expect("our directory");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-o"])
            .arg(&object)
            .arg(&source);
        if which("cc").is_none() || finish(compiler, Duration::from_secs(60)).code != Some(0) {
            return None;
        }
        let clock = Self(shift);
        clock.set(0);
        site.set_env("LD_PRELOAD", &object.display().to_string());
        site.set_env("CLOCK_SHIFT", &clock.0.display().to_string());
        Some(clock)
    }

    fn set(&self, seconds: i64) {
        // In place: programs have it mapped.
        let file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.0);
        std::os::unix::fs::FileExt::write_all_at(
            &file.expect("our file"),
            &seconds.to_ne_bytes(),
            0,
        )
        .expect("our file");
    }
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

const DAY: i64 = 86_400;

#[test]
fn a_clock_that_jumps_disturbs_nothing() {
    let name = "a_clock_that_jumps_disturbs_nothing";
    let mut site = Site::with_file();
    let Some(clock) = Clock::of(&mut site) else {
        return not_run(name, "there is no C compiler");
    };
    let mut server = site.start();
    server.make_ready();
    let mut last = 0;
    for (round, shift) in [DAY, -DAY, 3650 * DAY, -3650 * DAY, 0]
        .into_iter()
        .enumerate()
    {
        clock.set(shift);
        // The engine dies, and is back as soon as it would be at any other time: nobody waits for a day.
        let died = server.kill_engine(0);
        let state = server.wait_state("restarted", |s| {
            s["phase"] == "ready"
                && s["engines"][0]["pid"]
                    .as_u64()
                    .is_some_and(|pid| pid != u64::from(died))
        });
        let since = state["engines"][0]["since_ms"].as_u64().unwrap_or_default();
        assert!(
            round == 0 || since.abs_diff(last) > 1000 * DAY as u64 / 2,
            "the clock was not turned: {state:#}"
        );
        last = since;
        site.shell(&["storage", "scan"]).expect(0);
        bench(&site);
    }
    server.stop();
}

#[test]
fn certificates_follow_the_clock_without_a_restart() {
    let name = "certificates_follow_the_clock_without_a_restart";
    let mut site = Site::with_file();
    site.use_certificates();
    let Some(clock) = Clock::of(&mut site) else {
        return not_run(name, "there is no C compiler");
    };
    let mut server = site.start();
    server.wait_phase("maintenance");
    for (shift, words) in [(-DAY, "not valid"), (4000 * DAY, "expired")] {
        clock.set(shift);
        let refused = site.shell(&["system", "query"]).expect(1);
        assert!(refused.stderr.contains(words), "{refused}");
        clock.set(0);
        site.shell(&["system", "query"]).expect(0);
    }
    server.stop();
}

#[test]
fn a_log_without_room_keeps_nothing_from_working() {
    let site = Site::with_file();
    // Every write to it fails as on a full disk.
    let text = site.config_text();
    site.write_text(&format!(
        "control_log_file: /dev/full\n{text}  log_file: /dev/full\n"
    ));
    let mut server = site.start_with(START);
    server.make_ready();
    bench(&site);
    let told = server.log();
    assert!(told.contains("/dev/full cannot be written"), "{told}");
    assert_eq!(
        told.matches("cannot be written").count(),
        1,
        "told once: {told}"
    );
    server.kill_engine(0);
    server.wait_state("restarted", |s| {
        s["phase"] == "ready" && s["engines"][0]["restarts"] == 1
    });
    bench(&site);
    server.stop();
}

#[test]
fn a_log_goes_on_when_there_is_room_again() {
    let name = "a_log_goes_on_when_there_is_room_again";
    if !may_mount() {
        return not_run(name, "a small file system takes root");
    }
    let site = Site::with_file();
    let disk = site.make_dir("disk");
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&disk);
    finish(mount, Duration::from_secs(10)).expect(0);
    let log = disk.join("control.log");
    site.write_text(&format!(
        "control_log_file: {}\n{}",
        log.display(),
        site.config_text()
    ));
    let fill = |path: &Path| {
        // As much as goes in.
        let _ = fs::write(path, vec![b'x'; 128 << 10]);
    };
    let filler = disk.join("filler");
    fill(&filler);
    let mut server = site.start_with(START);
    server.make_ready();
    fs::remove_file(&filler).expect("our file");
    site.shell(&["system", "stop"]).expect(0);
    eventually("the log goes on", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let (_, after) = text.split_once("line(s) are missing here")?;
        after.contains("engine").then_some(())
    });
    server.stop();
}

#[test]
fn certificates_are_replaced_while_many_call() {
    const CALLERS: usize = 4;
    const TURNS: usize = 12;
    let mut site = Site::with_file();
    let certs = site.use_certificates();
    let mut server = site.start();
    server.wait_phase("maintenance");
    // What the callers show is not replaced under them: only the server is to be disturbed.
    let own = site.make_dir("callers");
    for file in ["daosCA.crt", "admin.crt", "admin.key"] {
        fs::copy(certs.join(file), own.join(file)).expect("our files");
    }
    let (ended, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (program, address) = (site.program("daos_shell"), site.address());
    let call = || {
        let mut command = Command::new(&program);
        command
            .arg("--cert-dir")
            .arg(&own)
            .args(["-l", &address, "system", "query"]);
        finish(command, Duration::from_secs(60))
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = Vec::new();
                    while !ended.load(Ordering::SeqCst) {
                        let done = call();
                        calls.fetch_add(1, Ordering::SeqCst);
                        if done.code != Some(0) {
                            failed.push(done.to_string());
                        }
                    }
                    failed
                })
            })
            .collect();
        let dir = certs.display().to_string();
        for turn in 0..TURNS {
            let days = (turn + 5).to_string();
            let args = [
                "cert",
                "issue",
                "server",
                "--replace",
                "--ca-dir",
                &dir,
                "--days",
                &days,
            ];
            site.run("daos_server", &args).expect(0);
            let before = calls.load(Ordering::SeqCst);
            eventually("calls go on", || {
                (calls.load(Ordering::SeqCst) > before + CALLERS).then_some(())
            });
        }
        ended.store(true, Ordering::SeqCst);
        for caller in callers {
            let failed = caller.join().expect("a caller");
            assert!(
                failed.is_empty(),
                "{} calls failed, first {}",
                failed.len(),
                failed[0]
            );
        }
    });
    let renewed = server
        .log()
        .matches("new certificates of this server are in use")
        .count();
    assert_eq!(renewed, TURNS, "each is taken once: {}", server.log());
    server.stop();
}
