//! Changes are carried out once: what a target does with repeated ones.

use super::Target;
use super::ops::Stage;
use crate::clients::{Outcome, Verdict};
use crate::storage::Origin;
use daos_wire::{Reply, WireStatus};

impl Target {
    /// A change arrived: whether it is a new one. If not it is answered, or its place is taken by the
    /// one under way.
    pub(super) fn is_new_change(&mut self, index: u32) -> bool {
        let origin = self.ops[index as usize].origin();
        match self.storage.clients().judge(origin) {
            Verdict::New => {}
            Verdict::Finished(outcome) => {
                self.answer_again(index, outcome);
                return false;
            }
            Verdict::Stale => {
                self.refuse(index, WireStatus::STALE, "");
                return false;
            }
            Verdict::Crowded => {
                self.refuse(index, WireStatus::BUSY, "too many unsettled changes");
                return false;
            }
        }
        if let Some(first) = self.changing.get(&(origin.client, origin.sequence)) {
            self.take_over(*first, index);
            return false;
        }
        self.ops[index as usize].is_change = true;
        true
    }

    /// Gives the answer of a finished change.
    pub(super) fn answer_again(&mut self, index: u32, outcome: Outcome) {
        // Of changes it says that the pool or container was missing, see `WireStatus`.
        let inline: &[u8] = match outcome.status {
            WireStatus::NOT_FOUND => {
                b"the pool or container did not exist when this was asked first"
            }
            _ => &[],
        };
        let reply = Reply {
            count: outcome.count,
            inline,
            ..self.ops[index as usize].reply(outcome.status)
        };
        self.answer(index, &reply);
    }

    /// Request `again` repeats `first`, which is under way: its answer goes to where the repetition
    /// came from.
    fn take_over(&mut self, first: u32, again: u32) {
        let op = &mut self.ops[again as usize];
        let (peer, rma, message) = (op.peer, op.rma, op.message.take());
        let op = &mut self.ops[first as usize];
        op.peer = peer;
        // Memory that nobody reads from yet, or that may be read again.
        if op.stage == Stage::BufferForPut || op.array.is_some() {
            op.rma = rma;
        }
        if let Some(message) = message {
            self.net.receive(u64::from(again), message);
        }
    }

    /// A change waits for something: repetitions shall find it.
    pub(super) fn park(&mut self, index: u32) {
        let op = &self.ops[index as usize];
        if op.is_change {
            self.changing.insert((op.client, op.sequence), index);
        }
    }

    /// A request is answered: if it is a change that was refused, it is never carried out later.
    pub(super) fn settle(&mut self, index: u32, status: WireStatus) {
        let op = &mut self.ops[index as usize];
        if !std::mem::take(&mut op.is_change) {
            return;
        }
        let origin = op.origin();
        if !self.changing.is_empty() {
            self.changing.remove(&(origin.client, origin.sequence));
        }
        if !status.is_ok() {
            self.storage.clients().refused(origin, status);
        }
    }
}

impl super::ops::Op {
    pub(super) fn origin(&self) -> Origin {
        Origin {
            client: self.client,
            sequence: self.sequence,
            settled: self.settled,
        }
    }
}
