//! What lies between the death of an engine and the next use of its devices.

use super::Start;
use crate::plugins::Plugins;
use crate::storage::{self, Holder};

/// Makes sure that the devices of an engine that died are used by nobody and nothing; says what keeps them from it.
pub(super) async fn bring_to_rest(plugins: &Plugins, start: &Start) -> Result<(), String> {
    let Some(tier) = &start.tier else {
        return Ok(());
    };
    // Of their own: others may be at work for an hour.
    let helpers = plugins.separate_helpers();
    let result = storage::bring_to_rest(plugins, &helpers, tier, Holder::Dead).await;
    helpers.stop().await;
    result.map_err(|fault| format!("its devices are not at rest: {fault}"))
}
