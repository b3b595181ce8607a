//! Formatted storage for an engine without a daemon: what daos_server makes, made by hand with the
//! same plugins.

use crate::workload;
use anyhow::Context;
use daos_media::device_config::{self, DeviceConfig};
use daos_media::label::{Label, Layout};
use daos_media::superblock::{self, Superblock};
use daos_plugin_api::control::{ClassRequest, DeviceSpec, FormatRequest};
use daos_plugin_api::host::{BdevDevice, CallOptions, Instance, InstanceOptions, SyncBdev};
use daos_plugin_api::sdk::thunks;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use uuid::Uuid;

/// What holds an engine's values above 4 KiB.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Medium {
    File,
    /// The engine's own memory, gone with it.
    Memory,
}

impl Medium {
    fn class(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Memory => "malloc",
        }
    }
}

/// Memory of class `dcpm`, in place of `ram`.
#[derive(Clone, Copy)]
pub(crate) struct Persistent<'a> {
    /// libdaos_scm_dcpm.so
    pub(crate) plugin: &'a Path,
    /// Where it is made: on a file system with direct access, or anywhere, where its instructions are run all the same.
    pub(crate) directory: &'a Path,
}

/// Storage of one engine with one target: SCM on /dev/shm, a bdev file elsewhere or memory.
pub(crate) struct Formatted {
    scm: Instance,
    scm_device: DeviceSpec,
    mount: PathBuf,
    medium: Medium,
    bdev: Instance,
    bdev_device: DeviceSpec,
    /// Arguments of an engine about its memory.
    about_scm: Vec<String>,
    // Directories go last.
    _persistent: Option<TempDir>,
    memory: TempDir,
    disk: TempDir,
}

fn plugin(name: &str) -> anyhow::Result<Instance> {
    let built_in = daos_builtins::all()
        .into_iter()
        .find(|b| daos_builtins::name(b) == name)
        .with_context(|| format!("{name} is not linked in"))?;
    Ok(Instance::create(
        (built_in.table)(),
        InstanceOptions::built_in(),
    )?)
}

fn device(instance: &Instance, class: &str, config: Value) -> anyhow::Result<DeviceSpec> {
    let Value::Object(config) = config else {
        anyhow::bail!("a configuration is an object");
    };
    let request = ClassRequest {
        class: class.into(),
        config,
    };
    let device = instance
        .devices(&request, CallOptions::default())?
        .remove(0);
    let format = FormatRequest {
        device: device.clone(),
        overwrite_foreign: false,
        nvme_format: false,
        check_only: false,
    };
    instance.format(&format, CallOptions::default())?;
    Ok(device)
}

/// Fills a device and labels it.
fn write_label(device: &BdevDevice, label: &Label) -> anyhow::Result<()> {
    let geometry = device.geometry();
    let layout = Layout::of(geometry.block_count, geometry.block_size)
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    let mut io = SyncBdev::new(device, Duration::from_secs(60))?;
    // As a device that has been in use: the first write to a block of a new file costs the file
    // system a change of its own records, some milliseconds if it is to be durable.
    let chunk = workload::value(1 << 20);
    let size = geometry.block_count * u64::from(geometry.block_size);
    for at in (0..size).step_by(chunk.len()) {
        let len = chunk.len().min((size - at) as usize);
        io.write(at, &chunk[..len])?;
    }
    let mut record = vec![0; (geometry.block_size as usize).max(4096)];
    record[..4096].copy_from_slice(&label.encode()?);
    io.write(0, &record)?;
    io.write(layout.second_copy, &record)?;
    Ok(())
}

impl Formatted {
    /// Formats `scm_mib` of memory and a file of `bdev_mib` in a new directory under `disk`.
    pub(crate) fn new(disk: &Path, scm_mib: u64, bdev_mib: u64) -> anyhow::Result<Self> {
        Self::on(Medium::File, disk, scm_mib, bdev_mib, None)
    }

    /// The same with memory of class `dcpm`.
    pub(crate) fn persistent(
        disk: &Path,
        scm_mib: u64,
        bdev_mib: u64,
        dcpm: &Persistent<'_>,
    ) -> anyhow::Result<Self> {
        Self::on(Medium::File, disk, scm_mib, bdev_mib, Some(dcpm))
    }

    /// The same with `bdev_mib` of the engine's memory in place of a file.
    pub(crate) fn in_memory(disk: &Path, scm_mib: u64, bdev_mib: u64) -> anyhow::Result<Self> {
        Self::on(Medium::Memory, disk, scm_mib, bdev_mib, None)
    }

    fn on(
        medium: Medium,
        disk: &Path,
        scm_mib: u64,
        bdev_mib: u64,
        dcpm: Option<&Persistent<'_>>,
    ) -> anyhow::Result<Self> {
        let make = |parent: &Path| {
            tempfile::Builder::new()
                .prefix("daos-bench.")
                .tempdir_in(parent)
        };
        let memory = make(Path::new("/dev/shm"))?;
        let disk = make(disk)?;
        let persistent = dcpm.map(|dcpm| make(dcpm.directory)).transpose()?;
        let parent = persistent.as_ref().unwrap_or(&memory).path();
        let mount = parent.join("scm");
        let mut config = json!({"scm_mount": mount, "scm_size_mib": scm_mib});
        let (scm, class, about_scm) = match dcpm {
            None => (plugin("scm-ram")?, "ram", Vec::new()),
            Some(dcpm) => {
                config["scm_list"] = json!([parent]);
                let table = thunks::table::<scm_dcpm::ScmDcpm>();
                let scm = Instance::create(table, InstanceOptions::built_in())?;
                // Instructions also where the kernel does not vouch for the memory: that is what is measured.
                let settings = json!({"scm-dcpm": {"persist": "cache_lines"}}).to_string();
                let file = dcpm.plugin.display().to_string();
                let words = ["--scm-plugin", &file, "--scm-class", "dcpm", "--scm-config"];
                let mut words: Vec<String> = words.map(str::to_owned).into();
                words.extend([config.to_string(), "--plugin-settings".to_owned(), settings]);
                (scm, "dcpm", words)
            }
        };
        let scm_device = device(&scm, class, config)?;
        scm.mount(&scm_device, CallOptions::default())?;
        let bdev = plugin(&format!("bdev-{}", medium.class()))?;
        let config = match medium {
            Medium::File => {
                json!({"bdev_list": [disk.path().join("bdev")], "bdev_size_mib": bdev_mib})
            }
            Medium::Memory => json!({"bdev_size_mib": bdev_mib}),
        };
        let bdev_device = device(&bdev, medium.class(), config)?;
        let storage = Self {
            scm,
            scm_device,
            mount,
            medium,
            bdev,
            bdev_device,
            about_scm,
            _persistent: persistent,
            memory,
            disk,
        };
        storage.label()?;
        Ok(storage)
    }

    fn label(&self) -> anyhow::Result<()> {
        let spec = &self.bdev_device;
        let (class, volatile) = (self.medium.class(), self.medium == Medium::Memory);
        let device = self.open_bdev()?;
        let geometry = *device.geometry();
        let (engine, generation) = (Uuid::new_v4(), 1);
        let label = Label {
            engine,
            generation,
            index: 0,
            count: 1,
            device: Uuid::new_v4(),
            blocks: geometry.block_count,
            block_size: geometry.block_size,
            created: 1,
            volatile,
        };
        if !volatile {
            // Else the engine does it.
            write_label(&device, &label)?;
        }
        let listed = device_config::Device {
            index: 0,
            class: class.into(),
            plugin: format!("bdev-{class}"),
            address: spec.address.clone(),
            name: "bench".into(),
            tier: 1,
            role_bits: 0,
            block_size: geometry.block_size,
            blocks: geometry.block_count,
            size_bytes: geometry.block_count * u64::from(geometry.block_size),
            label: label.device,
            volatile,
            settings: spec.config.clone(),
        };
        let superblock = Superblock {
            version: superblock::VERSION,
            uuid: engine,
            system: "bench".into(),
            rank: Some(0),
            uri: String::new(),
            validrank: true,
            hostfaultdomain: "/host".into(),
            incarnation: 0,
            generation,
            immutable: [("targets".to_owned(), "1".to_owned())].into(),
            devices: vec![superblock::Device {
                index: 0,
                label: label.device,
                class: class.into(),
                address: spec.address.clone(),
                block_size: geometry.block_size,
                blocks: geometry.block_count,
                volatile,
            }],
        };
        DeviceConfig {
            devices: vec![listed],
        }
        .write(
            &self.mount.join(device_config::FILE_NAME),
            &device_config::Options::default(),
        )?;
        superblock.write(&self.mount.join(superblock::FILE_NAME))?;
        Ok(())
    }

    /// The bdev file, while no engine has it.
    pub(crate) fn open_bdev(&self) -> anyhow::Result<BdevDevice> {
        Ok(self
            .bdev
            .open_bdev(&self.bdev_device, CallOptions::default())?)
    }

    /// Directory on the file system of the SCM.
    pub(crate) fn memory(&self) -> &Path {
        self.memory.path()
    }

    /// Directory on the file system of the bdev file.
    pub(crate) fn disk(&self) -> &Path {
        self.disk.path()
    }

    /// Arguments of an engine on this storage, with one helper thread.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let (mount, sockets) = (self.mount.display(), self.memory.path().display());
        // Memory is labelled by the engine that has it.
        let first = match self.medium {
            Medium::File => "",
            Medium::Memory => " --first-start",
        };
        format!("-t 1 -x 1 -f 0 -g bench -d {sockets} -I 0 -s {mount} --provider tcp --interface lo --no-server --pool bench{first}")
            .split(' ')
            .map(str::to_owned)
            .chain(self.about_scm.iter().cloned())
            .collect()
    }
}

impl Drop for Formatted {
    fn drop(&mut self) {
        if let Err(error) = self.scm.unmount(&self.scm_device, CallOptions::default()) {
            eprintln!("cannot unmount {}: {error}", self.mount.display());
        }
    }
}
