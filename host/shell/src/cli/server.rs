//! Commands about servers and their plugins.

use clap::{Args, Subcommand};

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
