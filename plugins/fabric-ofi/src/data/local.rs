//! Endpoints of provider shm in this process, as their peers see them.
//!
//! libfabric 1.17 (`prov/shm/src/smr_util.c`) does not map the memory of an endpoint of the same process again: its peers
//! get the owner's pointer. `fi_close` of the endpoint unmaps the memory, and who then sends to it, or looks at what it has sent,
//! dies of SIGSEGV. So an endpoint that is closed stays with libfabric, out of use, as long as a peer in this process may come to
//! its memory: one that has it as a peer until it lets go of it, one that it has sent to until that has looked at everything
//! (see [`LATE`]) or is closed as well: `fi_close` itself looks at nobody else's memory.
//! Nothing is handed to the provider for it any more, nor is its address.

use super::leftover;
use crate::libfabric::Endpoint;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Those that are open, by the name of their file: libfabric looks at no more of an address.
static OPEN: Mutex<Option<HashMap<String, Weak<Local>>>> = Mutex::new(None);

/// How many endpoints are kept at an open one although that has looked at everything since they were closed: of those that
/// were closed while libfabric had a message to it under way. That is a large one, which the receiver comes back to when there is
/// a RECV for it, and nobody but libfabric knows whether there has been. Each costs megabytes. Of the others everything was taken
/// out of their memory when it was looked at.
const LATE: usize = 64;

/// An endpoint of this process. libfabric's object is closed when nobody has this any more.
pub(super) struct Local {
    _endpoint: Arc<Endpoint>,
    closed: AtomicBool,
    late: Late,
}

/// Endpoints that may have sent to this one, and were closed before it. So there are no circles; nor are there chains, for they are
/// let go of when this one is closed.
#[derive(Default)]
struct Late {
    /// There may be some.
    any: AtomicBool,
    senders: Mutex<Vec<Sender>>,
}

struct Sender {
    local: Arc<Local>,
    /// When it was closed, libfabric had something of it for this endpoint under way.
    is_unfinished: bool,
    /// This endpoint knows of it: what it looks at from now on is not older.
    is_known: bool,
    /// And has found nothing left to look at since.
    is_looked_at: bool,
}

impl Late {
    fn senders(&self) -> MutexGuard<'_, Vec<Sender>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, local: Arc<Local>, is_unfinished: bool) {
        self.senders().push(Sender {
            local,
            is_unfinished,
            is_known: false,
            is_looked_at: false,
        });
        self.any.store(true, Ordering::Release);
    }

    /// The endpoint has looked, and nothing is left.
    #[cold]
    fn looked(&self) -> Vec<Arc<Local>> {
        let mut senders = self.senders();
        for sender in senders.iter_mut() {
            // The look may have begun before its last message was there: then it is the next one that counts.
            sender.is_looked_at |= sender.is_known;
            sender.is_known = true;
        }
        let unfinished = senders.iter().filter(|sender| sender.is_unfinished);
        let mut too_many = unfinished.count().saturating_sub(LATE);
        let goes = |sender: &mut Sender| {
            let goes = sender.is_looked_at && (!sender.is_unfinished || too_many > 0);
            too_many -= usize::from(goes && sender.is_unfinished);
            goes
        };
        let gone = senders.extract_if(.., goes);
        let gone = gone.map(|sender| sender.local).collect();
        // Those that have been looked at go when there are more; one that is pushed says so.
        let waits = senders.iter().any(|sender| !sender.is_looked_at);
        self.any.store(waits, Ordering::Relaxed);
        gone
    }
}

impl Local {
    /// Whether its owner has closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Looks for the endpoint of an address of this process.
    pub(super) fn find(address: &[u8]) -> Found {
        let open = lock();
        let name = leftover::file_of(address);
        let known = open.as_ref().and_then(|open| open.get(name?)?.upgrade());
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

fn lock() -> MutexGuard<'static, Option<HashMap<String, Weak<Local>>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A peer of an endpoint that is closed, which is one of this process.
pub(super) struct Receiver {
    pub(super) local: Arc<Local>,
    /// The provider has something for it.
    pub(super) is_unfinished: bool,
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
            late: Late::default(),
        });
        if let Some(name) = leftover::file_of(address) {
            lock()
                .get_or_insert_default()
                .insert(name.to_owned(), Arc::downgrade(&local));
        }
        Self {
            local,
            address: address.to_vec(),
        }
    }

    /// The endpoint has looked for messages, and nothing is left.
    #[inline]
    pub(super) fn looked(&self) {
        if self.local.late.any.load(Ordering::Relaxed) {
            // This closes some of them.
            drop(self.local.late.looked());
        }
    }

    /// Closes the endpoint to its peers, of which these are of this process.
    pub(super) fn close(self, receivers: Vec<Receiver>) {
        // Until the end: of two that close at once one is the first, and nobody finds half of it.
        let mut open = lock();
        self.local.closed.store(true, Ordering::Release);
        if let (Some(open), Some(name)) = (open.as_mut(), leftover::file_of(&self.address)) {
            open.remove(name);
        }
        // Other processes must not find what nobody looks at any more.
        leftover::remove_closed(&self.address);
        for receiver in &receivers {
            if !receiver.local.is_closed() {
                let late = &receiver.local.late;
                late.push(Arc::clone(&self.local), receiver.is_unfinished);
            }
        }
        // Nobody looks for this one any more, and `fi_close` does not.
        let late = std::mem::take(&mut *self.local.late.senders());
        drop(open);
        // Not under the lock: each may be the last that has an endpoint, and close it.
        drop((late, receivers));
    }
}
