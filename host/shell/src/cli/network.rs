//! Commands about the fabric.

use clap::{Args, Subcommand};
use daos_report::NetworkScanArgs;

#[derive(Subcommand)]
pub(crate) enum NetworkCommand {
    /// List the hosts' network interfaces with the fabric providers that work on them. Hosts with
    /// equal interfaces are shown once.
    #[command(visible_alias = "s")]
    Scan(NetworkScanArgs),
    /// Measure latency and bandwidth of the fabric between this machine and a host or an engine.
    ///
    /// Sends messages of each size to and fro, as libfabric's fi_pingpong does: what it sends comes back. Up to
    /// 4096 bytes travel in messages, more by remote memory access. A number names an engine by its rank: its own
    /// endpoint answers, over the provider it uses. Anything else names a host: its server opens a
    /// responder for the time of the measurement, also while no engine runs there.
    #[command(
        after_help = "Examples:\n  daos_shell -i -l node1 network ping 0\n  daos_shell -i network ping node2 -p \
                            'ofi+tcp;ofi_rxm' --plot ping.svg\n\nColumns as fi_pingpong's: bytes per transfer, \
                            transfers sent, of them answered (= all), bytes in all both ways, time, bandwidth \
                            (10^6 bytes a second), time of one transfer (half of to and fro), millions of transfers a second."
    )]
    Ping(PingArgs),
}

#[derive(Args)]
pub(crate) struct PingArgs {
    /// Rank of an engine of the system that the hosts of -l belong to, or a host as in -l.
    #[arg(value_name = "HOST|RANK")]
    pub(crate) target: String,
    /// Provider to measure [default: the engine's; that of the host's configuration]
    #[arg(short, long, value_name = "PROVIDER")]
    pub(crate) provider: Option<String>,
    /// Bytes to send, 1 to 1 MiB; k and m are powers of 1024.
    #[arg(short = 'S', long, value_delimiter = ',', value_name = "SIZE,...", value_parser = crate::ping::size, default_value = "64,256,1k,4k,64k,1m")]
    pub(crate) sizes: Vec<usize>,
    /// Measured pings of each size.
    #[arg(short = 'n', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) count: u32,
    /// Target of the engine that answers.
    #[arg(short, long, default_value_t = 0, value_name = "N")]
    pub(crate) target_number: u32,
    /// Network interface or address of this machine [default: the fabric plugin chooses]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) interface: String,
    /// Directory of fabric plugins beside the built-in one [default: ../lib/daos/plugins beside this program's]
    #[arg(long, value_name = "DIR")]
    pub(crate) plugins_dir: Option<std::path::PathBuf>,
    /// Draw latency and bandwidth over size into this SVG file.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<std::path::PathBuf>,
}
