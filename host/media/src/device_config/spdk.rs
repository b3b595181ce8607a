//! The file as an engine on SPDK reads it. Order of keys and entries is that of the DAOS 2.8 control
//! plane.

use serde::Serialize;
use std::collections::BTreeSet;

use super::Device;

/// Parts of the file that only an engine on SPDK reads.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// PCI bus numbers, first and last, in which devices may be plugged; `None` turns that off.
    pub hotplug: Option<(u8, u8)>,
    /// Whether the machine has Intel Volume Management Devices to be used.
    pub vmd: bool,
    /// Acceleration of moves and checksums.
    pub accelerator: Option<Accelerator>,
    /// SPDK's own RPC server.
    pub rpc_server: Option<RpcServer>,
    /// When a device is taken for faulty.
    pub auto_faulty: Option<AutoFaulty>,
    /// Sizes of SPDK's buffer pools.
    pub iobuf: Option<IoBuffers>,
    /// Whether to leave `daos_data.devices` out, for an engine that allows no keys of ours.
    pub without_devices: bool,
}

/// Acceleration engine.
#[derive(Debug, Clone, Serialize)]
pub struct Accelerator {
    /// `spdk` or `dml`.
    #[serde(rename = "accel_engine")]
    pub engine: String,
    /// Bits: 1 moves, 2 checksums.
    #[serde(rename = "accel_opts")]
    pub options: u32,
}

/// SPDK's RPC server.
#[derive(Debug, Clone)]
pub struct RpcServer {
    /// Path of its socket.
    pub socket: String,
}

/// Limits after which a device is taken for faulty.
#[derive(Debug, Clone)]
pub struct AutoFaulty {
    /// I/O errors.
    pub max_io_errs: u32,
    /// Checksum errors.
    pub max_csum_errs: u32,
}

/// Sizes of buffer pools, in buffers.
#[derive(Debug, Clone, Serialize)]
pub struct IoBuffers {
    /// Small buffers.
    #[serde(rename = "small_pool_count")]
    pub small: u32,
    /// Large buffers.
    #[serde(rename = "large_pool_count")]
    pub large: u32,
}

/// The file.
#[derive(Serialize)]
pub(super) struct File<'a> {
    daos_data: Data<'a>,
    subsystems: Vec<Subsystem<'a>>,
}

#[derive(Serialize)]
struct Data<'a> {
    config: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<&'a [Device]>,
}

#[derive(Serialize)]
struct Subsystem<'a> {
    subsystem: &'static str,
    config: Vec<Entry<'a>>,
}

/// A call: parameters first, as the engine's reader expects.
#[derive(Serialize)]
struct Entry<'a> {
    params: Params<'a>,
    method: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Params<'a> {
    Accelerator(&'a Accelerator),
    RpcServer {
        enable: bool,
        sock_addr: &'a str,
    },
    AutoFaulty {
        enable: bool,
        max_io_errs: u32,
        max_csum_errs: u32,
    },
    BusRange {
        begin: u8,
        end: u8,
    },
    Bdev {
        bdev_io_pool_size: u32,
        bdev_io_cache_size: u32,
    },
    Nvme(NvmeOptions),
    Attach {
        trtype: &'static str,
        name: &'a str,
        traddr: &'a str,
    },
    Aio {
        block_size: u32,
        name: &'a str,
        filename: &'a str,
    },
    Malloc {
        block_size: u32,
        num_blocks: u64,
        name: &'a str,
    },
    Hotplug {
        enable: bool,
        period_us: u64,
    },
    Buffers(&'a IoBuffers),
    Empty {},
}

#[derive(Serialize)]
struct NvmeOptions {
    transport_retry_count: u32,
    timeout_us: u64,
    nvme_adminq_poll_period_us: u64,
    action_on_timeout: &'static str,
    nvme_ioq_poll_period_us: u64,
}

impl Default for NvmeOptions {
    fn default() -> Self {
        NvmeOptions {
            transport_retry_count: 4,
            timeout_us: 0,
            nvme_adminq_poll_period_us: 100_000,
            action_on_timeout: "none",
            nvme_ioq_poll_period_us: 0,
        }
    }
}

fn entry<'a>(method: &'static str, params: Params<'a>) -> Entry<'a> {
    Entry { params, method }
}

pub(super) fn file<'a>(devices: &'a [Device], options: &'a Options) -> File<'a> {
    let devices_out = (!options.without_devices).then_some(devices);
    File {
        daos_data: Data {
            config: data(options),
            devices: devices_out,
        },
        subsystems: subsystems(devices, options),
    }
}

fn data(options: &Options) -> Vec<Entry<'_>> {
    let mut config = Vec::new();
    if let Some(accelerator) = &options.accelerator {
        config.push(entry("accel_props", Params::Accelerator(accelerator)));
    }
    if let Some(RpcServer { socket }) = &options.rpc_server {
        let params = Params::RpcServer {
            enable: true,
            sock_addr: socket,
        };
        config.push(entry("spdk_rpc_srv", params));
    }
    if let Some(AutoFaulty {
        max_io_errs,
        max_csum_errs,
    }) = &options.auto_faulty
    {
        let params = Params::AutoFaulty {
            enable: true,
            max_io_errs: *max_io_errs,
            max_csum_errs: *max_csum_errs,
        };
        config.push(entry("auto_faulty", params));
    }
    if let Some((begin, end)) = options.hotplug {
        config.push(entry(
            "hotplug_busid_range",
            Params::BusRange { begin, end },
        ));
    }
    config
}

fn subsystems<'a>(devices: &'a [Device], options: &'a Options) -> Vec<Subsystem<'a>> {
    let mut config = vec![
        entry(
            "bdev_set_options",
            Params::Bdev {
                bdev_io_pool_size: 65_536,
                bdev_io_cache_size: 256,
            },
        ),
        entry(
            "bdev_nvme_set_options",
            Params::Nvme(NvmeOptions::default()),
        ),
    ];
    let mut controllers = BTreeSet::new();
    config.extend(devices.iter().filter_map(|device| {
        // One call attaches a controller with all of its namespaces.
        let again = device.class == "nvme" && !controllers.insert(controller(&device.address));
        if again { None } else { entry_of(device) }
    }));
    let period_us = if options.hotplug.is_some() {
        5_000_000
    } else {
        0
    };
    let params = Params::Hotplug {
        enable: options.hotplug.is_some(),
        period_us,
    };
    config.push(entry("bdev_nvme_set_hotplug", params));

    let mut subsystems = vec![Subsystem {
        subsystem: "bdev",
        config,
    }];
    if options.vmd && devices.iter().any(|device| device.class == "nvme") {
        let config = vec![entry("vmd_enable", Params::Empty {})];
        subsystems.push(Subsystem {
            subsystem: "vmd",
            config,
        });
    }
    if let Some(buffers) = &options.iobuf {
        let config = vec![entry("iobuf_set_options", Params::Buffers(buffers))];
        subsystems.push(Subsystem {
            subsystem: "iobuf",
            config,
        });
    }
    subsystems
}

/// The controller of a namespace: its PCI address without the namespace that may follow it.
pub(super) fn controller(address: &str) -> &str {
    address.split('/').next().unwrap_or(address)
}

/// How SPDK gets at a device; `None` for classes that it does not know.
fn entry_of(device: &Device) -> Option<Entry<'_>> {
    let (name, address) = (device.name.as_str(), device.address.as_str());
    Some(match device.class.as_str() {
        "nvme" => entry(
            "bdev_nvme_attach_controller",
            Params::Attach {
                trtype: "PCIe",
                name,
                traddr: controller(address),
            },
        ),
        "file" => entry(
            "bdev_aio_create",
            Params::Aio {
                block_size: 4096,
                name,
                filename: address,
            },
        ),
        // 0: the block size of the device.
        "kdev" => entry(
            "bdev_aio_create",
            Params::Aio {
                block_size: 0,
                name,
                filename: address,
            },
        ),
        "malloc" => entry(
            "bdev_malloc_create",
            Params::Malloc {
                block_size: device.block_size,
                num_blocks: device.blocks,
                name,
            },
        ),
        _ => return None,
    })
}
