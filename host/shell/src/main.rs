//! `daos_shell`: administers DAOS storage nodes over their control plane.
//!
//! Needs no storage library and no privileges; runs wherever the nodes' control port is reached.

mod ask;
mod burnin;
mod cli;
mod connect;
mod devices;
mod fanout;
mod file;
mod firmware;
mod format;
mod interrupt;
mod layers;
mod logmasks;
mod manage;
mod ping;
mod plugin;
mod pool;
mod preflight;
mod progress;
mod query;
mod reach;
mod start;
mod stop;
mod system;

use clap::{CommandFactory, Parser};
use cli::{
    Cli, Command, NetworkCommand, PluginCommand, PoolCommand, ServerCommand, StorageCommand,
    SystemCommand,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    match &cli.command {
        Command::Completion { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "daos_shell", &mut out);
            daos_report::print_text!("{}", String::from_utf8_lossy(&out));
            return ExitCode::SUCCESS;
        }
        Command::Manpage { dir } => {
            let mut out = Vec::new();
            return match daos_report::manual(Cli::command(), dir.as_deref(), &mut out) {
                Ok(()) => {
                    daos_report::print_text!("{}", String::from_utf8_lossy(&out));
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    eprintln!("ERROR: the manual cannot be written: {error}");
                    ExitCode::FAILURE
                }
            };
        }
        _ => {}
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ERROR: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = interrupt::listen() {
        eprintln!("ERROR: cannot listen for Ctrl-C: {error}");
        return ExitCode::FAILURE;
    }
    match runtime.block_on(run(&mut cli)) {
        Ok(_) if interrupt::happened() => ExitCode::from(interrupt::STATUS),
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            if cli.json {
                let envelope = daos_report::Envelope::<()>::failed(None, format!("{error:#}"));
                // Nothing is left to tell if standard output is gone.
                let _ = daos_report::print_json(&envelope);
            }
            eprintln!("ERROR: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command; the exit status when all that is to be said has been said.
async fn run(cli: &mut Cli) -> anyhow::Result<u8> {
    let hosts;
    (hosts, cli.reach) = reach::of(cli)?;
    let cli = &*cli;
    if let Command::Storage(StorageCommand::BurnIn(command)) = &cli.command {
        return burnin::run(cli, command, &hosts).await;
    }
    let done = simple(cli, &hosts).await;
    if cli.reach.tls.is_none() && !matches!(done, Ok(true)) && !interrupt::happened() {
        connect::hint_at_tls(&hosts).await;
    }
    Ok(if done? { 0 } else { 1 })
}

/// Runs a command that succeeds or fails; `Ok(false)` when a host failed and was reported.
async fn simple(cli: &Cli, hosts: &[String]) -> anyhow::Result<bool> {
    match &cli.command {
        Command::Storage(StorageCommand::Scan(args)) => query::storage_scan(cli, args, hosts).await,
        Command::Storage(StorageCommand::Format(args)) => format::run(cli, args, hosts).await,
        Command::Storage(StorageCommand::FwUpdate(args)) => {
            firmware::fwupdate(cli, args, hosts).await
        }
        Command::Firmware(command) => firmware::run(cli, command, hosts).await,
        Command::Storage(StorageCommand::Layers(what)) => layers::run(cli, what, hosts).await,
        Command::Pool(PoolCommand::Create(args)) => pool::create::run(cli, args, hosts).await,
        Command::Pool(PoolCommand::List { no_query }) => {
            pool::show::list(cli, *no_query, hosts).await
        }
        Command::Pool(PoolCommand::Query { pool }) => pool::show::query(cli, pool, hosts).await,
        Command::Pool(PoolCommand::GetProp(args)) => pool::properties::get(cli, args, hosts).await,
        Command::Pool(PoolCommand::SetProp(args)) => pool::properties::set(cli, args, hosts).await,
        Command::Storage(StorageCommand::Query(what)) => devices::run(cli, what, hosts).await,
        Command::Pool(PoolCommand::Destroy(args)) => pool::destroy::run(cli, args, hosts).await,
        Command::Preflight(args) => preflight::run(cli, args, hosts).await,
        Command::Network(NetworkCommand::Scan(args)) => query::network_scan(cli, args, hosts).await,
        Command::Network(NetworkCommand::Ping(args)) => ping::run(cli, args, hosts).await,
        Command::Plugin(PluginCommand::List) => query::plugin_list(cli, hosts).await,
        Command::Plugin(PluginCommand::Inspect { name }) => plugin::inspect(cli, name, hosts).await,
        Command::Plugin(PluginCommand::Reset { name }) => plugin::reset(cli, name, hosts).await,
        Command::Server(ServerCommand::SetLogmasks(args)) => logmasks::run(cli, args, hosts).await,
        Command::System(SystemCommand::Query(args)) if args.is_about_members() => {
            system::query(cli, args, hosts).await
        }
        Command::System(SystemCommand::Query(_)) => query::system_query(cli, hosts).await,
        Command::System(SystemCommand::Start(which)) if which.is_empty() => {
            start::run(cli, hosts).await
        }
        Command::System(SystemCommand::Start(which)) => system::start(cli, which, hosts).await,
        Command::System(SystemCommand::Stop { force, which }) if which.is_empty() => {
            stop::run(cli, *force, hosts).await
        }
        Command::System(SystemCommand::Stop { force, which }) => {
            system::stop(cli, which, *force, hosts).await
        }
        Command::System(SystemCommand::Exclude(args)) => system::exclude(cli, args, hosts).await,
        Command::System(SystemCommand::ClearExclude(which)) => {
            system::clear_exclude(cli, which, hosts).await
        }
        Command::System(SystemCommand::Erase(args)) => system::erase(cli, args, hosts).await,
        Command::System(SystemCommand::LeaderQuery) => system::leader(cli, hosts).await,
        // Handled before.
        Command::Storage(StorageCommand::BurnIn(_)) => Ok(true),
        Command::Completion { .. } | Command::Manpage { .. } => Ok(true),
    }
}
