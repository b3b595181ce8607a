//! Measures the plugin boundary and the emulation backends against named peers.
//!
//! Both sides of a comparison run in turns in one process start, `--rounds` times; the figure is
//! the median of the per-round ratios, which a noisy machine disturbs least. Output is a Markdown
//! table per comparison.

mod abi;
mod fabric;
mod fio;
mod load;
mod runner;
mod stats;

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
    /// A bdev plugin against fio (io_uring, O_DIRECT) on the same file or block device.
    Fio {
        /// A file (made and removed if it does not exist) or a block device whose contents may go.
        target: PathBuf,
        /// Seconds per turn.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
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
        What::Fio { target, seconds } => fio::run(target, *seconds, cli.rounds),
        What::Load { plugin } => load::run(plugin, cli.rounds),
        What::LoadOnce { plugin } => load::once(plugin),
    }
}
