//! Engines: how one is started, watched, restarted and stopped.

mod board;
mod command;
mod end;
mod files;
mod introduce;
mod rest;
mod restart;
mod spawn;
mod supervise;
mod tail;
mod upcalls;
mod verdict;

pub(crate) use command::Start;
pub(crate) use command::{own_program, program, responder};
pub(crate) use files::{OpenFiles, watch as watch_files};
pub(crate) use spawn::spawn;
pub(crate) use supervise::{Supervisor, supervise};
pub(crate) use upcalls::{OwnUpcalls, Upcalls};
