//! Registered memory: keys, rights, and the promise that nothing touches it once unregistered.

use super::memory::{Span, random_u64};
use daos_plugin_api::abi::{FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

/// One registration.
pub(crate) struct Region {
    /// `None` once unregistered. Every access by a peer holds the read side for one system call,
    /// so that whoever gets the write side knows that no access is in progress.
    memory: RwLock<Option<Span>>,
    len: u64,
    access: u32,
}

impl Region {
    /// Runs `f` on the memory; `None` if it is no longer registered. Not to be nested: a second
    /// read lock of the same thread may wait for a writer that waits for the first.
    pub(crate) fn with<R>(&self, f: impl FnOnce(Span) -> R) -> Option<R> {
        let memory = self.memory.read().unwrap_or_else(PoisonError::into_inner);
        memory.map(f)
    }
}

/// The registrations of a domain.
#[derive(Default)]
pub(crate) struct Regions {
    by_key: RwLock<HashMap<u64, Arc<Region>>>,
}

impl Regions {
    /// Registers memory under a random key that is not in use.
    pub(crate) fn register(self: &Arc<Self>, memory: Span, access: u32) -> io::Result<Registered> {
        let region = Arc::new(Region {
            memory: RwLock::new(Some(memory)),
            len: memory.len() as u64,
            access,
        });
        let mut by_key = self.by_key.write().unwrap_or_else(PoisonError::into_inner);
        loop {
            let key = random_u64()?;
            if key != 0 && !by_key.contains_key(&key) {
                by_key.insert(key, region.clone());
                return Ok(Registered {
                    regions: self.clone(),
                    region,
                    key,
                });
            }
        }
    }

    /// The region that a peer may read at this place, if it may.
    pub(crate) fn readable(&self, key: u64, offset: u64, len: u64) -> Option<Arc<Region>> {
        self.find(key, offset, len, FABRIC_REMOTE_READ)
    }

    /// The region that a peer may write at this place, if it may.
    pub(crate) fn writable(&self, key: u64, offset: u64, len: u64) -> Option<Arc<Region>> {
        self.find(key, offset, len, FABRIC_REMOTE_WRITE)
    }

    fn find(&self, key: u64, offset: u64, len: u64, right: u32) -> Option<Arc<Region>> {
        let by_key = self.by_key.read().unwrap_or_else(PoisonError::into_inner);
        by_key
            .get(&key)
            .filter(|region| {
                region.access & right != 0
                    && offset.checked_add(len).is_some_and(|end| end <= region.len)
            })
            .cloned()
    }
}

/// A registration as its owner holds it: dropping it ends the registration and waits for
/// accesses in progress (each no longer than one non-blocking system call).
pub struct Registered {
    regions: Arc<Regions>,
    region: Arc<Region>,
    key: u64,
}

impl Registered {
    /// The key for peers.
    pub(crate) fn key(&self) -> u64 {
        self.key
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut by_key = self
            .regions
            .by_key
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        by_key.remove(&self.key);
        drop(by_key);
        let mut memory = self
            .region
            .memory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *memory = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::nowhere;
    use super::*;

    fn span(bytes: &mut [u8]) -> Span {
        // SAFETY: the tests keep `bytes` until the registration is dropped.
        unsafe { Span::new(bytes.as_mut_ptr(), bytes.len()) }
    }

    #[test]
    fn range_rights_and_key_are_checked() {
        let regions = Arc::new(Regions::default());
        let mut bytes = [0u8; 100];
        let registered = regions
            .register(span(&mut bytes), FABRIC_REMOTE_READ)
            .unwrap();
        let key = registered.key();
        assert!(regions.readable(key, 0, 100).is_some());
        assert!(regions.readable(key, 100, 0).is_some());
        assert!(regions.readable(key, 1, 100).is_none());
        assert!(regions.readable(key, u64::MAX, 2).is_none());
        assert!(regions.readable(key ^ 1, 0, 1).is_none());
        assert!(regions.writable(key, 0, 1).is_none());
        drop(registered);
        assert!(regions.readable(key, 0, 1).is_none());
    }

    #[test]
    fn who_holds_a_region_loses_it_with_the_registration() {
        let regions = Arc::new(Regions::default());
        let mut bytes = [0u8; 4];
        let registered = regions
            .register(span(&mut bytes), FABRIC_REMOTE_WRITE)
            .unwrap();
        let region = regions.writable(registered.key(), 0, 4).unwrap();
        assert_eq!(region.with(Span::len), Some(4));
        drop(registered);
        assert_eq!(region.with(Span::len), None);
    }

    #[test]
    fn unregistering_waits_for_an_access() {
        let regions = Arc::new(Regions::default());
        let mut bytes = [0u8; 4];
        let registered = regions
            .register(span(&mut bytes), FABRIC_REMOTE_WRITE)
            .unwrap();
        let region = regions.writable(registered.key(), 0, 4).unwrap();
        let (inside, entered) = std::sync::mpsc::channel();
        let (go, leave) = std::sync::mpsc::channel::<()>();
        let access = std::thread::spawn(move || {
            region.with(|_| {
                inside.send(()).unwrap();
                leave.recv().unwrap();
            })
        });
        entered.recv().unwrap();
        let (done, dropped) = std::sync::mpsc::channel();
        let unregister = std::thread::spawn(move || {
            drop(registered);
            done.send(()).unwrap();
        });
        let early = dropped.recv_timeout(std::time::Duration::from_millis(100));
        assert!(early.is_err(), "unregistered during an access");
        go.send(()).unwrap();
        dropped.recv().unwrap();
        unregister.join().unwrap();
        assert_eq!(access.join().unwrap(), Some(()));
    }

    #[test]
    fn keys_do_not_repeat() {
        let regions = Arc::new(Regions::default());
        let held: Vec<_> = (0..100)
            .map(|_| regions.register(nowhere(), 0).unwrap())
            .collect();
        let keys: std::collections::HashSet<_> = held.iter().map(Registered::key).collect();
        assert_eq!(keys.len(), 100);
    }
}
