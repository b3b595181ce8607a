//! Regions and their contents. All unsafe code of the SCM cases is here.

use super::{REGION, ScmBench, create, remove, reopen};
use crate::abi::Status;
use crate::conformance::case::{Case, Verdict, ensure, failed, refused};
use crate::conformance::pattern::difference;
use crate::host::{CallOptions, ScmMapping};

pub(super) const CASES: &[Case<ScmBench>] = &[
    Case {
        id: "regions.new_region",
        name: "a new region is page aligned, long enough and all zeroes",
        body: new_region,
    },
    Case {
        id: "regions.contents_persist",
        name: "contents persist over closing and reopening region and memory",
        body: contents_persist,
    },
    Case {
        id: "regions.removed_contents",
        name: "a removed region comes back as zeroes under the same name",
        body: removed_contents,
    },
    Case {
        id: "regions.separate",
        name: "regions do not share their contents",
        body: separate,
    },
    Case {
        id: "regions.exists",
        name: "creating a name that exists is refused as EXISTS",
        body: exists,
    },
    Case {
        id: "regions.not_found",
        name: "opening or removing a name that does not exist is refused as NOT_FOUND",
        body: not_found,
    },
    Case {
        id: "regions.busy",
        name: "an open region is not opened again or removed: BUSY",
        body: busy,
    },
    Case {
        id: "regions.names",
        name: "names that are none are refused as INVALID and the longest one works",
        body: names,
    },
    Case {
        id: "regions.ranges",
        name: "persist, flush and drain take any range of a region",
        body: ranges,
    },
    Case {
        id: "regions.threads",
        name: "threads persist disjoint ranges of one region at the same time",
        body: threads,
    },
];

/// Copies `data` to `offset` of the region.
pub(super) fn put(region: &ScmMapping, offset: usize, data: &[u8]) {
    assert!(offset + data.len() <= region.len(), "outside of the region");
    // SAFETY: inside the mapping; callers write disjoint ranges.
    unsafe {
        std::ptr::copy_nonoverlapping(data.as_ptr(), region.ptr().add(offset), data.len());
    }
}

/// Copies `len` bytes at `offset` of the region.
pub(super) fn get(region: &ScmMapping, offset: usize, len: usize) -> Vec<u8> {
    assert!(offset + len <= region.len(), "outside of the region");
    let mut out = vec![0; len];
    // SAFETY: inside the mapping; nobody writes to the range.
    unsafe { std::ptr::copy_nonoverlapping(region.ptr().add(offset), out.as_mut_ptr(), len) };
    out
}

fn same(what: &str, region: &ScmMapping, data: &[u8]) -> Verdict {
    match difference(&get(region, 0, data.len()), data) {
        None => Ok(()),
        Some(how) => failed(format!("{what}: {how}")),
    }
}

fn new_region(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    for len in [1, 4096, 5000, REGION] {
        let region = create(&memory, "new", len)?;
        ensure!(
            region.ptr().addr().is_multiple_of(4096),
            "the region is at {:p}",
            region.ptr()
        );
        ensure!(
            region.len() >= len && region.len() - len < (2 << 20),
            "{} bytes instead of {len}",
            region.len()
        );
        ensure!(
            get(&region, 0, region.len()).iter().all(|b| *b == 0),
            "a region of {len} bytes is not zeroed"
        );
        put(&region, 0, &vec![0xff; region.len()]);
        drop(region);
        remove(&memory, "new")?;
    }
    Ok(())
}

fn contents_persist(bench: &ScmBench) -> Verdict {
    let data = bench.random(1).bytes(REGION);
    let memory = bench.open()?;
    let region = create(&memory, "lasting", REGION)?;
    put(&region, 0, &data);
    region.persist(0, REGION)?;
    let len = region.len();
    drop(region);
    same(
        "after closing the region",
        &reopen(&memory, "lasting")?,
        &data,
    )?;
    drop(memory);
    let memory = bench.open()?;
    let region = reopen(&memory, "lasting")?;
    ensure!(
        region.len() == len,
        "{} bytes instead of {len}",
        region.len()
    );
    same("after closing the memory", &region, &data)?;
    drop(region);
    remove(&memory, "lasting")
}

fn removed_contents(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    for _ in 0..4 {
        let region = create(&memory, "again", REGION)?;
        ensure!(
            get(&region, 0, REGION).iter().all(|b| *b == 0),
            "a new region holds old contents"
        );
        put(&region, 0, &bench.random(2).bytes(REGION));
        region.persist(0, REGION)?;
        drop(region);
        remove(&memory, "again")?;
    }
    Ok(())
}

fn separate(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    let mut made = Vec::new();
    for n in 0..8u64 {
        let region = create(&memory, &format!("part-{n}"), 8192)?;
        let data = bench.random(10 + n).bytes(8192);
        put(&region, 0, &data);
        region.persist(0, data.len())?;
        made.push((region, data));
    }
    for (n, (region, data)) in made.iter().enumerate() {
        same(&format!("region {n}"), region, data)?;
    }
    drop(made);
    (0..8).try_for_each(|n| remove(&memory, &format!("part-{n}")))
}

fn exists(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    let region = create(&memory, "taken", 4096)?;
    put(&region, 0, b"precious");
    region.persist(0, 8)?;
    drop(region);
    let again = memory.create_region("taken", 4096, CallOptions::default());
    refused("a second create", again, &[Status::EXISTS])?;
    same("after the refusal", &reopen(&memory, "taken")?, b"precious")?;
    remove(&memory, "taken")
}

fn not_found(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    remove(&memory, "missing")?;
    let options = CallOptions::default;
    let opened = memory.open_region("missing", options());
    refused("open", opened, &[Status::NOT_FOUND])?;
    let removed = memory.remove_region("missing", options());
    refused("remove", removed, &[Status::NOT_FOUND])
}

fn busy(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    let region = create(&memory, "busy", 4096)?;
    let options = CallOptions::default;
    refused(
        "open",
        memory.open_region("busy", options()),
        &[Status::BUSY],
    )?;
    refused(
        "remove",
        memory.remove_region("busy", options()),
        &[Status::BUSY],
    )?;
    let created = memory.create_region("busy", 4096, options());
    refused("create", created, &[Status::BUSY, Status::EXISTS])?;
    put(&region, 0, b"alive");
    drop(region);
    same("after the refusals", &reopen(&memory, "busy")?, b"alive")?;
    remove(&memory, "busy")
}

fn names(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    let long = "x".repeat(65);
    let options = CallOptions::default;
    for name in [
        "", ".", "..", "a/b", "/a", "../x", "a b", "a\0b", "\u{e9}", &long,
    ] {
        let created = memory.create_region(name, 4096, options());
        refused(&format!("create of {name:?}"), created, &[Status::INVALID])?;
        let opened = memory.open_region(name, options());
        refused(&format!("open of {name:?}"), opened, &[Status::INVALID])?;
        let removed = memory.remove_region(name, options());
        refused(&format!("remove of {name:?}"), removed, &[Status::INVALID])?;
    }
    for name in [&long[..64], "Az09._-", "-", "_", "...", "x"] {
        drop(create(&memory, name, 4096)?);
        drop(reopen(&memory, name)?);
        remove(&memory, name)?;
    }
    Ok(())
}

fn ranges(bench: &ScmBench) -> Verdict {
    let memory = bench.open()?;
    let region = create(&memory, "ranges", REGION)?;
    let mut random = bench.random(3);
    let mut model = vec![0u8; REGION];
    for round in 0..300 {
        let len = 1 + random.below(9000) as usize;
        let offset = random.below((REGION - len) as u64) as usize;
        let data = random.bytes(len);
        put(&region, offset, &data);
        model[offset..offset + len].copy_from_slice(&data);
        match round % 3 {
            0 => region.persist(offset, len)?,
            1 => {
                region.flush(offset, len)?;
                region.drain()?;
            }
            _ => {
                // Several flushes, one drain; overlapping and empty ranges are fine.
                region.flush(offset, len / 2)?;
                region.flush(offset, len)?;
                region.flush(offset, 0)?;
                region.drain()?;
            }
        }
    }
    region.drain()?;
    region.persist(0, region.len())?;
    region.persist(region.len() - 1, 1)?;
    same("after all rounds", &region, &model)?;
    drop(region);
    same("after reopening", &reopen(&memory, "ranges")?, &model)?;
    remove(&memory, "ranges")
}

fn threads(bench: &ScmBench) -> Verdict {
    const THREADS: usize = 4;
    let memory = bench.open()?;
    let region = create(&memory, "threads", REGION)?;
    let part = REGION / THREADS;
    std::thread::scope(|scope| {
        let region = &region;
        let workers: Vec<_> = (0..THREADS)
            .map(|n| {
                scope.spawn(move || -> Verdict {
                    let mut random = bench.random(20 + n as u64);
                    for _ in 0..500 {
                        let at = n * part + random.below((part - 64) as u64) as usize;
                        put(region, at, &[n as u8 + 1; 64]);
                        region.flush(at, 64)?;
                        region.drain()?;
                        region.persist(at, 64)?;
                    }
                    put(region, n * part, &vec![n as u8 + 1; part]);
                    Ok(region.persist(n * part, part)?)
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|w| w.join().unwrap_or_else(|_| failed("a thread panicked")))
    })?;
    drop(region);
    let region = reopen(&memory, "threads")?;
    for n in 0..THREADS {
        ensure!(
            get(&region, n * part, part)
                .iter()
                .all(|b| *b == n as u8 + 1),
            "the part of thread {n} holds something else"
        );
    }
    drop(region);
    remove(&memory, "threads")
}
