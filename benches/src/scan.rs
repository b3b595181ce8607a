//! What isolation costs a scan: through a helper process, running or started for it, against the same plugin called in
//! this process.

use crate::stats::{median, spread};
use anyhow::{Context, ensure};
use daos_helper::{CallOptions, HelperPool, PoolOptions};
use daos_loader::{PluginFile, PluginInfo, Policy};
use daos_plugin_api::host::{CallOptions as Direct, Instance, InstanceOptions};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Scans per turn of what takes microseconds.
const TURN: u32 = 20;

/// Measures and prints the table. `programs` has the helper.
pub(crate) fn run(programs: &Path, plugins: &[PathBuf], rounds: u32) -> anyhow::Result<()> {
    let helper = programs.join("daos_server_helper");
    ensure!(helper.is_file(), "{} is not built", helper.display());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    println!(
        "{rounds} turns of {TURN} scans each, ms per scan; one scan per turn starts its helper\n"
    );
    println!(
        "| plugin | in process | through its helper | more | with the start of the helper | more |"
    );
    println!("|---|---|---|---|---|---|");
    for plugin in plugins {
        let policy = Policy::default();
        let info = PluginFile::inspect(plugin, &policy).context("the plugin is refused")?;
        let loaded = daos_loader::load(&info, &policy)?;
        let instance = Instance::create(loaded.table, InstanceOptions::loaded())?;
        let pool = HelperPool::new(PoolOptions::new(&helper));
        runtime.block_on(turns(&info, &instance, &pool, rounds))?;
    }
    Ok(())
}

async fn turns(
    info: &PluginInfo,
    instance: &Instance,
    pool: &HelperPool,
    rounds: u32,
) -> anyhow::Result<()> {
    let ms = |begun: Instant, scans: u32| begun.elapsed().as_secs_f64() * 1e3 / f64::from(scans);
    let scan = || pool.scan(info, CallOptions::default());
    let devices = instance.scan(Direct::default())?.devices.len();
    let (mut direct, mut warm, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        for _ in 0..TURN {
            instance.scan(Direct::default())?;
        }
        direct.push(ms(begun, TURN));
        pool.stop().await;
        let begun = Instant::now();
        let found = scan().await?;
        cold.push(ms(begun, 1));
        ensure!(found.devices.len() == devices, "the scans differ");
        let begun = Instant::now();
        for _ in 0..TURN {
            scan().await?;
        }
        warm.push(ms(begun, TURN));
    }
    pool.stop().await;
    let more = |other: &[f64]| {
        let pairs = other.iter().zip(&direct);
        spread(&pairs.map(|(o, d)| o - d).collect::<Vec<_>>(), 2)
    };
    println!(
        "| {}, {devices} devices | {:.2} | {:.2} | {} | {:.2} | {} |",
        info.name(),
        median(&direct),
        median(&warm),
        more(&warm),
        median(&cold),
        more(&cold)
    );
    Ok(())
}
