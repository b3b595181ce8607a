//! Space: everything is allocated up front, and what is reported is true.

use super::regions::{get, put};
use super::{ScmBench, create, remove};
use crate::abi::Status;
use crate::conformance::case::{Case, Verdict, ensure, refused, skipped};
use crate::host::{CallOptions, ScmMapping, ScmMemory};

pub(super) const CASES: &[Case<ScmBench>] = &[
    Case {
        id: "space.accounting",
        name: "free space shrinks by what a region takes and grows back",
        body: accounting,
    },
    Case {
        id: "space.too_large",
        name: "a region larger than the free space is refused as NO_SPACE and leaves nothing",
        body: too_large,
    },
    Case {
        id: "space.no_bytes",
        name: "a region of no bytes is refused as INVALID",
        body: no_bytes,
    },
    Case {
        id: "space.fill",
        name: "full memory says NO_SPACE, never a signal, and every byte is read back",
        body: fill,
    },
];

/// Fills no more than this, so that the case fits any machine.
const MOST: u64 = 1 << 30;

fn accounting(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    let before = memory.info()?.available;
    let len = (before / 4).clamp(4096, 16 << 20);
    let region = create(&memory, "space", len as usize)?;
    let with = memory.info()?.available;
    ensure!(
        with + len <= before,
        "{before} bytes were free, {with} are with a region of {len}"
    );
    drop(region);
    let closed = memory.info()?.available;
    ensure!(
        closed + len <= before,
        "a closed region gave its space back: {closed} of {before}"
    );
    remove(&memory, "space")?;
    let after = memory.info()?.available;
    // File systems keep a little for their own books.
    ensure!(
        before.abs_diff(after) <= 1 << 20,
        "{before} bytes were free, {after} are after the removal"
    );
    Ok(())
}

fn too_large(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    let info = memory.info()?;
    for len in [info.available + 4096, info.total + 1, 1 << 50, u64::MAX] {
        let created = memory.create_region("huge", len, CallOptions::default());
        refused(&format!("{len} bytes"), created, &[Status::NO_SPACE])?;
        let opened = memory.open_region("huge", CallOptions::default());
        refused("what is left of it", opened, &[Status::NOT_FOUND])?;
    }
    let after = memory.info()?.available;
    ensure!(
        info.available.abs_diff(after) <= 1 << 20,
        "{} bytes were free, {after} are after the refusals",
        info.available
    );
    Ok(())
}

fn no_bytes(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    let created = memory.create_region("nothing", 0, CallOptions::default());
    refused("a region of no bytes", created, &[Status::INVALID])
}

/// Makes regions until there is no space; each twice as small as the last that did not fit.
fn until_full(memory: &ScmMemory) -> Verdict<Vec<ScmMapping>> {
    let mut regions: Vec<ScmMapping> = Vec::new();
    let mut len = (memory.info()?.available / 4)
        .max(4096)
        .next_multiple_of(4096);
    while len >= 4096 {
        let name = format!("fill-{}", regions.len());
        match memory.create_region(&name, len, CallOptions::default()) {
            Ok(region) => regions.push(region),
            Err(e) if e.status == Status::NO_SPACE => len = len / 2 / 4096 * 4096,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(regions)
}

fn fill(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    let available = memory.info()?.available;
    if available > MOST {
        return skipped(format!("{} MiB are too much to fill", available >> 20));
    }
    let regions = until_full(&memory)?;
    let sum: u64 = regions.iter().map(|r| r.len() as u64).sum();
    let mut verdict = verify(bench, &regions);
    if verdict.is_ok() && sum > available {
        verdict = crate::conformance::case::failed(format!(
            "{sum} bytes of regions fit into {available}"
        ));
    }
    let count = regions.len();
    drop(regions);
    (0..count).try_for_each(|n| remove(&memory, &format!("fill-{n}")))?;
    verdict
}

fn verify(bench: &ScmBench, regions: &[ScmMapping]) -> Verdict {
    for (n, region) in regions.iter().enumerate() {
        let mut random = bench.random(100 + n as u64);
        for offset in (0..region.len()).step_by(4096) {
            put(region, offset, &random.bytes(4096));
        }
        region.persist(0, region.len())?;
    }
    for (n, region) in regions.iter().enumerate() {
        let mut random = bench.random(100 + n as u64);
        for offset in (0..region.len()).step_by(4096) {
            ensure!(
                get(region, offset, 4096) == random.bytes(4096),
                "byte {offset} ff. of region {n} of {} holds something else",
                regions.len()
            );
        }
    }
    Ok(())
}
