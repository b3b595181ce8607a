//! fabric-ofi through its shared object against libfabric's own fi_pingpong: tagged messages forth and back
//! between two busy-polling processes, over the same provider on the loopback.

use crate::stats::{median, spread};
use anyhow::{Context, ensure};
use daos_loader::{PluginFile, Policy};
use daos_plugin_api::abi::{FABRIC_LOCAL, FabricCompletion, FabricOp, FabricRequest, Status};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::host::{CallOptions, Endpoint, FabricMemory, Instance, InstanceOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Message sizes with the passes of a turn.
const SIZES: [(usize, u32); 2] = [(64, 5_000), (1 << 20, 200)];
const PROVIDERS: [&str; 2] = ["tcp;ofi_rxm", "shm"];
const PATIENCE: Duration = Duration::from_secs(60);
/// Polling in vain after which the core is left to others: on a machine with fewer free cores than sides
/// it is the other side that waits for it.
const SPIN: Duration = Duration::from_micros(100);

/// Measures and prints the table.
pub(crate) fn run(plugin: &Path, rounds: u32) -> anyhow::Result<()> {
    if Command::new("fi_pingpong").arg("-h").output().is_err() {
        println!("NOT MEASURED fabric-ofi: fi_pingpong is missing; apt-get install libfabric-bin");
        return Ok(());
    }
    println!("fabric-ofi against fi_pingpong, {rounds} turns each\n");
    println!("| provider, message | fabric-ofi | fi_pingpong | ratio |");
    println!("|---|---|---|---|");
    for provider in PROVIDERS {
        for (bytes, passes) in SIZES {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                ours.push(our_turn(plugin, provider, bytes, passes)?);
                theirs.push(their_turn(provider, bytes, passes)?);
            }
            let (unit, values): (_, [Vec<f64>; 2]) = match bytes {
                64 => ("64 B one way, us", [ours, theirs]),
                _ => {
                    let rate = |us: Vec<f64>| us.iter().map(|us| bytes as f64 / us / 1e3).collect();
                    ("1 MiB, GB/s", [rate(ours), rate(theirs)])
                }
            };
            let ratios: Vec<f64> = values[0]
                .iter()
                .zip(&values[1])
                .map(|(a, b)| a / b)
                .collect();
            println!(
                "| {provider}, {unit} | {:.2} | {:.2} | {} |",
                median(&values[0]),
                median(&values[1]),
                spread(&ratios, 2)
            );
        }
    }
    Ok(())
}

/// Microseconds one way.
pub(crate) fn our_turn(
    plugin: &Path,
    provider: &str,
    bytes: usize,
    passes: u32,
) -> anyhow::Result<f64> {
    let mut child = Ended(
        Command::new(std::env::current_exe()?)
            .arg("ofi-peer")
            .arg(plugin)
            .args([provider, &bytes.to_string(), &passes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut side = Side::open(plugin, provider, bytes)?;
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().context("piped")?).read_line(&mut line)?;
    let peer = side.resolve(&line)?;
    writeln!(
        child.0.stdin.take().context("piped")?,
        "{}",
        side.address()?
    )?;
    let warm = passes / 10;
    side.receive()?;
    let mut start = Instant::now();
    for pass in 0..warm + passes {
        if pass == warm {
            start = Instant::now();
        }
        side.send(peer)?;
        side.wait()?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(passes) / 2.0)
}

/// The other side of [`our_turn`], in a process of its own.
pub(crate) fn peer(plugin: &Path, provider: &str, bytes: usize, passes: u32) -> anyhow::Result<()> {
    let mut side = Side::open(plugin, provider, bytes)?;
    side.receive()?;
    println!("{}", side.address()?);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let peer = side.resolve(&line)?;
    for _ in 0..passes / 10 + passes {
        side.wait()?;
        side.send(peer)?;
    }
    // What is sent last may still need this process.
    let end = Instant::now() + Duration::from_millis(200);
    while Instant::now() < end {
        side.poll()?;
    }
    Ok(())
}

/// Waited for when dropped, and killed if it does not end by itself: that would leave its shared memory.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let start = Instant::now();
        while let Ok(None) = self.0.try_wait()
            && start.elapsed() < Duration::from_secs(5)
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Neither fails for one that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[repr(align(64))]
#[derive(Clone)]
struct Scratch([u8; 256]);

/// An endpoint that has one receive posted ahead.
struct Side {
    // In this order: the endpoint ends before the memory that it uses.
    endpoint: Endpoint,
    region: FabricMemory,
    memory: Vec<u8>,
    scratch: Vec<Scratch>,
    bytes: usize,
    receives: usize,
    received: usize,
    sent: usize,
    sends: usize,
    _instance: Instance,
}

/// Messages in the memory: two to receive into, one to send.
const SEND: usize = 2;

impl Side {
    fn open(plugin: &Path, provider: &str, bytes: usize) -> anyhow::Result<Self> {
        let policy = Policy::default();
        let info = PluginFile::inspect(plugin, &policy).context("the plugin is refused")?;
        let loaded = daos_loader::load(&info, &policy)?;
        let instance = Instance::create(loaded.table, InstanceOptions::loaded())?;
        let request = FabricOpenRequest {
            provider: format!("ofi+{provider}"),
            interface: "lo".to_owned(),
            ..Default::default()
        };
        let domain = instance.open_fabric(&request, CallOptions::default())?;
        ensure!(
            domain.info().scratch_size as usize <= size_of::<Scratch>(),
            "large scratch"
        );
        let mut memory = vec![7u8; 3 * bytes];
        // SAFETY: the memory is dropped after the registration and does not move.
        let region = unsafe { domain.register(memory.as_mut_ptr(), memory.len(), FABRIC_LOCAL) }?;
        Ok(Self {
            endpoint: domain.open_endpoint(CallOptions::default())?,
            region,
            memory,
            scratch: vec![Scratch([0; 256]); 3],
            bytes,
            receives: 0,
            received: 0,
            sent: 0,
            sends: 0,
            _instance: instance,
        })
    }

    fn address(&self) -> anyhow::Result<String> {
        let bytes = self.endpoint.address().map_err(failed)?;
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn resolve(&mut self, text: &str) -> anyhow::Result<u64> {
        let digits = text.trim().as_bytes();
        let bytes: Result<Vec<u8>, _> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16))
            .collect();
        self.endpoint
            .resolve(&bytes.context("the peer gave no address")?)
            .map_err(failed)
    }

    fn receive(&mut self) -> anyhow::Result<()> {
        self.receives += 1;
        self.start(FabricOp::RECV, 0, self.receives % 2)
    }

    fn send(&mut self, peer: u64) -> anyhow::Result<()> {
        self.sends += 1;
        self.start(FabricOp::SEND, peer, SEND)
    }

    fn start(&mut self, op: FabricOp, peer: u64, slot: usize) -> anyhow::Result<()> {
        let request = FabricRequest {
            op,
            reserved: [0; 7],
            peer,
            tag: 1,
            ignore: 0,
            ptr: self.memory.as_mut_ptr().wrapping_add(slot * self.bytes),
            len: self.bytes,
            descriptor: self.region.descriptor(),
            remote_addr: 0,
            remote_key: 0,
            user: slot as u64,
            scratch: self.scratch[slot].0.as_mut_ptr(),
        };
        // SAFETY: memory and scratch live as long as the endpoint; a slot is used again only after its
        // completion.
        while unsafe { self.endpoint.submit(&[request]) }.map_err(failed)? == 0 {
            self.poll()?;
        }
        Ok(())
    }

    fn poll(&mut self) -> anyhow::Result<()> {
        let mut done = [FabricCompletion {
            user: 0,
            tag: 0,
            len: 0,
            status: Status::OK,
            op: FabricOp::RECV,
            reserved: [0; 3],
        }; 4];
        let count = self.endpoint.poll(&mut done).map_err(failed)?;
        for done in &done[..count] {
            ensure!(done.status.is_ok(), "an operation ended as {}", done.status);
            match done.op {
                FabricOp::RECV => self.received += 1,
                _ => self.sent += 1,
            }
        }
        Ok(())
    }

    /// Waits for the posted message, and for what was sent before, and posts the next receive.
    fn wait(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut turns = 0u32;
        while self.received < self.receives || self.sent < self.sends {
            self.poll()?;
            turns = turns.wrapping_add(1);
            if !turns.is_multiple_of(16) {
                continue;
            }
            let waited = start.elapsed();
            ensure!(waited < PATIENCE, "no message within {PATIENCE:?}");
            if waited > SPIN {
                std::thread::yield_now();
            }
        }
        self.receive()
    }
}

fn failed(status: Status) -> anyhow::Error {
    anyhow::anyhow!("the endpoint failed: {status}")
}

/// Microseconds one way as fi_pingpong says.
fn their_turn(provider: &str, bytes: usize, passes: u32) -> anyhow::Result<f64> {
    let port = TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port()
        .to_string();
    let (bytes, passes) = (bytes.to_string(), passes.to_string());
    let command = || {
        let mut command = Command::new("fi_pingpong");
        command.args([
            "-p", provider, "-e", "rdm", "-m", "tagged", "-I", &passes, "-S", &bytes,
        ]);
        // See the README of fabric-ofi: psm would write files.
        command.env("IPATH_NO_BACKTRACE", "1").stderr(Stdio::null());
        command
    };
    let server = command()
        .args(["-B", &port])
        .stdout(Stdio::null())
        .spawn()?;
    let _server = Ended(server);
    let start = Instant::now();
    loop {
        let output = command().args(["-P", &port, "127.0.0.1"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        // bytes #sent #ack total time MB/sec usec/xfer Mxfers/sec
        if let Some(row) = text.lines().last()
            && let Some(us) = row.split_whitespace().nth(6)
            && let Ok(us) = us.parse()
        {
            return Ok(us);
        }
        // The server may not be listening yet.
        ensure!(
            start.elapsed() < PATIENCE,
            "fi_pingpong over {provider} does not work"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
