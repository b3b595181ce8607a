//! Start time and memory of `daos_server`, with all plugins as files in `plugins_dir`.

use crate::process::Server;
use crate::stats::{median, spread};
use anyhow::{Context, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What says in its log that it listens.
const LISTENING: &str = "listening on";
/// Until nothing is left to do for it.
pub(crate) const REST: Duration = Duration::from_secs(2);

/// Measures and prints the table. `programs` has the programs and the plugins' files.
pub(crate) fn run(programs: &Path, rounds: u32) -> anyhow::Result<()> {
    let site = Site::new(programs)?;
    let (mut listening, mut resident, mut anonymous) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let daemon = site.start()?;
        listening.push(daemon.listening.as_secs_f64() * 1e3);
        std::thread::sleep(REST);
        resident.push(daemon.memory("VmRSS:")?);
        anonymous.push(daemon.memory("RssAnon:")?);
    }
    let count = daos_builtins::NAMES.len();
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

/// A directory with plugins, where servers are started.
pub(crate) struct Site {
    programs: PathBuf,
    dir: TempDir,
    certificates: Option<PathBuf>,
}

impl Site {
    /// Copies the plugins.
    pub(crate) fn new(programs: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("daos-bench.").tempdir()?;
        let plugins = dir.path().join("plugins");
        fs::create_dir(&plugins)?;
        for name in daos_builtins::NAMES {
            let file = format!("libdaos_{}.so", name.replace('-', "_"));
            fs::copy(programs.join(&file), plugins.join(&file))
                .with_context(|| format!("{file} is not built"))?;
            fs::set_permissions(plugins.join(&file), fs::Permissions::from_mode(0o644))?;
        }
        for path in [dir.path(), &plugins] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self {
            programs: programs.to_owned(),
            dir,
            certificates: None,
        })
    }

    /// Makes certificates, which everything uses from now on.
    pub(crate) fn with_certificates(mut self) -> anyhow::Result<Self> {
        let certificates = self.dir.path().join("certs");
        let made = Command::new(self.programs.join("daos_server"))
            .args(["cert", "init", "--dir"])
            .arg(&certificates)
            .output()?;
        let errors = String::from_utf8_lossy(&made.stderr);
        ensure!(made.status.success(), "daos_server cert init: {errors}");
        self.certificates = Some(certificates);
        Ok(self)
    }

    /// The certificates.
    pub(crate) fn certificates(&self) -> anyhow::Result<&Path> {
        self.certificates
            .as_deref()
            .context("no certificates were made")
    }

    /// Arguments that make the shell use the certificates.
    pub(crate) fn trust(&self) -> anyhow::Result<Vec<String>> {
        let dir = self.certificates()?.display().to_string();
        Ok(vec!["--cert-dir".to_owned(), dir])
    }

    /// A shell.
    pub(crate) fn shell(&self, args: &[String]) -> Command {
        let mut shell = Command::new(self.programs.join("daos_shell"));
        shell.args(args).stdin(Stdio::null());
        shell
    }

    /// Starts a server and waits until it listens.
    pub(crate) fn start(&self) -> anyhow::Result<Daemon> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let dir = self.dir.path();
        let run = tempfile::Builder::new()
            .prefix("run.")
            .tempdir_in(dir)?
            .keep();
        let at = run.display();
        let transport = match &self.certificates {
            None => "{allow_insecure: true}".to_owned(),
            Some(certs) => {
                let certs = certs.display();
                format!(
                    "{{ca_cert: {certs}/daosCA.crt, cert: {certs}/server.crt, key: {certs}/server.key}}"
                )
            }
        };
        let config = format!(
            "name: daos_server\nport: {port}\ntransport_config: {transport}\n\
             socket_dir: {at}\nstate_dir: {at}/state\nplugins_dir: {}/plugins\nprovider: tcp\n\
             fabric_iface: lo\nservers:\n- targets: 1\n  first_core: 0\n  scm_class: ram\n  \
             scm_mount: {at}/scm\n  scm_size: 1\n  bdev_class: file\n  bdev_list: [{at}/bdev]\n  \
             bdev_size: 1\n",
            dir.display()
        );
        let file = run.join("daos_server.yml");
        fs::write(&file, config)?;
        let begun = Instant::now();
        let mut command = Command::new(self.programs.join("daos_server"));
        command.arg("-o").arg(&file).arg("start");
        if self.certificates.is_none() {
            command.arg("-i");
        }
        let mut server = Server::start(
            command
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
                return Ok(Daemon {
                    server,
                    listening,
                    address: format!("127.0.0.1:{port}"),
                });
            }
        }
        bail!("daos_server did not start; see above");
    }
}

/// A server that runs.
pub(crate) struct Daemon {
    pub(crate) server: Server,
    /// From its start until it listened.
    pub(crate) listening: Duration,
    pub(crate) address: String,
}

impl Daemon {
    /// MiB of a line of /proc/PID/status.
    pub(crate) fn memory(&self, name: &str) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let fields: Vec<&str> = line
            .context("the kernel does not tell the memory")?
            .split_whitespace()
            .collect();
        ensure!(fields.get(1) == Some(&"kB"), "memory in another unit");
        Ok(fields[0].parse::<f64>()? / 1024.0)
    }
}
