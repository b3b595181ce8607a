//! The control plane under many: one shell to many simulated servers, many shells to one real server, and what a
//! secured server costs. Times of the shell are from its start to its end.

use crate::daemon::Site;
use crate::stats::{median, spread};
use anyhow::{Context, ensure};
use daos_certs::{Files, Identity, Role, server_config};
use simulated_hosts::{Hosts, Manner};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Network of the simulated hosts.
const NETWORK: u8 = 77;

/// What is measured.
pub(crate) struct Plan {
    /// Simulated hosts.
    pub(crate) hosts: usize,
    /// Shells at the same time.
    pub(crate) shells: usize,
    /// How long these work.
    pub(crate) seconds: u32,
    pub(crate) rounds: u32,
}

/// Measures and prints the tables.
pub(crate) fn run(programs: &Path, plan: &Plan) -> anyhow::Result<()> {
    let site = Site::new(programs)?.with_certificates()?;
    one_to_many(&site, plan)?;
    println!();
    many_to_one(&site, plan)
}

fn one_to_many(site: &Site, plan: &Plan) -> anyhow::Result<()> {
    let identity = Identity::load(
        &Files::in_dir(site.certificates()?, Role::Server),
        Role::Server,
        Role::Server.name(),
    )?;
    let (plain, secured) = (None, Some(server_config(&identity)?));
    println!(
        "`daos_shell storage scan` of simulated hosts with 8 SSDs each, {} rounds\n",
        plan.rounds
    );
    println!("| hosts | connections | seconds |");
    println!("|---|---|---|");
    for (name, tls) in [("plain text", plain), ("mutual TLS 1.3", secured)] {
        let trust = match tls {
            None => vec!["-i".to_owned()],
            Some(_) => site.trust()?,
        };
        let hosts = Hosts::start(NETWORK, plan.hosts, tls, |_| Manner::Well)?;
        let list = hosts.list();
        let mut times = Vec::new();
        for _ in 0..plan.rounds {
            let begun = Instant::now();
            let done = site
                .shell(&trust)
                .args(["-l", &list, "storage", "scan"])
                .output()?;
            times.push(begun.elapsed().as_secs_f64());
            let errors = String::from_utf8_lossy(&done.stderr);
            ensure!(done.status.success(), "daos_shell: {errors}");
            let text = String::from_utf8_lossy(&done.stdout);
            let headings = text.lines().filter(|line| line.ends_with(':')).count();
            ensure!(
                headings == 1,
                "{headings} headings for hosts that say the same: {text}"
            );
        }
        println!("| {} | {name} | {} |", plan.hosts, spread(&times, 2));
    }
    Ok(())
}

fn many_to_one(site: &Site, plan: &Plan) -> anyhow::Result<()> {
    let (mut listening, mut resident, mut scan) = (Vec::new(), Vec::new(), Vec::new());
    let (mut calls, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let daemon = site.start()?;
        listening.push(daemon.listening.as_secs_f64() * 1e3);
        std::thread::sleep(crate::daemon::REST);
        resident.push(daemon.memory("VmRSS:")?);
        let begun = Instant::now();
        let done = shell(site, &daemon.address, ["storage", "scan"])?.output()?;
        scan.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(
            done.status.success(),
            "daos_shell: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        let used = daemon.server.cpu();
        let (before, begun) = (used.used()?, Instant::now());
        let count = storm(plan, || shell(site, &daemon.address, ["system", "query"]))?;
        let took = begun.elapsed();
        calls.push(count as f64 / took.as_secs_f64());
        cpu.push((used.used()?.saturating_sub(before)).as_secs_f64() * 1e3 / count as f64);
    }
    println!(
        "One secured `daos_server` with all plugins as files, {} starts\n",
        plan.rounds
    );
    println!("| what | figure |");
    println!("|---|---|");
    println!("| exec until it listens, ms | {} |", spread(&listening, 1));
    println!(
        "| resident memory at rest, MiB | {} |",
        spread(&resident, 1)
    );
    println!(
        "| `daos_shell storage scan` from exec to exit, the first one of a server, ms | {} |",
        spread(&scan, 1)
    );
    println!(
        "| `system query` by {} shells at the same time, a process and a handshake per call, calls per second | {} |",
        plan.shells,
        spread(&calls, 0)
    );
    println!(
        "| CPU time of the server per call, ms; of one core under that load, % | {}; {:.0} |",
        spread(&cpu, 2),
        median(&cpu) * median(&calls) / 10.0
    );
    Ok(())
}

fn shell(site: &Site, address: &str, what: [&str; 2]) -> anyhow::Result<Command> {
    let mut shell = site.shell(&site.trust()?);
    shell.args(["-l", address]).args(what);
    Ok(shell)
}

/// Lets shells run one after the other on as many threads, until the time is over; how many did their work.
fn storm(plan: &Plan, shell: impl Fn() -> anyhow::Result<Command> + Sync) -> anyhow::Result<usize> {
    let over = AtomicBool::new(false);
    let work = || -> anyhow::Result<usize> {
        let mut count = 0;
        while !over.load(Ordering::Relaxed) {
            let status = shell()?.stdout(Stdio::null()).status()?;
            ensure!(status.success(), "daos_shell failed under load: {status}");
            count += 1;
        }
        Ok(count)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.shells).map(|_| scope.spawn(work)).collect();
        std::thread::sleep(Duration::from_secs(plan.seconds.into()));
        over.store(true, Ordering::Relaxed);
        let mut count = 0;
        for thread in threads {
            count += thread.join().ok().context("a thread panicked")??;
        }
        Ok(count)
    })
}
