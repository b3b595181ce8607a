//! Runs the SPDK spike through its plugin file, on the emulated controllers of tests/vm.
//!
//! usage: spdk-spike-check PLUGIN.so GROUP [SETTINGS]
//!
//! SETTINGS is the plugin's settings as JSON.
//! Groups: `device`, `io`, `reset`, `removal`, `dead` (a process each, since the last two cost a device), and
//! `conformance` and `conformance-4096`, the suite that every backend passes. Prints a line per case and exits 1 if one failed.

mod conformance;
mod dead;
mod device;
mod io;
mod load;
mod qemu;
mod removal;
mod reset;
mod rig;

use load::Plugin;
use std::process::ExitCode;
use std::time::Instant;

/// Outcome of a case: what is wrong, if anything.
type Outcome = Result<(), String>;

/// A named case.
type Case = (&'static str, fn(&Plugin) -> Outcome);

/// Fails the case with a formatted reason unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($reason:tt)*) => {
        if !$condition {
            return Err(format!($($reason)*));
        }
    };
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let (path, group, settings) = match arguments.as_slice() {
        [_, path, group] => (path, group, "{}"),
        [_, path, group, settings] => (path, group, settings.as_str()),
        _ => {
            eprintln!("usage: spdk-spike-check PLUGIN.so GROUP [SETTINGS]");
            return ExitCode::from(2);
        }
    };
    match run(path, group, settings) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("spdk-spike-check: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every case of the group passed.
fn run(path: &str, group: &str, settings: &str) -> Result<bool, String> {
    let settings =
        serde_json::from_str(settings).map_err(|e| format!("settings {settings}: {e}"))?;
    let table = load::table(path)?;
    let cases: &[Case] = match group {
        "conformance" => return Ok(conformance::passes(table, &settings, load::NVME_512, &[])),
        "conformance-4096" => {
            let address = format!("{}/1", load::NVME_MIXED);
            return Ok(conformance::passes(
                table,
                &settings,
                &address,
                conformance::ABOUT_BLOCKS,
            ));
        }
        "device" => device::CASES,
        "io" => io::CASES,
        "reset" => reset::CASES,
        "removal" => removal::CASES,
        "dead" => dead::CASES,
        _ => return Err(format!("no group {group}")),
    };
    let plugin = Plugin::new(table, settings)?;
    let mut failed = 0;
    for (name, case) in cases {
        let started = Instant::now();
        let outcome = case(&plugin);
        let took = started.elapsed().as_millis();
        match outcome {
            Ok(()) => println!("ok     {group}: {name} ({took} ms)"),
            Err(reason) => {
                failed += 1;
                println!("FAILED {group}: {name} ({took} ms): {reason}");
            }
        }
    }
    println!("{group}: {} passed, {failed} failed", cases.len() - failed);
    Ok(failed == 0)
}
