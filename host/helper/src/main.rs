//! `daos_server_helper`: runs one plugin for `daos_server`, which starts it.

use clap::Parser;
use std::process::ExitCode;

// Links the built-in plugins.
use daos_builtins as _;

/// Runs one storage plugin on behalf of daos_server, which starts this program when it needs it.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// Name of the plugin.
    plugin: String,
    /// Process id of the daemon.
    #[arg(long)]
    parent: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    ExitCode::from(daos_helper::serve::run(&arguments.plugin, arguments.parent))
}
