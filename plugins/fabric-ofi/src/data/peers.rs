//! The peers of an endpoint, and how long the provider still needs their addresses.

use crate::libfabric::{AddressVector, Errno, sys};
use daos_plugin_api::abi::Status;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Peer {
    provider: sys::fi_addr_t,
    address: Vec<u8>,
}

/// How often an entry of the address vector is used: by a peer that is resolved, and by each
/// operation on its way. The provider may still need the entry until the last one is gone.
#[derive(Default)]
struct Use {
    count: usize,
    /// Operations that the provider would not take yet: later ones queue behind them.
    deferred: usize,
    /// Since when some do.
    waits_since: Option<Instant>,
    /// Nobody has it resolved any more.
    released: bool,
}

/// See the module.
pub(super) struct Peers {
    vector: Arc<AddressVector>,
    peers: HashMap<u64, Peer>,
    next: u64,
    by_address: HashMap<Vec<u8>, u64>,
    uses: HashMap<sys::fi_addr_t, Use>,
}

impl Peers {
    pub(super) fn new(vector: Arc<AddressVector>) -> Self {
        Self {
            vector,
            peers: HashMap::new(),
            next: 1,
            by_address: HashMap::new(),
            uses: HashMap::new(),
        }
    }

    /// Numbers the peer of an address.
    ///
    /// # Safety
    /// `address` is one of the provider's own addresses, in full length.
    pub(super) unsafe fn resolve(&mut self, address: &[u8]) -> Result<u64, Errno> {
        if let Some(&peer) = self.by_address.get(address) {
            return Ok(peer);
        }
        // SAFETY: the caller vouches for the address.
        let provider = unsafe { self.vector.insert(address) }?;
        let used = self.uses.entry(provider).or_default();
        used.count += 1;
        used.released = false;
        let number = self.next;
        self.next += 1;
        self.by_address.insert(address.to_vec(), number);
        self.peers.insert(
            number,
            Peer {
                provider,
                address: address.to_vec(),
            },
        );
        Ok(number)
    }

    /// Forgets a peer; returns the provider's number, for which no new operation begins.
    pub(super) fn forget(&mut self, peer: u64) -> Result<sys::fi_addr_t, Status> {
        let peer = self.peers.remove(&peer).ok_or(Status::NOT_FOUND)?;
        self.by_address.remove(&peer.address);
        if let Some(used) = self.uses.get_mut(&peer.provider) {
            used.released = true;
        }
        Ok(peer.provider)
    }

    /// The provider's number of a peer.
    pub(super) fn provider(&self, peer: u64) -> Option<sys::fi_addr_t> {
        self.peers.get(&peer).map(|peer| peer.provider)
    }

    /// An operation towards the peer begins; whether others wait in front of it.
    pub(super) fn begin(&mut self, provider: sys::fi_addr_t) -> bool {
        let used = self.uses.entry(provider).or_default();
        used.count += 1;
        used.deferred > 0
    }

    /// An operation waits for the provider to take it.
    pub(super) fn defer(&mut self, provider: sys::fi_addr_t) {
        if let Some(used) = self.uses.get_mut(&provider) {
            used.deferred += 1;
            used.waits_since.get_or_insert_with(Instant::now);
        }
    }

    /// Such an operation waits no longer.
    pub(super) fn undefer(&mut self, provider: sys::fi_addr_t) {
        if let Some(used) = self.uses.get_mut(&provider) {
            used.deferred -= 1;
        }
    }

    /// The provider took an operation or ended one: from here on waiting is counted anew.
    pub(super) fn reached(&mut self, provider: sys::fi_addr_t) {
        if let Some(used) = self.uses.get_mut(&provider) {
            used.waits_since = None;
        }
    }

    /// Whether operations have waited for the peer for so long.
    pub(super) fn has_waited(&self, provider: sys::fi_addr_t, time: Duration) -> bool {
        let since = self.uses.get(&provider).and_then(|used| used.waits_since);
        since.is_some_and(|since| since.elapsed() >= time)
    }

    pub(super) fn is_released(&self, provider: sys::fi_addr_t) -> bool {
        self.uses.get(&provider).is_some_and(|used| used.released)
    }

    /// The end of an operation, or of the peer itself.
    pub(super) fn end(&mut self, provider: sys::fi_addr_t) {
        let Some(used) = self.uses.get_mut(&provider) else {
            return;
        };
        used.count -= 1;
        if used.count == 0 {
            self.uses.remove(&provider);
            if let Err(errno) = self.vector.remove(provider) {
                tracing::warn!(%errno, "cannot remove a peer's address");
            }
        }
    }
}
