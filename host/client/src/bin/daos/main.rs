//! `daos`: puts and gets objects, measures, and proves that nothing acknowledged is lost.

mod array;
mod bench;
mod cli;
mod container;
mod object;
mod output;
mod parse;
mod pattern;
mod query;
mod workload;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command, WorkloadCommand};
use daos_client::{Client, EngineAddress, Options};
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it should.
    Good,
    /// Data is lost or other than it was written.
    Mismatch,
}

/// Exit status for [`Verdict::Mismatch`].
const MISMATCH: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = ["warn", "info", "debug", "trace"][usize::from(cli.verbose).min(3)];
    let ours =
        format!("warn,daos={level},daos_client={level},daos_loader={level},fabric_tcp={level}");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(ours));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ERROR: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&cli)) {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Mismatch) => ExitCode::from(MISMATCH),
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

async fn run(cli: &Cli) -> anyhow::Result<Verdict> {
    match &cli.command {
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "daos", &mut script);
            output::raw(&script)?;
            Ok(Verdict::Good)
        }
        Command::Manpage { dir } => {
            let mut page = Vec::new();
            daos_report::manual(Cli::command(), dir.as_deref(), &mut page)?;
            output::raw(&page)?;
            Ok(Verdict::Good)
        }
        Command::Object(command) => object::run(cli, command, &connect(cli).await?).await,
        Command::Array(command) => array::run(cli, command, &connect(cli).await?).await,
        Command::Container(command) => container::run(cli, command, &connect(cli).await?).await,
        Command::Pool(command) => container::run_pool(cli, command, &connect(cli).await?).await,
        Command::Query => query::run(cli, &connect(cli).await?).await,
        Command::Bench(args) => bench::run(cli, args, &connect(cli).await?).await,
        Command::Workload(WorkloadCommand::Write(args)) => {
            workload::write::run(cli, args, &connect(cli).await?).await
        }
        Command::Workload(WorkloadCommand::Verify(args)) => {
            // The record first: a mistake in its name needs no engine.
            let runs = workload::record::read(args.record.path())?;
            workload::verify::run(cli, args, &connect(cli).await?, runs).await
        }
    }
}

async fn connect(cli: &Cli) -> anyhow::Result<Client> {
    let mut options = Options::new(match &cli.uri {
        Some(uri) => EngineAddress::Uri(uri.clone()),
        None => EngineAddress::AccessPoints(cli.access_point.clone()),
    });
    options.system = cli.system.clone();
    options.rank = cli.rank;
    options.interface = cli.interface.clone();
    options.plugins_dir = cli.plugins_dir.clone();
    options.cert_dir = cli.cert_dir.clone();
    options.deadline = Duration::from_secs(cli.deadline);
    Ok(Client::connect(options).await?)
}
