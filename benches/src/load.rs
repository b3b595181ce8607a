//! Trust checks, manifest, load and layout check of one plugin, each in a fresh process.

use crate::stats::spread;
use anyhow::{Context, ensure};
use daos_loader::{PluginFile, Policy, sha256_of};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Prints "inspect load hash" in microseconds, for [`run`].
pub(crate) fn once(plugin: &Path) -> anyhow::Result<()> {
    let policy = Policy::default();
    let begun = Instant::now();
    let info = PluginFile::inspect(plugin, &policy).context("the plugin is refused")?;
    let inspected = begun.elapsed();
    let begun = Instant::now();
    daos_loader::load(&info, &policy)?;
    let loaded = begun.elapsed();
    let begun = Instant::now();
    sha256_of(&File::open(plugin)?)?;
    println!(
        "{} {} {}",
        inspected.as_micros(),
        loaded.as_micros(),
        begun.elapsed().as_micros()
    );
    Ok(())
}

/// Measures and prints the table.
pub(crate) fn run(plugin: &Path, rounds: u32) -> anyhow::Result<()> {
    let size = std::fs::metadata(plugin)?.len();
    let (mut inspect, mut load, mut hash, mut both) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let output = Command::new(std::env::current_exe()?)
            .arg("load-once")
            .arg(plugin)
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let mut ms = text
            .split_whitespace()
            .map(|n| n.parse::<f64>().map(|us| us / 1000.0));
        let mut next = || {
            ms.next()
                .context("a number is missing")?
                .context("no number")
        };
        let (i, l, h) = (next()?, next()?, next()?);
        inspect.push(i);
        load.push(l);
        hash.push(h);
        both.push(i + l);
    }
    println!(
        "{} ({} KiB), {rounds} fresh processes, milliseconds\n",
        plugin.display(),
        size >> 10
    );
    println!(
        "| trust checks and manifest | dlopen and layout check | together | SHA-256, only for an allow list |"
    );
    println!("|---|---|---|---|");
    let columns = [
        spread(&inspect, 2),
        spread(&load, 2),
        spread(&both, 2),
        spread(&hash, 2),
    ];
    println!("| {} |", columns.join(" | "));
    Ok(())
}
