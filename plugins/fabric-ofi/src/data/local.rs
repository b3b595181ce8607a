//! Endpoints of provider shm in this process, as their peers see them.
//!
//! libfabric 1.17 (`prov/shm/src/smr_util.c`) does not map the memory of an endpoint of the same process again: its peers
//! get the owner's pointer. `fi_close` of the endpoint unmaps the memory, and who then sends to it, or looks at what it has sent,
//! dies of SIGSEGV. So an endpoint that is closed stays with libfabric, out of use, as long as a peer in this process may come to
//! its memory: one that has it as a peer until it lets go of it, one that it has sent to until that is closed as well.
//! Nothing is handed to the provider for it any more, nor is its address.

use super::leftover;
use crate::libfabric::Endpoint;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Those that are open, by address.
static OPEN: Mutex<Option<HashMap<Vec<u8>, Weak<Local>>>> = Mutex::new(None);

/// How many endpoints that have sent to this one, and are closed, are kept for what of theirs it has not looked at yet.
const LATE: usize = 64;

/// An endpoint of this process. libfabric's object is closed when nobody has this any more.
pub(super) struct Local {
    _endpoint: Arc<Endpoint>,
    closed: AtomicBool,
    /// Closed before this one. So there are no circles.
    late: Mutex<VecDeque<Arc<Local>>>,
}

impl Local {
    /// Whether its owner has closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Looks for the endpoint of an address of this process.
    pub(super) fn find(address: &[u8]) -> Found {
        let open = lock();
        let known = open.as_ref().and_then(|open| open.get(address)?.upgrade());
        match known {
            Some(local) => Found::Open(local),
            // Another copy of this plugin, or another user of libfabric in this process, may have it.
            None if leftover::has_file(address) => Found::Elsewhere,
            None => Found::Closed,
        }
    }
}

/// What has become of an endpoint.
pub(super) enum Found {
    Open(Arc<Local>),
    Elsewhere,
    /// The provider may have it still, but will not for long.
    Closed,
}

fn lock() -> MutexGuard<'static, Option<HashMap<Vec<u8>, Weak<Local>>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the owner of an endpoint has of it.
pub(super) struct Owned {
    local: Arc<Local>,
    address: Vec<u8>,
}

impl Owned {
    pub(super) fn new(endpoint: &Arc<Endpoint>, address: &[u8]) -> Self {
        let local = Arc::new(Local {
            _endpoint: Arc::clone(endpoint),
            closed: AtomicBool::new(false),
            late: Mutex::default(),
        });
        lock()
            .get_or_insert_default()
            .insert(address.to_vec(), Arc::downgrade(&local));
        Self {
            local,
            address: address.to_vec(),
        }
    }

    /// Closes the endpoint to its peers, of which these are of this process.
    pub(super) fn close(self, peers: impl Iterator<Item = Arc<Local>>) {
        // Until the end: of two that close at once one is the first, and nobody finds half of it.
        let mut open = lock();
        self.local.closed.store(true, Ordering::Release);
        if let Some(open) = open.as_mut() {
            open.remove(&self.address);
        }
        // Other processes must not find what nobody looks at any more.
        leftover::remove_closed(&self.address);
        for peer in peers.filter(|peer| !peer.is_closed()) {
            let mut late = peer.late.lock().unwrap_or_else(PoisonError::into_inner);
            late.push_back(Arc::clone(&self.local));
            if late.len() > LATE {
                late.pop_front();
            }
        }
    }
}
