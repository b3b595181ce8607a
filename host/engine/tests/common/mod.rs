//! Formatted storage for tests: what daos_server makes, made by hand with the same plugins.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(unreachable_pub, reason = "a module of test programs")]

pub mod fabric;
pub mod power;
pub mod raw;

use clap::Parser;
use daos_client::{Client, Container, Uuid};
use daos_engine::config::Options;
use daos_engine::engine::Engine;
use daos_media::device_config::{self, DeviceConfig};
use daos_media::label::{Label, Layout};
use daos_media::superblock::{self, Superblock};
use daos_plugin_api::abi::PluginTable;
use daos_plugin_api::control::{ClassRequest, DeviceSpec, FormatRequest};
use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions, SyncBdev};
use daos_plugin_api::sdk::thunks;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// What to format.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Class of the memory: `ram`, or `dcpm` in a directory.
    pub scm: &'static str,
    pub class: &'static str,
    pub devices: u32,
    pub scm_mib: u64,
    pub bdev_mib: u64,
    pub targets: u32,
    pub helpers: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            scm: "ram",
            class: "file",
            devices: 1,
            scm_mib: 96,
            bdev_mib: 96,
            targets: 2,
            helpers: 1,
        }
    }
}

/// Formatted storage; everything is gone when it is dropped.
pub struct Storage {
    pub shape: Shape,
    scm: Instance,
    scm_device: DeviceSpec,
    pub mount: PathBuf,
    pub files: Vec<PathBuf>,
    // Memory file system, so that an unprivileged scm-ram may use it, too.
    dir: TempDir,
}

pub fn plugin(name: &str) -> Instance {
    if name == "scm-dcpm" {
        let table = thunks::table::<scm_dcpm::ScmDcpm>();
        return Instance::create(table, InstanceOptions::built_in()).expect("an instance");
    }
    Instance::create(table(name), InstanceOptions::built_in()).expect("an instance")
}

/// The table of a built-in plugin.
pub fn table(name: &str) -> &'static PluginTable {
    let built_in = daos_builtins::all()
        .into_iter()
        .find(|b| daos_builtins::name(b) == name)
        .expect("a built-in plugin");
    (built_in.table)()
}

fn devices(instance: &Instance, class: &str, config: Value) -> Vec<DeviceSpec> {
    let Value::Object(config) = config else {
        panic!("not an object")
    };
    let request = ClassRequest {
        class: class.into(),
        config,
    };
    instance
        .devices(&request, CallOptions::default())
        .expect("devices")
}

fn format(instance: &Instance, device: &DeviceSpec) {
    let request = FormatRequest {
        device: device.clone(),
        overwrite_foreign: false,
        nvme_format: false,
        check_only: false,
    };
    instance
        .format(&request, CallOptions::default())
        .expect("formatted");
}

impl Storage {
    pub fn format(shape: Shape) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("daos-engine-")
            .tempdir_in("/dev/shm")
            .expect("a directory");
        let mount = dir.path().join("scm");
        let scm = plugin(&format!("scm-{}", shape.scm));
        let mut config = json!({"scm_mount": mount, "scm_size_mib": shape.scm_mib});
        if shape.scm == "dcpm" {
            config["scm_list"] = json!([dir.path()]);
        }
        let scm_device = devices(&scm, shape.scm, config).remove(0);
        format(&scm, &scm_device);
        scm.mount(&scm_device, CallOptions::default())
            .expect("mounted");
        let mut storage = Self {
            shape,
            scm,
            scm_device,
            mount,
            files: Vec::new(),
            dir,
        };
        storage.format_bdevs();
        storage
    }

    fn format_bdevs(&mut self) {
        let shape = self.shape;
        self.files = (0..shape.devices)
            .map(|n| self.dir.path().join(format!("bdev-{n}")))
            .collect();
        let ephemeral = shape.class == "malloc";
        let config = if ephemeral {
            json!({"bdev_number": shape.devices, "bdev_size_mib": shape.bdev_mib})
        } else {
            json!({"bdev_list": self.files, "bdev_size_mib": shape.bdev_mib})
        };
        let bdev = plugin(&format!("bdev-{}", shape.class));
        let (engine, generation) = (Uuid::new_v4(), 7);
        let mut listed = Vec::new();
        let specs = devices(&bdev, shape.class, config);
        for spec in &specs {
            format(&bdev, spec);
            let device = bdev
                .open_bdev(spec, CallOptions::default())
                .expect("opened");
            let g = *device.geometry();
            let label = Label {
                engine,
                generation,
                index: spec.index,
                count: shape.devices,
                device: Uuid::new_v4(),
                blocks: g.block_count,
                block_size: g.block_size,
                created: 1,
                volatile: ephemeral,
            };
            if !ephemeral {
                let layout = Layout::of(g.block_count, g.block_size).expect("a layout");
                let mut io = SyncBdev::new(&device, Duration::from_secs(10)).expect("a queue");
                let mut record = vec![0; (g.block_size as usize).max(4096)];
                record[..4096].copy_from_slice(&label.encode().expect("a label"));
                io.write(0, &record).expect("written");
                io.write(layout.second_copy, &record).expect("written");
            }
            listed.push(device_config::Device {
                index: spec.index,
                class: shape.class.into(),
                plugin: format!("bdev-{}", shape.class),
                address: spec.address.clone(),
                name: format!("test_{}", spec.index),
                tier: 1,
                role_bits: 0,
                block_size: g.block_size,
                blocks: g.block_count,
                size_bytes: g.block_count * u64::from(g.block_size),
                label: label.device,
                volatile: ephemeral,
                settings: spec.config.clone(),
            });
        }
        let recorded = listed.iter().map(|d| superblock::Device {
            index: d.index,
            label: d.label,
            class: d.class.clone(),
            address: d.address.clone(),
            block_size: d.block_size,
            blocks: d.blocks,
            volatile: d.volatile,
        });
        let superblock = Superblock {
            version: superblock::VERSION,
            uuid: engine,
            system: "test".into(),
            rank: Some(0),
            uri: String::new(),
            validrank: true,
            hostfaultdomain: "/host".into(),
            incarnation: 0,
            generation,
            immutable: [("targets".to_owned(), shape.targets.to_string())].into(),
            devices: recorded.collect(),
        };
        DeviceConfig { devices: listed }
            .write(
                &self.mount.join(device_config::FILE_NAME),
                &device_config::Options::default(),
            )
            .expect("written");
        superblock
            .write(&self.mount.join(superblock::FILE_NAME))
            .expect("written");
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Command line of the engine, without its name.
    pub fn arguments(&self) -> Vec<String> {
        let mount = self.mount.display();
        let socket_dir = self.dir.path().display();
        let (targets, helpers) = (self.shape.targets, self.shape.helpers);
        format!("-t {targets} -x {helpers} -f 0 -g test -d {socket_dir} -T 2 -I 0 -r 0 -H 0 -s {mount} --interface lo")
            .split(' ')
            .map(str::to_owned)
            .chain(fabric::arguments())
            .chain(self.memory_arguments())
            .collect()
    }

    fn memory_arguments(&self) -> Vec<String> {
        if self.shape.scm == "ram" {
            return Vec::new();
        }
        let config = Value::Object(self.scm_device.config.clone());
        [
            "--scm-class",
            self.shape.scm,
            "--scm-config",
            &config.to_string(),
        ]
        .map(str::to_owned)
        .into()
    }

    pub fn options(&self) -> Options {
        let name = std::iter::once("daos_io_server".to_owned());
        let mut options = Options::try_parse_from(name.chain(self.arguments())).expect("options");
        options.no_server = true;
        options
    }

    /// Opens the memory as the engine does.
    pub fn open_scm(&self, plugin: &Instance) -> daos_plugin_api::host::ScmMemory {
        plugin
            .open_scm(&self.scm_device, CallOptions::default())
            .expect("opened")
    }

    pub fn start(&self) -> Engine {
        start(&self.options())
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Err(error) = self.scm.unmount(&self.scm_device, CallOptions::default()) {
            eprintln!("cannot unmount {}: {error}", self.mount.display());
        }
    }
}

/// Starts an engine; it has the tests' pool.
pub fn start(options: &Options) -> Engine {
    with_pool(Engine::start(options).expect("the engine starts"))
}

/// An engine that has the tests' pool and container.
pub fn with_pool(engine: Engine) -> Engine {
    let catalogue = engine.catalogue();
    if catalogue.snapshot().pool(POOL).is_err() {
        engine
            .create_pool_of_all(POOL, LABEL)
            .expect("there is room for a pool");
    }
    if catalogue.snapshot().container(POOL, CONTAINER).is_err() {
        let (answer, answered) = std::sync::mpsc::channel();
        catalogue.create_container(
            POOL,
            CONTAINER,
            String::new(),
            Box::new(move |made| drop(answer.send(made))),
        );
        answered.recv().expect("an answer").expect("a container");
    }
    engine
}

/// Label of the tests' pool, in engines of this process and others.
pub const LABEL: &str = "test";
pub const POOL: Uuid = Uuid::from_u128(0xa);
pub const CONTAINER: Uuid = Uuid::from_u128(0xb);

/// A client of the engine behind `uri`.
pub async fn client(uri: &daos_wire::EngineUri) -> Client {
    let mut options = fabric::client_options(uri);
    options.deadline = Duration::from_secs(60);
    Client::connect(options).await.expect("connected")
}

pub async fn container(uri: &daos_wire::EngineUri) -> (Client, Container) {
    let client = client(uri).await;
    let container = container_of(&client, CONTAINER).await;
    (client, container)
}

/// A container of the tests' pool, made unless it exists.
pub async fn container_of(client: &Client, id: Uuid) -> Container {
    let pool = client.pool(LABEL).await.expect("the tests' pool");
    pool.create_container(id, "").await.expect("a container")
}

/// Bytes that tell which value they are.
pub fn value(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len);
    out
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}
