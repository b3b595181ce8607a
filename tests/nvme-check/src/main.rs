//! Runs plugin bdev-nvme-spdk through its plugin file, on the emulated controllers of tests/vm.
//!
//! ```text
//! usage: nvme-check PLUGIN.so GROUP [SETTINGS]
//!        nvme-check PLUGIN.so conformance ADDRESS [CASE...]
//!        nvme-check PLUGIN.so speed ADDRESS randread|randwrite|read|write BYTES DEPTH SECONDS
//! ```
//!
//! Groups: `kernel`, `device`, `format`, `format-command`, `io`, `reset`, `removal`, `dead` (a process each, since the last
//! two cost a device); `firmware` and `firmware-*` against a target on a fabric (scenario nvme-firmware); SETTINGS is the
//! plugin's settings as JSON. `conformance` runs the suite that every backend passes on one device, or those of its cases
//! that are named (`io.model`). Prints a line per case and exits 1 if one failed.

mod conformance;
mod copies;
mod dead;
mod device;
mod firmware;
mod format;
mod io;
mod kernel;
mod load;
mod qemu;
mod removal;
mod reset;
mod rig;
mod sigbus;
mod speed;

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
    if arguments.len() < 3 {
        eprintln!("usage: nvme-check PLUGIN.so GROUP [ARGUMENT...]");
        return ExitCode::from(2);
    }
    match run(&arguments[1], &arguments[2], &arguments[3..]) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("nvme-check: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every case of the group passed.
fn run(path: &str, group: &str, arguments: &[String]) -> Result<bool, String> {
    let argument = |index: usize| arguments.get(index).map(String::as_str);
    let table = load::table(path)?;
    let cases: &[Case] = match group {
        "conformance" => {
            let address = argument(0).ok_or("which device?")?;
            return conformance::passes(table, address, &arguments[1..]);
        }
        "speed" => {
            let work = speed::Work::parse(arguments).ok_or("speed of what?")?;
            let plugin = Plugin::new(table, serde_json::Map::new())?;
            println!("IOPS {:.1}", speed::measure(&plugin, &work)?);
            return Ok(true);
        }
        "kernel" => kernel::CASES,
        "device" => device::CASES,
        "format" => format::CASES,
        "format-command" => format::COMMAND,
        "io" => io::CASES,
        "reset" => reset::CASES,
        "removal" => removal::CASES,
        "dead" => dead::CASES,
        "firmware" => firmware::CASES,
        "firmware-die" => firmware::DIE,
        "firmware-again" => firmware::AGAIN,
        "firmware-hold" => firmware::HOLD,
        "firmware-busy" => firmware::BUSY,
        "firmware-pending" => firmware::PENDING,
        _ => return Err(format!("no group {group}")),
    };
    let settings = argument(0).unwrap_or("{}");
    let settings =
        serde_json::from_str(settings).map_err(|e| format!("settings {settings}: {e}"))?;
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
