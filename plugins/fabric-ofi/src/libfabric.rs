//! libfabric itself: bindings, owners of its objects, what it offers on this machine. All `unsafe` calls
//! of it are here and in `data/operation.rs`.

mod environment;
mod errno;
mod handles;
mod info;
mod offer;
pub(crate) mod sys;
mod threads;

pub(crate) use environment::prepare;
pub(crate) use errno::Errno;
pub(crate) use handles::{AddressVector, BATCH, Domain, Endpoint, Entries, Memory, Outcome, Queue};
pub(crate) use info::{Info, LinkState};
pub(crate) use offer::{offered, version};
