//! `daos_server_privileged`: runs one plugin for a `daos_server` that is an ordinary user's, with the capabilities that
//! the plugin declares and no others.
//!
//! It is the only program with rights (owner root, group of the daemon, mode 4750), and believes nothing of what the
//! daemon tells it: which plugins there are, their settings, and the devices and mount points that they may touch come
//! from the system's configuration file, which only root can write; the daemon's requests choose among them.

mod authority;
mod environment;
mod orders;
mod places;
mod rights;

use authority::Orders;
use clap::Parser;
use std::process::ExitCode;

/// Runs one storage plugin, with the capabilities that it declares, for a daos_server that runs as an ordinary user.
/// Installed as root:GROUP with mode 4750, GROUP being that of the daemon. Reads /etc/daos_server.conf or
/// /etc/daos/daos_server.yml, which must be root's, and nothing else.
#[derive(Parser)]
#[command(name = "daos_server_privileged", version, about)]
struct Arguments {
    /// Name of the plugin, a file in the `plugins_dir` of that configuration.
    plugin: String,
    /// Process id of the daemon.
    #[arg(long)]
    parent: u32,
}

fn main() -> ExitCode {
    // Whoever starts this program chose the environment, too.
    environment::forget();
    let arguments = Arguments::parse();
    // Everything that needs root happens here, with one thread and none of the plugin's code.
    let orders = Orders::read(&arguments.plugin).and_then(|orders| {
        rights::keep_only(&orders.capabilities)?;
        Ok(orders)
    });
    match orders {
        Ok(orders) => ExitCode::from(daos_helper::serve::run_with(
            &arguments.plugin,
            arguments.parent,
            &orders,
        )),
        Err(why) => {
            eprintln!("daos_server_privileged: {why}");
            ExitCode::from(daos_helper::serve::EXIT_UNUSABLE)
        }
    }
}
