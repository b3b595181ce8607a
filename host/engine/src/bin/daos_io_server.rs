//! The I/O engine of a DAOS storage node; see `daos_io_server --help`.

use clap::Parser;
use daos_engine::config::Options;
use daos_engine::error::StartError;
use daos_engine::{death, descriptors, logging, responder, run};
use std::process::ExitCode;
use std::time::Duration;

/// close(2) of this process and of every library in it; see [`descriptors`].
#[unsafe(no_mangle)]
extern "C" fn close(descriptor: libc::c_int) -> libc::c_int {
    descriptors::close(descriptor)
}

/// close_range(2), likewise.
#[unsafe(no_mangle)]
extern "C" fn close_range(first: u32, last: u32, flags: libc::c_int) -> libc::c_int {
    descriptors::close_range(first, last, flags)
}

fn main() -> ExitCode {
    let options = Options::parse();
    death::announce();
    let board = options.board.map_or(Ok(()), |descriptor| {
        death::take_board(descriptor)
            .map_err(|e| StartError::config(format_args!("--board {descriptor}: {e}")))
    });
    let result = board
        .and_then(|()| logging::init())
        .and_then(|()| match options.respond {
            Some(seconds) => responder::run(&options, Duration::from_secs(seconds)),
            None => run::run(&options),
        });
    death::orderly();
    match result {
        Ok(code) => code.into(),
        Err(StartError { code, text }) => {
            death::say_why(&text);
            code.into()
        }
    }
}
