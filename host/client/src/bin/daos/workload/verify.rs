//! `daos workload verify`.

use super::record::Run;
use crate::bench::is_mismatch;
use crate::cli::{Cli, VerifyArgs};
use crate::pattern::{AKEY, difference};
use crate::{Verdict, output};
use daos_client::{Client, Container, Error};
use serde::Serialize;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Losses that are listed as text; JSON has all.
const LISTED: usize = 20;

#[derive(Serialize)]
struct Verified {
    /// Acknowledgements in the record, with those of values overwritten since.
    acknowledged: u64,
    /// Values that must be there, and were read.
    values: u64,
    /// Of these, values newer than the acknowledged one: they were under way when the writer
    /// ended.
    newer: u64,
    /// What is wrong.
    losses: Vec<String>,
}

/// What lies under a key.
enum Found {
    Acknowledged,
    Newer,
    Wrong(String),
}

pub(crate) async fn run(
    cli: &Cli,
    args: &VerifyArgs,
    client: &Client,
    runs: Vec<Run>,
) -> anyhow::Result<Verdict> {
    let total = runs.iter().map(|run| run.newest.len() as u64).sum();
    let bar = output::progress(cli.json, "verify", Some(total));
    let slots = Arc::new(Semaphore::new(args.depth as usize));
    let mut result = Verified {
        acknowledged: runs.iter().map(|run| run.acknowledged).sum(),
        values: 0,
        newer: 0,
        losses: Vec::new(),
    };
    let mut reads: JoinSet<Result<Found, Error>> = JoinSet::new();
    let mut note = |read: Result<Found, Error>| {
        result.values += 1;
        bar.inc(1);
        match read? {
            Found::Acknowledged => {}
            Found::Newer => result.newer += 1,
            Found::Wrong(loss) => result.losses.push(loss),
        }
        Ok::<(), Error>(())
    };
    for run in runs {
        let container = client.container(run.pool, run.container);
        let run = Arc::new(run);
        for &version in run.newest.values() {
            // The semaphore is never closed.
            let slot = slots.clone().acquire_owned().await;
            let (container, run) = (container.clone(), run.clone());
            reads.spawn(async move {
                let _slot = slot;
                look(&container, &run, version).await
            });
            while let Some(done) = reads.try_join_next() {
                note(joined(done))?;
            }
        }
    }
    while let Some(done) = reads.join_next().await {
        note(joined(done))?;
    }
    bar.finish_and_clear();
    if result.losses.is_empty() {
        output::answer(cli.json, result, text)?;
        return Ok(Verdict::Good);
    }
    let error = format!(
        "{} of {} acknowledged values are lost or changed",
        result.losses.len(),
        result.values
    );
    output::mismatch(cli.json, result, text, &error)?;
    Ok(Verdict::Mismatch)
}

fn joined(done: Result<Result<Found, Error>, tokio::task::JoinError>) -> Result<Found, Error> {
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

fn text(result: &Verified) -> String {
    let mut text = format!(
        "{} acknowledged writes, {} values read back: ",
        result.acknowledged, result.values
    );
    text += &match (result.losses.len(), result.newer) {
        (0, 0) => "all are there".to_owned(),
        (0, newer) => format!("all are there ({newer} with the write that was under way)"),
        (lost, _) => format!("{lost} LOST OR CHANGED"),
    };
    for loss in result.losses.iter().take(LISTED) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {loss}");
    }
    if result.losses.len() > LISTED {
        let _ = write!(text, "\n  and {} more", result.losses.len() - LISTED);
    }
    text
}

/// Reads a key and judges what is there.
async fn look(container: &Container, run: &Run, version: u64) -> Result<Found, Error> {
    let pattern = run.pattern(version);
    let lost =
        |what: String| Found::Wrong(format!("key {} version {version}: {what}", pattern.key));
    let got = container
        .get_expecting(run.object, &pattern.dkey(), AKEY, pattern.len())
        .await;
    let value = match got {
        Ok(value) => value,
        Err(error) if is_mismatch(&error) => return Ok(lost(error.to_string())),
        Err(error) => return Err(error),
    };
    Ok(match judge(run, version, &value) {
        Ok(found) => found,
        Err(what) => lost(what),
    })
}

/// Which version a value is.
fn judge(run: &Run, version: u64, value: &[u8]) -> Result<Found, String> {
    let is = |version: u64| {
        let pattern = run.pattern(version);
        pattern.len() == value.len() && pattern.value() == value
    };
    let Some(what) = difference(value, &run.pattern(version).value()) else {
        return Ok(Found::Acknowledged);
    };
    // One more was written after the last acknowledgement, if any.
    if version.checked_add(run.keys).is_some_and(is) {
        return Ok(Found::Newer);
    }
    // The same of those who wrote there afterwards and have no acknowledgement of this key.
    let key = version % run.keys;
    let firsts = run.successors.iter().filter_map(|s| s.first(key));
    if firsts
        .map(|first| first.value())
        .any(|first| first == value)
    {
        return Ok(Found::Newer);
    }
    let mut older = version;
    while let Some(earlier) = older.checked_sub(run.keys) {
        if is(earlier) {
            return Err(format!("the older version {earlier} is there instead"));
        }
        older = earlier;
    }
    Err(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_client::{ObjectId, Uuid};
    use std::collections::BTreeMap;

    #[test]
    fn versions_are_told_apart() {
        let run = Run {
            seed: 5,
            pool: Uuid::nil(),
            container: Uuid::nil(),
            object: ObjectId::default(),
            keys: 8,
            sizes: "100".parse().unwrap(),
            acknowledged: 0,
            newest: BTreeMap::new(),
            successors: Vec::new(),
        };
        let judge = |value: Vec<u8>| judge(&run, 19, &value);
        assert!(matches!(
            judge(run.pattern(19).value()),
            Ok(Found::Acknowledged)
        ));
        assert!(matches!(judge(run.pattern(27).value()), Ok(Found::Newer)));
        // Two ahead cannot have been written; another key's value is no value of this one.
        assert!(judge(run.pattern(35).value()).is_err());
        assert!(judge(run.pattern(20).value()).is_err());
        let stale = judge(run.pattern(3).value()).err().unwrap();
        assert!(stale.contains("older version 3"), "{stale}");
        let mut damaged = run.pattern(19).value();
        damaged[7] ^= 4;
        let damaged = judge(damaged).err().unwrap();
        assert!(damaged.contains("the first at 7"), "{damaged}");
    }

    #[test]
    fn what_a_later_writer_had_under_way_is_no_loss() {
        let line = |seed: u64| {
            format!(
                "run v1 seed={seed} pool={0} container={0} object=0.1 keys=8 min=100 max=100;\n",
                Uuid::nil()
            )
        };
        let text = format!("{}ack 3;\nack 4;\n{}ack 4;\n", line(5), line(6));
        let runs = crate::workload::record::parse(&text).unwrap();
        let [earlier, later] = &runs[..] else {
            panic!("{runs:?}")
        };
        let of = |version: u64| judge(earlier, 3, &later.pattern(version).value());
        assert!(matches!(of(3), Ok(Found::Newer)));
        assert!(of(11).is_err(), "its second value of that key");
        assert!(of(4).is_err(), "another key");
    }
}
