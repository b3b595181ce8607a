//! SCM seen through a CPU cache.

mod caches;
mod view;

use crate::plugin::{Shared, lock};
use crate::power::{Power, Survival};
use crate::random::Random;
use caches::Played;
use daos_plugin_api::abi::{ScmInfo, Status};
use daos_plugin_api::control::DeviceSpec;
use daos_plugin_api::host::{CallOptions, ScmMapping, ScmMemory};
use daos_plugin_api::sdk::{CallContext, Error, Region, Result, Scm};
use scm_dcpm::Method;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use view::View;

/// Granularity of write-back in bytes.
const LINE: usize = 64;

/// A region: the medium and what the CPU sees of it.
struct Image {
    medium: ScmMapping,
    view: Arc<View>,
    /// The user has it mapped.
    open: bool,
}

/// Lines that a thread has flushed and not drained: region, offset, contents at the flush.
type Pending = Vec<(String, usize, Vec<u8>)>;

#[derive(Default)]
struct Caches {
    images: BTreeMap<String, Image>,
    pending: HashMap<ThreadId, Pending>,
}

/// Wrapped memory: the medium, its caches, and who has it open.
pub(crate) struct Store {
    medium: ScmMemory,
    mount: PathBuf,
    caches: Mutex<Caches>,
    life: AtomicU64,
    opened: Mutex<u64>,
    power: Power,
    method: Option<Method>,
}

impl Store {
    pub(crate) fn is_open(&self) -> bool {
        *lock(&self.opened) == self.life.load(Ordering::SeqCst)
    }

    /// Lets a random subset of the words that are not on the medium reach it.
    pub(crate) fn crash(&self, random: &mut Random, survival: &mut Survival) -> Result<()> {
        let mut caches = lock(&self.caches);
        self.life.fetch_add(1, Ordering::SeqCst);
        let caches = std::mem::take(&mut *caches);
        // Flushed lines may have arrived; what was stored since may have as well.
        let mut pending: Vec<_> = caches.pending.into_values().flatten().collect();
        pending.sort();
        for (name, offset, data) in pending {
            if let Some(image) = caches.images.get(&name)
                && random.below(2) == 0
            {
                view::write(&image.medium, offset, &data);
            }
        }
        for image in caches.images.values() {
            image.view.leak_words(&image.medium, random, survival);
            image.medium.persist(0, image.medium.len())?;
        }
        Ok(())
    }

    /// Takes the lines that a range touches as they are now; they are on the medium after this thread's next `commit`.
    fn flush(&self, ptr: *const u8, len: usize) -> Result<(), Status> {
        let mut caches = lock(&self.caches);
        let found = caches
            .images
            .iter()
            .find_map(|(name, image)| Some((name, image, image.view.offset_of(ptr, len)?)));
        let Some((name, image, offset)) = found else {
            return Err(Status::INVALID);
        };
        if len == 0 {
            return Ok(());
        }
        let start = offset / LINE * LINE;
        let end = (offset + len).next_multiple_of(LINE).min(image.view.len());
        let (name, data) = (name.clone(), image.view.read(start, end - start));
        let thread = std::thread::current().id();
        caches
            .pending
            .entry(thread)
            .or_default()
            .push((name, start, data));
        Ok(())
    }

    /// What this thread has flushed reaches the medium.
    fn commit(&self) -> Result<(), Status> {
        let mut caches = lock(&self.caches);
        let thread = std::thread::current().id();
        for (name, offset, data) in caches.pending.remove(&thread).unwrap_or_default() {
            if let Some(image) = caches.images.get(&name) {
                view::write(&image.medium, offset, &data);
                image.medium.persist(offset, data.len())?;
            }
        }
        Ok(())
    }
}

/// Open wrapped memory.
pub(crate) struct CachedMemory {
    store: Arc<Store>,
    life: u64,
}

impl CachedMemory {
    pub(crate) fn open(shared: &Arc<Shared>, device: &DeviceSpec) -> Result<Self> {
        let mut stores = lock(&shared.stores);
        let store = if let Some(store) = stores.get(&device.address) {
            Arc::clone(store)
        } else {
            let medium = shared.inner.open_scm(device, CallOptions::default())?;
            let store = Arc::new(Store {
                mount: medium.mount_point()?,
                medium,
                caches: Mutex::default(),
                life: AtomicU64::new(1),
                opened: Mutex::new(0),
                power: shared.power.clone(),
                method: shared.method,
            });
            stores.insert(device.address.clone(), Arc::clone(&store));
            store
        };
        let life = store.life.load(Ordering::SeqCst);
        let mut opened = lock(&store.opened);
        if *opened == life {
            return Err(Error::new(
                Status::BUSY,
                format!("{} is open already", device.address),
            ));
        }
        *opened = life;
        drop(opened);
        Ok(Self { store, life })
    }

    fn dead(&self) -> bool {
        self.store.power.is_off() || self.store.life.load(Ordering::SeqCst) != self.life
    }

    fn alive(&self) -> Result<()> {
        if self.dead() {
            return Err(Error::new(Status::DEVICE_GONE, "the power is off"));
        }
        Ok(())
    }

    fn mapping(&self, name: &str, view: &Arc<View>) -> Mapped {
        Mapped {
            store: Arc::clone(&self.store),
            life: self.life,
            name: name.to_owned(),
            view: Arc::clone(view),
        }
    }
}

impl Drop for CachedMemory {
    fn drop(&mut self) {
        let mut opened = lock(&self.store.opened);
        if *opened == self.life {
            *opened = 0;
        }
    }
}

fn in_use(name: &str) -> Error {
    Error::new(Status::BUSY, format!("region {name} is open already"))
}

impl Scm for CachedMemory {
    type Region = Mapped;

    fn info(&self) -> Result<ScmInfo, Status> {
        let info = self.store.medium.info()?;
        Ok(ScmInfo {
            persist_granularity: 8,
            flags: info.flags & !ScmInfo::EPHEMERAL,
            ..info
        })
    }

    fn mount_point(&self) -> &Path {
        &self.store.mount
    }

    fn open_region(&self, _: CallContext<'_>, name: &str) -> Result<Mapped> {
        self.alive()?;
        let mut caches = lock(&self.store.caches);
        if let Some(image) = caches.images.get_mut(name) {
            if image.open {
                return Err(in_use(name));
            }
            // Closed and not crashed: the CPU still has what it had.
            image.open = true;
            return Ok(self.mapping(name, &image.view));
        }
        let medium = self
            .store
            .medium
            .open_region(name, CallOptions::default())?;
        let image = Image {
            view: Arc::new(View::of(&medium)?),
            medium,
            open: true,
        };
        let mapping = self.mapping(name, &image.view);
        caches.images.insert(name.to_owned(), image);
        Ok(mapping)
    }

    fn create_region(&self, _: CallContext<'_>, name: &str, len: u64) -> Result<Mapped> {
        self.alive()?;
        let mut caches = lock(&self.store.caches);
        // The wrapped plugin refuses a name that exists; it is not asked twice for one it has open.
        if caches.images.contains_key(name) {
            return Err(Error::new(
                Status::EXISTS,
                format!("region {name} exists already"),
            ));
        }
        let medium = self
            .store
            .medium
            .create_region(name, len, CallOptions::default())?;
        let image = Image {
            view: Arc::new(View::of(&medium)?),
            medium,
            open: true,
        };
        let mapping = self.mapping(name, &image.view);
        caches.images.insert(name.to_owned(), image);
        Ok(mapping)
    }

    fn remove_region(&self, _: CallContext<'_>, name: &str) -> Result<()> {
        self.alive()?;
        let mut caches = lock(&self.store.caches);
        if caches.images.get(name).is_some_and(|image| image.open) {
            return Err(in_use(name));
        }
        caches.images.remove(name);
        for pending in caches.pending.values_mut() {
            pending.retain(|(region, _, _)| region != name);
        }
        self.store
            .medium
            .remove_region(name, CallOptions::default())
    }

    fn flush(&self, ptr: *const u8, len: usize) -> Result<(), Status> {
        if self.dead() || !self.store.power.draw() {
            return Err(Status::DEVICE_GONE);
        }
        match self.store.method {
            None => self.store.flush(ptr, len),
            Some(method) => Played::new(&self.store).flush(method, ptr, len),
        }
    }

    fn drain(&self) -> Result<(), Status> {
        if self.dead() || !self.store.power.draw() {
            return Err(Status::DEVICE_GONE);
        }
        match self.store.method {
            None => self.store.commit(),
            Some(method) => Played::new(&self.store).drain(method),
        }
    }
}

/// A region as its user sees it.
pub(crate) struct Mapped {
    store: Arc<Store>,
    life: u64,
    name: String,
    view: Arc<View>,
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let mut caches = lock(&self.store.caches);
        if self.store.life.load(Ordering::SeqCst) == self.life
            && let Some(image) = caches.images.get_mut(&self.name)
        {
            image.open = false;
        }
    }
}

impl Region for Mapped {
    fn ptr(&self) -> *mut u8 {
        self.view.ptr()
    }

    fn len(&self) -> usize {
        self.view.len()
    }
}
