//! Devices whose engine died, before anybody opens them again.
//!
//! A device may go on with the commands of a process that is gone. What has to be done about that only its plugin
//! knows (`quiesce`); plugins that have nothing to do say that they have no such function.

use super::layout::Tier;
use crate::plugins::{Plugins, Trouble};
use daos_helper::HelperPool;
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::DeviceState;
use tracing::{info, warn};

/// How sure one wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// There is none: it was the engine, which has ended.
    Dead,
    /// There may be one, which whoever opens the device next is told in better words.
    Unknown,
}

/// Brings the devices of `tier` to rest. Devices that exist in a process only, and those that are not there, are.
///
/// # Errors
/// Of the first device that cannot be brought to rest; a live holder is one unless it is `Unknown` whether there is one.
pub(crate) async fn bring_to_rest(
    plugins: &Plugins,
    helpers: &HelperPool,
    tier: &Tier,
    holder: Holder,
) -> Result<(), Trouble> {
    if tier.ephemeral {
        return Ok(());
    }
    for device in &tier.devices {
        if matches!(device.state, DeviceState::Absent | DeviceState::Missing) {
            continue;
        }
        match plugins.quiesce(helpers, &tier.plugin, device.clone()).await {
            Ok(report) => {
                for note in report.notes {
                    info!(
                        plugin = tier.plugin.name(),
                        device = device.address,
                        "{note}"
                    );
                }
            }
            Err((Status::NOT_SUPPORTED, _)) => return Ok(()),
            Err((Status::BUSY, _)) if holder == Holder::Unknown => {}
            Err((_, fault)) => {
                warn!(
                    plugin = tier.plugin.name(),
                    device = device.address,
                    "the device is not at rest: {fault}"
                );
                return Err(fault);
            }
        }
    }
    Ok(())
}
