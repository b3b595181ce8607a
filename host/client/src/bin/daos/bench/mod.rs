//! `daos bench`: puts, then gets, with latencies; on demand every byte is compared.

mod phase;
mod report;
mod svg;

use crate::cli::{BenchArgs, Cli, LoadArgs};
use crate::parse::Sizes;
use crate::pattern::{AKEY, Pattern, difference};
use crate::{Verdict, container, output};
use daos_client::{Client, Container, Error, ObjectId, Pool, Punch, Uuid, WireStatus};
use phase::{Limits, Step};
use report::{PhaseRow, Report};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Operations per phase when neither number nor time is given.
const DEFAULT_OPS: u64 = 2000;
/// The object of a run.
pub(crate) const OBJECT: ObjectId = ObjectId { hi: 0, lo: 1 };

/// What a run writes where.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) container: Container,
    /// The pool, if the container was made for this run.
    pub(crate) made_in: Option<Pool>,
    pub(crate) seed: u64,
    pub(crate) sizes: Sizes,
    /// Keys, a multiple of the number of workers, so that each key has one worker and its versions
    /// come one after the other.
    pub(crate) keys: u64,
    pub(crate) depth: u32,
}

impl Load {
    /// Opens the container, or makes one if none is named.
    pub(crate) async fn new(client: &Client, args: &LoadArgs, keys: u64) -> anyhow::Result<Self> {
        let pool = container::pool(client, args.pool.as_deref()).await?;
        let container = match &args.cont {
            Some(name) => pool.container(name.as_str()).await?,
            None => pool.create_container(Uuid::new_v4(), "").await?,
        };
        Ok(Self {
            container,
            made_in: args.cont.is_none().then_some(pool),
            seed: args.seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0),
            sizes: args.size,
            keys: keys.next_multiple_of(u64::from(args.depth)),
            depth: args.depth,
        })
    }

    /// Removes what the run wrote, with the container if that was made for it.
    pub(crate) async fn remove(&self) {
        let removed = match &self.made_in {
            Some(pool) => pool.destroy_container(self.container.uuid()).await,
            None => self.container.punch(OBJECT, Punch::Object).await,
        };
        if let Err(error) = removed {
            tracing::warn!("the values of this run stay: {error}");
        }
    }

    /// The value of operation `index`, which is a version of one of the keys.
    pub(crate) fn pattern(&self, index: u64) -> Pattern {
        Pattern {
            seed: self.seed,
            key: index % self.keys,
            version: index,
            sizes: self.sizes,
        }
    }
}

pub(crate) async fn run(cli: &Cli, args: &BenchArgs, client: &Client) -> anyhow::Result<Verdict> {
    if let Some(path) = &args.svg {
        svg::check(path)?;
    }
    let load = Load::new(client, &args.load, args.keys).await?;
    let verdict = measure(cli, args, client, &load).await;
    if !args.keep {
        load.remove().await;
    }
    verdict
}

async fn measure(
    cli: &Cli,
    args: &BenchArgs,
    client: &Client,
    load: &Load,
) -> anyhow::Result<Verdict> {
    let limits = Limits {
        ops: args.ops.unwrap_or(if args.seconds.is_some() {
            u64::MAX
        } else {
            DEFAULT_OPS
        }),
        time: args.seconds.map(Duration::from_secs),
        least: 0,
    };
    let (put, written) = put(cli, load, limits).await?;
    let (get, mismatches) = get(cli, load, limits, args, written.clone()).await?;
    let report = Report {
        pool: load.container.pool(),
        container: load.container.uuid(),
        object: OBJECT.to_string(),
        seed: load.seed,
        targets: client.targets(),
        depth: load.depth,
        sizes: load.sizes.to_string(),
        values: written.len() as u64,
        verified: args.verify,
        kept: args.keep,
        phases: vec![put, get],
        mismatches,
    };
    if let Some(path) = &args.svg {
        svg::write(&report, path)?;
    }
    let text = |report: &Report| report.text(args.histogram);
    if report.mismatches.is_empty() {
        output::answer(cli.json, report, text)?;
        return Ok(Verdict::Good);
    }
    let error = format!(
        "{} of the values that were read are lost or changed",
        report.mismatches.len()
    );
    output::mismatch(cli.json, report, text, &error)?;
    Ok(Verdict::Mismatch)
}

/// Writes; returns the newest version of each key.
async fn put(
    cli: &Cli,
    load: &Load,
    limits: Limits,
) -> anyhow::Result<(PhaseRow, Arc<Vec<Pattern>>)> {
    let newest: Arc<Mutex<HashMap<u64, Pattern>>> = Arc::default();
    let bar = output::progress(cli.json, "put", limits.bar());
    let (own, own_newest) = (load.clone(), newest.clone());
    let row = phase::run("put", load.depth, limits, bar, move |index| {
        let (load, newest) = (own.clone(), own_newest.clone());
        async move {
            let pattern = load.pattern(index);
            let value = pattern.value();
            let step = Step::begin();
            load.container
                .put(OBJECT, &pattern.dkey(), AKEY, &value)
                .await?;
            let step = step.end(value.len());
            let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
            newest.insert(pattern.key, pattern);
            Ok(step)
        }
    })
    .await?;
    let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all: Vec<Pattern> = newest.drain().map(|(_, pattern)| pattern).collect();
    all.sort_by_key(|pattern| pattern.key);
    Ok((row, Arc::new(all)))
}

/// Reads; returns what was wrong.
async fn get(
    cli: &Cli,
    load: &Load,
    limits: Limits,
    args: &BenchArgs,
    written: Arc<Vec<Pattern>>,
) -> anyhow::Result<(PhaseRow, Vec<String>)> {
    let count = written.len() as u64;
    let limits = Limits {
        // Whatever the limits say: what is to be verified is read once.
        least: if args.verify { count } else { 0 },
        ..limits
    };
    let mismatches: Arc<Mutex<Vec<String>>> = Arc::default();
    let bar = output::progress(cli.json, "get", limits.bar());
    let (own, own_mismatches, verify) = (load.clone(), mismatches.clone(), args.verify);
    let row = phase::run("get", load.depth, limits, bar, move |index| {
        let (load, mismatches) = (own.clone(), own_mismatches.clone());
        let pattern = written[(index % count) as usize];
        async move {
            let step = Step::begin();
            let got = load
                .container
                .get_expecting(OBJECT, &pattern.dkey(), AKEY, pattern.len())
                .await;
            let (step, wrong) = match got {
                Ok(value) => {
                    let step = step.end(value.len());
                    let wrong = verify
                        .then(|| difference(&value, &pattern.value()))
                        .flatten();
                    (step, wrong)
                }
                Err(error) if is_mismatch(&error) => (step.end(0), Some(error.to_string())),
                Err(error) => return Err(error),
            };
            if let Some(wrong) = wrong {
                let mut mismatches = mismatches.lock().unwrap_or_else(PoisonError::into_inner);
                mismatches.push(format!(
                    "key {} version {}: {wrong}",
                    pattern.key, pattern.version
                ));
            }
            Ok(step)
        }
    })
    .await?;
    let mut mismatches = mismatches.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((row, std::mem::take(&mut mismatches)))
}

/// Whether an error says that data is lost or changed, rather than that it cannot be had now.
pub(crate) fn is_mismatch(error: &Error) -> bool {
    match error {
        Error::NotFound { .. } | Error::Missing { .. } | Error::Checksum { .. } => true,
        Error::Engine { status, .. } => *status == WireStatus::CORRUPT,
        _ => false,
    }
}
