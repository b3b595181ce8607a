//! The built-in engine: a small single-node object store on three plugins.
//!
//! Each target is one thread with everything of its own - an endpoint, a queue of a block device, a
//! [`log`], an [`index`], a share of the device ([`extents`]) and a memory of who asked for what
//! ([`clients`]) - and takes no lock that another target takes. [`storage`] puts log, index and space
//! together and keeps the order that makes an acknowledgement a promise; [`mod@array`] says what reads and
//! writes of arrays mean for it; the [`catalogue`] knows pools and containers; [`target`] moves requests
//! through it; [`engine`] opens the plugins and starts the targets; [`run`] is the program. [`responder`] is
//! what it is instead when only the fabric is to be measured.
//!
//! Architecture invariants: `unsafe` lives in [`death`], [`descriptors`], [`memory`], [`net`], [`extents::device`], [`scm`] and
//! [`wake`]; log, index, extents and storage know no plugin (but for the device queue in
//! [`extents::device`]) and are tested without any; nothing here talks to a network except through
//! [`net`] and [`upcall`].

pub mod array;
pub mod catalogue;
pub mod clients;
pub mod config;
pub mod death;
pub mod defect;
pub mod descriptors;
pub mod devices;
pub mod engine;
pub mod error;
pub mod extents;
pub mod helpers;
mod host_calls;
pub mod index;
pub mod layers;
pub mod log;
pub mod logging;
mod mapped;
pub mod media;
pub mod memory;
pub mod net;
pub mod pin;
pub mod plugins;
mod pools;
pub mod record;
pub mod responder;
pub mod run;
pub mod scm;
pub mod state;
pub mod storage;
pub mod target;
pub mod telemetry;
pub mod upcall;
pub mod wake;
