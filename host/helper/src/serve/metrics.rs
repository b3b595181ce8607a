//! Metrics of the plugin go to the daemon: after each call, and once a second while they change, since a call may take
//! hours and a plugin may have threads of its own.

use super::link::Link;
use crate::protocol::Event;
use daos_telemetry::Keeper;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const PERIOD: Duration = Duration::from_secs(1);

/// Tells the daemon of metrics.
#[derive(Clone)]
pub(super) struct Reporter {
    pub(super) keeper: Arc<Keeper>,
    link: Link,
    /// State of the metrics that the daemon knows.
    told: Arc<Mutex<u64>>,
}

impl Reporter {
    /// For a plugin without metrics yet. Its thread ends with the process.
    pub(super) fn start(link: &Link) -> Self {
        let reporter = Self {
            keeper: Arc::new(Keeper::new()),
            link: link.clone(),
            told: Arc::default(),
        };
        let every_second = reporter.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(PERIOD);
                every_second.tell();
            }
        });
        reporter
    }

    /// Sends the metrics if they are others than those that were sent last.
    pub(super) fn tell(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.keeper.changes();
        if state != *told {
            *told = state;
            let metrics = self.keeper.samples();
            self.link.send(&Event::Metrics { metrics });
        }
    }
}
