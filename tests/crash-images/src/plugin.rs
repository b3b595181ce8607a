//! The wrapping plugin. A table's functions get no context but handles, so each wrapped plugin
//! takes a slot, a constant that its own set of functions is compiled with.

use crate::bdev::{Disk, Tear};
use crate::power::{Load, Power, Survival};
use crate::random::Random;
use crate::scm::Store;
use daos_plugin_api::abi::{
    BdevTablePtr, DeviceAdminTablePtr, PluginTable, ScmTablePtr, Status, Str,
};
use daos_plugin_api::host::{Instance, InstanceOptions};
use daos_plugin_api::sdk::thunks::{self, BdevFace, ScmFace};
use daos_plugin_api::sdk::{Error, Faces, Result};
use scm_dcpm::{Method, ScmDcpm};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Plugins that can be wrapped at the same time in one process.
const SLOTS: usize = 16;

static TAKEN: [Mutex<Option<Arc<Shared>>>; SLOTS] = [const { Mutex::new(None) }; SLOTS];

macro_rules! tables {
    ($($slot:literal)*) => {
        const TABLES: [fn() -> &'static PluginTable; SLOTS] =
            [$(thunks::table::<Wrapper<$slot>>),*];
    };
}

tables!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

/// What all instances and objects of one wrapped plugin share: it outlives them, as the machine's
/// storage outlives its programs.
pub(crate) struct Shared {
    pub(crate) inner: Instance,
    pub(crate) power: Power,
    pub(crate) tear: Tear,
    /// How stores to SCM reach the medium; `None` = as the interface promises, by whole ranges.
    pub(crate) method: Option<Method>,
    /// By address.
    pub(crate) disks: Mutex<BTreeMap<String, Arc<Disk>>>,
    /// By address.
    pub(crate) stores: Mutex<BTreeMap<String, Arc<Store>>>,
}

impl Load for Shared {
    fn crash(&self, random: &mut Random, survival: &mut Survival) -> Result<()> {
        for disk in lock(&self.disks).values() {
            disk.crash(random, survival)?;
        }
        for store in lock(&self.stores).values() {
            store.crash(random, survival)?;
        }
        Ok(())
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A wrapped plugin.
pub struct Crash {
    slot: usize,
    table: &'static PluginTable,
}

impl Crash {
    /// Wraps `inner` (with its default settings). Its class names stay, so configs do too.
    ///
    /// # Errors
    /// The plugin cannot be created, or 16 plugins are wrapped already (BUSY).
    pub fn wrap(inner: &'static PluginTable, power: &Power, tear: Tear) -> Result<Self> {
        Self::new(inner, power, tear, None)
    }

    /// Wraps persistent memory of class `dcpm`. What reaches the medium is decided by the plugin's own code: which
    /// cache lines it writes back, by what, and when its fence comes.
    ///
    /// # Errors
    /// As [`wrap`](Self::wrap).
    pub fn wrap_dcpm(power: &Power, method: Method) -> Result<Self> {
        let table = thunks::table::<ScmDcpm>();
        Self::new(table, power, Tear::Block, Some(method))
    }

    fn new(
        inner: &'static PluginTable,
        power: &Power,
        tear: Tear,
        method: Option<Method>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            inner: Instance::create(inner, InstanceOptions::built_in())?,
            power: power.clone(),
            tear,
            method,
            disks: Mutex::default(),
            stores: Mutex::default(),
        });
        let load: Arc<dyn Load> = shared.clone();
        power.connect(&load);
        let manifest = lasting_manifest(&shared.inner)?;
        let slot = (0..SLOTS).find(|slot| {
            let mut taken = lock(&TAKEN[*slot]);
            let free = taken.is_none();
            if free {
                *taken = Some(Arc::clone(&shared));
            }
            free
        });
        let slot = slot.ok_or_else(|| {
            Error::new(Status::BUSY, format!("{SLOTS} plugins are wrapped already"))
        })?;
        let functions = TABLES[slot]();
        let table = PluginTable {
            manifest: Str::new(manifest.leak()),
            bdev: if inner.bdev.0.is_null() {
                BdevTablePtr::NULL
            } else {
                functions.bdev
            },
            device_admin: if inner.bdev.0.is_null() {
                DeviceAdminTablePtr::NULL
            } else {
                functions.device_admin
            },
            scm: if inner.scm.0.is_null() {
                ScmTablePtr::NULL
            } else {
                functions.scm
            },
            ..*functions
        };
        Ok(Self {
            slot,
            table: Box::leak(Box::new(table)),
        })
    }

    /// The table to use instead of the wrapped one. It stays valid for ever, but its functions
    /// serve this plugin only as long as `self` lives.
    pub fn table(&self) -> &'static PluginTable {
        self.table
    }
}

impl Drop for Crash {
    fn drop(&mut self) {
        *lock(&TAKEN[self.slot]) = None;
    }
}

/// The plugin's manifest, whose classes last as long as the wrapper.
fn lasting_manifest(inner: &Instance) -> Result<String> {
    let mut manifest = inner.manifest().clone();
    for class in &mut manifest.classes {
        class.ephemeral = false;
    }
    serde_json::to_string(&manifest).map_err(|e| {
        Error::new(Status::INTERNAL, "cannot encode the manifest").cause(e.to_string())
    })
}

/// The plugin whose functions serve a slot.
pub(crate) struct Wrapper<const SLOT: usize> {
    pub(crate) shared: Arc<Shared>,
}

impl<const SLOT: usize> Wrapper<SLOT> {
    pub(crate) fn new() -> Result<Self> {
        let shared = lock(&TAKEN[SLOT]).clone();
        shared
            .map(|shared| Self { shared })
            .ok_or_else(|| Error::new(Status::NOT_FOUND, "the wrapper of this table is dropped"))
    }
}

impl<const SLOT: usize> Faces for Wrapper<SLOT> {
    const BDEV: BdevTablePtr = BdevFace::<Self>::TABLE;
    const DEVICE_ADMIN: DeviceAdminTablePtr = BdevFace::<Self>::DEVICE_ADMIN;
    const SCM: ScmTablePtr = ScmFace::<Self>::TABLE;
}
