//! The command line.

use crate::cert::CertCommand;
use crate::firmware::local::FirmwareCommand;
use crate::kit::{BenchArgs, CheckArgs, NewArgs};
use crate::preflight::PreflightArgs;
use crate::prepare::PrepareArgs;
use clap::{ArgAction, Args, Parser, Subcommand};
use daos_config::Overrides;
use daos_report::{NetworkScanArgs, StorageScanArgs};
use std::path::PathBuf;

/// Runs and looks after a DAOS storage node: loads its storage and fabric backends as plugins,
/// formats storage, starts one I/O engine per `servers:` entry and keeps it running.
///
/// Without a command, `start` is assumed.
#[derive(Parser)]
#[command(
    name = "daos_server",
    version,
    after_help = "Examples:\n  daos_server -o daos_server.yml start -i\n  daos_server storage scan\n  daos_server \
                  plugin list --json\n  daos_server config check daos_server.yml\n\nExit status: 0 on success, 1 on \
                  failure, 2 for a wrong command line."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Options of `start`, for command lines without a command.
    #[command(flatten)]
    pub(crate) start: StartArgs,
}

#[derive(Args)]
pub(crate) struct Globals {
    /// Configuration file. Default: /etc/daos_server.conf, /etc/daos/daos_server.yml, or
    /// ../etc/daos_server.yml beside the program.
    #[arg(short = 'o', long = "config", global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Log debug messages, whatever control_log_mask says.
    #[arg(short = 'b', long, global = true)]
    pub(crate) debug: bool,

    /// Print JSON: {"response", "error", "status"}; `start` logs JSON.
    #[arg(short, long, global = true)]
    pub(crate) json: bool,

    /// Directory of plugins, absolute.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) plugins_dir: Option<PathBuf>,

    /// Directory of state that survives restarts (quarantine, leases), absolute.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the server until it is told to stop.
    Start(StartArgs),
    /// Check whether this machine is ready for a server: time, users, directories, privileges, huge pages, IOMMU, limits,
    /// ports, certificates and plugins, as the configuration asks for them. Works without one.
    ///
    /// Each finding says what is there, why it matters and what to do. Changes nothing, unless --fix is given. `daos_shell
    /// preflight` compares nodes.
    #[command(
        after_help = "Examples:\n  daos_server preflight\n  daos_server -o daos_server.yml preflight --json\n  sudo daos_server -o \
                      daos_server.yml preflight --fix\n\nStates: ok, WARN (works, but could be better), FAIL (does not work), - \
                      (nothing asks for it).\n\nExit status: 0 if nothing fails, 1 if something does (with --strict a warning, \
                      too), 2 for a wrong command line."
    )]
    Preflight(PreflightArgs),
    /// Look at storage.
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Look at the firmware of NVMe SSDs, and replace it, while no engine uses them. Where daos_server runs, its
    /// devices are also reached by `daos_shell firmware`.
    #[command(subcommand)]
    Firmware(FirmwareCommand),
    /// Look at network interfaces.
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Look at plugins, check and measure them.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Look at configurations.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make and look at certificates of the control plane.
    #[command(subcommand)]
    Cert(CertCommand),
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

/// Options that win over the configuration file.
#[derive(Args, Clone, Default)]
pub(crate) struct StartArgs {
    /// Port of the control plane.
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// SCM mount point of all servers.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) storage: Option<PathBuf>,
    /// Engine modules.
    #[arg(short, long)]
    pub(crate) modules: Option<String>,
    /// Targets of each server; 0 means one per core.
    #[arg(short, long)]
    pub(crate) targets: Option<u32>,
    /// Helper threads per target, 0 to 2.
    #[arg(short = 'x', long)]
    pub(crate) xshelpernr: Option<u32>,
    /// First core of each server.
    #[arg(short, long)]
    pub(crate) firstcore: Option<u32>,
    /// Name of the system.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// Attach information file.
    #[arg(
        short,
        long = "attach_info",
        alias = "attach-info",
        value_name = "PATH"
    )]
    pub(crate) attach_info: Option<PathBuf>,
    /// Directory of unix sockets.
    #[arg(
        short = 'd',
        long = "socket_dir",
        alias = "socket-dir",
        value_name = "DIR"
    )]
    pub(crate) socket_dir: Option<PathBuf>,
    /// Talk without TLS and without certificates, and listen on loopback only, unless control_iface is set. May be repeated.
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) insecure: u8,
}

impl StartArgs {
    /// What of the command line wins over the file. Options before and after the word `start`
    /// are the same to the user, the later one wins.
    pub(crate) fn overrides(&self, earlier: &Self, globals: &Globals) -> Overrides {
        let (late, early) = (self.clone(), earlier.clone());
        Overrides {
            port: late.port.or(early.port),
            storage: late.storage.or(early.storage),
            modules: late.modules.or(early.modules),
            targets: late.targets.or(early.targets),
            xshelpernr: late.xshelpernr.or(early.xshelpernr),
            firstcore: late.firstcore.or(early.firstcore),
            group: late.group.or(early.group),
            attach_info: late.attach_info.or(early.attach_info),
            socket_dir: late.socket_dir.or(early.socket_dir),
            insecure: late.insecure + early.insecure > 0,
            plugins_dir: globals.plugins_dir.clone(),
            state_dir: globals.state_dir.clone(),
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum StorageCommand {
    /// List the devices that this machine's plugins see. Needs no configuration.
    #[command(visible_alias = "s")]
    Scan(StorageScanArgs),
    /// Hand NVMe SSDs to user space (vfio-pci, or uio_pci_generic without an IOMMU), reserve huge pages and give
    /// both to a user; or take all of that back. Needs root, and no configuration.
    ///
    /// A controller that is in use (mounted, swapped to, part of a volume, with a file system or other known
    /// content, or held by a process) is never touched, and is listed with the reason. Can be interrupted and
    /// run again at any time.
    ///
    /// Of storage-class memory, each region gets a namespace for a file system with direct access; with --reset its
    /// namespaces are destroyed. That is asked about first. What is mounted, or holds somebody's file system, is left alone.
    #[command(
        visible_alias = "p",
        after_help = "Examples:\n  sudo daos_server storage prepare --nvme-only -p 4096 -u bob\n  sudo daos_server \
                      storage prepare -n -w \"0000:81:00.0 0000:82:00.0\"\n  daos_server storage prepare --status\n  \
                      sudo daos_server storage prepare -n --reset\n  sudo daos_server storage prepare --scm-only\n\nExit status: 0 on success, 1 if nothing was \
                      tried, 2 for a wrong command line, 3 if not all of NVMe succeeded, 4 if not all of SCM, 5 if \
                      neither."
    )]
    Prepare(PrepareArgs),
    /// Burn in block devices of this machine: start, status, stop, report; `daos_shell storage burn-in` of the server that
    /// runs here, which has to run. Options of daos_shell (--cert-dir) can follow.
    #[command(disable_help_flag = true)]
    BurnIn {
        /// What to do, with its options; --help shows them.
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "COMMAND"
        )]
        args: Vec<std::ffi::OsString>,
    },
}

#[derive(Subcommand)]
pub(crate) enum NetworkCommand {
    /// List network interfaces with the fabric providers that work on them: what to write for
    /// `provider` and `fabric_iface`. Needs no configuration.
    Scan(NetworkScanArgs),
}

#[derive(Subcommand)]
pub(crate) enum PluginCommand {
    /// List plugins with their state, and why one cannot be used.
    List,
    /// Show what a plugin is, without running it: manifest, file and what lies above it, state. `daos_shell plugin
    /// inspect` shows besides what a running server knows of it.
    Inspect {
        /// Name of a plugin, or its shared object.
        #[arg(value_name = "NAME|FILE")]
        plugin: String,
    },
    /// Write the source of a plugin that works: a crate, or with --c one file with a Makefile. It holds all it
    /// needs; replace its memory by your hardware piece by piece and check it after each.
    #[command(
        after_help = "Examples:\n  daos_server plugin new bdev-acme\n  daos_server plugin new fabric-acme ~/src/acme \
                            --c\n\nExit status: 0 on success, 2 if nothing was written."
    )]
    New(NewArgs),
    /// Run the conformance suite on a plugin, each case in a process of its own. Storage that it is given is
    /// overwritten.
    #[command(
        after_help = "Examples:\n  daos_server plugin check ./libacme.so\n  daos_server plugin check ./libacme.so \
                            --device /srv/test.img --class-config '{\"bdev_size\": 1}' --junit report.xml\n  daos_server \
                            plugin check ./libacme.so --case 'queue.*' --repeat 20\n  daos_server plugin check \
                            --list\n\nExit status: 0 if every case passed or was skipped as not claimed, 1 if one \
                            failed, 2 for a wrong command line or a plugin that cannot be loaded."
    )]
    Check(Box<CheckArgs>),
    /// Measure a plugin, or two in turns: operations, bandwidth, latencies, processor time. Storage that it is
    /// given is overwritten.
    #[command(
        after_help = "Examples:\n  daos_server plugin bench ./libacme.so\n  daos_server plugin bench ./old.so \
                            ./new.so --case 'read-*' --rounds 9\n\nExit status: 0 on success, 1 if a plugin failed, \
                            2 for a wrong command line or a plugin that cannot be loaded."
    )]
    Bench(Box<BenchArgs>),
    /// Lift the quarantine of a plugin that died while it was loaded.
    Reset {
        /// Name of the plugin.
        name: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration file: keys, values, classes, contradictions. Touches nothing.
    Check {
        /// The file; default as for `start`.
        file: Option<PathBuf>,
    },
    /// Print the commented example of every key.
    Example,
    /// Print a configuration for this machine: provider and interfaces, engines per NUMA node, storage as the
    /// scans find it, each with the reason. Changes nothing; written to a file only with -o.
    #[command(
        after_help = "Examples:\n  daos_server config generate\n  daos_server config generate -o \
                            daos_server.yml && daos_server config check daos_server.yml\n  daos_server config \
                            generate -e 2 -c infiniband -f 31416,31516"
    )]
    Generate(GenerateArgs),
}

#[derive(Args, Default)]
pub(crate) struct GenerateArgs {
    /// Engines [default: one per NUMA node that has cores]
    #[arg(short = 'e', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) num_engines: Option<u32>,
    /// Only consider interfaces of this kind.
    #[arg(short = 'c', long, value_enum)]
    pub(crate) net_class: Option<NetClass>,
    /// Fabric provider [default: the best that the interfaces have]
    #[arg(short = 'p', long, value_name = "PROVIDER")]
    pub(crate) net_provider: Option<String>,
    /// Fabric ports, one per engine [default: 31416, 32416 ..., the next free one each]
    #[arg(short = 'f', long, value_delimiter = ',', value_name = "PORT,...",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) fabric_ports: Vec<u16>,
    /// Hosts that keep the membership of the system, an odd number [default: this host]
    #[arg(
        short = 'r',
        long,
        visible_alias = "access-points",
        value_delimiter = ',',
        value_name = "HOST,..."
    )]
    pub(crate) ms_replicas: Vec<String>,
    /// Use no block devices.
    #[arg(short = 's', long)]
    pub(crate) scm_only: bool,
    /// Use memory as SCM, also where there is persistent memory.
    #[arg(short = 't', long)]
    pub(crate) use_tmpfs_scm: bool,
    /// Where the mount points of the engines' SCM shall be made, each in a directory of its own [default: /mnt/daos, or
    /// below /dev/shm for who may not mount]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) scm_mount_path: Option<std::path::PathBuf>,
    /// Replace the file of -o if it exists.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Kinds of network interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum NetClass {
    /// InfiniBand and Omni-Path.
    Infiniband,
    /// Ethernet, with or without RDMA.
    Ethernet,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn overrides(line: &str) -> Overrides {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        match &cli.command {
            Some(Command::Start(args)) => args.overrides(&cli.start, &cli.globals),
            None => cli.start.overrides(&StartArgs::default(), &cli.globals),
            Some(_) => panic!("{line} is not a start"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_guides_command_lines_start_the_server() {
        let o = overrides("daos_server -o /x/daos_server.yml start -t 1 -i");
        assert!(o.insecure && o.targets == Some(1));
        assert!(overrides("daos_server -i").insecure);
        assert!(overrides("daos_server -o F -i -i").insecure);
        let o = overrides("daos_server -d /tmp/s start -i -p 10001");
        assert_eq!((o.port, o.socket_dir), (Some(10001), Some("/tmp/s".into())));
    }

    #[test]
    fn later_options_win() {
        assert_eq!(overrides("daos_server -t 1 start -t 2").targets, Some(2));
    }

    #[test]
    fn unknown_options_are_refused() {
        assert!(Cli::try_parse_from(["daos_server", "start", "--nonsense"]).is_err());
        assert!(Cli::try_parse_from(["daos_server", "start", "-p", "0"]).is_err());
    }
}
