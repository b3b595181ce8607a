//! A bdev with a volatile write cache.

mod cache;
mod queue;

use crate::plugin::{Shared, lock};
use crate::power::{Power, Survival};
use crate::random::Random;
use cache::Cache;
use daos_plugin_api::abi::{BdevGeometry, Status};
use daos_plugin_api::control::{DeviceRecord, DeviceSpec};
use daos_plugin_api::host::{BdevDevice, CallOptions, SyncBdev};
use daos_plugin_api::sdk::{Bdev, CallContext, Error, Result};
use queue::CachedQueue;
use serde_json::{Map, Value};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest time for a request to the wrapped device.
const LIMIT: Duration = Duration::from_secs(30);

/// How small the pieces are of which a crash keeps or loses each on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// What the device calls atomic, [`BdevGeometry::atomic_write_blocks`].
    Block,
    /// Sectors of 512 bytes, whatever the device says: as a disk with emulated large blocks.
    Sector,
}

/// A wrapped device: the medium, its cache, and who has it open.
pub(crate) struct Disk {
    medium: BdevDevice,
    cache: Mutex<Cache>,
    /// Counts crashes: what was opened before the last one is dead.
    life: AtomicU64,
    /// The life in which it was opened, 0 = it is not.
    opened: Mutex<u64>,
    power: Power,
}

impl Disk {
    pub(crate) fn is_open(&self) -> bool {
        *lock(&self.opened) == self.life.load(Ordering::SeqCst)
    }

    /// Writes what survives to the medium and forgets the rest.
    pub(crate) fn crash(&self, random: &mut Random, survival: &mut Survival) -> Result<()> {
        let mut cache = lock(&self.cache);
        self.life.fetch_add(1, Ordering::SeqCst);
        let mut medium = SyncBdev::new(&self.medium, LIMIT)?;
        cache.crash(&mut medium, random, survival)
    }
}

/// An open wrapped device.
pub(crate) struct CachedDevice {
    disk: Arc<Disk>,
    life: u64,
    geometry: BdevGeometry,
    queues: Arc<AtomicU32>,
}

impl CachedDevice {
    pub(crate) fn open(shared: &Arc<Shared>, device: &DeviceSpec) -> Result<Self> {
        let mut disks = lock(&shared.disks);
        let disk = if let Some(disk) = disks.get(&device.address) {
            Arc::clone(disk)
        } else {
            let medium = shared.inner.open_bdev(device, CallOptions::default())?;
            let unit = match shared.tear {
                Tear::Sector => 512,
                Tear::Block => {
                    let g = medium.geometry();
                    g.atomic_write_blocks.max(1) as usize * g.block_size as usize
                }
            };
            let disk = Arc::new(Disk {
                cache: Mutex::new(Cache::new(unit, medium.size())),
                medium,
                life: AtomicU64::new(1),
                opened: Mutex::new(0),
                power: shared.power.clone(),
            });
            disks.insert(device.address.clone(), Arc::clone(&disk));
            disk
        };
        let life = disk.life.load(Ordering::SeqCst);
        let mut opened = lock(&disk.opened);
        if *opened == life {
            return Err(Error::new(
                Status::BUSY,
                format!("{} is open already", device.address),
            ));
        }
        *opened = life;
        drop(opened);
        let medium = *disk.medium.geometry();
        let geometry = BdevGeometry {
            // One is kept for the crash.
            max_queues: medium.max_queues.saturating_sub(1).max(1),
            scratch_size: 0,
            flags: (medium.flags | BdevGeometry::VOLATILE_CACHE) & !BdevGeometry::EPHEMERAL,
            ..medium
        };
        Ok(Self {
            disk,
            life,
            geometry,
            queues: Arc::default(),
        })
    }
}

impl Drop for CachedDevice {
    fn drop(&mut self) {
        let mut opened = lock(&self.disk.opened);
        if *opened == self.life {
            *opened = 0;
        }
    }
}

impl Bdev for CachedDevice {
    type Queue = CachedQueue;

    fn geometry(&self) -> BdevGeometry {
        self.geometry
    }

    fn open_queue(&self, _: CallContext<'_>, depth: u32) -> Result<CachedQueue> {
        let most = self.geometry.max_queue_depth;
        if !(1..=most).contains(&depth) {
            return Err(Error::new(
                Status::INVALID,
                format!("a queue depth of {depth} is not within 1 to {most}"),
            ));
        }
        if self.queues.fetch_add(1, Ordering::SeqCst) >= self.geometry.max_queues {
            self.queues.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::new(
                Status::BUSY,
                "all queues of the device are open",
            ));
        }
        CachedQueue::new(self, depth).inspect_err(|_| {
            self.queues.fetch_sub(1, Ordering::SeqCst);
        })
    }

    fn poll_admin(&self) -> Result<(), Status> {
        self.disk.medium.poll_admin()
    }

    fn identity(&self, _: CallContext<'_>) -> Result<DeviceRecord> {
        self.disk.medium.identity(CallOptions::default())
    }

    fn health(&self, _: CallContext<'_>) -> Result<Map<String, Value>> {
        self.disk.medium.health(CallOptions::default())
    }
}
