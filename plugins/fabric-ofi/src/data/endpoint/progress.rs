//! What the provider's queue gives: completions, failures, and a stand-still that will not end.

use super::OfiEndpoint;
use crate::data::operation::{Op, name_of, status_of};
use crate::libfabric::{BATCH, Errno, Outcome, sys};
use daos_plugin_api::abi::{FabricCompletion, FabricOp, Status};
use std::time::{Duration, Instant};

/// How long the provider may keep an operation towards a peer that was released, where it answers in the order of
/// operations: one that waits for a process that is dead, or stopped, keeps back the ends of all later ones.
pub(super) const ABANDONED: Duration = Duration::from_secs(10);
/// Failures within this time of one that was told are told to the debug log only: a connection that
/// breaks fails everything on it.
const QUIET: Duration = Duration::from_secs(1);

impl OfiEndpoint {
    /// Reads the queue until the room is full, or nothing is left; returns how many completions that gave. What keeps the queue from
    /// being read is left in `broken`.
    #[inline]
    pub(super) fn collect(&mut self, room: &mut [FabricCompletion]) -> usize {
        let was_drained = self.drained;
        self.broken = None;
        let mut filled = 0;
        while filled < room.len() {
            let most = (room.len() - filled).min(BATCH);
            let count = match self.queue.read(&mut self.entries, most) {
                Ok(count) => count,
                Err(errno) => {
                    let Some(failed) = self.unusual(errno) else {
                        break;
                    };
                    if let Some(completion) = self.failed(&failed) {
                        room[filled] = completion;
                        filled += 1;
                    }
                    continue;
                }
            };
            self.drained = count == 0;
            if self.drained {
                if let Some(owned) = &self.owned {
                    owned.looked();
                }
            } else {
                for at in 0..count {
                    let entry = self.entries[at];
                    if let Some(completion) = self.completed(&entry) {
                        room[filled] = completion;
                        filled += 1;
                    }
                }
            }
            // A layer such as ofi_rxm reads its queue one by one: only a read that gives nothing says that
            // there is no more. What comes after a silence comes alone as a rule, and has waited long enough.
            if count < most && (self.drained || was_drained || self.fd.is_none()) {
                break;
            }
        }
        filled
    }

    #[inline]
    fn completed(&mut self, entry: &sys::fi_cq_tagged_entry) -> Option<FabricCompletion> {
        // SAFETY: every context given to the provider is an operation, completed once.
        let op = unsafe { Op::from_context(entry.op_context) }?;
        let operation = op.get();
        let mut completion = operation.completion(Status::OK);
        if operation.request.op == FabricOp::RECV {
            completion.tag = entry.tag;
            completion.len = entry.len.min(operation.request.len) as u64;
        }
        Some(self.end(op, completion))
    }

    /// A queue that gives no successful completion: an operation has failed, or nothing can be read any more.
    #[cold]
    fn unusual(&mut self, errno: Errno) -> Option<Outcome> {
        let failure = match errno {
            Errno::AVAILABLE => self.queue.failure(),
            errno => Err(errno),
        };
        match failure {
            Ok(outcome) => outcome,
            Err(errno) => {
                tracing::error!(%errno, "cannot read the completion queue");
                self.broken = Some(errno.status());
                None
            }
        }
    }

    #[cold]
    fn failed(&mut self, outcome: &Outcome) -> Option<FabricCompletion> {
        // SAFETY: as in `completed`.
        let op = unsafe { Op::from_context(outcome.context) }?;
        let (operation, failure) = (op.get(), &outcome.failure);
        let status = match status_of(operation.request.op, failure.errno) {
            // Providers also flush what they have like this when a connection breaks.
            Status::CANCELLED if !operation.is_cancelled => Status::UNREACHABLE,
            status => status,
        };
        if status != Status::CANCELLED {
            let op = name_of(operation.request.op);
            let now = Instant::now();
            if self
                .failure_told
                .is_none_or(|told| now.duration_since(told) >= QUIET)
            {
                self.failure_told = Some(now);
                tracing::warn!("a {op} ended as {status}: {failure}");
            } else {
                tracing::debug!("a {op} ended as {status}: {failure}");
            }
        }
        let mut completion = operation.completion(status);
        if operation.request.op == FabricOp::RECV {
            completion.tag = outcome.tag;
            completion.len = outcome.len.min(operation.request.len) as u64;
        }
        Some(self.end(op, completion))
    }

    /// Fails for good if the provider is blocked by a peer that does not come back.
    #[cold]
    pub(super) fn look_after_abandoned(&mut self) -> Result<(), Status> {
        if self
            .abandoned
            .is_none_or(|since| since.elapsed() < ABANDONED)
        {
            return Ok(());
        }
        let is_abandoned = |op: &Op| {
            op.get().request.op != FabricOp::RECV && self.peers.is_released(op.get().request.peer)
        };
        let count = self.outstanding.iter().filter(is_abandoned).count();
        if count > 0 {
            tracing::error!(
                operations = count,
                "the provider waits for a process that was killed or is stopped, and would keep back all that follows; \
                 a new endpoint is needed"
            );
            return Err(Status::IO);
        }
        self.abandoned = None;
        Ok(())
    }
}
