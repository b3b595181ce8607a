//! Log lines of a helper: kept for errors, and passed on to the daemon's log.

use daos_telemetry::{Lines, Mask};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::level_filters::LevelFilter;

/// Longest line that is kept.
const LINE: usize = 500;

/// The lines of one operation of a helper that are kept.
#[derive(Clone)]
pub(super) struct Ring {
    lines: Arc<Mutex<Lines>>,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        // How it began tells as much as how it ended.
        let lines = Lines::new(capacity, capacity / 3);
        Self {
            lines: Arc::new(Mutex::new(lines)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line: drops control characters, which could play tricks on a terminal.
    pub(super) fn push(&self, line: &str) {
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(LINE)
            .collect();
        if !line.trim().is_empty() {
            self.lock().push(line);
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lock().kept()
    }

    /// Forgets lines of earlier operations.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}

/// Level of the lines that a helper is to send; errors, warnings and what led to them are always wanted, since
/// they explain failures.
pub(super) fn level(mask: &Mask, plugin: &str) -> &'static str {
    match mask.of_name(plugin) {
        LevelFilter::TRACE => "trace",
        LevelFilter::DEBUG => "debug",
        _ => "info",
    }
}

/// Passes a line of a plugin on.
pub(super) fn pass_on(plugin: &str, level: &str, place: &str, message: &str) {
    match level {
        "error" => tracing::error!(plugin, place, "{message}"),
        "warn" => tracing::warn!(plugin, place, "{message}"),
        "info" => tracing::info!(plugin, place, "{message}"),
        "debug" => tracing::debug!(plugin, place, "{message}"),
        _ => tracing::trace!(plugin, place, "{message}"),
    }
}
