//! How far burn-ins are: bars on a terminal, otherwise a line per phase of a device, on standard error.

use crate::cli::Cli;
use daos_burnin::{DeviceRecord, Phase, Record};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

/// Where progress goes. Clones are one.
#[derive(Clone)]
pub(super) struct Progress {
    bars: Option<MultiProgress>,
    hidden: bool,
    /// By host, run and device: its bar, or the phase that was told.
    known: Arc<Mutex<HashMap<String, Known>>>,
}

#[derive(Default)]
struct Known {
    bar: Option<ProgressBar>,
    phase: Option<Phase>,
}

impl Progress {
    pub(super) fn new(cli: &Cli) -> Self {
        let terminal = !cli.json && std::io::stderr().is_terminal();
        Self {
            bars: terminal.then(MultiProgress::new),
            hidden: cli.json,
            known: Arc::default(),
        }
    }

    /// Shows the state of a host's runs.
    pub(super) fn show(&self, host: &str, records: &[Record]) {
        if self.hidden {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            let duration = record.load.duration_ms().unwrap_or(0);
            for device in &record.devices {
                let name = format!("{host} {} {}", record.run, device.device);
                let entry = known.entry(name.clone()).or_default();
                match &self.bars {
                    Some(bars) => {
                        let bar = entry.bar.get_or_insert_with(|| new_bar(bars, &name));
                        bar.set_length(duration.max(device.elapsed_ms).max(1));
                        bar.set_position(device.elapsed_ms);
                        bar.set_message(words(device));
                        if device.phase == Phase::Done && !bar.is_finished() {
                            bar.finish();
                        }
                    }
                    None if entry.phase != Some(device.phase) => {
                        entry.phase = Some(device.phase);
                        eprintln!("{name}: {}", words(device));
                    }
                    None => {}
                }
            }
        }
    }
}

fn new_bar(bars: &MultiProgress, name: &str) -> ProgressBar {
    let bar = bars.add(ProgressBar::new(1));
    // The template is constant and valid; bars without it are readable, too.
    if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:24} {percent:>3}% {msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(name.to_owned());
    bar
}

fn words(device: &DeviceRecord) -> String {
    let rate = (device.reads.bytes_per_second + device.writes.bytes_per_second) / 1e6;
    let mut words = device.phase.name().to_owned();
    if device.reads.count + device.writes.count > 0 {
        words += &format!(
            ", {:.0} reads/s, {:.0} writes/s, {rate:.1} MB/s, {} error(s)",
            device.reads.iops,
            device.writes.iops,
            device.error_count()
        );
    }
    words
}
