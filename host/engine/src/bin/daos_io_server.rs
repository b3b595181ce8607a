//! The I/O engine of a DAOS storage node; see `daos_io_server --help`.

use clap::Parser;
use daos_engine::config::Options;
use daos_engine::error::StartError;
use daos_engine::{death, logging, responder, run};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let options = Options::parse();
    death::announce();
    let result = logging::init().and_then(|()| match options.respond {
        Some(seconds) => responder::run(&options, Duration::from_secs(seconds)),
        None => run::run(&options),
    });
    death::orderly();
    match result {
        Ok(code) => code.into(),
        Err(StartError { code, text }) => {
            // The last line on standard error: the daemon shows it.
            eprintln!("daos_io_server: {text}");
            code.into()
        }
    }
}
