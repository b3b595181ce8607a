//! Cancellation of operations.

use std::sync::Arc;
use tokio::sync::watch;

/// Cancels the operations that it was given to. Clones are one.
#[derive(Clone, Debug)]
pub struct Cancel {
    state: Arc<watch::Sender<bool>>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self {
            state: Arc::new(watch::Sender::new(false)),
        }
    }
}

impl Cancel {
    /// Not cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels, for good.
    pub fn cancel(&self) {
        self.state.send_replace(true);
    }

    /// Returns once it is cancelled.
    pub(super) async fn cancelled(&self) {
        // Fails only without a sender, which `self` is.
        let _ = self
            .state
            .subscribe()
            .wait_for(|cancelled| *cancelled)
            .await;
    }

    /// A guard that cancels when dropped.
    pub(super) fn dropped(&self) -> CancelOnDrop {
        CancelOnDrop(Some(self.clone()))
    }
}

/// Cancels when dropped, unless disarmed.
pub(super) struct CancelOnDrop(Option<Cancel>);

impl CancelOnDrop {
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(cancel) = &self.0 {
            cancel.cancel();
        }
    }
}
