//! Runs one case of the conformance kit over a libfabric provider: `ofi-check PROVIDER CASE`.
//! A process per case, since a provider may crash or hang. Exit status: 0 kept, 1 broken,
//! 2 usage, 3 not claimed, 4 provider missing.

use daos_plugin_api::conformance::{Outcome, Record, Reporter, Target, run};
use daos_plugin_api::control::{ClassKind, FabricOpenRequest};
use daos_plugin_api::sdk::thunks;
use ofi_spike::{FabricOfi, OfiDomain};
use serde_json::json;
use std::process::ExitCode;

struct Quiet;

impl Reporter for Quiet {
    fn ended(&mut self, _record: &Record) {}
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [provider, case] = arguments.as_slice() else {
        eprintln!("usage: ofi-check PROVIDER CASE");
        return ExitCode::from(2);
    };
    let request = FabricOpenRequest {
        provider: provider.clone(),
        interface: "lo".to_owned(),
        ..Default::default()
    };
    if let Err(error) = OfiDomain::open(&request) {
        println!("{error}");
        return ExitCode::from(4);
    }
    let target = Target::new(ClassKind::Fabric, provider, json!({"interface": "lo"})).filter(case);
    let summary = run(thunks::table::<FabricOfi>(), &target, &mut Quiet);
    match summary.records.iter().find(|record| record.case == case) {
        Some(record) => match &record.outcome {
            Outcome::Passed => ExitCode::SUCCESS,
            Outcome::Skipped(why) => {
                println!("{why}");
                ExitCode::from(3)
            }
            Outcome::Failed(how) => {
                println!("{how}");
                ExitCode::from(1)
            }
        },
        None => {
            println!("there is no such case: {case}");
            ExitCode::from(2)
        }
    }
}
