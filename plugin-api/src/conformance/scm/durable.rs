//! What is durable when the process dies: no region is closed, no destructor runs.

use super::regions::{get, put};
use super::{REGION, ScmBench, create, remove, reopen};
use crate::abi::PluginTable;
use crate::conformance::case::{Case, Verdict, failed, skipped};
use crate::conformance::other::{self, Line, Other, die, first_device, told, told_number};
use crate::conformance::pattern::{Random, difference};
use crate::conformance::target::Target;
use crate::host::{CallOptions, Instance, ScmMemory};

pub(super) const CASES: &[Case<ScmBench>] = &[
    Case {
        id: "durable.killed",
        name: "what was persisted survives the death of its process: nobody closed the region",
        body: persisted,
    },
    Case {
        id: "durable.killed_drain",
        name: "what was flushed and drained survives the death of its process: nobody closed the region",
        body: drained,
    },
];

/// Writes, makes it durable, says so, dies.
pub(in crate::conformance) const WRITER: &str = "scm.writer";
/// Opens what the writer left and compares.
pub(in crate::conformance) const READER: &str = "scm.reader";

const PERSIST: &str = "persist";
const DRAIN: &str = "drain";
const NAME: &str = "killed";
const ROUNDS: u64 = 2;

fn persisted(bench: &ScmBench) -> Verdict {
    survives(bench, PERSIST)
}

fn drained(bench: &ScmBench) -> Verdict {
    survives(bench, DRAIN)
}

fn survives(bench: &ScmBench, how: &str) -> Verdict {
    if bench.base.is_ephemeral() {
        return skipped(
            "the class is declared `ephemeral`: its contents go with the process that opened it",
        );
    }
    for round in 0..ROUNDS {
        let seed = bench.random(200 + round).next().to_string();
        let mut writer = Other::start(&bench.base, WRITER, "the process that writes")?;
        writer.tell(how);
        writer.tell(&seed);
        writer.wait_for("durable")?;
        writer.dies()?;
        let mut reader = Other::start(
            &bench.base,
            READER,
            "the process that opens the memory next",
        )?;
        reader.tell(how);
        reader.tell(&seed);
        reader.wait_for("the same")?;
    }
    remove(&bench.open()?, NAME)
}

/// What is stored where, as both processes make it from the seed: parts that neither start nor end at a unit of
/// anything, none beside another.
fn plan(seed: u64) -> Vec<(usize, Vec<u8>)> {
    const PARTS: usize = 8;
    let mut random = Random::new(seed);
    (0..PARTS)
        .map(|n| {
            let offset = n * (REGION / PARTS) + random.below(4096) as usize;
            let len = 1 + random.below(REGION as u64 / PARTS as u64 / 2) as usize;
            (offset, random.bytes(len))
        })
        .collect()
}

fn open(table: &'static PluginTable, target: &Target) -> Verdict<(Instance, ScmMemory)> {
    let (instance, first) = first_device(table, target)?;
    let memory = instance.open_scm(&first, CallOptions::default())?;
    Ok((instance, memory))
}

/// The role [`WRITER`].
pub(in crate::conformance) fn write_and_die(
    table: &'static PluginTable,
    target: &Target,
    line: &mut dyn Line,
) -> Verdict {
    let (how, seed) = (told(line)?, told_number(line)?);
    let (_instance, memory) = open(table, target)?;
    let region = create(&memory, NAME, REGION)?;
    for (offset, data) in plan(seed) {
        put(&region, offset, &data);
        if how == PERSIST {
            region.persist(offset, data.len())?;
        } else {
            region.flush(offset, data.len())?;
        }
    }
    if how == DRAIN {
        region.drain()?;
    }
    line.tell("durable");
    die()
}

/// The role [`READER`].
pub(in crate::conformance) fn read_back(
    table: &'static PluginTable,
    target: &Target,
    line: &mut dyn Line,
) -> Verdict {
    other::read_back(line, |how, seed| compare(table, target, how, seed))
}

fn compare(table: &'static PluginTable, target: &Target, how: &str, seed: u64) -> Verdict {
    let (_instance, memory) = open(table, target)?;
    let region = reopen(&memory, NAME)?;
    let what = match how == DRAIN {
        true => "flushed and drained",
        false => "persisted",
    };
    for (offset, data) in plan(seed) {
        if let Some(how) = difference(&get(&region, offset, data.len()), &data) {
            return failed(format!(
                "what was {what} at byte {offset} is another after the death of its process: {how}"
            ));
        }
    }
    Ok(())
}
