//! The peers of an endpoint, and how long the provider still needs their addresses.

use super::local::{Local, Receiver};
use super::neighbour::Neighbour;
use super::waiting::{Patience, Waiting, is_gone};
use crate::libfabric::{AddressVector, Errno, sys};
use daos_plugin_api::abi::Status;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Number of an entry in the table of peers; good as long as an operation or a peer uses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place(u32);

impl Place {
    /// Stands where an operation has no peer.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// What is known of an address, and how often it is used: by a peer that is resolved, and by each operation on its
/// way. The provider may still need its entry in the address vector until the last one is gone.
pub(super) struct Entry {
    /// The provider's number of it.
    pub(super) provider: sys::fi_addr_t,
    address: Vec<u8>,
    /// Counts the peers that had this place, so that a number that was released means nobody else.
    generation: u32,
    /// 0 = the place is free.
    count: usize,
    /// Operations that the provider would not take yet: later ones queue behind them.
    pub(super) deferred: usize,
    /// For how long some have done.
    waiting: Option<Waiting>,
    /// When it was given up, if nothing got through since.
    given_up: Option<Instant>,
    /// Nobody has it resolved any more.
    released: bool,
    /// Its process, if peers are of this machine.
    pub(super) neighbour: Option<Neighbour>,
}

/// The provider's number of a peer of which it does not hear.
const NOBODY: sys::fi_addr_t = sys::fi_addr_t::MAX;

/// How many peers that nobody uses any more stay in the address vector of a provider that must not get a number back
/// soon.
const RETIRED: usize = 16;

/// See the module. Every message looks its peer up, so that is an index into a table.
pub(super) struct Peers {
    vector: Arc<AddressVector>,
    entries: Vec<Entry>,
    free: Vec<Place>,
    by_address: HashMap<Vec<u8>, Place>,
    /// Places per number of the provider's. What we keep apart may be one to the provider: addresses that differ in
    /// what it does not look at.
    sharers: HashMap<sys::fi_addr_t, u32>,
    /// Places that nobody uses any more, the longest first, if they are not free at once.
    retired: Option<VecDeque<Place>>,
    /// Endpoints of this process that were peers: they may not have looked yet at what was sent to them.
    former: Vec<Weak<Local>>,
}

impl Peers {
    /// If peers `are_neighbours`, their processes are looked at, and they stay in the address vector for a while after their
    /// last use.
    pub(super) fn new(vector: Arc<AddressVector>, are_neighbours: bool) -> Self {
        Self {
            vector,
            entries: Vec::new(),
            free: Vec::new(),
            by_address: HashMap::new(),
            sharers: HashMap::new(),
            retired: are_neighbours.then(VecDeque::new),
            former: Vec::new(),
        }
    }

    /// Numbers the peer of an address.
    ///
    /// # Safety
    /// `address` is one of the provider's own addresses, in full length.
    pub(super) unsafe fn resolve(&mut self, address: &[u8]) -> Result<u64, Errno> {
        let place = match self.by_address.get(address) {
            // Also the place of an earlier peer with this address, if operations still have it.
            Some(&place) => place,
            // SAFETY: the caller vouches for the address.
            None => unsafe { self.add(address) }?,
        };
        let entry = &mut self.entries[place.0 as usize];
        if entry.count == 0
            && let Some(retired) = &mut self.retired
        {
            retired.retain(|&other| other != place);
        }
        if entry.released {
            entry.released = false;
            entry.count += 1;
            entry.generation = entry.generation.wrapping_add(1);
        }
        Ok(number(place, entry.generation))
    }

    /// Makes a place for an address, with nobody that has it resolved.
    ///
    /// # Safety
    /// As for `resolve`.
    unsafe fn add(&mut self, address: &[u8]) -> Result<Place, Errno> {
        let neighbour = self.retired.as_ref().and_then(|_| Neighbour::of(address));
        let provider = match &neighbour {
            Some(neighbour) if neighbour.is_own_and_gone() => NOBODY,
            // SAFETY: the caller vouches for the address.
            _ => unsafe { self.vector.insert(address) }?,
        };
        *self.sharers.entry(provider).or_default() += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                provider,
                address: Vec::new(),
                generation: 0,
                count: 0,
                deferred: 0,
                waiting: None,
                given_up: None,
                released: true,
                neighbour: None,
            });
            Place((self.entries.len() - 1) as u32) // as many as there are peers at once
        });
        let entry = &mut self.entries[place.0 as usize];
        entry.provider = provider;
        entry.address = address.to_vec();
        entry.neighbour = neighbour;
        self.by_address.insert(address.to_vec(), place);
        Ok(place)
    }

    /// Forgets a peer; returns its place, for which no new operation begins.
    pub(super) fn forget(&mut self, peer: u64) -> Result<Place, Status> {
        let (place, _) = self.find(peer).ok_or(Status::NOT_FOUND)?;
        self.entries[place.0 as usize].released = true;
        Ok(place)
    }

    /// Place and entry of a peer.
    #[inline]
    pub(super) fn find(&mut self, peer: u64) -> Option<(Place, &mut Entry)> {
        let place = Place(peer as u32); // the lower half is the place
        let entry = self.entries.get_mut(place.0 as usize)?;
        let is_it = !entry.released && number(place, entry.generation) == peer;
        is_it.then_some((place, entry))
    }

    /// The peer's process, if peers are of this machine.
    pub(super) fn neighbour(&mut self, place: Place) -> Option<&mut Neighbour> {
        self.retired.as_ref()?;
        self.entries[place.0 as usize].neighbour.as_mut()
    }

    /// The peers that are endpoints of this process, and those that were.
    pub(super) fn receivers(&self) -> Vec<Receiver> {
        let present = self.entries.iter().filter_map(|entry| {
            Some(Receiver {
                local: entry.neighbour.as_ref()?.local()?,
                // Besides the peer itself, operations on their way have it.
                is_unfinished: entry.count > usize::from(!entry.released),
            })
        });
        let former = self.former.iter().filter_map(Weak::upgrade);
        let former = former.map(|local| Receiver {
            local,
            is_unfinished: false,
        });
        present.chain(former).collect()
    }

    /// An operation towards the peer begins.
    pub(super) fn begin(&mut self, place: Place) {
        self.entries[place.0 as usize].count += 1;
    }

    /// An operation waits for the provider to take it.
    pub(super) fn defer(&mut self, place: Place) {
        let entry = &mut self.entries[place.0 as usize];
        entry.deferred += 1;
        entry
            .waiting
            .get_or_insert_with(|| Waiting::begin(Instant::now()));
    }

    /// Such an operation waits no longer.
    pub(super) fn undefer(&mut self, place: Place) {
        self.entries[place.0 as usize].deferred -= 1;
    }

    /// The provider took an operation or ended one: from here on waiting is counted anew.
    pub(super) fn reached(&mut self, place: Place) {
        let entry = &mut self.entries[place.0 as usize];
        (entry.waiting, entry.given_up) = (None, None);
    }

    /// The peer is given up: what is for it from here on is offered once, for a while.
    pub(super) fn gave_up(&mut self, place: Place, now: Instant) {
        let entry = &mut self.entries[place.0 as usize];
        (entry.waiting, entry.given_up) = (None, Some(now));
    }

    /// Whether to offer the provider an operation towards the peer again.
    pub(super) fn is_due(&self, place: Place, now: Instant) -> bool {
        let waiting = &self.entries[place.0 as usize].waiting;
        waiting.as_ref().is_none_or(|waiting| waiting.is_due(now))
    }

    /// It was offered in vain; whether to give up.
    pub(super) fn tried(&mut self, place: Place, patience: Patience, now: Instant) -> bool {
        let entry = &mut self.entries[place.0 as usize];
        let gone = is_gone(entry.given_up, now);
        entry.waiting.as_mut().is_some_and(|waiting| {
            waiting.tried(now);
            gone || waiting.has_exhausted(patience, now)
        })
    }

    /// Whether the peer that had this number is resolved no more.
    pub(super) fn is_released(&self, peer: u64) -> bool {
        let place = Place(peer as u32);
        let entry = self.entries.get(place.0 as usize);
        entry.is_none_or(|entry| entry.released || number(place, entry.generation) != peer)
    }

    /// The end of an operation, or of the peer itself.
    pub(super) fn end(&mut self, place: Place) {
        let entry = &mut self.entries[place.0 as usize];
        entry.count -= 1;
        if entry.count > 0 {
            return;
        }
        (entry.waiting, entry.given_up) = (None, None);
        let gone = match &mut self.retired {
            None => Some(place),
            Some(retired) => {
                retired.push_back(place);
                let is_full = retired.len() > RETIRED;
                is_full.then(|| retired.pop_front()).flatten()
            }
        };
        if let Some(place) = gone {
            self.remove(place);
        }
    }

    /// Takes a place that nobody uses out of the tables and the address vector.
    fn remove(&mut self, place: Place) {
        let entry = &mut self.entries[place.0 as usize];
        // Until the provider has let go of it.
        let neighbour = entry.neighbour.take();
        if let Some(local) = neighbour.as_ref().and_then(Neighbour::local) {
            let local = Arc::downgrade(&local);
            // Closed ones that somebody keeps go when nobody does.
            self.former
                .retain(|other| other.strong_count() > 0 && !other.ptr_eq(&local));
            self.former.push(local);
        }
        let provider = entry.provider;
        self.by_address.remove(&std::mem::take(&mut entry.address));
        self.free.push(place);
        if let Some(sharers) = self.sharers.get_mut(&provider) {
            *sharers -= 1;
            if *sharers > 0 {
                return;
            }
        }
        self.sharers.remove(&provider);
        if provider == NOBODY {
            return;
        }
        if let Err(errno) = self.vector.remove(provider) {
            tracing::warn!(%errno, "cannot remove a peer's address");
        }
    }
}

/// The host's number of a peer; never 0, since generations begin at 1 (and wrap after four thousand million peers).
fn number(place: Place, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(place.0)
}
