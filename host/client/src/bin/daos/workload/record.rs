//! The record: text, one line per acknowledgement.
//!
//! ```text
//! run v1 seed=5 pool=... container=... object=0.1 keys=128 min=1 max=1048576;
//! ack 17;
//! ```
//! A run is what one writer did; the lines behind it are its acknowledgements, each the number of
//! a value, from which key, size and content follow. A line that does not end in `;` was cut off
//! when its writer was killed, and does not count.

use crate::bench::Load;
use crate::parse::{Sizes, object_id};
use crate::pattern::Pattern;
use anyhow::{Context, bail};
use daos_client::{ObjectId, Uuid};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// A record that is being written.
pub(super) struct Record {
    file: File,
}

impl Record {
    /// Opens or makes a record and starts a run in it.
    pub(super) fn start(path: &Path, load: &Load, object: ObjectId) -> anyhow::Result<Self> {
        let open = || -> std::io::Result<File> {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(path)?;
            // The last line of a writer that was killed may have no end.
            let mut last = [b'\n'];
            if file.metadata()?.len() > 0 {
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
            }
            let gap = if last == *b"\n" { "" } else { "\n" };
            let line = format!(
                "{gap}run v1 seed={} pool={} container={} object={object} keys={} min={} max={};\n",
                load.seed,
                load.container.pool(),
                load.container.uuid(),
                load.keys,
                load.sizes.min,
                load.sizes.max
            );
            file.write_all(line.as_bytes())?;
            Ok(file)
        };
        let file = open().with_context(|| format!("cannot write the record {}", path.display()))?;
        Ok(Self { file })
    }

    /// Notes an acknowledgement, in one write.
    pub(super) fn acknowledge(&mut self, version: u64) -> std::io::Result<()> {
        self.file.write_all(format!("ack {version};\n").as_bytes())
    }
}

/// A run, as read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) pool: Uuid,
    pub(crate) container: Uuid,
    pub(crate) object: ObjectId,
    pub(crate) keys: u64,
    pub(crate) sizes: Sizes,
    /// Acknowledgements, also of versions that were overwritten.
    pub(crate) acknowledged: u64,
    /// Newest acknowledged version of each key.
    pub(crate) newest: BTreeMap<u64, u64>,
    /// Who wrote to the same place afterwards.
    pub(crate) successors: Vec<Successor>,
}

/// A later run in the same place: what it had under way when it ended may be there, acknowledged or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Successor {
    seed: u64,
    keys: u64,
    sizes: Sizes,
}

impl Successor {
    /// The first value that it wrote under a key, if it wrote one. Of a key without an acknowledgement only that one can
    /// have been under way.
    pub(crate) fn first(&self, key: u64) -> Option<Pattern> {
        (key < self.keys).then_some(Pattern {
            seed: self.seed,
            key,
            version: key,
            sizes: self.sizes,
        })
    }
}

impl Run {
    /// A version of the key that it belongs to.
    pub(crate) fn pattern(&self, version: u64) -> Pattern {
        Pattern {
            seed: self.seed,
            key: version % self.keys,
            version,
            sizes: self.sizes,
        }
    }

    fn parse(words: &str) -> Option<Self> {
        let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
        for word in words.split(' ') {
            let (name, value) = word.split_once('=')?;
            fields.insert(name, value);
        }
        let mut take = |name: &str| fields.remove(name);
        let run = Self {
            seed: take("seed")?.parse().ok()?,
            pool: take("pool")?.parse().ok()?,
            container: take("container")?.parse().ok()?,
            object: object_id(take("object")?).ok()?,
            keys: take("keys")?.parse().ok().filter(|keys| *keys > 0)?,
            sizes: format!("{}..{}", take("min")?, take("max")?).parse().ok()?,
            acknowledged: 0,
            newest: BTreeMap::new(),
            successors: Vec::new(),
        };
        fields.is_empty().then_some(run)
    }
}

/// Reads a record.
///
/// Runs that write the same values to the same place are one: what the later one wrote counts.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Run>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the record {}", path.display()))?;
    parse(&text).with_context(|| format!("{} is no record of a workload", path.display()))
}

pub(super) fn parse(text: &str) -> anyhow::Result<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(line) = line.strip_suffix(';') else {
            continue; // cut off
        };
        let wrong = || format!("line {}: {line:?}", number + 1);
        if let Some(words) = line.strip_prefix("run v1 ") {
            runs.push(Run::parse(words).with_context(wrong)?);
        } else if let Some(version) = line.strip_prefix("ack ") {
            let version: u64 = version.parse().ok().with_context(wrong)?;
            let run = runs.last_mut().with_context(wrong)?;
            run.acknowledged += 1;
            run.newest.insert(version % run.keys, version);
        } else {
            bail!(wrong());
        }
    }
    if runs.is_empty() {
        bail!("it names no run");
    }
    supersede(&mut runs);
    Ok(runs)
}

/// Takes from each run the keys that a later one wrote again.
fn supersede(runs: &mut [Run]) {
    for index in 1..runs.len() {
        let (earlier, later) = runs.split_at_mut(index);
        let later = &later[0];
        for run in earlier {
            let place = |run: &Run| (run.pool, run.container, run.object);
            if place(run) == place(later) {
                run.newest.retain(|key, _| !later.newest.contains_key(key));
                run.successors.push(Successor {
                    seed: later.seed,
                    keys: later.keys,
                    sizes: later.sizes,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "run v1 seed=5 pool=00000000-0000-0000-0000-000000000001 \
                       container=00000000-0000-0000-0000-000000000002 object=0.1 keys=4 min=1 max=100;\n";

    #[test]
    fn the_newest_of_each_key_counts() {
        let runs = parse(&format!("{RUN}ack 0;\nack 5;\nack 4;\nack 9;\nack 1")).unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].acknowledged, 4, "the last line is cut off");
        assert_eq!(runs[0].newest, BTreeMap::from([(0, 4), (1, 9)]));
        assert_eq!((runs[0].pattern(9).key, runs[0].pattern(9).seed), (1, 5));
    }

    #[test]
    fn later_runs_supersede_earlier_ones_in_the_same_place_only() {
        let other = RUN.replace("0002", "0003");
        let text = format!("{RUN}ack 0;\nack 1;\n{other}ack 1;\n{RUN}ack 4;\n");
        let runs = parse(&text).unwrap();
        let newest: Vec<_> = runs.iter().map(|run| run.newest.clone()).collect();
        let expected = [vec![(1, 1)], vec![(1, 1)], vec![(0, 4)]];
        assert!(newest.into_iter().eq(expected.map(BTreeMap::from_iter)));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for text in [
            "",
            "hello;\n",
            "ack 1;\n",
            &format!("{RUN}ack x;\n"),
            &RUN.replace("keys=4", "keys=0"),
            &RUN.replace("seed=5 ", ""),
            &RUN.replace("seed=5", "seed=5 more=1"),
        ] {
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
