//! One program for all targets: `FUZZ_TARGET=config daos-fuzz CORPUS_DIR -max_total_time=60`.
//! `daos-fuzz` without `FUZZ_TARGET` lists the targets.
#![no_main]

mod seeds;
mod targets;

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

/// Takes the target from the environment; with `FUZZ_SEEDS`, writes first inputs there and ends.
fn choose() {
    if let Some(directory) = std::env::var_os("FUZZ_SEEDS") {
        seeds::write(Path::new(&directory)).expect("the seed directory can be written");
        std::process::exit(0);
    }
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some((_, run)) = targets::ALL.iter().find(|(name, _)| *name == wanted) else {
        for (name, _) in targets::ALL {
            println!("{name}");
        }
        std::process::exit(if wanted.is_empty() { 0 } else { 2 });
    };
    let _ = TARGET.set(*run);
}

fuzz_target!(init: choose(), |data: &[u8]| {
    if let Some(run) = TARGET.get() {
        run(data);
    }
});
