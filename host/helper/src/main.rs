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
    #[arg(required_unless_present = "kit")]
    plugin: Option<String>,
    /// Try a plugin instead of serving it: the process of `daos_server plugin check` and `bench`.
    #[arg(long, conflicts_with = "plugin")]
    kit: bool,
    /// Process id of the daemon.
    #[arg(long)]
    parent: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(plugin) = &arguments.plugin {
        return ExitCode::from(daos_helper::serve::run(plugin, arguments.parent));
    }
    match daos_helper::serve::connect(arguments.parent) {
        Ok(connection) => daos_kit::worker::run(connection),
        Err(message) => {
            eprintln!("daos_server_helper: {message}");
            ExitCode::from(daos_helper::serve::EXIT_UNUSABLE)
        }
    }
}
