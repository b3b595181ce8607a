//! `daos workload write`.

use super::record::Record;
use crate::bench::{Load, OBJECT};
use crate::cli::{Cli, WriteArgs};
use crate::pattern::AKEY;
use crate::{Verdict, output};
use anyhow::Context;
use daos_client::{Client, Uuid};
use daos_report::bytes;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

#[derive(Serialize)]
struct Written {
    pool: Uuid,
    container: Uuid,
    seed: u64,
    keys: u64,
    acknowledged: u64,
    bytes: u64,
    record: String,
}

pub(crate) async fn run(cli: &Cli, args: &WriteArgs, client: &Client) -> anyhow::Result<Verdict> {
    let load = Load::new(client, &args.load, args.keys).await?;
    let path = args.record.path();
    let record = Record::start(path, &load, OBJECT)?;
    let record = Arc::new(Mutex::new(record));
    let bar = output::progress(cli.json, "write", Some(args.count));
    let stop = Arc::new(AtomicBool::new(false));
    let (acknowledged, volume) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut workers = JoinSet::new();
    for worker in 0..u64::from(load.depth) {
        let (load, record, stop, bar) = (load.clone(), record.clone(), stop.clone(), bar.clone());
        let (acknowledged, volume) = (acknowledged.clone(), volume.clone());
        let count = args.count;
        workers.spawn(async move {
            let mut version = worker;
            while version < count && !stop.load(Ordering::Relaxed) {
                let pattern = load.pattern(version);
                let value = pattern.value();
                load.container
                    .put(OBJECT, &pattern.dkey(), AKEY, &value)
                    .await?;
                let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                record
                    .acknowledge(version)
                    .context("cannot write the record")?;
                drop(record);
                acknowledged.fetch_add(1, Ordering::Relaxed);
                volume.fetch_add(value.len() as u64, Ordering::Relaxed);
                bar.inc(1);
                version += u64::from(load.depth);
            }
            anyhow::Ok(())
        });
    }
    let mut failure = None;
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                stop.store(true, Ordering::Relaxed);
                failure.get_or_insert(error);
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
    bar.finish_and_clear();
    let written = Written {
        pool: load.container.pool(),
        container: load.container.uuid(),
        seed: load.seed,
        keys: load.keys,
        acknowledged: acknowledged.load(Ordering::Relaxed),
        bytes: volume.load(Ordering::Relaxed),
        record: path.display().to_string(),
    };
    if let Some(error) = failure {
        return Err(error.context(format!(
            "stopped after {} of {} writes were acknowledged (all of them are in {})",
            written.acknowledged, args.count, written.record
        )));
    }
    output::answer(cli.json, written, |written| {
        format!(
            "{} writes acknowledged, {} under {} keys, seed {}\nnext: daos workload verify {}",
            written.acknowledged,
            bytes(written.bytes),
            written.keys,
            written.seed,
            written.record
        )
    })?;
    Ok(Verdict::Good)
}
