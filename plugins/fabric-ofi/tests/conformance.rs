//! The conformance kit over each provider, a process per case, since a provider may crash or hang. Where
//! libfabric 1.17's providers cannot keep a promise it is listed here: any other broken promise
//! fails the test.
#![cfg(libfabric)]

mod common;

use common::{again, interface, open, remove_shared_memory};
use daos_plugin_api::conformance::{Outcome, Record, Reporter, Target, cases, run};
use daos_plugin_api::control::{ClassKind, FabricOpenRequest};
use daos_plugin_api::sdk::thunks;
use fabric_ofi::{FabricOfi, OfiDomain, Settings};
use serde_json::json;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Names provider and case to the process that runs it.
const PROVIDER: &str = "OFI_TEST_PROVIDER";
const CASE: &str = "OFI_TEST_CASE";

/// Exit codes of that process; libtest's own are 0 and 101.
const KEPT: i32 = 10;
const BROKEN: i32 = 11;
const NOT_CLAIMED: i32 = 12;
const MISSING: i32 = 13;

struct Quiet;

impl Reporter for Quiet {
    fn ended(&mut self, _record: &Record) {}
}

/// Runs one case if the environment names one, and ends the process; does nothing otherwise.
#[test]
fn one_case() {
    let (Ok(provider), Ok(case)) = (std::env::var(PROVIDER), std::env::var(CASE)) else {
        return;
    };
    let request = FabricOpenRequest {
        provider: provider.clone(),
        interface: interface(),
        ..Default::default()
    };
    let end = |code: i32, text: &str| -> ! {
        println!("{text}");
        std::process::exit(code)
    };
    if let Err(error) = OfiDomain::open(&request, Settings::default()) {
        end(MISSING, &error.to_string());
    }
    let target = Target::new(
        ClassKind::Fabric,
        &provider,
        json!({"interface": interface()}),
    )
    .nonsense(json!({"fabric_iface": "no-such-0"}))
    .nonsense(json!({"fabric_iface_port": 65536}))
    .nonsense(json!({"provider": "ofi+tpc"}))
    .filter(&case);
    let summary = run(thunks::table::<FabricOfi>(), &target, &mut Quiet);
    let record = summary.records.iter().find(|record| record.case == case);
    match record.map(|record| &record.outcome) {
        Some(Outcome::Passed) => end(KEPT, ""),
        Some(Outcome::Skipped(why)) => end(NOT_CLAIMED, why),
        Some(Outcome::Failed(how)) => end(BROKEN, how),
        None => panic!("there is no such case: {case}"),
    }
}

/// Longest time a case may take; the kit's own limits are shorter unless a provider hangs inside
/// a call.
const LIMIT: Duration = Duration::from_secs(90);

/// Longest time for a case that is expected to fail.
const SHORT: Duration = Duration::from_secs(20);

const UNEXPECTED: &str = "a message that meets no receive is kept until one is offered";
const GONE: &str = "resolving a peer that is gone does not wait, and a send to it ends";
const CLOSING: &str = "closing an endpoint with operations outstanding leaves their memory alone";
const OTHERS: &str = "a peer that goes away does not disturb the others";
const REFUSED: &[&str] = &[
    "a remote access with a wrong key is refused",
    "a remote access beyond the registration is refused",
    "a remote access without the right to it is refused",
    "a remote access to an ended registration is refused",
];
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
    let mut child = again("one_case")
        .env(PROVIDER, provider)
        .env(CASE, case)
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
        Some(KEPT) => Ending::Kept,
        Some(BROKEN) => Ending::Broken(text.trim().to_owned()),
        Some(NOT_CLAIMED) => Ending::NotClaimed,
        Some(MISSING) => Ending::Missing(text.trim().to_owned()),
        Some(code) => panic!("{case:?} over {provider} ends with {code}: {text}"),
        None => Ending::Broken("crashed".to_owned()),
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

/// Whether a remote access that should have been refused touched memory: no deviation covers that.
fn is_breach(how: &str) -> bool {
    ["brought data", "changed memory", "completed as ok"]
        .iter()
        .any(|words| how.contains(words))
}

/// Which part of the cases to run (from 0), of how many: `OFI_TEST_PART=2/3` is the second third. All by default.
fn part() -> (usize, usize) {
    let Ok(text) = std::env::var("OFI_TEST_PART") else {
        return (0, 1);
    };
    let (part, parts) = text.split_once('/').expect("OFI_TEST_PART is N/M");
    let (part, parts): (usize, usize) = (part.parse().unwrap(), parts.parse().unwrap());
    assert!((1..=parts).contains(&part), "OFI_TEST_PART={text}");
    (part - 1, parts)
}

/// Runs all cases; only those listed may be broken.
fn check(provider: &str, deviations: &[&str]) {
    let all = cases(ClassKind::Fabric);
    for case in deviations {
        assert!(all.contains(case), "the kit has no case {case:?}");
    }
    let (mut kept, mut failures) = (0, Vec::new());
    let (part, parts) = part();
    // The first one is the start of the plugin, which every run has.
    let mine = all[1..].iter().skip(part).step_by(parts);
    for case in mine {
        let is_listed = deviations.contains(case);
        let limit = if is_listed { SHORT } else { LIMIT };
        let start = Instant::now();
        let ending = ending(provider, case, limit);
        println!("{:5.1} s  {case}", start.elapsed().as_secs_f64());
        match ending {
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
            Ending::Broken(how) if is_listed && !is_breach(&how) => {
                println!("deviation of {provider}: {case}: {how}");
            }
            Ending::Broken(how) => {
                println!("BROKEN {case}: {how}");
                failures.push(format!("{case}: {how}"));
            }
        }
    }
    println!("{provider}: {kept} promises kept");
    assert!(failures.is_empty(), "{provider}:\n{}", failures.join("\n"));
    assert!(kept >= 30 / parts, "only {kept} promises kept");
}

#[test]
fn tcp_with_rxm() {
    // A message above 16 KiB that is too long for its late RECV: the RECV never completes.
    check("ofi+tcp;ofi_rxm", &[]);
}

#[test]
fn native_tcp() {
    // Libfabric 2; before, the same name comes to `tcp;ofi_rxm`.
    match open("ofi+tcp") {
        // A message that is too long for its RECV breaks the connection.
        Ok(domain) if domain.provider() == "tcp" => check("ofi+tcp", &[]),
        Ok(domain) => println!(
            "NOT RUN conformance over tcp without a layer: this libfabric's best is {}",
            domain.provider()
        ),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn verbs_with_rxm() {
    // A refused access leaves the two endpoints without a connection for good (1.17); the access itself is
    // refused, which is what the cases look at first. A message that is too long: a crash.
    check("ofi+verbs;ofi_rxm", REFUSED);
}

#[test]
fn udp_with_rxd() {
    // A refused access is never answered, and a peer that is gone is tried for ever, also while the endpoint is closed. A
    // message that is too long is cut without a word.
    let endless = [GONE, CLOSING, OTHERS];
    check("ofi+udp;ofi_rxd", &[&endless, REFUSED].concat());
}

#[test]
fn net() {
    // Stops reading from a peer at a large message that has no RECV yet.
    check("ofi+net", &[UNEXPECTED, THREADS]);
}

#[test]
fn sockets() {
    // Sleeps a while before it sends again to a peer whose buffers were full.
    check("ofi+sockets", &[PRESSURE]);
}

#[test]
fn shm() {
    // A message that is too long hangs.
    check("ofi+shm", &[]);
}
