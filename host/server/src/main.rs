//! `daos_server`: the control-plane daemon of a storage node.
//!
//! It never runs a plugin's code: manifests are read from files without running them, control
//! operations happen in one helper process per plugin, data moves in the engines.

mod announce;
mod attach_file;
mod burnin;
mod cert;
mod check;
mod cli;
mod descriptors;
mod engine;
mod fabric;
mod facts;
mod fault_domain;
mod firmware;
mod generate;
mod kit;
mod launch;
mod layers;
mod log_masks;
mod logging;
mod membership;
mod network;
mod owner;
mod plugins;
mod pools;
mod port_holder;
mod preflight;
mod prepare;
mod responder;
mod scan;
mod services;
mod socket_dir;
mod start;
mod state;
mod storage;
mod telemetry;
mod transport;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command, ConfigCommand, NetworkCommand, PluginCommand, StartArgs, StorageCommand};
use daos_report::{Envelope, print_json};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        None => start::run(
            &cli,
            &cli.start.overrides(&StartArgs::default(), &cli.globals),
        ),
        Some(Command::Start(args)) => start::run(&cli, &args.overrides(&cli.start, &cli.globals)),
        Some(Command::Storage(StorageCommand::Scan(args))) => scan::run(&cli, args),
        Some(Command::Storage(StorageCommand::Prepare(args))) => match prepare::run(&cli, args) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => Err(error),
        },
        Some(Command::Storage(StorageCommand::BurnIn { args })) => {
            burnin::local::run(&cli, args).map(|never| match never {})
        }
        Some(Command::Firmware(command)) => firmware::local::run(&cli, command),
        Some(Command::Network(NetworkCommand::Scan(args))) => network::run(&cli, args),
        Some(Command::Plugin(PluginCommand::List)) => plugins::list(&cli),
        Some(Command::Plugin(PluginCommand::Inspect { plugin })) => plugins::inspect(&cli, plugin),
        Some(Command::Plugin(PluginCommand::New(args))) => return kit::run_new(&cli, args),
        Some(Command::Plugin(PluginCommand::Check(args))) => return kit::run_check(&cli, args),
        Some(Command::Plugin(PluginCommand::Bench(args))) => return kit::run_bench(&cli, args),
        Some(Command::Plugin(PluginCommand::Reset { name })) => plugins::reset(&cli, name),
        Some(Command::Config(ConfigCommand::Check { file })) => check::run(&cli, file.as_deref()),
        Some(Command::Config(ConfigCommand::Example)) => {
            daos_report::print_text!("{}", daos_config::example());
            Ok(true)
        }
        Some(Command::Config(ConfigCommand::Generate(args))) => generate::run(&cli, args),
        Some(Command::Preflight(args)) => preflight::run(&cli, args),
        Some(Command::Cert(command)) => cert::run(&cli, command),
        Some(Command::Completion { shell }) => {
            let mut out = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "daos_server", &mut out);
            daos_report::print_text!("{}", String::from_utf8_lossy(&out));
            Ok(true)
        }
        Some(Command::Manpage { dir }) => {
            let mut out = Vec::new();
            let made = daos_report::manual(Cli::command(), dir.as_deref(), &mut out);
            daos_report::print_text!("{}", String::from_utf8_lossy(&out));
            made.map(|()| true).map_err(Into::into)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            if cli.globals.json {
                // Nothing is left to tell if standard output is gone.
                let _ = print_json(&Envelope::<()>::failed(None, format!("{error:#}")));
            }
            eprintln!("ERROR: {error:#}");
            ExitCode::FAILURE
        }
    }
}
