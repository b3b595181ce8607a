//! Domains and endpoints of this plugin, in the rig of all fabric plugins.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test program uses its part"
)]

use daos_plugin_api::abi::Status;
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::sdk::{Error, FabricDomain};
use fabric_ofi::{OfiDomain, OfiEndpoint, OfiRegion, Settings};
pub use fabric_rig::*;
use std::process::Command;

/// An endpoint of this plugin and what it completed.
pub type Node = fabric_rig::Node<OfiEndpoint>;
/// Memory that it has registered.
pub type Memory = fabric_rig::Memory<OfiRegion>;

/// An endpoint of a domain.
pub fn open_node(domain: &OfiDomain) -> Node {
    Node::of(domain.endpoint().unwrap(), domain.info().scratch_size).patient()
}

/// Names the interface to use instead of the loopback, for providers that are not on that.
const INTERFACE: &str = "OFI_TEST_INTERFACE";

pub fn interface() -> String {
    std::env::var(INTERFACE).unwrap_or_else(|_| "lo".to_owned())
}

pub fn open(provider: &str) -> Result<OfiDomain, Error> {
    let request = FabricOpenRequest {
        provider: provider.to_owned(),
        interface: interface(),
        ..Default::default()
    };
    OfiDomain::open(&request, Settings::default())
}

/// This test program, to run one of its tests in a process of its own.
pub fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        // The psm provider handles fatal signals, whichever provider is in use: it would write a
        // file where the test runs, and exit as if nothing had happened.
        .env("IPATH_NO_BACKTRACE", "1");
    command
}

/// A process that crashed or was killed leaves its shared memory behind.
pub fn remove_shared_memory(process: u32) {
    let mark = format!("{process}:");
    for entry in std::fs::read_dir("/dev/shm")
        .into_iter()
        .flatten()
        .flatten()
    {
        if entry.file_name().to_string_lossy().starts_with(&mark) {
            // Someone else's of the same number is not ours to complain about.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Runs a case over a provider, if this machine has that.
pub fn with_provider(name: &str, case: &str, run: fn(&OfiDomain)) {
    match open(name) {
        Ok(domain) => {
            let info = domain.info();
            println!(
                "{case} over {}: flags {:#x}, {} tag bits",
                domain.provider(),
                info.flags,
                info.tag_bits
            );
            run(&domain);
        }
        Err(error) if [Status::NOT_FOUND, Status::NOT_SUPPORTED].contains(&error.status) => {
            println!("NOT RUN {case} over {name}: {error}");
        }
        Err(error) => panic!("{error}"),
    }
}
