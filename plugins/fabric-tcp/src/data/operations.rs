//! Outstanding SEND, READ and WRITE operations of an endpoint.

use super::memory::Span;
use super::slots::{Id, Slots};
use daos_plugin_api::abi::{FabricCompletion, FabricOp, Status};

/// How far an operation got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// Its frame is (partly) in the outbox.
    Queued,
    /// READ, WRITE: the kernel has the whole request; the answer is awaited.
    Sent,
    /// READ: the data has arrived, the verdict is awaited.
    DataIn,
    /// Cancelled after it was sent: completed for the host, kept until the answer is in.
    Abandoned,
}

/// An outstanding operation.
pub(crate) struct Operation {
    pub(crate) sequence: u64,
    pub(crate) user: u64,
    pub(crate) op: FabricOp,
    pub(crate) lane: Id,
    pub(crate) memory: Span,
    pub(crate) progress: Progress,
}

impl Operation {
    pub(crate) fn completion(&self, status: Status) -> FabricCompletion {
        completion(self.op, self.user, status)
    }
}

/// A completion without tag and length.
pub(crate) fn completion(op: FabricOp, user: u64, status: Status) -> FabricCompletion {
    FabricCompletion {
        user,
        tag: 0,
        len: 0,
        status,
        op,
        reserved: [0; 3],
    }
}

/// The operations of an endpoint.
pub(crate) struct Operations {
    slots: Slots<Operation>,
    next_sequence: u64,
}

impl Operations {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            slots: Slots::new(capacity),
            next_sequence: 0,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.slots.is_full()
    }

    pub(crate) fn insert(&mut self, op: FabricOp, user: u64, lane: Id, memory: Span) -> Option<Id> {
        self.next_sequence += 1;
        self.slots.insert(Operation {
            sequence: self.next_sequence,
            user,
            op,
            lane,
            memory,
            progress: Progress::Queued,
        })
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut Operation> {
        self.slots.get_mut(id)
    }

    pub(crate) fn remove(&mut self, id: Id) -> Option<Operation> {
        self.slots.remove(id)
    }

    /// The operation that the host calls `user`, unless it is abandoned.
    pub(crate) fn find(&self, user: u64) -> Option<Id> {
        self.slots
            .iter()
            .find(|(_, operation)| {
                operation.user == user && operation.progress != Progress::Abandoned
            })
            .map(|(id, _)| id)
    }

    /// Ends all operations of a lane; returns completions in the order of submission.
    pub(crate) fn fail_lane(&mut self, lane: Id, status: Status) -> Vec<FabricCompletion> {
        let mut hit: Vec<(u64, Id)> = self
            .slots
            .iter()
            .filter(|(_, operation)| operation.lane == lane)
            .map(|(id, operation)| (operation.sequence, id))
            .collect();
        hit.sort_unstable();
        hit.into_iter()
            .filter_map(|(_, id)| self.slots.remove(id))
            .filter(|operation| operation.progress != Progress::Abandoned)
            .map(|operation| operation.completion(status))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::nowhere;
    use super::*;

    #[test]
    fn a_lost_lane_ends_its_operations_in_order_and_no_others() {
        let mut operations = Operations::new(8);
        let lanes = [Id::from_raw(1), Id::from_raw(2)];
        let mut ids = Vec::new();
        for user in 0..6 {
            let lane = lanes[user as usize % 2];
            ids.push(
                operations
                    .insert(FabricOp::SEND, user, lane, nowhere())
                    .unwrap(),
            );
        }
        // A reused slot must not come before older operations.
        operations.remove(ids[0]).unwrap();
        operations
            .insert(FabricOp::SEND, 6, lanes[0], nowhere())
            .unwrap();
        operations.get_mut(ids[2]).unwrap().progress = Progress::Abandoned;
        assert_eq!(operations.find(2), None);
        let failed = operations.fail_lane(lanes[0], Status::UNREACHABLE);
        assert_eq!(failed.iter().map(|c| c.user).collect::<Vec<_>>(), [4, 6]);
        assert!(operations.find(1).is_some());
        assert!(operations.find(4).is_none());
    }
}
