//! Start time and memory of `daos_server`, with all plugins as files in `plugins_dir`.

use crate::process::Server;
use crate::stats::{median, spread};
use anyhow::{Context, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What says in its log that it listens.
const LISTENING: &str = "listening on";
/// Until nothing is left to do for it.
const REST: Duration = Duration::from_secs(2);

/// Measures and prints the table. `programs` has the programs and the plugins' files.
pub(crate) fn run(programs: &Path, rounds: u32) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("daos-bench.").tempdir()?;
    let plugins = dir.path().join("plugins");
    fs::create_dir(&plugins)?;
    let mut count = 0;
    for name in daos_builtins::NAMES {
        let file = format!("libdaos_{}.so", name.replace('-', "_"));
        fs::copy(programs.join(&file), plugins.join(&file))
            .with_context(|| format!("{file} is not built"))?;
        fs::set_permissions(plugins.join(&file), fs::Permissions::from_mode(0o644))?;
        count += 1;
    }
    for path in [dir.path(), &plugins] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let (mut listening, mut resident, mut anonymous) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let daemon = start(programs, dir.path())?;
        listening.push(daemon.listening.as_secs_f64() * 1e3);
        std::thread::sleep(REST);
        resident.push(memory(&daemon.server, "VmRSS:")?);
        anonymous.push(memory(&daemon.server, "RssAnon:")?);
    }
    println!("daos_server with {count} plugins in plugins_dir, {rounds} starts\n");
    println!("| what | figure |");
    println!("|---|---|");
    println!("| exec until it listens, ms | {} |", spread(&listening, 1));
    println!(
        "| resident memory at rest, MiB | {} |",
        spread(&resident, 1)
    );
    println!(
        "| of it anonymous, the rest being files (its own program), MiB | {:.1} |",
        median(&anonymous)
    );
    Ok(())
}

struct Daemon {
    server: Server,
    listening: Duration,
}

fn start(programs: &Path, dir: &Path) -> anyhow::Result<Daemon> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let run = tempfile::Builder::new()
        .prefix("run.")
        .tempdir_in(dir)?
        .keep();
    let at = run.display();
    let config = format!(
        "name: daos_server\nport: {port}\ntransport_config: {{allow_insecure: true}}\n\
         socket_dir: {at}\nstate_dir: {at}/state\nplugins_dir: {}/plugins\nprovider: tcp\n\
         fabric_iface: lo\nservers:\n- targets: 1\n  first_core: 0\n  scm_class: ram\n  \
         scm_mount: {at}/scm\n  scm_size: 1\n  bdev_class: file\n  bdev_list: [{at}/bdev]\n  \
         bdev_size: 1\n",
        dir.display()
    );
    let file = run.join("daos_server.yml");
    fs::write(&file, config)?;
    let begun = Instant::now();
    let mut server = Server::start(
        Command::new(programs.join("daos_server"))
            .arg("-o")
            .arg(&file)
            .args(["start", "-i"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit()),
    )?;
    let output = server.child().stdout.take().context("no pipe")?;
    let mut lines = BufReader::new(output).lines();
    for line in lines.by_ref() {
        if line?.contains(LISTENING) {
            let listening = begun.elapsed();
            // Somebody must read on, or the daemon would wait for that.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(Daemon { server, listening });
        }
    }
    bail!("daos_server did not start; see above");
}

/// MiB of a line of /proc/PID/status.
fn memory(server: &Server, name: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let fields: Vec<&str> = line
        .context("the kernel does not tell the memory")?
        .split_whitespace()
        .collect();
    ensure!(fields.get(1) == Some(&"kB"), "memory in another unit");
    Ok(fields[0].parse::<f64>()? / 1024.0)
}
