//! Cases of fabrics.

use super::case::Case;
use super::control::ControlBench;
use std::sync::Arc;

pub(super) struct FabricBench {
    base: Arc<ControlBench>,
}

impl FabricBench {
    pub(super) fn new(base: &Arc<ControlBench>) -> Self {
        Self {
            base: Arc::clone(base),
        }
    }
}

pub(super) fn cases() -> impl Iterator<Item = &'static Case<FabricBench>> {
    [].into_iter()
}
