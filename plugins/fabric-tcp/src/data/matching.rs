//! Which message goes into which RECV: posted receives, and messages that came too early.

use super::memory::Span;
use super::slots::Id;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Bytes that holding a message costs beside its contents.
pub(crate) const OVERHEAD: usize = 256;

/// A RECV that waits for its message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Posted {
    /// Order of posting; a receive whose message broke off takes its old place again.
    pub(crate) sequence: u64,
    pub(crate) user: u64,
    pub(crate) tag: u64,
    pub(crate) ignore: u64,
    pub(crate) memory: Span,
    /// The host asked to cancel it while a message was arriving in it.
    pub(crate) cancelled: bool,
}

impl Posted {
    pub(crate) fn matches(&self, tag: u64) -> bool {
        (self.tag ^ tag) & !self.ignore == 0
    }
}

/// A message that arrives or arrived before its RECV.
struct Held {
    lane: Id,
    tag: u64,
    bytes: Vec<u8>,
    len: usize,
    claimed: Option<Posted>,
}

impl Held {
    fn is_complete(&self) -> bool {
        self.bytes.len() == self.len
    }
}

/// A message that a RECV is to get.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) posted: Posted,
    pub(crate) tag: u64,
    pub(crate) bytes: Vec<u8>,
}

/// What became of a RECV that was offered.
#[derive(Debug)]
pub(crate) enum Offer {
    /// A held message was waiting for it.
    Delivered(Delivery),
    /// It gets a held message as soon as the rest of that has arrived.
    Claimed,
    /// Nothing was waiting for it.
    Unmatched(Posted),
}

/// Posted receives and held messages of one endpoint.
pub(crate) struct Matcher {
    /// In the order of posting; mostly taken from the front.
    posted: VecDeque<Posted>,
    /// By order of arrival.
    held: BTreeMap<u64, Held>,
    next_held: u64,
    used: usize,
    limit: usize,
    used_by_lane: HashMap<Id, usize>,
    limit_per_lane: usize,
}

impl Matcher {
    /// `limit` and `limit_per_lane`: bytes of memory for held messages.
    pub(crate) fn new(limit: usize, limit_per_lane: usize) -> Self {
        Self {
            posted: VecDeque::new(),
            held: BTreeMap::new(),
            next_held: 0,
            used: 0,
            limit,
            used_by_lane: HashMap::new(),
            limit_per_lane,
        }
    }

    /// Looks for a held message for a RECV.
    pub(crate) fn offer(&mut self, posted: Posted) -> Offer {
        let found = self
            .held
            .iter_mut()
            .find(|(_, held)| held.claimed.is_none() && posted.matches(held.tag));
        let Some((&number, held)) = found else {
            return Offer::Unmatched(posted);
        };
        if !held.is_complete() {
            held.claimed = Some(posted);
            return Offer::Claimed;
        }
        match self.remove(number) {
            Some(held) => Offer::Delivered(Delivery {
                posted,
                tag: held.tag,
                bytes: held.bytes,
            }),
            None => Offer::Unmatched(posted),
        }
    }

    /// Lets a RECV wait, at its place in the order of posting.
    pub(crate) fn post(&mut self, posted: Posted) {
        let at = self
            .posted
            .partition_point(|other| other.sequence < posted.sequence);
        self.posted.insert(at, posted);
    }

    /// Takes the first posted RECV for a message.
    pub(crate) fn take(&mut self, tag: u64) -> Option<Posted> {
        let at = self.posted.iter().position(|posted| posted.matches(tag))?;
        self.posted.remove(at)
    }

    /// Takes a posted RECV back.
    pub(crate) fn withdraw(&mut self, user: u64) -> Option<Posted> {
        let at = self.posted.iter().position(|posted| posted.user == user)?;
        self.posted.remove(at)
    }

    /// Marks a RECV that claimed a held message as cancelled; `false` if there is none.
    pub(crate) fn cancel_claim(&mut self, user: u64) -> bool {
        let mut claims = self
            .held
            .values_mut()
            .filter_map(|held| held.claimed.as_mut());
        match claims.find(|posted| posted.user == user) {
            Some(posted) => {
                posted.cancelled = true;
                true
            }
            None => false,
        }
    }

    /// Makes room for a message; `None` when the lane or the endpoint holds too much already.
    pub(crate) fn hold(&mut self, lane: Id, tag: u64, len: usize) -> Option<u64> {
        let cost = len + OVERHEAD;
        let used_by_lane = self.used_by_lane.get(&lane).copied().unwrap_or(0);
        if self.used + cost > self.limit || used_by_lane + cost > self.limit_per_lane {
            return None;
        }
        self.used += cost;
        self.used_by_lane.insert(lane, used_by_lane + cost);
        let number = self.next_held;
        self.next_held += 1;
        let held = Held {
            lane,
            tag,
            bytes: Vec::with_capacity(len),
            len,
            claimed: None,
        };
        self.held.insert(number, held);
        Some(number)
    }

    /// The bytes of a held message that have arrived, to append to.
    pub(crate) fn arriving(&mut self, number: u64) -> Option<&mut Vec<u8>> {
        self.held.get_mut(&number).map(|held| &mut held.bytes)
    }

    /// All of a held message has arrived; returns it if a RECV has claimed it.
    pub(crate) fn arrived(&mut self, number: u64) -> Option<Delivery> {
        let held = self.held.get(&number)?;
        let posted = held.claimed.filter(|_| held.is_complete())?;
        let held = self.remove(number)?;
        Some(Delivery {
            posted,
            tag: held.tag,
            bytes: held.bytes,
        })
    }

    /// The rest of a held message will never come; returns the RECV that had claimed it.
    pub(crate) fn break_off(&mut self, number: u64) -> Option<Posted> {
        self.remove(number)?.claimed
    }

    fn remove(&mut self, number: u64) -> Option<Held> {
        let held = self.held.remove(&number)?;
        let cost = held.len + OVERHEAD;
        self.used -= cost;
        if let Some(used) = self.used_by_lane.get_mut(&held.lane) {
            *used -= cost;
            if *used == 0 {
                self.used_by_lane.remove(&held.lane);
            }
        }
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::nowhere;
    use super::*;

    const LANE: fn(u64) -> Id = Id::from_raw;

    fn posted(sequence: u64, tag: u64, ignore: u64) -> Posted {
        Posted {
            sequence,
            user: sequence,
            tag,
            ignore,
            memory: nowhere(),
            cancelled: false,
        }
    }

    fn hold(matcher: &mut Matcher, lane: u64, tag: u64, bytes: &[u8]) -> u64 {
        let number = matcher.hold(LANE(lane), tag, bytes.len()).unwrap();
        matcher.arriving(number).unwrap().extend_from_slice(bytes);
        assert!(matcher.arrived(number).is_none());
        number
    }

    #[test]
    fn the_first_matching_receive_gets_the_message() {
        let mut matcher = Matcher::new(1 << 20, 1 << 20);
        matcher.post(posted(1, 0x10, 0));
        matcher.post(posted(2, 0x20, 0x0f));
        matcher.post(posted(3, 0, u64::MAX));
        assert_eq!(matcher.take(0x2a).unwrap().user, 2);
        assert_eq!(matcher.take(0x2a).unwrap().user, 3);
        assert!(matcher.take(0x2a).is_none());
        assert_eq!(matcher.take(0x10).unwrap().user, 1);
    }

    #[test]
    fn held_messages_are_delivered_in_order_of_arrival() {
        let mut matcher = Matcher::new(1 << 20, 1 << 20);
        hold(&mut matcher, 1, 7, b"first");
        hold(&mut matcher, 1, 8, b"other");
        hold(&mut matcher, 1, 7, b"second");
        for expected in [b"first".as_slice(), b"second"] {
            match matcher.offer(posted(1, 7, 0)) {
                Offer::Delivered(delivery) => assert_eq!(delivery.bytes, expected),
                offer => panic!("{offer:?}"),
            }
        }
        assert!(matches!(
            matcher.offer(posted(1, 7, 0)),
            Offer::Unmatched(_)
        ));
    }

    #[test]
    fn a_message_on_its_way_can_be_claimed_once() {
        let mut matcher = Matcher::new(1 << 20, 1 << 20);
        let number = matcher.hold(LANE(1), 7, 2).unwrap();
        assert!(matches!(matcher.offer(posted(1, 7, 0)), Offer::Claimed));
        assert!(matches!(
            matcher.offer(posted(2, 7, 0)),
            Offer::Unmatched(_)
        ));
        assert!(matcher.arrived(number).is_none());
        matcher.arriving(number).unwrap().extend_from_slice(b"ok");
        assert_eq!(matcher.arrived(number).unwrap().posted.user, 1);
    }

    #[test]
    fn memory_is_bounded_per_lane_and_in_all_and_comes_back() {
        let each = 100 + OVERHEAD;
        let mut matcher = Matcher::new(3 * each, 2 * each);
        let numbers = [1, 1, 2].map(|lane| hold(&mut matcher, lane, 7, &[0; 100]));
        assert!(matcher.hold(LANE(1), 7, 1).is_none());
        assert!(matcher.hold(LANE(2), 7, 1).is_none());
        assert!(matcher.hold(LANE(3), 7, 1).is_none());
        assert!(matcher.break_off(numbers[0]).is_none());
        hold(&mut matcher, 3, 7, &[0; 100]);
        for _ in 0..3 {
            assert!(matches!(
                matcher.offer(posted(1, 7, 0)),
                Offer::Delivered(_)
            ));
        }
        assert_eq!(matcher.used, 0);
        assert!(matcher.used_by_lane.is_empty());
    }

    #[test]
    fn a_receive_takes_its_old_place_again() {
        let mut matcher = Matcher::new(1 << 20, 1 << 20);
        for sequence in [1, 2, 3] {
            matcher.post(posted(sequence, 0, u64::MAX));
        }
        let first = matcher.take(9).unwrap();
        matcher.post(first);
        assert_eq!(matcher.take(9).unwrap().user, 1);
        assert_eq!(matcher.withdraw(3).unwrap().user, 3);
        assert!(matcher.withdraw(3).is_none());
    }
}
