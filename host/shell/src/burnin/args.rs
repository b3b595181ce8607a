//! The command line of `storage burn-in`.

use clap::{Args, Subcommand};
use daos_burnin::units;
use std::path::PathBuf;

const EXIT: &str = "Exit status: 0 if all is well, 1 if it could not run, was interrupted or a host failed, 2 for a wrong command \
                    line, 3 if a burn-in found errors.";

#[derive(Subcommand)]
pub(crate) enum BurnInCommand {
    /// Start a burn-in on devices of the hosts; it goes on when this command ends.
    ///
    /// Without options: a quarter of an hour of slow random reads and writes of 4 KiB to 1 MiB; everything that is read is
    /// checked, and everything that was written is read back at the end. A device that holds something - a
    /// label of ours, a file system, a partition table, anything that is not zeroes - is only read then. It is written to
    /// only if --destroy-data names it and its name is typed once more. The first and the last MiB of a device are never
    /// part of the load, so that it is as blank afterwards as it was before.
    #[command(after_help = "Examples:\n  \
        daos_shell -i -l node1 storage burn-in start --all --dry-run\n  \
        daos_shell -i -l node1 storage burn-in start kdev:/dev/sdb nvme:0000:81:00.0 --follow\n  \
        daos_shell -i -l node1,node2 storage burn-in start --all --duration 2h --rwmixread 70\n  \
        daos_shell -i storage burn-in start /dev/sdb --job-file mixed.fio --destroy-data kdev:/dev/sdb\n\n\
        Exit status: 0 if it was started (with --follow: and ended well), 1 if it could not run, 2 for a wrong command \
        line, 3 if --follow was given and it found errors.")]
    Start(Box<StartArgs>),
    /// Show runs and how far they are.
    #[command(after_help = EXIT)]
    Status {
        /// Runs to show [default: all that are known]
        runs: Vec<String>,
        /// Show progress until they end [default: of those that run now]
        #[arg(short, long)]
        follow: bool,
    },
    /// Stop runs and wait for their end; what they measured is kept.
    Stop {
        /// Runs to stop.
        #[arg(required_unless_present = "all")]
        runs: Vec<String>,
        /// All that run.
        #[arg(long, conflicts_with = "runs")]
        all: bool,
    },
    /// Show everything about a run: rates, latencies, what was verified, errors, changes of health values.
    #[command(after_help = EXIT)]
    Report {
        /// The run [default: the newest]
        run: Option<String>,
        /// Write it as a page with plots into this file, too.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(crate) struct StartArgs {
    /// Devices, as CLASS:ADDRESS or ADDRESS; `storage scan` and --all --dry-run show them.
    #[arg(value_name = "DEVICE", required_unless_present = "all")]
    pub(crate) devices: Vec<String>,
    /// Every block device of the hosts' configuration.
    #[arg(long, conflicts_with = "devices")]
    pub(crate) all: bool,
    /// How long: 90s, 15m, 2h, 1d [default: 15m]
    #[arg(short, long, value_name = "TIME", value_parser = units::time, conflicts_with = "job_file")]
    pub(crate) duration: Option<std::time::Duration>,
    /// What to do: read, write, randread, randwrite, rw (mixed, in order), randrw. Whatever writes is refused on a device
    /// that holds something. [default: randrw, or randread where a device holds something]
    #[arg(long, value_parser = ["read", "write", "randread", "randwrite", "rw", "randrw"], conflicts_with = "job_file")]
    pub(crate) rw: Option<String>,
    /// Of a hundred requests of a mixture, how many are reads [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100), conflicts_with = "job_file")]
    pub(crate) rwmixread: Option<u8>,
    /// Size of requests, or sizes with their shares of a hundred: 64k, 4k/50:64k/40:1m/10 [default: the latter]
    #[arg(long, visible_alias = "bssplit", value_name = "SIZE[/SHARE:...]", value_parser = sizes, conflicts_with = "job_file")]
    pub(crate) bs: Option<Sizes>,
    /// Requests under way on each device [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024), conflicts_with = "job_file")]
    pub(crate) iodepth: Option<u32>,
    /// Most reads and most writes per second; 0 = as fast as the device [default: 200]
    #[arg(long, value_name = "N", conflicts_with = "job_file")]
    pub(crate) rate_iops: Option<u64>,
    /// Most bytes read and most bytes written per second: 10m
    #[arg(long, value_name = "SIZE", value_parser = units::size, conflicts_with = "job_file")]
    pub(crate) rate: Option<u64>,
    /// Do not check what is read.
    #[arg(long, conflicts_with = "job_file")]
    pub(crate) no_verify: bool,
    /// Take the load from a job file of fio: rw, rwmixread, bs, bssplit, iodepth, numjobs, size, offset, runtime,
    /// time_based, rate, rate_iops, verify.
    #[arg(long, value_name = "FILE")]
    pub(crate) job_file: Option<PathBuf>,
    /// What this device (CLASS:ADDRESS) holds may be destroyed. Its name is asked for once more. One host only.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) destroy_data: Vec<String>,
    /// For scripts: the name of such a device once more, exactly, instead of typing it.
    #[arg(long, value_name = "DEVICE", requires = "destroy_data")]
    pub(crate) consent: Vec<String>,
    /// Check the devices, show what would be done, start nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Show progress until it ends.
    #[arg(short, long, conflicts_with = "dry_run")]
    pub(crate) follow: bool,
}

/// Sizes of requests with their shares.
#[derive(Clone, Debug)]
pub(crate) struct Sizes(pub(crate) Vec<daos_burnin::SizeShare>);

fn sizes(text: &str) -> Result<Sizes, String> {
    daos_burnin::fio::split(text).map(Sizes)
}
