//! fabric-ofi through its shared object against libfabric's own fi_pingpong: tagged messages forth and back
//! between two busy-polling processes, over the same provider on the loopback.
//!
//! Alike on both sides: one RECV ahead, one message under way, the same program at either end, which spins, on whatever
//! processor it is, and no clock in the loop. The first exchange, with the connection's set-up, counts on neither: fi_pingpong, which
//! times it with the others, is run with one exchange as well, and the rest is what the others took.
//! Not alike: fi_pingpong injects what is that short over each provider, the plugin over shm only; ours gives its processor to others
//! after every 512 looks in vain.

use crate::stats::{median, spread};
use anyhow::{Context, ensure};
use daos_loader::{PluginFile, Policy};
use daos_plugin_api::abi::{FABRIC_LOCAL, FabricCompletion, FabricOp, FabricRequest, Status};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::host::{CallOptions, Endpoint, FabricMemory, Instance, InstanceOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Providers, and message sizes with the exchanges of a turn: some tenths of a second, so that it is not over within a time slice, and
/// seconds over `tcp;ofi_rxm`, since what the set-up takes of fi_pingpong's time differs by tens of milliseconds.
const PROVIDERS: [(&str, [(usize, u32); 2]); 2] = [
    ("tcp;ofi_rxm", [(64, 200_000), (1 << 20, 4_000)]),
    ("shm", [(64, 500_000), (1 << 20, 2_000)]),
];
const PATIENCE: Duration = Duration::from_secs(60);
/// Polls in vain after which the core is left to others: on a machine with fewer free cores than sides
/// it is the other side that waits for it.
const SPIN: u32 = 512;

/// What is measured.
pub(crate) struct Plan<'a> {
    /// Builds of the plugin, in turn with each other.
    pub(crate) plugins: &'a [PathBuf],
    /// All, if there are none.
    pub(crate) providers: &'a [String],
    pub(crate) rounds: u32,
}

/// Measures and prints the table.
pub(crate) fn run(plan: &Plan<'_>) -> anyhow::Result<()> {
    if Command::new("fi_pingpong").arg("-h").output().is_err() {
        println!("NOT MEASURED fabric-ofi: fi_pingpong is missing; apt-get install libfabric-bin");
        return Ok(());
    }
    let known = PROVIDERS.map(|(name, _)| name);
    for name in plan.providers {
        ensure!(
            known.contains(&name.as_str()),
            "no measurement over {name}: there are {}",
            known.join(", ")
        );
    }
    println!(
        "fabric-ofi against fi_pingpong, {} turns each\n",
        plan.rounds
    );
    println!("| provider, message | fabric-ofi | fi_pingpong | ratio |");
    println!("|---|---|---|---|");
    let chosen = |name: &str| plan.providers.is_empty() || plan.providers.iter().any(|p| p == name);
    for (provider, sizes) in PROVIDERS.into_iter().filter(|(name, _)| chosen(name)) {
        for (bytes, passes) in sizes {
            let mut ours = vec![Vec::new(); plan.plugins.len()];
            let mut theirs = Vec::new();
            for _ in 0..plan.rounds {
                for (ours, plugin) in ours.iter_mut().zip(plan.plugins) {
                    ours.push(our_turn(plugin, provider, bytes, passes)?);
                }
                theirs.push(their_turn(provider, bytes, passes)?);
            }
            for (ours, plugin) in ours.iter().zip(plan.plugins) {
                row(plan, provider, bytes, plugin, ours, &theirs);
            }
        }
    }
    Ok(())
}

/// Prints a row, of microseconds one way.
fn row(plan: &Plan<'_>, provider: &str, bytes: usize, plugin: &Path, ours: &[f64], theirs: &[f64]) {
    let (unit, scale): (_, fn(usize, f64) -> f64) = match bytes {
        64 => ("64 B one way, us", |_, us| us),
        _ => ("1 MiB, GB/s", |bytes, us| bytes as f64 / us / 1e3),
    };
    let scaled =
        |values: &[f64]| -> Vec<f64> { values.iter().map(|us| scale(bytes, *us)).collect() };
    let (ours, theirs) = (scaled(ours), scaled(theirs));
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
    let which = match plan.plugins {
        [_] => String::new(),
        _ => format!(", {}", plugin.display()),
    };
    println!(
        "| {provider}, {unit}{which} | {:.3} | {:.3} | {} |",
        median(&ours),
        median(&theirs),
        spread(&ratios, 2)
    );
}

/// Microseconds one way, without the first exchange.
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
    side.receive()?;
    let mut start = Instant::now();
    for pass in 0..=passes {
        if pass == 1 {
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
    for _ in 0..=passes {
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
    done: [FabricCompletion; 4],
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
            done: [FabricCompletion::EMPTY; 4],
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
        let count = self.endpoint.poll(&mut self.done).map_err(failed)?;
        for done in &self.done[..count] {
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
        let mut turns = 0u32;
        let mut begun = None;
        while self.received < self.receives || self.sent < self.sends {
            self.poll()?;
            turns = turns.wrapping_add(1);
            if !turns.is_multiple_of(SPIN) {
                continue;
            }
            let waited = begun.get_or_insert_with(Instant::now).elapsed();
            ensure!(waited < PATIENCE, "no message within {PATIENCE:?}");
            std::thread::yield_now();
        }
        self.receive()
    }
}

fn failed(status: Status) -> anyhow::Error {
    anyhow::anyhow!("the endpoint failed: {status}")
}

/// Microseconds one way, without the first exchange.
fn their_turn(provider: &str, bytes: usize, passes: u32) -> anyhow::Result<f64> {
    let all = their_time(provider, bytes, passes + 1)? * f64::from(passes + 1);
    let first = their_time(provider, bytes, 1)?;
    Ok((all - first) / f64::from(passes))
}

/// Microseconds one way as fi_pingpong says.
fn their_time(provider: &str, bytes: usize, passes: u32) -> anyhow::Result<f64> {
    let port = TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port()
        .to_string();
    let (size, passes) = (bytes.to_string(), passes.to_string());
    let command = || {
        let mut command = Command::new("fi_pingpong");
        command.args([
            "-p", provider, "-e", "rdm", "-m", "tagged", "-I", &passes, "-S", &size,
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
        if let Some(us) = text.lines().last().and_then(|row| one_way(row, bytes)) {
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

/// Reads `bytes #sent #ack total time MB/sec usec/xfer Mxfers/sec`, where all have two digits behind the point: of a short time the rate
/// has more of them.
fn one_way(row: &str, bytes: usize) -> Option<f64> {
    let mut values = row.split_whitespace().skip(5).map(str::parse::<f64>);
    let (rate, us) = (values.next()?.ok()?, values.next()?.ok()?);
    Some(if us < 10.0 && rate > 0.0 {
        bytes as f64 / rate
    } else {
        us
    })
}

#[cfg(test)]
mod tests {
    use super::one_way;

    #[test]
    fn the_time_is_read_from_whatever_has_more_digits() {
        let short = "64      100k    =100k   12m         0.08s    164.10       0.39       2.56";
        assert!((one_way(short, 64).unwrap() - 0.390_006).abs() < 1e-6);
        let long = "1m      2k      =2k     3.9g        0.84s   4993.22     210.00       0.00";
        assert_eq!(one_way(long, 1 << 20), Some(210.0));
        assert_eq!(
            one_way("bytes #sent #ack total time MB/sec usec/xfer", 64),
            None
        );
    }
}
