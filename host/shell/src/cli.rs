//! The command line: what all commands have, and the commands; those of one subject stand in a file below.

mod network;
mod pool;
mod server;
mod storage;
mod system;

pub(crate) use network::{NetworkCommand, PingArgs};
pub(crate) use pool::{CreateArgs, DestroyArgs, GetPropArgs, PoolCommand, SetPropArgs};
pub(crate) use server::{LogmasksArgs, PluginCommand, ServerCommand};
pub(crate) use storage::{
    FormatArgs, LayersArgs, LayersCommand, StorageCommand, StorageQueryArgs, StorageQueryCommand,
};
pub(crate) use system::{EraseArgs, ExcludeArgs, QueryArgs, RankArgs, SystemCommand};

use crate::reach::Reach;
use clap::{Parser, Subcommand};
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
