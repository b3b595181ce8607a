//! Runs the real programs for end-to-end tests: one [`Site`] is a storage node in a private directory, with
//! a config, a port and storage of its own, started, stopped and killed like a real one.
//!
//! Whatever a test does, and also when it panics, everything that its site made is gone afterwards:
//! processes of every generation, mounts, loop devices, files. What a killed test program leaves is removed
//! by the next one.
//!
//! Everything here panics when it fails: it only serves tests.

mod config;
mod disk;
mod installed;
pub mod peer;
mod place;
mod port;
mod private_dir;
mod process;
mod programs;
mod server;
mod session;
mod site;

pub use config::{Bdev, Engine, Plugins};
pub use disk::LoopDevice;
pub use place::Place;
pub use port::Port;
pub use private_dir::{PrivateDir, mounts_below};
pub use process::{
    Finished, Running, finish, finish_told, is_stopped, process_name, session_processes,
};
pub use programs::{PLUGIN_FILES, Programs};
pub use server::{LIMIT, Server, eventually};
pub use site::{Site, User, may_mount};

use std::io::Write as _;

/// Says, also where test output is captured, that a test did not run here.
pub fn not_run(test: &str, reason: &str) {
    // Nothing is left to tell if standard error is gone.
    let _ = writeln!(std::io::stderr(), "NOT RUN {test}: {reason}");
}
