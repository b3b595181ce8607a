//! Pings: of an engine and of a responder.

mod common;

use common::fabric::{client_options, plugins_dir, provider};
use common::raw::{Raw, put};
use common::{Shape, Storage};
use daos_client::{Client, EngineUri, Pinger};
use daos_wire::{Opcode, Request, RmaDescriptor, WireStatus};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);
const WHO: Uuid = Uuid::from_u128(0x78);

/// Whether `ofi_rxm` is between the engine and libfabric's connections.
fn has_layer() -> bool {
    provider().starts_with("ofi+")
}

fn ping(sequence: u64, rma: RmaDescriptor) -> Request<'static> {
    Request {
        value_len: rma.len,
        rma: Some(rma),
        ..Request::new(Opcode::Ping, Uuid::nil(), sequence, &[])
    }
}

fn ping_all_sizes(uri: &EngineUri, target: u32) {
    let mut pinger = Pinger::open(uri, target, "lo", plugins_dir()).unwrap();
    for size in [0, 1, 64, 4096, 4097, 65536, 65537, 1 << 20] {
        for _ in 0..3 {
            let took = pinger.ping(size, PATIENCE).unwrap();
            assert!(took > Duration::ZERO);
        }
    }
    let error = pinger.ping((1 << 20) + 1, PATIENCE).unwrap_err();
    assert!(error.to_string().contains("1048577"), "{error}");
}

#[test]
fn every_target_of_an_engine_sends_back_what_it_is_sent() {
    let storage = Storage::format(Shape::default());
    let engine = storage.start();
    for target in 0..2 {
        ping_all_sizes(engine.uri(), target);
    }
    let none = Pinger::open(engine.uri(), 2, "lo", None).err().unwrap();
    assert!(none.to_string().contains("it has 2"), "{none}");
    engine.stop().unwrap();
}

#[test]
fn a_client_has_few_pings_at_a_time_and_its_puts_go_on() {
    let storage = Storage::format(Shape {
        targets: 1,
        ..Shape::default()
    });
    let engine = storage.start();
    let mut raw = Raw::new(WHO, engine.uri(), 0);
    // Connections are made, and the container is known.
    let ok = WireStatus::OK;
    assert_eq!(raw.ask(&put(1, 0, b"k", b"v")).status, ok);
    let rma = raw.offer(&vec![7; 1 << 20]);
    let pings: Vec<Request<'_>> = (2..22).map(|sequence| ping(sequence, rma)).collect();
    raw.send_all(&pings);
    let mut answers = Vec::new();
    let begun = Instant::now();
    let mut newest = begun;
    while answers.len() < pings.len() {
        assert!(begun.elapsed() < PATIENCE, "only {} answers", answers.len());
        // Over libfabric's layer for messages a refused access breaks the connection, and with it go the answers to
        // those whose memory was refused.
        if has_layer() && !answers.is_empty() && newest.elapsed() > Duration::from_secs(3) {
            break;
        }
        // Time for the target to look at all of them before it gets any memory.
        std::thread::sleep(Duration::from_millis(if answers.is_empty() {
            300
        } else {
            1
        }));
        let said = raw.turn();
        if !said.is_empty() {
            newest = Instant::now();
        }
        answers.extend(said);
    }
    let busy = answers
        .iter()
        .filter(|a| a.status == WireStatus::BUSY)
        .count();
    assert!((10..20).contains(&busy), "{answers:?}");
    // The others read the memory, which cannot be written.
    let others = answers.iter().filter(|a| a.status != WireStatus::BUSY);
    assert!(
        others.clone().all(|a| a.status == WireStatus::UNREACHABLE),
        "{answers:?}"
    );
    drop(raw);
    let mut raw = Raw::new(WHO, engine.uri(), 0);
    assert_eq!(raw.ask(&put(40, 22, b"k", b"w")).status, ok);
    engine.stop().unwrap();
}

/// A responder, killed with this value.
struct Responder {
    process: Child,
    uri: EngineUri,
}

impl Responder {
    fn start(seconds: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_daos_io_server"))
            .args(["--respond", seconds])
            .args(common::fabric::arguments())
            .env("D_INTERFACE", "lo")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let uri = line.trim().strip_prefix("uri ").expect("an address");
        Self {
            uri: uri.parse().unwrap(),
            process,
        }
    }

    /// Waits for its own end; its exit code.
    fn end(mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        // It has ended before if these fail.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_responder_sends_back_what_it_is_sent_and_ends_with_its_input() {
    let mut responder = Responder::start("600");
    ping_all_sizes(&responder.uri, 0);
    // Several at a time, and whoever wants more than a ping is told.
    let mut two = [0; 2].map(|_| Pinger::open(&responder.uri, 0, "lo", plugins_dir()).unwrap());
    for pinger in &mut two {
        pinger.ping(100_000, PATIENCE).unwrap();
    }
    let runtime = common::runtime();
    let refused = runtime.block_on(async {
        Client::connect(client_options(&responder.uri))
            .await
            .err()
            .unwrap()
    });
    assert!(refused.to_string().contains("pings only"), "{refused}");
    drop(responder.process.stdin.take());
    assert_eq!(responder.end(), Some(0));
}

#[test]
fn a_responder_ends_after_its_time() {
    let responder = Responder::start("1");
    let mut pinger = Pinger::open(&responder.uri, 0, "lo", plugins_dir()).unwrap();
    assert_eq!(responder.end(), Some(0));
    let gone = pinger.ping(64, Duration::from_secs(2)).unwrap_err();
    assert!(gone.to_string().contains("firewall"), "{gone}");
}

#[test]
fn a_responder_that_cannot_be_says_why() {
    for (provider, interface, words) in [
        ("tcp", "no-such-0", "no-such-0"),
        ("ofi+nothing", "lo", "ofi+nothing"),
        ("", "lo", "D_PROVIDER"),
    ] {
        let done = Command::new(env!("CARGO_BIN_EXE_daos_io_server"))
            .args(["--respond", "5"])
            .env("D_PROVIDER", provider)
            .env("D_INTERFACE", interface)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(2), "{provider} {interface}");
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(text.contains(words), "{text}");
    }
}
