//! `daos_server storage burn-in`: the shell's command, for this machine.
//!
//! A burn-in belongs to the server that runs: it goes on when its shell has left, its devices are leased, engines take
//! them from it. A run of another process would have none of that, so this asks the server, as the shell does.

use crate::cli::{Cli, StartArgs};
use crate::scan::config_or_default;
use anyhow::{Context, bail};
use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The program that does it, found beside this one.
const SHELL: &str = "daos_shell";

/// Becomes the shell.
///
/// # Errors
/// It is not there, or cannot be run. On success this does not return.
pub(crate) fn run(cli: &Cli, args: &[OsString]) -> anyhow::Result<Infallible> {
    let exe = std::env::current_exe()?;
    let overrides = cli.start.overrides(&StartArgs::default(), &cli.globals);
    let config = config_or_default(cli, &overrides, &exe);
    let Some(dir) = exe.parent() else {
        bail!("{} is in no directory", exe.display());
    };
    let shell = dir.join(SHELL);
    let mut command = Command::new(&shell);
    command.args(["-l", &format!("localhost:{}", config.port)]);
    if config.transport_config.allow_insecure {
        command.arg("-i");
    }
    if cli.globals.json {
        command.arg("--json");
    }
    command.args(["storage", "burn-in"]).args(args);
    Err(command.exec()).with_context(|| {
        format!(
            "cannot run {}, which talks to the server of this machine; install it there",
            shell.display()
        )
    })
}
