//! Measures the plugin boundary, the emulation backends, the engine and the daemon, against named
//! peers where there are any.
//!
//! Both sides of a comparison run in turns in one process start, `--rounds` times; the figure is
//! the median of the per-round ratios, which a noisy machine disturbs least. Output is a Markdown
//! table per comparison.

mod abi;
mod control;
mod daemon;
mod echo;
mod engine;
mod fabric;
mod fio;
mod formatted;
mod load;
mod ofi;
mod ofi_engine;
mod ofi_rest;
mod process;
mod raw;
mod recovery;
mod runner;
mod scan;
mod scm;
mod scm_engine;
mod stats;
mod workload;

use anyhow::Context;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
#[command(name = "daos-bench", version, about)]
struct Cli {
    /// Turns that each side gets.
    #[arg(long, default_value_t = 7, global = true, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// bdev-malloc through its shared object, through its built-in table, and called directly.
    Abi {
        /// libdaos_bdev_malloc.so
        #[arg(long)]
        plugin: PathBuf,
    },
    /// fabric-tcp on the loopback against plain sockets.
    Fabric,
    /// fabric-ofi against fi_pingpong, between processes on the loopback.
    Ofi {
        /// libdaos_fabric_ofi.so; several are measured in turn.
        #[arg(long = "plugin", value_name = "FILE", required = true)]
        plugins: Vec<PathBuf>,
        /// Only these providers (`tcp;ofi_rxm`, shm); may be repeated.
        #[arg(long = "provider", value_name = "NAME")]
        providers: Vec<String>,
    },
    /// An engine over fabric-ofi against one over fabric-tcp and against bare endpoints; what an idle one costs.
    OfiEngine {
        /// libdaos_fabric_ofi.so
        #[arg(long)]
        plugin: PathBuf,
        /// Directory on a disk, for the bdev file.
        disk: PathBuf,
        /// Only these providers (tcp, `tcp;ofi_rxm`, sockets, shm); may be repeated. The first table has tcp always.
        #[arg(long = "provider", value_name = "NAME")]
        providers: Vec<String>,
        /// Only one of the two tables: work or rest.
        #[arg(long)]
        table: Option<ofi_engine::Table>,
        /// Seconds per turn.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=600))]
        seconds: u32,
    },
    /// The other process of `ofi`.
    #[command(hide = true)]
    OfiPeer {
        /// As for `ofi`.
        plugin: PathBuf,
        /// libfabric's name of the provider.
        provider: String,
        /// Size of messages.
        bytes: usize,
        /// Messages to send back, besides the first.
        passes: u32,
    },
    /// The other process of `ofi-engine`'s plain socket.
    #[command(hide = true)]
    EchoPeer {
        /// Where it is waited for.
        address: String,
        /// Size of messages.
        bytes: usize,
    },
    /// A bdev plugin against fio (io_uring, O_DIRECT) on the same file or block device.
    Fio {
        /// A file (made and removed if it does not exist) or a block device whose contents may go.
        target: PathBuf,
        /// Seconds per turn.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
        seconds: u32,
    },
    /// An engine over fabric-tcp against Redis: puts and gets, with and without durability.
    Engine {
        /// Directory on a disk, for the bdev file and for a log of Redis.
        disk: PathBuf,
        /// Only values of this many bytes (64, 4096 or 1048576).
        #[arg(long)]
        bytes: Option<usize>,
        /// Only this many clients (1 or 16).
        #[arg(long)]
        clients: Option<usize>,
        /// Only the engine, for profiles.
        #[arg(long)]
        alone: bool,
        /// Seconds per turn.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
        seconds: u32,
    },
    /// An engine against the raw queue of its bdev file.
    Raw {
        /// Directory on a disk, for the bdev files.
        disk: PathBuf,
        /// Seconds per turn.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
        seconds: u32,
    },
    /// Start of an engine after a stop and after kill -9, by number of entries.
    Recovery {
        /// Directory on a disk, for the bdev file.
        disk: PathBuf,
    },
    /// scm-dcpm against libpmem on one mapping: 64 B, 4 KiB and 1 MiB made durable.
    Scm {
        /// Directory for the region: on a file system with DAX, or anywhere.
        #[arg(default_value = "/dev/shm")]
        directory: PathBuf,
    },
    /// An engine with its log in dcpm against one with its log in ram: puts of 64 B and 4 KiB.
    ScmEngine {
        /// libdaos_scm_dcpm.so
        #[arg(long)]
        plugin: PathBuf,
        /// Directory for the memory: on a file system with DAX, or anywhere.
        #[arg(long, default_value = "/dev/shm")]
        directory: PathBuf,
        /// Directory on a disk, for the bdev files.
        disk: PathBuf,
        /// Seconds per turn.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
        seconds: u32,
    },
    /// A scan in a helper process against the same plugin in this process.
    Scan {
        /// Plugins; may be repeated.
        #[arg(long = "plugin", value_name = "FILE", required = true)]
        plugins: Vec<PathBuf>,
    },
    /// Start time and memory of daos_server.
    Daemon,
    /// One shell to many simulated servers in plain text and TLS, many shells to one secured server, what that costs.
    Control {
        /// Simulated servers.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        hosts: u16,
        /// Shells at the same time.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        shells: u16,
        /// Seconds that these work per round.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
        seconds: u32,
    },
    /// Trust checks, manifest, load and layout check of one plugin; hashing apart.
    Load {
        /// Any plugin.
        #[arg(long)]
        plugin: PathBuf,
    },
    /// One load in this process, for `load` (a file is loaded only once per process).
    #[command(hide = true)]
    LoadOnce {
        /// Any plugin.
        plugin: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match &cli.what {
        What::Abi { plugin } => abi::run(plugin, cli.rounds),
        What::Fabric => {
            fabric::run(cli.rounds);
            Ok(())
        }
        What::Ofi { plugins, providers } => ofi::run(&ofi::Plan {
            plugins,
            providers,
            rounds: cli.rounds,
        }),
        What::OfiEngine {
            plugin,
            disk,
            providers,
            table,
            seconds,
        } => ofi_engine::run(
            plugin,
            disk,
            &ofi_engine::Plan {
                providers,
                table: *table,
                seconds: *seconds,
                rounds: cli.rounds,
            },
        ),
        What::OfiPeer {
            plugin,
            provider,
            bytes,
            passes,
        } => ofi::peer(plugin, provider, *bytes, *passes),
        What::EchoPeer { address, bytes } => echo::peer(address, *bytes),
        What::Fio { target, seconds } => fio::run(target, *seconds, cli.rounds),
        What::Engine {
            disk,
            bytes,
            clients,
            alone,
            seconds,
        } => engine::run(
            disk,
            &engine::Plan {
                bytes: *bytes,
                clients: *clients,
                alone: *alone,
                seconds: *seconds,
                rounds: cli.rounds,
            },
        ),
        What::Raw { disk, seconds } => raw::run(disk, *seconds, cli.rounds),
        What::Recovery { disk } => recovery::run(disk, cli.rounds),
        What::Scm { directory } => scm::run(directory, cli.rounds),
        What::ScmEngine {
            plugin,
            directory,
            disk,
            seconds,
        } => scm_engine::run(plugin, directory, disk, *seconds, cli.rounds),
        What::Control {
            hosts,
            shells,
            seconds,
        } => {
            let exe = std::env::current_exe()?;
            let programs = exe.parent().context("this program is in no directory")?;
            let plan = control::Plan {
                hosts: (*hosts).into(),
                shells: (*shells).into(),
                seconds: *seconds,
                rounds: cli.rounds,
            };
            control::run(programs, &plan)
        }
        What::Daemon => {
            let exe = std::env::current_exe()?;
            let programs = exe.parent().context("this program is in no directory")?;
            daemon::run(programs, cli.rounds)
        }
        What::Scan { plugins } => {
            let exe = std::env::current_exe()?;
            let programs = exe.parent().context("this program is in no directory")?;
            scan::run(programs, plugins, cli.rounds)
        }
        What::Load { plugin } => load::run(plugin, cli.rounds),
        What::LoadOnce { plugin } => load::once(plugin),
    }
}
