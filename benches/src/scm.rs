//! scm-dcpm against libpmem's `pmem_persist` on the same mapping: what it costs to make stores durable.
//!
//! On a mapping that the kernel does not vouch for, the plugin is told to use the processor's
//! instructions all the same, as `pmem_persist` does, which never looks.

use crate::stats::{median, spread};
use anyhow::{Context, ensure};
use daos_plugin_api::abi::ScmInfo;
use daos_plugin_api::control::{ClassRequest, FormatRequest};
use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions, ScmMapping};
use daos_plugin_api::sdk::thunks;
use scm_dcpm::ScmDcpm;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of the region, more than caches hold.
const REGION: usize = 128 << 20;
const LINE: usize = 64;
/// Least time of a turn.
const TURN: Duration = Duration::from_millis(300);

/// Bytes that are made durable at once.
const SIZES: [(&str, usize); 3] = [("64 B", 64), ("4 KiB", 4096), ("1 MiB", 1 << 20)];

/// Measures and prints the table. The region is made in `directory`.
pub(crate) fn run(directory: &Path, rounds: u32) -> anyhow::Result<()> {
    let directory = tempfile::Builder::new()
        .prefix("daos-bench-scm-")
        .tempdir_in(directory)
        .with_context(|| format!("cannot make a directory in {}", directory.display()))?;
    let (region, direct) = open(directory.path())?;
    println!(
        "scm-dcpm against libpmem, one mapping{}, {rounds} turns each, one store per cache line and one persist\n",
        match direct {
            true => " with direct access",
            false => ", not persistent memory",
        }
    );
    if !cfg!(libpmem) {
        println!(
            "NOT RUN the comparison: built without libpmem; apt-get install libpmem-dev pkg-config\n"
        );
    }
    println!("| at once | scm-dcpm ns | libpmem ns | throughput against libpmem |");
    println!("|---|---|---|---|");
    for (name, bytes) in SIZES {
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let ours_turn = || {
            turn(&region, bytes, |at| {
                region
                    .persist(at, bytes)
                    .map_err(|status| anyhow::anyhow!("persist: {status}"))
            })
        };
        let theirs_turn = || {
            turn(&region, bytes, |at| {
                libpmem::persist(&region, at, bytes);
                Ok(())
            })
        };
        for round in 0..rounds {
            if !cfg!(libpmem) {
                ours.push(ours_turn()?);
                continue;
            }
            // Neither is always the first.
            let (a, b) = match round % 2 {
                0 => {
                    let a = ours_turn()?;
                    (a, theirs_turn()?)
                }
                _ => {
                    let b = theirs_turn()?;
                    (ours_turn()?, b)
                }
            };
            ratios.push(b / a);
            ours.push(a);
            theirs.push(b);
        }
        match ratios.is_empty() {
            true => println!("| {name} | {:.1} | - | - |", median(&ours)),
            false => println!(
                "| {name} | {:.1} | {:.1} | {} |",
                median(&ours),
                median(&theirs),
                spread(&ratios, 3)
            ),
        }
    }
    Ok(())
}

/// A region of the plugin in a directory, and whether the kernel vouches for its mapping.
fn open(directory: &Path) -> anyhow::Result<(ScmMapping, bool)> {
    let options = InstanceOptions {
        settings: Map::from_iter([("persist".to_owned(), Value::from("cache_lines"))]),
        ..InstanceOptions::built_in()
    };
    let instance = Instance::create(thunks::table::<ScmDcpm>(), options)?;
    let config = json!({
        "scm_mount": directory.join("storage"),
        "scm_list": [directory],
        "scm_size_mib": (REGION >> 20) + 16,
    });
    let Value::Object(config) = config else {
        unreachable!("an object literal")
    };
    let request = ClassRequest {
        class: "dcpm".to_owned(),
        config,
    };
    let mut devices = instance.devices(&request, CallOptions::default())?;
    let format = FormatRequest {
        device: devices.remove(0),
        overwrite_foreign: false,
        nvme_format: false,
        check_only: false,
    };
    instance.format(&format, CallOptions::default())?;
    let memory = instance.open_scm(&format.device, CallOptions::default())?;
    let direct = memory
        .info()
        .map_err(|status| anyhow::anyhow!("info: {status}"))?
        .flags
        & ScmInfo::DAX
        != 0;
    let region = memory.create_region("bench", REGION as u64, CallOptions::default())?;
    ensure!(region.len() >= REGION, "the region is too small");
    Ok((region, direct))
}

/// Nanoseconds of one store per line and one persist, over the whole region again and again.
fn turn(
    region: &ScmMapping,
    bytes: usize,
    mut persist: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut made = 0u64;
    while begun.elapsed() < TURN {
        // The clock is looked at once per MiB.
        let base = made as usize * bytes % REGION;
        for at in (base..base + (1 << 20)).step_by(bytes) {
            store(region, at, bytes, made);
            persist(at)?;
            made += 1;
        }
    }
    Ok(begun.elapsed().as_nanos() as f64 / made as f64)
}

/// Stores a word into each line of a range.
fn store(region: &ScmMapping, at: usize, bytes: usize, value: u64) {
    assert!(at + bytes <= region.len(), "outside of the region");
    for line in (at..at + bytes).step_by(LINE) {
        // SAFETY: inside the region, aligned, and only this thread uses it.
        unsafe { region.ptr().add(line).cast::<u64>().write_volatile(value) }
    }
}

#[cfg(libpmem)]
mod libpmem {
    use super::ScmMapping;
    use std::ffi::c_void;

    unsafe extern "C" {
        fn pmem_persist(addr: *const c_void, len: usize);
    }

    pub(super) fn persist(region: &ScmMapping, at: usize, len: usize) {
        assert!(at + len <= region.len(), "outside of the region");
        // SAFETY: inside the mapping, as the function asks for.
        unsafe { pmem_persist(region.ptr().add(at).cast(), len) }
    }
}

#[cfg(not(libpmem))]
mod libpmem {
    use super::ScmMapping;

    pub(super) fn persist(_: &ScmMapping, _: usize, _: usize) {
        unreachable!("never asked for without libpmem")
    }
}
