//! The conformance kit over each provider, a process per case. Where libfabric 1.17's providers
//! cannot keep a promise it is listed here: any other broken promise fails the test.

use daos_plugin_api::conformance::cases;
use daos_plugin_api::control::ClassKind;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time a case may take; the kit's own limits are shorter unless a provider hangs inside
/// a call.
const LIMIT: Duration = Duration::from_secs(90);

/// Longest time for a case that is expected to fail.
const SHORT: Duration = Duration::from_secs(20);

const TRUNCATED: &str =
    "a message longer than its receive completes as TRUNCATED and spares what is behind";
const UNEXPECTED: &str = "a message that meets no receive is kept until one is offered";
const GONE: &str = "resolving a peer that is gone does not wait, and a send to it ends";
const CLOSING: &str = "closing an endpoint with operations outstanding leaves their memory alone";
const OTHERS: &str = "a peer that goes away does not disturb the others";
const THREADS: &str = "two endpoints on two threads exchange messages and remote accesses";
const PRESSURE: &str = "thousands of messages pass under back-pressure, none lost, none twice";

/// What a broken promise comes to.
enum Ending {
    Kept,
    NotClaimed,
    Missing(String),
    Broken(String),
}

fn ending(provider: &str, case: &str, limit: Duration) -> Ending {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ofi-check"))
        .args([provider, case])
        // The psm provider handles fatal signals, whichever provider is in use: it would write a
        // file where the test runs, and exit as if nothing had happened.
        .env("IPATH_NO_BACKTRACE", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let code = wait(&mut child, limit);
    remove_shared_memory(child.id());
    let Some(code) = code else {
        return Ending::Broken(format!("no end within {limit:?}"));
    };
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    match code {
        Some(0) => Ending::Kept,
        Some(1) => Ending::Broken(text.trim().to_owned()),
        Some(3) => Ending::NotClaimed,
        Some(4) => Ending::Missing(text.trim().to_owned()),
        Some(code) => panic!("ofi-check {provider} {case:?} ends with {code}: {text}"),
        None => Ending::Broken("crashed".to_owned()),
    }
}

/// A process that crashed or was killed leaves its shared memory behind.
fn remove_shared_memory(process: u32) {
    let mark = format!("{process}:");
    for entry in std::fs::read_dir("/dev/shm")
        .into_iter()
        .flatten()
        .flatten()
    {
        if entry.file_name().to_string_lossy().starts_with(&mark) {
            // Someone else's of the same number is not ours to complain about.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Waits for a process: its exit code (`None` inside: a signal), or `None` when it was killed for
/// taking too long.
fn wait(child: &mut Child, limit: Duration) -> Option<Option<i32>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code());
        }
        if start.elapsed() > limit {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs all cases; only those listed may be broken.
fn check(provider: &str, deviations: &[&str]) {
    let all = cases(ClassKind::Fabric);
    for case in deviations {
        assert!(all.contains(case), "the kit has no case {case:?}");
    }
    let (mut kept, mut failures) = (0, Vec::new());
    // The first one is the start of the plugin, which every run has.
    for case in &all[1..] {
        let is_listed = deviations.contains(case);
        let limit = if is_listed { SHORT } else { LIMIT };
        match ending(provider, case, limit) {
            Ending::Kept => {
                if is_listed {
                    println!("kept by {provider} this time: {case}");
                }
                kept += 1;
            }
            Ending::NotClaimed => {}
            Ending::Missing(why) => {
                println!("NOT RUN conformance over {provider}: {why}");
                return;
            }
            Ending::Broken(how) if is_listed => {
                println!("deviation of {provider}: {case}: {how}");
            }
            Ending::Broken(how) => failures.push(format!("{case}: {how}")),
        }
    }
    println!("{provider}: {kept} promises kept");
    assert!(failures.is_empty(), "{provider}:\n{}", failures.join("\n"));
    assert!(kept >= 30, "only {kept} promises kept");
}

#[test]
fn tcp_with_rxm() {
    // A message above 16 KiB that is too long for its late RECV: the RECV never completes.
    check("ofi+tcp", &[TRUNCATED]);
}

#[test]
fn net() {
    // Stops reading from a peer at a large message that has no RECV yet.
    check("net", &[UNEXPECTED, THREADS]);
}

#[test]
fn sockets() {
    // Sleeps a while before it sends again to a peer whose buffers were full.
    check("ofi+sockets", &[PRESSURE]);
}

#[test]
fn shm() {
    // An endpoint of the same process that is closed takes its memory along (a crash). A message
    // that is too long hangs.
    check("shm", &[TRUNCATED, GONE, CLOSING, OTHERS]);
}
