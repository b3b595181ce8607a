//! The command line.

use clap::{Args, Parser, Subcommand};

/// Administers DAOS storage nodes: scans and formats their storage, lists their plugins, shows
/// their state. Runs as any user on any machine that reaches the nodes' control port.
#[derive(Parser)]
#[command(
    name = "daos_shell",
    version,
    after_help = "Examples:\n  daos_shell -i -l node1,node2:10001 storage scan\n  daos_shell -i -l node1 storage \
                  format\n  daos_shell -i system query --json\n\nExit status: 0 if every host answered and \
                  succeeded, 1 if any failed, 2 for a wrong command line."
)]
pub(crate) struct Cli {
    /// Hosts to talk to, as host or host:port, separated by commas. The port defaults to 10001.
    #[arg(
        short = 'l',
        long = "host-list",
        global = true,
        value_delimiter = ',',
        value_name = "HOST[:PORT]",
        default_value = "localhost:10001"
    )]
    pub(crate) host_list: Vec<String>,

    /// Talk without TLS. May be repeated.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) insecure: u8,

    /// Print JSON: {"response", "error", "status"}.
    #[arg(short, long, global = true)]
    pub(crate) json: bool,

    /// Seconds to wait for a host to accept the connection.
    #[arg(long, global = true, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) connect_timeout: u64,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Scan and format storage.
    #[command(subcommand, visible_alias = "st")]
    Storage(StorageCommand),
    /// Look at plugins.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Look at servers and engines.
    #[command(subcommand)]
    System(SystemCommand),
    /// Print a completion script for a shell.
    Completion {
        /// Shell to complete for.
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff).
    Manpage,
}

#[derive(Subcommand)]
pub(crate) enum StorageCommand {
    /// List the devices that the hosts' plugins see.
    #[command(visible_alias = "s")]
    Scan,
    /// Format the storage named in the hosts' configuration and start their engines.
    ///
    /// Every device is checked before the first byte is written. Storage that was formatted
    /// before, or that holds anything not written by a DAOS server, is refused unless a flag
    /// allows it.
    #[command(visible_alias = "f")]
    Format(FormatArgs),
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
    /// Show what would be done and what stands in the way; write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Subcommand)]
pub(crate) enum PluginCommand {
    /// List plugins with their state, and why one cannot be used.
    List,
}

#[derive(Subcommand)]
pub(crate) enum SystemCommand {
    /// Show the servers' phase and their engines' states.
    Query,
    /// Stop the engines of the hosts; their servers stay, so that storage can be formatted again.
    /// A server starts its engines when it is started itself.
    Stop {
        /// Kill engines instead of asking them to end.
        #[arg(short, long)]
        force: bool,
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
            "daos_shell -l storagenode1:10001,storagenode2:10001 storage scan",
            "daos_shell storage format --force -i -l a,b",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn unknown_options_are_refused() {
        assert!(Cli::try_parse_from(["daos_shell", "storage", "scan", "--frobnicate"]).is_err());
        assert!(Cli::try_parse_from(["daos_shell"]).is_err());
    }
}
