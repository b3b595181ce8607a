//! Cases of storage-class memory.

use super::case::Case;
use super::control::ControlBench;
use std::sync::Arc;

pub(super) struct ScmBench {
    base: Arc<ControlBench>,
}

impl ScmBench {
    pub(super) fn new(base: &Arc<ControlBench>) -> Self {
        Self {
            base: Arc::clone(base),
        }
    }
}

pub(super) fn cases() -> impl Iterator<Item = &'static Case<ScmBench>> {
    [].into_iter()
}
