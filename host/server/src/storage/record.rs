//! Changes of a superblock outside of a format.

use super::assess::{mounted, superblock};
use super::layout::scm_layout;
use super::usable::{Which, effective};
use crate::plugins::{Plugins, Trouble};
use daos_config::Config;
use daos_helper::MountFile;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::Fault;

/// Writes the rank that engine `index` was given into its superblock, so that it has it also when nobody else
/// remembers.
///
/// # Errors
/// The superblock cannot be read or written.
pub(crate) async fn record_rank(
    plugins: &Plugins,
    config: &Config,
    index: usize,
    rank: u32,
) -> Result<(), Trouble> {
    let config = effective(plugins, config, index, Which::Recorded).await?;
    let layout = scm_layout(plugins, &config, index).await?;
    let found = superblock(plugins, &layout).await?;
    let mut superblock = found.ok_or_else(|| failed("there is no superblock", String::new()))?;
    if superblock.validrank && superblock.rank == Some(rank) {
        return Ok(());
    }
    (superblock.rank, superblock.validrank) = (Some(rank), true);
    let text = superblock
        .encode(&layout.superblock())
        .map_err(|e| failed("the superblock cannot be written", e.to_string()))?;
    let (plugin, device) = (&layout.scm.plugin, &layout.scm.devices[0]);
    plugins
        .write_mount_file(plugin, device, MountFile::Superblock, text)
        .await
}

/// Removes the superblock of engine `index`: without it nothing starts on this storage, whatever its devices hold.
///
/// # Errors
/// It cannot be removed.
pub(crate) async fn forget(
    plugins: &Plugins,
    config: &Config,
    index: usize,
) -> Result<(), Trouble> {
    let config = effective(plugins, config, index, Which::Recorded).await?;
    let layout = scm_layout(plugins, &config, index).await?;
    // Memory that is gone has no superblock either.
    if !mounted(plugins, &layout).await? {
        return Ok(());
    }
    let (plugin, device) = (&layout.scm.plugin, &layout.scm.devices[0]);
    plugins
        .remove_mount_file(plugin, device, MountFile::Superblock)
        .await
        .map(drop)
}

fn failed(what: &str, cause: String) -> Trouble {
    let remedy = "see the server's log";
    let status = ResponseStatus::CtlErrScm;
    Box::new(Fault::new(status, "scm", 0, what, cause, remedy))
}
