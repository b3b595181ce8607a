//! Log lines of a helper: kept for errors, and passed on to the daemon's log.

use daos_telemetry::Mask;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::level_filters::LevelFilter;

/// Longest line that is kept.
const LINE: usize = 500;

/// The last lines of one helper.
#[derive(Clone)]
pub(super) struct Ring {
    lines: Arc<Mutex<VecDeque<String>>>,
    capacity: usize,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            lines: Arc::default(),
            capacity,
        }
    }

    /// Takes a line: drops control characters, which could play tricks on a terminal.
    pub(super) fn push(&self, line: &str) {
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(LINE)
            .collect();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= self.capacity {
            lines.pop_front();
        }
        if self.capacity > 0 && !line.trim().is_empty() {
            lines.push_back(line);
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }

    /// Forgets lines of earlier operations.
    pub(super) fn clear(&self) {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
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
