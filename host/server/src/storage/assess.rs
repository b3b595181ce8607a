//! Is an engine's storage what was formatted? Decides between starting and maintenance.

use super::content::Content;
use super::layout::{Layout, Tier, layout, scm_layout};
use super::rest::{Holder, bring_to_rest};
use super::usable::{Which, effective};
use crate::engine::Start;
use crate::fabric;
use crate::plugins::{Plugins, Trouble};
use daos_config::Config;
use daos_helper::MountFile;
use daos_media::superblock::{Device, Superblock};
use daos_plugin_api::control::{DeviceSpec, DeviceState};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::Fault;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What was found.
pub(crate) enum Assessment {
    /// Superblock and labels agree with each other and with the configuration.
    Formatted {
        superblock: Box<Superblock>,
        start: Start,
    },
    /// No trace of a format.
    Blank,
    /// Storage that was formatted, but not as it is found now.
    Mismatch { reason: String, hint: String },
    /// Cannot be told.
    Failed(Trouble),
}

/// How long devices may still be held by a predecessor that was killed.
const RELEASED_WITHIN: Duration = Duration::from_secs(3);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

const REFORMAT: &str = "if its data is lost for good: daos_shell storage format --reformat";

/// Looks at the storage of engine `index`; mounts SCM that is formatted, changes nothing else.
pub(crate) async fn assess(plugins: &Plugins, config: &Config, index: usize) -> Assessment {
    match look(plugins, config, index).await {
        Ok(assessment) => assessment,
        Err(fault) => Assessment::Failed(fault),
    }
}

/// The devices of engine `index`, once nobody holds them any more. Asynchronous I/O of a process that
/// was killed keeps its files, and the locks on them, a moment longer than the process lives.
async fn released(plugins: &Plugins, config: &Config, index: usize) -> Result<Layout, Trouble> {
    let give_up = Instant::now() + RELEASED_WITHIN;
    loop {
        let layout = layout(plugins, config, index, Which::Recorded).await?;
        if !layout.in_use() || Instant::now() >= give_up {
            return Ok(layout);
        }
        sleep(ASK_AGAIN_AFTER).await;
    }
}

async fn look(plugins: &Plugins, config: &Config, index: usize) -> Result<Assessment, Trouble> {
    let layout = match released(plugins, config, index).await {
        Ok(layout) => layout,
        // The devices of a configuration that was changed need not exist: the change is what to tell.
        Err(fault) => {
            return match changed_key(plugins, config, index).await {
                Ok(Some(mismatch)) => Ok(mismatch),
                _ => Err(fault),
            };
        }
    };
    // Its last user may have been an engine of a server that was killed as well.
    if let Some(tier) = &layout.bdev {
        bring_to_rest(plugins, plugins.helpers(), tier, Holder::Unknown).await?;
    }
    let superblock = match mounted(plugins, &layout).await? {
        true => superblock(plugins, &layout).await?,
        false => None,
    };
    let contents = contents(plugins, &layout).await?;
    Ok(match superblock {
        None => without_superblock(&layout, &contents),
        Some(superblock) => {
            if let Some(mismatch) = changes(&layout, &superblock) {
                return Ok(mismatch);
            }
            match lost_device(&layout, &superblock, &contents) {
                Some(reason) => Assessment::Mismatch {
                    reason,
                    hint: REFORMAT.to_owned(),
                },
                None => {
                    let fabric = fabric::of_engine(plugins, config, index).await?;
                    Assessment::Formatted {
                        superblock: Box::new(superblock),
                        start: layout.start(false, &fabric),
                    }
                }
            }
        }
    })
}

/// Immutable keys that are not what the superblock recorded.
fn changes(layout: &Layout, superblock: &Superblock) -> Option<Assessment> {
    let changes = superblock.changes(&layout.immutable);
    let first = changes.first()?;
    let more = match changes.len() {
        1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    Some(Assessment::Mismatch {
        reason: format!("{first}{more}"),
        hint: "set the key back, or format again with --reformat if the data may go".to_owned(),
    })
}

/// The same without a look at block devices.
async fn changed_key(
    plugins: &Plugins,
    config: &Config,
    index: usize,
) -> Result<Option<Assessment>, Trouble> {
    let config = effective(plugins, config, index, Which::Recorded).await?;
    let layout = scm_layout(plugins, &config, index).await?;
    if !mounted(plugins, &layout).await? {
        return Ok(None);
    }
    let superblock = superblock(plugins, &layout).await?;
    Ok(superblock.and_then(|sb| changes(&layout, &sb)))
}

/// The superblock of a mounted SCM.
pub(super) async fn superblock(
    plugins: &Plugins,
    layout: &Layout,
) -> Result<Option<Superblock>, Trouble> {
    let device = &layout.scm.devices[0];
    let Some(text) = plugins
        .read_mount_file(&layout.scm.plugin, device, MountFile::Superblock)
        .await?
    else {
        return Ok(None);
    };
    Superblock::decode(&layout.superblock(), text.as_bytes())
        .map(Some)
        .map_err(|error| {
            let remedy = "mend or remove the file, or format with --reformat";
            let status = ResponseStatus::CtlErrScm;
            Box::new(Fault::new(
                status,
                "scm",
                0,
                "cannot read the superblock",
                error.to_string(),
                remedy,
            ))
        })
}

/// Whether the SCM is formatted and mounted (now, if it was not before).
pub(super) async fn mounted(plugins: &Plugins, layout: &Layout) -> Result<bool, Trouble> {
    let device = &layout.scm.devices[0];
    match device.state {
        DeviceState::Absent => Ok(false),
        DeviceState::Present => plugins.mount(&layout.scm.plugin, device).await,
        DeviceState::InUse | DeviceState::Missing => {
            Err(unusable(device, ResponseStatus::CtlErrScm))
        }
    }
}

/// What the block devices hold, in order. Devices whose contents die with the engine are blank.
pub(super) async fn contents(plugins: &Plugins, layout: &Layout) -> Result<Vec<Content>, Trouble> {
    let Some(tier) = &layout.bdev else {
        return Ok(Vec::new());
    };
    let mut contents = Vec::new();
    for device in &tier.devices {
        contents.push(content(plugins, tier, device).await?);
    }
    Ok(contents)
}

/// What a block device holds.
///
/// # Errors
/// When it cannot be used, or not looked at.
pub(super) async fn content(
    plugins: &Plugins,
    tier: &Tier,
    device: &DeviceSpec,
) -> Result<Content, Trouble> {
    Ok(match device.state {
        DeviceState::InUse | DeviceState::Missing => {
            return Err(unusable(device, ResponseStatus::CtlErrNvme));
        }
        _ if tier.ephemeral => Content::Blank,
        DeviceState::Absent => Content::Absent,
        // What a plugin remarks on a device that exists keeps it from being opened as ours.
        DeviceState::Present if !device.detail.is_empty() => {
            Content::Foreign(device.detail.clone())
        }
        DeviceState::Present => Content::from(&plugins.inspect(&tier.plugin, device).await?),
    })
}

/// "This device cannot be used", with what the plugin says about it.
pub(super) fn unusable(device: &DeviceSpec, status: ResponseStatus) -> Trouble {
    let (what, remedy) = match device.state {
        DeviceState::InUse => ("is in use", "free it, or take it out of the configuration"),
        _ => (
            "is not there",
            "check the device and its name in the configuration",
        ),
    };
    Box::new(Fault::new(
        status,
        "storage",
        0,
        format!("{} {what}", device.address),
        device.detail.clone(),
        remedy,
    ))
}

/// A label without a superblock means that the SCM tier is gone.
fn without_superblock(layout: &Layout, contents: &[Content]) -> Assessment {
    for (content, device) in contents
        .iter()
        .zip(layout.bdev.iter().flat_map(|t| &t.devices))
    {
        if let Content::Labelled(label) = content {
            return Assessment::Mismatch {
                reason: format!(
                    "the SCM of this engine is lost, or a format was interrupted: {} belongs to engine {} (generation \
                     {}), but {} has no superblock",
                    device.address,
                    label.engine,
                    label.generation,
                    layout.scm_mount.display()
                ),
                hint: REFORMAT.to_owned(),
            };
        }
    }
    Assessment::Blank
}

/// A superblock without a label means that a bdev tier is gone.
fn lost_device(layout: &Layout, superblock: &Superblock, contents: &[Content]) -> Option<String> {
    let devices: Vec<_> = layout.bdev.iter().flat_map(|t| &t.devices).collect();
    if devices.len() != superblock.devices.len() {
        return Some(format!(
            "the engine was formatted with {} block device(s), the configuration has {}",
            superblock.devices.len(),
            devices.len()
        ));
    }
    superblock
        .devices
        .iter()
        .zip(contents)
        .find_map(|(recorded, content)| {
            device_problem(recorded, superblock, content).map(|why| {
                format!(
                    "block device {} ({}) of this engine is lost: {why}",
                    recorded.index, recorded.address
                )
            })
        })
}

fn device_problem(recorded: &Device, superblock: &Superblock, content: &Content) -> Option<String> {
    if recorded.volatile {
        return Some("its contents were in the memory of the engine, which has ended".to_owned());
    }
    match content {
        Content::Absent => Some("it does not exist".to_owned()),
        Content::Blank => Some("it is blank".to_owned()),
        Content::BadLabel(why) => Some(format!("it has {why}")),
        Content::Foreign(what) => Some(format!("it holds {what}")),
        Content::Labelled(label)
            if label.device == recorded.label
                && label.engine == superblock.uuid
                && label.generation == superblock.generation =>
        {
            None
        }
        Content::Labelled(label) => Some(format!(
            "it carries device {} of engine {}, generation {}",
            label.index, label.engine, label.generation
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_helper::LabelRequest;
    use uuid::Uuid;

    fn superblock(volatile: bool) -> Superblock {
        Superblock {
            version: 1,
            uuid: Uuid::from_u128(1),
            system: "s".to_owned(),
            rank: Some(0),
            uri: String::new(),
            validrank: true,
            hostfaultdomain: "/h".to_owned(),
            incarnation: 0,
            generation: 7,
            immutable: Default::default(),
            devices: vec![Device {
                index: 0,
                label: Uuid::from_u128(2),
                class: "file".to_owned(),
                address: "/b".to_owned(),
                block_size: 4096,
                blocks: 1024,
                volatile,
            }],
        }
    }

    fn label(engine: u128, device: u128, generation: u64) -> Content {
        Content::Labelled(Box::new(LabelRequest {
            engine: Uuid::from_u128(engine),
            generation,
            index: 0,
            count: 1,
            device: Uuid::from_u128(device),
            created: 0,
        }))
    }

    #[test]
    fn only_the_recorded_label_is_accepted() {
        let sb = superblock(false);
        let problem = |content: Content| device_problem(&sb.devices[0], &sb, &content);
        assert_eq!(problem(label(1, 2, 7)), None);
        for other in [
            label(9, 2, 7),
            label(1, 9, 7),
            label(1, 2, 8),
            Content::Blank,
            Content::Absent,
        ] {
            assert!(problem(other.clone()).is_some(), "{other:?} was accepted");
        }
        assert!(
            problem(Content::Foreign("ext4 file system".to_owned()))
                .unwrap()
                .contains("ext4")
        );
    }

    #[test]
    fn memory_of_an_ended_engine_is_lost_whatever_is_found() {
        let sb = superblock(true);
        assert!(device_problem(&sb.devices[0], &sb, &label(1, 2, 7)).is_some());
    }
}
