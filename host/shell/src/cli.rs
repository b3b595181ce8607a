//! The command line.

use crate::reach::Reach;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Administers DAOS storage nodes: scans and formats their storage, makes pools, lists their
/// plugins, shows their state. Runs as any user on any machine that reaches the nodes' control port.
#[derive(Parser)]
#[command(
    name = "daos_shell",
    version,
    after_help = "Examples:\n  daos_shell -i -l node[1-128,200]:10001 storage scan\n  daos_shell -i -l node1 storage \
                  format\n  daos_shell -i pool create tank --size 50%\n  daos_shell -i system query --json\n\nExit status: 0 if every host answered and \
                  succeeded, 1 if any failed, 2 for a wrong command line, 3 if a burn-in found errors, \
                  130 if it was interrupted. Hosts that give the same answer share one heading; --json tells each by its \
                  name."
)]
pub(crate) struct Cli {
    /// Hosts to talk to, as host or host:port, separated by commas; node[1-128,200]:10001 stands for 129 of them. The
    /// port defaults to 10001. May be repeated [default: hostlist of the configuration file, else localhost]
    #[arg(
        short = 'l',
        long = "host-list",
        global = true,
        value_name = "HOST[:PORT],..."
    )]
    pub(crate) host_list: Vec<String>,

    /// File with more hosts, as for -l, on one or many lines; what follows # is a comment.
    #[arg(long = "host-file", global = true, value_name = "FILE")]
    pub(crate) host_file: Option<PathBuf>,

    /// Talk without TLS and certificates, to servers that run with -i. May be repeated.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) insecure: u8,

    /// Configuration file: hostlist, port, transport_config [default: /etc/daos/daos_control.yml if it is there]
    #[arg(short = 'o', long = "config-path", global = true, value_name = "FILE")]
    pub(crate) config_path: Option<PathBuf>,

    /// Directory with daosCA.crt, admin.crt and admin.key, instead of the files that the configuration names.
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "insecure")]
    pub(crate) cert_dir: Option<PathBuf>,

    /// Print JSON: {"response", "error", "status"}.
    #[arg(short, long, global = true)]
    pub(crate) json: bool,

    /// Seconds to wait for a host to accept the connection.
    #[arg(long, global = true, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) connect_timeout: u64,

    /// Seconds to wait for a host's answer. What takes its time by nature - format, firmware, burn-in - is waited for.
    #[arg(long, global = true, default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,

    /// Hosts to talk to at the same time.
    #[arg(long, global = true, default_value_t = 128, value_name = "HOSTS", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(crate) fan_out: u32,

    #[command(subcommand)]
    pub(crate) command: Command,

    /// How hosts are reached, from the options above and the files that they name.
    #[arg(skip)]
    pub(crate) reach: Reach,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Compare the hosts: clocks, users and groups, versions, plugins, configurations. What must be equal and is not is
    /// shown with the hosts of each value. Changes nothing.
    ///
    /// Hosts may differ in what is their own: ranks, devices, interfaces, their place in the machine room, paths of logs. Whether one
    /// host by itself is ready says `daos_server preflight` there.
    #[command(
        after_help = "Examples:\n  daos_shell -l 'node[1-128]' preflight\n  daos_shell -l 'node[1-4]' preflight --user daos,alice --group \
                      daos --max-skew 50\n\nExit status: 0 if nothing differs, 1 if something does or a host does not answer, 2 for a \
                      wrong command line."
    )]
    Preflight(crate::preflight::PreflightArgs),
    /// Scan and format storage.
    #[command(subcommand, visible_alias = "st")]
    Storage(StorageCommand),
    /// Look at the firmware of the hosts' SSDs, and replace it.
    #[command(subcommand)]
    Firmware(crate::firmware::FirmwareCommand),
    /// Make, list and destroy pools. The hosts are asked in order until one answers.
    #[command(subcommand, visible_alias = "p")]
    Pool(PoolCommand),
    /// Look at network interfaces.
    #[command(subcommand, visible_alias = "net")]
    Network(NetworkCommand),
    /// Look at plugins, and take them out of quarantine.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Change what servers and their engines log.
    #[command(subcommand)]
    Server(ServerCommand),
    /// Look at servers and engines, stop and start engines.
    #[command(subcommand)]
    System(SystemCommand),
    /// Print a completion script for a shell.
    Completion {
        /// Shell to complete for.
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff), or write one per command.
    Manpage {
        /// Directory for the pages of all commands.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub(crate) enum StorageCommand {
    /// List the devices that the hosts' plugins see and that their engines hold.
    #[command(visible_alias = "s")]
    Scan(ScanArgs),
    /// Format the storage named in the hosts' configuration and start their engines.
    ///
    /// Every device is checked before the first byte is written. Storage that was formatted
    /// before, or that holds anything not written by a DAOS server, is refused unless a flag
    /// allows it.
    #[command(visible_alias = "f")]
    Format(FormatArgs),
    /// Update the firmware of the SSDs in the hosts' configuration. No engine may use them; the deployment guide's
    /// spelling of `firmware update`.
    ///
    /// Every device must be of the model and run the revision that are named; one that is not is refused, and the others
    /// are updated. The image is sent in pieces, committed, the controller reset, and the revision looked at.
    #[command(name = "fwupdate", visible_alias = "u", after_help = crate::firmware::FWUPDATE_HELP)]
    FwUpdate(crate::firmware::FwUpdateArgs),
    /// Ask running engines for their block devices and pools.
    #[command(subcommand, visible_alias = "q")]
    Query(StorageQueryCommand),
    /// Burn block devices in: a long, slow, verified load that finds bad ones before data is on them.
    #[command(subcommand)]
    BurnIn(Box<crate::burnin::BurnInCommand>),
    /// Inject faults and delays into block devices of running engines, and measure them.
    #[command(subcommand)]
    Layers(LayersCommand),
}

#[derive(Subcommand)]
pub(crate) enum LayersCommand {
    /// List the layers over the engines' block devices, and what they have done.
    List(LayersArgs),
    /// Put other layers over the devices; they last until the engine restarts.
    ///
    /// LAYERS is a list as for the key bdev_layers, in YAML or JSON, or @FILE. The first one lies on top. A layer
    /// of faults is for tests: it destroys data.
    #[command(
        after_help = "Examples:\n  daos_shell -i storage layers set '[{stats: {}}]'\n  daos_shell -i storage layers set -r 0 \
                      '[{fault: {seed: 7, rules: [{do: error, op: [read], probability: 0.01}]}}]'\n  daos_shell -i storage layers set \
                      '[{delay: {rules: [{op: [write], lognormal_us: [80, 2000]}]}}]'\n\nFaults: error, torn, drop, flip, remove; keys \
                      of a rule: op, first_block, last_block, skip, count, probability, status. Delays: fixed_us, uniform_us, \
                      normal_us, lognormal_us."
    )]
    Set(LayersSetArgs),
    /// Remove all layers.
    Clear(LayersArgs),
}

#[derive(Args)]
pub(crate) struct LayersArgs {
    /// Engines by rank [default: all of the hosts].
    #[arg(short, long, value_delimiter = ',', value_name = "RANK")]
    pub(crate) ranks: Vec<u32>,
}

#[derive(Args)]
pub(crate) struct LayersSetArgs {
    /// The layers.
    #[arg(value_name = "LAYERS|@FILE")]
    pub(crate) layers: String,
    #[command(flatten)]
    pub(crate) which: LayersArgs,
}

#[derive(Args)]
pub(crate) struct FormatArgs {
    /// Do not ask for confirmation. Skips the question, no check.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Destroy storage that a DAOS server formatted before; its engine must not run.
    #[arg(long)]
    pub(crate) reformat: bool,
    /// Destroy content that is not ours: file systems, partition tables, non-empty files.
    #[arg(long)]
    pub(crate) overwrite_foreign: bool,
    /// Erase each SSD by its own command NVMe Format first; its size of blocks stays as it is.
    ///
    /// Without it, all blocks are deallocated and the ends of the device zeroed, which takes seconds and touches nothing
    /// else. The command erases the whole medium and may take minutes. It is refused where it would reach
    /// another namespace (some controllers only format all of theirs), or a namespace that other controllers may have,
    /// and by devices that do not have it.
    #[arg(long)]
    pub(crate) nvme_format: bool,
    /// Show what would be done and what stands in the way; write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Agree to the engines that a server has planned because its configuration names none: the hash that --dry-run and
    /// `system query` show. Several for hosts that differ. Needed with --force; without it the plan is shown and asked about.
    #[arg(long, value_delimiter = ',', value_name = "HASH,...")]
    pub(crate) accept_plan: Vec<String>,
}

#[derive(Subcommand)]
pub(crate) enum PoolCommand {
    /// Make a pool on all engines of the system.
    ///
    /// Every engine gives the same share, every target of an engine as well. What belongs to a pool
    /// no other can use. Sizes have units: 4GiB, 500MB, 2T; letters without "i" are powers of 1000.
    #[command(visible_alias = "c")]
    Create(CreateArgs),
    /// List the pools and how full they are.
    #[command(visible_alias = "ls")]
    List {
        /// Do not ask how full they are.
        #[arg(long)]
        no_query: bool,
    },
    /// Show how full a pool is.
    #[command(visible_alias = "q")]
    Query {
        /// The pool.
        #[arg(value_name = "LABEL|UUID")]
        pool: String,
    },
    /// Show properties of a pool.
    #[command(visible_alias = "gp")]
    GetProp(GetPropArgs),
    /// Change properties of a pool. Its label can be changed; what is the same for every pool is refused.
    #[command(visible_alias = "sp")]
    SetProp(SetPropArgs),
    /// Destroy a pool with all its data; its space is free when the command ends.
    ///
    /// Once begun it is carried out, even if server or engine are killed meanwhile.
    #[command(visible_alias = "d")]
    Destroy(DestroyArgs),
}

#[derive(Args)]
pub(crate) struct CreateArgs {
    /// Label: letters, digits and . _ : - [default: made from the UUID].
    pub(crate) label: Option<String>,
    /// Size of the whole pool (6 % of it SCM), or a share of the space that no pool has yet: 50%.
    #[arg(short = 'z', long, value_name = "SIZE|PERCENT", value_parser = crate::pool::size::parse_total, required_unless_present = "scm_size", conflicts_with_all = ["scm_size", "nvme_size"])]
    pub(crate) size: Option<crate::pool::size::Total>,
    /// SCM on each rank.
    #[arg(short, long, value_name = "SIZE", value_parser = crate::pool::size::parse)]
    pub(crate) scm_size: Option<u64>,
    /// Block device on each rank [default: none].
    #[arg(short, long, value_name = "SIZE", value_parser = crate::pool::size::parse, requires = "scm_size")]
    pub(crate) nvme_size: Option<u64>,
    /// Only on these ranks.
    #[arg(short, long, value_delimiter = ',', value_name = "RANK")]
    pub(crate) ranks: Vec<u32>,
    /// Only on so many ranks.
    #[arg(short = 'k', long, conflicts_with = "ranks")]
    pub(crate) nranks: Option<u32>,
    /// UUID; who repeats a command with it succeeds again [default: a new one].
    #[arg(long)]
    pub(crate) uuid: Option<uuid::Uuid>,
    /// Owner, told to the server.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) user: String,
    /// Owning group, told to the server.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) group: String,
    /// Service replicas; accepted for compatibility, there is one.
    #[arg(short = 'v', long, default_value_t = 0, hide = true)]
    pub(crate) nsvc: u32,
    /// Name of the system that the server must belong to.
    #[arg(short = 'S', long, default_value = "", hide_default_value = true)]
    pub(crate) sys: String,
}

#[derive(Args)]
pub(crate) struct GetPropArgs {
    /// The pool.
    #[arg(value_name = "LABEL|UUID")]
    pub(crate) pool: String,
    /// Properties by name or number [default: all].
    #[arg(value_name = "NAME", value_delimiter = ',', value_parser = crate::pool::properties::name)]
    pub(crate) names: Vec<&'static daos_proto::properties::Property>,
}

#[derive(Args)]
pub(crate) struct SetPropArgs {
    /// The pool.
    #[arg(value_name = "LABEL|UUID")]
    pub(crate) pool: String,
    /// What to set, as label:tank.
    #[arg(value_name = "NAME:VALUE", required = true, value_delimiter = ',', value_parser = crate::pool::properties::assignment)]
    pub(crate) assignments: Vec<daos_proto::mgmt::PoolProperty>,
}

#[derive(Subcommand)]
pub(crate) enum StorageQueryCommand {
    /// List the block devices that engines use, with the UUIDs in their labels.
    ListDevices {
        #[command(flatten)]
        which: StorageQueryArgs,
        /// Their health, too.
        #[arg(long)]
        health: bool,
    },
    /// Show the health of block devices that engines use.
    DeviceHealth(StorageQueryArgs),
    /// List the pools on each engine.
    ListPools(StorageQueryArgs),
}

#[derive(Args, Clone)]
pub(crate) struct StorageQueryArgs {
    /// Only of this rank.
    #[arg(short, long, value_name = "RANK")]
    pub(crate) rank: Option<u32>,
    /// Only the device or pool of this UUID.
    #[arg(short, long, value_name = "UUID")]
    pub(crate) uuid: Option<uuid::Uuid>,
}

#[derive(Args)]
pub(crate) struct DestroyArgs {
    /// The pool.
    #[arg(value_name = "LABEL|UUID", required_unless_present = "uuid")]
    pub(crate) pool: Option<String>,
    /// The pool.
    #[arg(short, long, value_name = "UUID", conflicts_with = "pool")]
    pub(crate) uuid: Option<String>,
    /// With its containers; a pool that has some is refused otherwise.
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Do not ask for confirmation. Skips the question, no check.
    #[arg(short, long)]
    pub(crate) force: bool,
}

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

#[derive(Args)]
pub(crate) struct ScanArgs {
    /// Show drivers, formats, who uses a device, and whatever else the plugins know.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Ask each device for its health; one that an engine holds is asked through the engine.
    #[arg(long, visible_alias = "nvme-health")]
    pub(crate) health: bool,
}

#[derive(Args)]
pub(crate) struct NetworkScanArgs {
    /// Provider to show, as in the configuration, or "all" [default: that of each host's configuration]
    #[arg(short, long, value_name = "PROVIDER|all")]
    pub(crate) provider: Option<String>,
    /// List the providers that the hosts' plugins have, usable or not, instead of interfaces.
    #[arg(long)]
    pub(crate) providers: bool,
}

#[derive(Subcommand)]
pub(crate) enum PluginCommand {
    /// List plugins with their state, and why one cannot be used.
    List,
    /// Show everything that is known of a plugin: manifest, file, trust, engines that use it, log level, metrics, and
    /// which processes died in it since the server started.
    Inspect {
        /// The plugin, or its file where no manifest can be read.
        name: String,
    },
    /// Lift the quarantine of a plugin that died while it was loaded or scanned; the server uses it again at once.
    Reset {
        /// The plugin.
        name: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum ServerCommand {
    /// Change what engines and plugins log, until they or the server restart.
    ///
    /// A mask is a level for engines and levels by name: of subsystems of engines, and of plugins, which have theirs in
    /// every engine, in the server and in its helpers. Levels: DEBUG, INFO, WARN, ERR. What it does not name has
    /// the level of the configuration; each change takes the place of the one before. Without -m everything goes back
    /// to the configuration.
    #[command(
        name = "set-logmasks",
        visible_alias = "slm",
        after_help = "Examples:\n  daos_shell -i server set-logmasks -m bdev-acme=DEBUG\n  daos_shell -i -l a,b server set-logmasks \
                      -m WARN,log=DEBUG\n  daos_shell -i server set-logmasks"
    )]
    SetLogmasks(LogmasksArgs),
}

#[derive(Args)]
pub(crate) struct LogmasksArgs {
    /// LEVEL and NAME=LEVEL, separated by commas [default: as configured].
    #[arg(short, long, value_name = "MASKS")]
    pub(crate) masks: Option<String>,
    /// Debug streams, of engines that have them (DD_MASK).
    #[arg(short = 'd', long, value_name = "STREAMS")]
    pub(crate) streams: Option<String>,
    /// Debug subsystems, of engines that have them (DD_SUBSYS).
    #[arg(short, long, value_name = "SUBSYSTEMS")]
    pub(crate) subsystems: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum SystemCommand {
    /// Show the servers' phase and their engines' states; with an option below, the members of the system instead, as
    /// its access point knows them.
    Query(QueryArgs),
    /// Start engines that were stopped, or given up after they had died too often.
    Start(RankArgs),
    /// Stop the engines of the hosts; their servers stay, so that storage can be formatted again.
    /// `system start` starts them again, as a server does when it is started itself.
    Stop {
        /// Kill engines instead of asking them to end.
        #[arg(short, long)]
        force: bool,
        #[command(flatten)]
        which: RankArgs,
    },
    /// Take ranks out of the system: their engines are stopped, and not let in again.
    Exclude(ExcludeArgs),
    /// Let ranks in again that were excluded; `system start --ranks` starts them.
    ClearExclude(RankArgs),
    /// End the system: its engines, which must be stopped, forget who they are and await a format. All data is lost.
    Erase(EraseArgs),
    /// Show which server leads the management service of the system that the hosts belong to.
    LeaderQuery,
}

/// Engines of the system that the hosts belong to.
#[derive(Args, Clone, Default)]
pub(crate) struct RankArgs {
    /// Only these ranks of the system, as 0-3,7 [default: all engines of the hosts]
    #[arg(short, long, value_name = "RANKS", value_parser = crate::system::parse)]
    pub(crate) ranks: Option<String>,
    /// Only the ranks of these hosts of the system.
    #[arg(long, value_name = "HOSTS", conflicts_with = "ranks")]
    pub(crate) rank_hosts: Option<String>,
}

impl RankArgs {
    /// Whether nothing is named.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranks.is_none() && self.rank_hosts.is_none()
    }
}

#[derive(Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    pub(crate) which: RankArgs,
    /// All members.
    #[arg(short, long)]
    pub(crate) members: bool,
    /// Members in these states: awaitformat, starting, joined, stopping, stopped, excluded, errored, unresponsive,
    /// adminexcluded.
    #[arg(long, value_name = "STATE,...", value_delimiter = ',')]
    pub(crate) with_states: Vec<String>,
    /// Members that do not serve.
    #[arg(long, conflicts_with = "with_states")]
    pub(crate) not_ok: bool,
    /// Show more of the members: UUIDs, fault domains, times.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

impl QueryArgs {
    /// Whether members are asked for, and not servers.
    pub(crate) fn is_about_members(&self) -> bool {
        let chosen = !self.which.is_empty() || !self.with_states.is_empty();
        chosen || self.members || self.not_ok || self.verbose
    }
}

#[derive(Args)]
#[group(skip)]
pub(crate) struct ExcludeArgs {
    #[command(flatten)]
    pub(crate) which: RankArgs,
    /// Do not ask for confirmation.
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct EraseArgs {
    /// Do not ask for confirmation. Skips the question, no check.
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_guides_command_lines_are_accepted() {
        for line in [
            "daos_shell -i -l host:10001 -i storage format -f",
            "daos_shell -i storage format -f --reformat --nvme-format",
            "daos_shell -i storage format -f --accept-plan 0123456789abcdef,fedc",
            "daos_shell -l storagenode1:10001,storagenode2:10001 storage scan",
            "daos_shell -i -l node[1-128,200]:10001 --host-file f --fan-out 8 --timeout 9 storage scan",
            "daos_shell storage format --force -i -l a,b",
            "daos_shell -i pool create tank --size 50%",
            "daos_shell -i pool create tank -z 10G",
            "daos_shell -i pool create -s 2G -n 20G",
            "daos_shell -i pool c -s 2G -n 20G -r 0,1 -v 1 -S daos_server -u me -g us",
            "daos_shell -i pool create tank -s 100MiB -k 1 --json",
            "daos_shell -i pool list",
            "daos_shell -i pool query tank",
            "daos_shell -i pool destroy tank -r -f",
            "daos_shell -i pool destroy -u 4f3c1b6e-0000-4000-8000-000000000001 -f",
            "daos_shell -i storage burn-in start --all --dry-run",
            "daos_shell -i storage burn-in start kdev:/dev/sdb --duration 1h --rwmixread 70 --bs 4k/50:64k/50 --iodepth 8",
            "daos_shell -i storage burn-in start a --job-file x.fio --destroy-data a --consent a -f",
            "daos_shell -i storage burn-in status b1 --follow",
            "daos_shell -i storage burn-in stop --all",
            "daos_shell -i storage burn-in report b1 --html b1.html --json",
            "daos_shell -l a,b preflight --user daos,x --group g --max-skew 50 -v --json",
            "daos_shell -i system start",
            "daos_shell -i system query --members",
            "daos_shell -i system query -r 0-3 --with-states joined,stopped --json",
            "daos_shell -i system query --rank-hosts node[1-3] --not-ok",
            "daos_shell -i system start --rank-hosts node1",
            "daos_shell -i system exclude --ranks 1 -f",
            "daos_shell -i system exclude --rank-hosts node[1-2]",
            "daos_shell -i system clear-exclude --ranks 1",
            "daos_shell -i system erase --force --json",
            "daos_shell -i pool get-prop tank label,scrub",
            "daos_shell -i pool set-prop tank label:pond",
            "daos_shell -i storage query list-devices --health -r 0",
            "daos_shell -i storage query device-health -u 4f3c1b6e-0000-4000-8000-000000000001",
            "daos_shell -i st q list-pools",
            "daos_shell -i system start -r 0-3,7",
            "daos_shell -i system stop --force --ranks 1",
            "daos_shell -i system leader-query --json",
            "daos_shell -i storage layers list -r 0,1",
            "daos_shell -i storage layers clear --json",
            "daos_shell -i storage fwupdate -m MODEL -r 1.0 -p /root/fw.bin -s 2",
            "daos_shell -i -l a,b st u -m MODEL -r 1.0 -p /root/fw.bin -f",
            "daos_shell -i firmware query -d 0000:81:00.0,0000:82:00.0 -m MODEL -f 1.0",
            "daos_shell -i firmware query --type nvme --json",
            "daos_shell -i firmware update -t nvme -p /root/fw.bin -m MODEL -f 1.0 --slot 2 --force",
            "daos_shell -i network ping 0",
            "daos_shell -i plugin inspect bdev-acme --json",
            "daos_shell -i -l a,b plugin reset bdev-acme",
            "daos_shell -i server set-logmasks --masks ERR,bdev-acme=DEBUG",
            "daos_shell -i server set-logmasks -m DEBUG -d MGMT -s all",
            "daos_shell -i server set-logmasks",
            "daos_shell -i network ping node2:10001 -p ofi+verbs;ofi_rxm -S 64,1m -n 10 --plot x.svg",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn unknown_options_are_refused() {
        assert!(Cli::try_parse_from(["daos_shell", "storage", "scan", "--frobnicate"]).is_err());
        assert!(Cli::try_parse_from(["daos_shell"]).is_err());
        for line in [
            "pool create tank",
            "pool create tank -n 1G",
            "pool create tank -z 1G -s 1G",
            "pool create tank -s 0",
            "pool create tank -s Z0",
            "pool create tank -z 101%",
            "pool create tank -s 1G -r 0 -k 1",
            "storage burn-in start",
            "storage burn-in start --all sdb",
            "storage burn-in start a --consent a",
            "storage burn-in start a --force",
            "storage burn-in start a --job-file x --bs 4k",
            "storage burn-in stop",
            "network ping",
            "network ping 0 -S 0",
            "network ping 0 -S 2m",
            "network ping 0 -n 0",
            "preflight --max-skew 0",
            "pool destroy",
            "system stop -r x",
            "system stop -r 0 --rank-hosts a",
            "system query --not-ok --with-states joined",
            "pool set-prop tank",
            "pool set-prop tank label",
            "pool get-prop tank colour",
            "storage query list-devices -u x",
            "system start -r 3-1",
            "pool destroy tank -u x",
        ] {
            let words = std::iter::once("daos_shell").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line} was accepted");
        }
    }
}
