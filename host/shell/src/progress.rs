//! How far a format is, device by device: bars on a terminal, otherwise one line per step. On standard
//! error, so that standard output holds the results alone.

use daos_proto::host::{FormatPhase, FormatProgress};
use daos_report::FormatRow;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;

/// Where progress goes.
#[derive(Clone)]
pub(crate) enum Progress {
    /// Nowhere.
    Hidden,
    /// A bar per device.
    Bars(MultiProgress),
    /// A line per step of a device.
    Lines,
}

/// Engine and address.
type Device = (u32, String);

/// Progress of one host.
pub(crate) struct HostProgress {
    shown: Progress,
    host: String,
    bars: HashMap<Device, ProgressBar>,
    /// What was last said of a device as lines.
    said: HashMap<Device, String>,
}

impl HostProgress {
    pub(crate) fn new(shown: Progress, host: &str) -> Self {
        Self {
            shown,
            host: host.to_owned(),
            bars: HashMap::new(),
            said: HashMap::new(),
        }
    }

    /// A step of a device.
    pub(crate) fn advance(&mut self, progress: &FormatProgress) {
        let target = progress.target.clone().unwrap_or_default();
        let device = (target.engine, target.address);
        let step = words(progress);
        match &self.shown {
            Progress::Hidden => {}
            Progress::Bars(bars) => {
                let host = &self.host;
                let bar = self.bars.entry(device.clone()).or_insert_with(|| {
                    let bar = bars.add(ProgressBar::new(0));
                    let template = "{prefix} {bar:30} {percent:>3}% {msg}";
                    if let Ok(style) = ProgressStyle::with_template(template) {
                        bar.set_style(style);
                    }
                    bar.set_prefix(format!("{host} {}", device.1));
                    bar
                });
                bar.set_length(progress.total.max(progress.done).max(1));
                bar.set_position(progress.done);
                bar.set_message(step);
            }
            Progress::Lines => {
                if self.said.get(&device) != Some(&step) {
                    eprintln!("{}: {}: {step}", self.host, device.1);
                    self.said.insert(device, step);
                }
            }
        }
    }

    /// The end of a device.
    pub(crate) fn finish(&mut self, row: &FormatRow) {
        let failed = row.fault.is_some() || !row.status.ends_with("SUCCESS");
        let end = if failed { &row.status[..] } else { "done" };
        match &self.shown {
            Progress::Hidden => {}
            Progress::Lines => eprintln!("{}: {}: {end}", self.host, row.address),
            Progress::Bars(_) => {
                if let Some(bar) = self.bars.get(&(row.engine, row.address.clone())) {
                    match failed {
                        true => bar.abandon_with_message(end.to_owned()),
                        false => {
                            bar.set_position(bar.length().unwrap_or(1));
                            bar.finish_with_message("done");
                        }
                    }
                }
            }
        }
    }

    /// Removes the bars; the results follow.
    pub(crate) fn clear(&mut self) {
        for (_, bar) in self.bars.drain() {
            bar.finish_and_clear();
        }
    }
}

/// A step in words, with a number where there is one.
fn words(progress: &FormatProgress) -> String {
    let phase = match progress.phase() {
        FormatPhase::Invalidate => "invalidating the old format",
        FormatPhase::Scm | FormatPhase::Bdev => "formatting",
        FormatPhase::Label => "writing the label",
        FormatPhase::Config => "writing the list of devices",
        FormatPhase::Superblock => "writing the superblock",
        FormatPhase::Start => "starting the engine",
        _ => "preparing",
    };
    match progress.message.as_str() {
        "" => phase.to_owned(),
        message => format!("{phase}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_words() {
        let mut progress = FormatProgress::default();
        progress.set_phase(FormatPhase::Bdev);
        assert_eq!(words(&progress), "formatting");
        progress.message = "allocating".to_owned();
        assert_eq!(words(&progress), "formatting: allocating");
        progress.set_phase(FormatPhase::Superblock);
        progress.message.clear();
        assert_eq!(words(&progress), "writing the superblock");
    }
}
