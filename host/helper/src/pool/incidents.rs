//! What plugins have done to their helpers, for whoever asks later why one is in quarantine.

use crate::error::HelperError;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Most that are remembered, of all plugins together.
const LIMIT: usize = 256;

/// The end of a helper that nobody had asked for.
#[derive(Clone, Debug)]
pub struct Incident {
    /// When.
    pub at: SystemTime,
    /// Plugin, operation and how it ended.
    pub error: HelperError,
}

/// The newest incidents. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Incidents(Arc<Mutex<VecDeque<Incident>>>);

impl Incidents {
    pub(super) fn add(&self, error: &HelperError) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == LIMIT {
            all.pop_front();
        }
        all.push_back(Incident {
            at: SystemTime::now(),
            error: error.clone(),
        });
    }

    pub(super) fn of(&self, plugin: &str) -> Vec<Incident> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = all.iter().filter(|i| i.error.plugin == plugin);
        of.cloned().collect()
    }
}
