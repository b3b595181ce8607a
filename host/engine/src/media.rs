//! What the format wrote, compared with what is there: superblock, device list, labels.

use crate::config::Options;
use crate::error::StartError;
use daos_media::device_config::{self, Device, DeviceConfig};
use daos_media::label::{self, Copies, Label, Layout};
use daos_media::superblock::{self, Superblock};
use daos_plugin_api::control::{DeviceSpec, DeviceState};
use daos_plugin_api::host::{BdevDevice, CallOptions, Instance, SyncBdev};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest time for one transfer of a label.
const LABEL_IO: Duration = Duration::from_secs(30);

/// What the SCM mount says about the engine.
#[derive(Clone, Debug)]
pub struct Formatted {
    /// The superblock.
    pub superblock: Superblock,
    /// The block devices, as many as the superblock names.
    pub devices: Vec<Device>,
}

impl Formatted {
    /// Reads superblock and device list and compares them.
    ///
    /// # Errors
    /// If there is none, or one does not fit the other.
    pub fn read(options: &Options) -> Result<Self, StartError> {
        let path = options.scm_mount.join(superblock::FILE_NAME);
        let superblock = Superblock::read(&path)
            .map_err(StartError::storage)?
            .ok_or_else(|| {
                StartError::storage(format_args!(
                    "{} is not there: this storage is not formatted, or the SCM tier is lost; run: daos_shell storage format",
                    path.display()
                ))
            })?;
        if superblock.devices.is_empty() {
            return Err(StartError::config(
                "no block device is configured; this engine keeps values above 4 KiB on one: set bdev_class and its keys, then format",
            ));
        }
        let path = options
            .device_config
            .clone()
            .unwrap_or_else(|| options.scm_mount.join(device_config::FILE_NAME));
        let devices = DeviceConfig::read(&path)
            .map_err(StartError::storage)?
            .devices;
        let same = devices.len() == superblock.devices.len()
            && devices
                .iter()
                .zip(&superblock.devices)
                .all(|(a, b)| a.label == b.label && a.class == b.class);
        if !same {
            return Err(StartError::storage(format_args!(
                "{} lists other devices than the superblock; restart the server, which writes it again",
                path.display()
            )));
        }
        if let Some(other) = devices.iter().find(|d| d.class != devices[0].class) {
            return Err(StartError::config(format_args!(
                "devices of the classes {} and {} in one engine; an engine uses one class",
                devices[0].class, other.class
            )));
        }
        if let Some(recorded) = superblock.immutable.get("targets")
            && *recorded != options.targets.to_string()
        {
            return Err(StartError::storage(format_args!(
                "-t {}: the storage was formatted for {recorded} targets; set `targets` back, or format with --reformat",
                options.targets
            )));
        }
        Ok(Self {
            superblock,
            devices,
        })
    }
}

/// Opens a device and checks that it is the one that was formatted. `may_label`: write the label of
/// a device that forgets its contents with its process.
///
/// # Errors
/// [`exit::STORAGE`](crate::error::exit::STORAGE) if its label is missing or another one's.
pub fn open_device(
    plugin: &Instance,
    formatted: &Formatted,
    device: &Device,
    may_label: bool,
) -> Result<BdevDevice, StartError> {
    let spec = DeviceSpec {
        class: device.class.clone(),
        index: device.index,
        address: device.address.clone(),
        size: device.size_bytes,
        state: DeviceState::Present,
        detail: String::new(),
        config: device.settings.clone(),
    };
    let name = format!(
        "device {} ({} {})",
        device.index, device.class, device.address
    );
    let bdev = plugin
        .open_bdev(&spec, CallOptions::default())
        .map_err(|e| {
            let text = format!("plugin {}: {name} cannot be opened: {e}", plugin.described());
            if e.status == daos_plugin_api::abi::Status::NOT_FOUND {
                StartError::storage(format_args!("{text}; this bdev tier is lost: bring the device back, or format with --reformat"))
            } else {
                StartError::failed(text)
            }
        })?;
    let geometry = *bdev.geometry();
    if geometry.block_size != device.block_size || geometry.block_count != device.blocks {
        return Err(StartError::storage(format_args!(
            "{name} has {} blocks of {} bytes and had {} blocks of {} bytes when it was formatted; it was replaced or resized",
            geometry.block_count, geometry.block_size, device.blocks, device.block_size
        )));
    }
    let expected = Label {
        engine: formatted.superblock.uuid,
        generation: formatted.superblock.generation,
        index: device.index,
        count: formatted.devices.len() as u32,
        device: device.label,
        blocks: device.blocks,
        block_size: device.block_size,
        created: 0,
        volatile: device.volatile,
    };
    let described = plugin.described();
    let failed = |e: daos_plugin_api::sdk::Error| {
        StartError::plugin(format_args!("plugin {described}: {name}"), &e)
    };
    let mut io = SyncBdev::new(&bdev, LABEL_IO).map_err(failed)?;
    let layout = Layout::of(device.blocks, device.block_size)
        .map_err(|e| StartError::storage(format_args!("{name}: {e}")))?;
    let places = [0, layout.second_copy];
    let copies = {
        let mut read = |at| read_record(&mut io, at, device.block_size).map_err(failed);
        label::decode_copies(&read(places[0])?, &read(places[1])?)
    };
    match copies {
        Copies::Agree(label) => check(&name, &label, &expected)?,
        Copies::One {
            label,
            first,
            other,
        } => {
            check(&name, &label, &expected)?;
            tracing::warn!(device = name, reason = %other, "one copy of the label is lost; it is written again");
            let record = label
                .encode()
                .map_err(|e| StartError::storage(format_args!("{name}: {e}")))?;
            write_record(
                &mut io,
                places[usize::from(first)],
                &record,
                device.block_size,
            )
            .map_err(failed)?;
        }
        Copies::Differ { first, second } => {
            return Err(StartError::storage(format_args!(
                "{name} has two labels, of engine {} and of engine {}: a format was interrupted; format with --reformat",
                first.engine, second.engine
            )));
        }
        Copies::None { .. } if may_label && device.volatile => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let label = Label {
                created: now.map_or(0, |d| d.as_secs()),
                ..expected
            };
            let record = label
                .encode()
                .map_err(|e| StartError::storage(format_args!("{name}: {e}")))?;
            for at in places {
                write_record(&mut io, at, &record, device.block_size).map_err(failed)?;
            }
        }
        Copies::None { first, .. } => {
            let why = if device.volatile {
                "its contents ended with the process that held them".to_owned()
            } else {
                first.to_string()
            };
            return Err(StartError::storage(format_args!(
                "{name} has no label: {why}; this bdev tier is lost, its data cannot come back: format with --reformat"
            )));
        }
    }
    Ok(bdev)
}

fn check(name: &str, found: &Label, expected: &Label) -> Result<(), StartError> {
    let found = Label {
        created: expected.created,
        ..found.clone()
    };
    if found == *expected {
        return Ok(());
    }
    let what = if found.engine != expected.engine {
        format!("engine {} and not {}", found.engine, expected.engine)
    } else if found.generation != expected.generation {
        format!(
            "format {} of this engine and not {}",
            found.generation, expected.generation
        )
    } else {
        format!(
            "device {} ({}) and not {} ({})",
            found.index, found.device, expected.index, expected.device
        )
    };
    Err(StartError::storage(format_args!(
        "{name} carries the label of {what}; devices were swapped, or this is another engine's: correct the configuration, or format with --reformat"
    )))
}

/// Reads the record at a byte, in whole blocks.
fn read_record(
    io: &mut SyncBdev,
    at: u64,
    block: u32,
) -> Result<Vec<u8>, daos_plugin_api::sdk::Error> {
    let (start, skip, len) = blocks_of(at, block);
    let mut bytes = vec![0; len];
    io.read(start, &mut bytes)?;
    Ok(bytes[skip..skip + label::SIZE].to_vec())
}

/// Writes the record, keeping the rest of the blocks around it.
fn write_record(
    io: &mut SyncBdev,
    at: u64,
    record: &[u8; label::SIZE],
    block: u32,
) -> Result<(), daos_plugin_api::sdk::Error> {
    let (start, skip, len) = blocks_of(at, block);
    let mut bytes = vec![0; len];
    io.read(start, &mut bytes)?;
    bytes[skip..skip + label::SIZE].copy_from_slice(record);
    io.write(start, &bytes)
}

/// First byte and length of the blocks that hold the record at `at`, and where it begins in them.
fn blocks_of(at: u64, block: u32) -> (u64, usize, usize) {
    let start = at / u64::from(block) * u64::from(block);
    let skip = (at - start) as usize; // below the block size
    let len = (skip + label::SIZE).next_multiple_of(block as usize);
    (start, skip, len)
}
