//! A provider that fails while it is opened: each step ends in an error that says which, on what and why, nothing
//! stays open, and the process goes on with another provider.
#![cfg(libfabric)]

mod common;

use common::{Memory, again, finish, open, open_node, pattern, recv, send};
use daos_plugin_api::abi::{FABRIC_LOCAL, Status};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::sdk::Error;
use fabric_ofi::{OfiDomain, Settings};
use std::path::Path;
use std::process::Command;

/// Steps of opening, what the error says of each, and its status.
const STEPS: [(&str, &str, Status); 8] = [
    (
        "fabric",
        "cannot open a domain of broken on broken0",
        Status::IO,
    ),
    (
        "domain",
        "cannot open a domain of broken on broken0",
        Status::IO,
    ),
    ("cq", "cannot open an endpoint of broken", Status::NO_MEMORY),
    ("av", "cannot open an endpoint of broken", Status::NO_MEMORY),
    ("endpoint", "cannot open an endpoint of broken", Status::IO),
    ("bind", "cannot open an endpoint of broken", Status::IO),
    ("enable", "cannot open an endpoint of broken", Status::IO),
    ("name", "cannot open an endpoint of broken", Status::IO),
];

/// Set for the process that opens the provider.
const STEP: &str = "BROKEN_AT";

/// Builds the provider into a directory; why not, if there is no compiler.
fn build(dir: &Path) -> Result<(), String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broken/provider.c");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-o"])
        .arg(dir.join("libbroken-fi.so"))
        .arg(source)
        .output()
        .map_err(|e| format!("no C compiler cc: {e}"))?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn a_provider_that_fails_at_any_step_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    if let Err(why) = build(dir.path()) {
        println!("NOT RUN a_provider_that_fails_at_any_step_is_an_error_that_names_it: {why}");
        return;
    }
    let steps = STEPS.iter().map(|(step, ..)| *step);
    for step in steps.chain(["getinfo", "nowhere"]) {
        let output = again("a_process_opens_it")
            .env("FI_PROVIDER_PATH", dir.path())
            .env(STEP, step)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "broken at {step}: {text}");
        assert!(text.contains("1 passed"), "broken at {step}: {text}");
        assert!(!text.contains("left open"), "broken at {step}: {text}");
    }
}

fn opened() -> Result<(), Error> {
    let request = FabricOpenRequest {
        provider: "ofi+broken".to_owned(),
        interface: "broken0".to_owned(),
        ..Default::default()
    };
    let domain = OfiDomain::open(&request, Settings::default())?;
    domain.endpoint().map(drop)
}

/// What the test above starts; alone it has nothing to do.
#[test]
fn a_process_opens_it() {
    let Ok(step) = std::env::var(STEP) else {
        return;
    };
    let result = opened();
    match STEPS.iter().find(|(name, ..)| *name == step) {
        Some((_, what, status)) => {
            let error = result.unwrap_err();
            assert_eq!(error.what, *what, "{error}");
            assert_eq!(error.status, *status, "{error}");
            assert!(!error.cause.is_empty(), "{error}");
        }
        None if step == "getinfo" => {
            let error = result.unwrap_err();
            assert_eq!(error.status, Status::NOT_FOUND, "{error}");
            assert!(error.what.contains("broken"), "{error}");
        }
        None => result.unwrap(),
    }
    // The process is none the worse for it.
    let domain = open("ofi+tcp;ofi_rxm").unwrap();
    let (mut a, mut b) = (open_node(&domain), open_node(&domain));
    let to_b = a.resolve(&b);
    let message = Memory::of(&domain, pattern(1, 500), FABRIC_LOCAL);
    let mut room = Memory::of(&domain, vec![0; 500], FABRIC_LOCAL);
    b.submit(recv(1, 7, 0, &mut room));
    a.submit(send(2, to_b, 7, &message));
    let done = finish(&mut [&mut a, &mut b], 1, 1);
    assert_eq!((done.status, done.len), (Status::OK, 500));
    assert_eq!(room.bytes(), message.bytes());
}
