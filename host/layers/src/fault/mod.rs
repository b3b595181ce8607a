//! Faults: what devices do when they fail, at will.
//!
//! Rules and their counts belong to the device, so "once" means once whichever queue it hits. The random
//! choices depend on the seed and on how many requests a rule has seen.

pub mod memory;
mod queue;

use crate::forward;
use crate::random::{hash, unit};
use crate::spec::{Action, FaultRule, FaultSpec, Op};
use daos_plugin_api::abi::{BdevEvent, Request};
use daos_plugin_api::host::{BdevDevice, CallOptions};
use daos_plugin_api::sdk::{Bdev, CallContext, Result};
use queue::FaultyQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A rule and what it has done.
#[derive(Debug)]
pub(crate) struct Armed {
    pub(crate) rule: FaultRule,
    seen: AtomicU64,
    pub(crate) fired: AtomicU64,
}

/// The faults of a device, shared by its queues.
#[derive(Debug)]
pub(crate) struct Faults {
    seed: u64,
    pub(crate) rules: Vec<Armed>,
    removed: AtomicBool,
    removal_told: AtomicBool,
}

impl Faults {
    pub(crate) fn new(spec: &FaultSpec) -> Arc<Self> {
        let arm = |rule: &FaultRule| Armed {
            rule: rule.clone(),
            seen: AtomicU64::new(0),
            fired: AtomicU64::new(0),
        };
        Arc::new(Self {
            seed: spec.seed,
            rules: spec.rules.iter().map(arm).collect(),
            removed: AtomicBool::new(false),
            removal_told: AtomicBool::new(false),
        })
    }

    /// The rule that fires for a request, and the random number of that.
    fn decide(&self, request: &Request) -> Option<(&FaultRule, u64)> {
        for (index, armed) in self.rules.iter().enumerate() {
            let rule = &armed.rule;
            if !rule.matches(request) {
                continue;
            }
            let seen = armed.seen.fetch_add(1, Ordering::Relaxed);
            let random = hash(self.seed ^ hash(0, index as u64), seen);
            if seen < rule.skip || unit(random) >= rule.probability {
                continue;
            }
            let most = rule.count.unwrap_or(u64::MAX);
            let once_more = |fired: u64| (fired < most).then_some(fired + 1);
            let relaxed = Ordering::Relaxed;
            if armed
                .fired
                .fetch_update(relaxed, relaxed, once_more)
                .is_ok()
            {
                return Some((rule, hash(random, 0)));
            }
        }
        None
    }

    /// Whether a rule needs memory of the layer's own.
    fn needs_memory(&self) -> bool {
        let needs = |rule: &FaultRule| match rule.action {
            Action::Torn => true,
            Action::Flip => rule.op.contains(&Op::Write),
            _ => false,
        };
        self.rules.iter().any(|armed| needs(&armed.rule))
    }

    fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }
}

/// A device that fails at will.
pub(crate) struct FaultyDevice {
    below: BdevDevice,
    faults: Arc<Faults>,
}

impl FaultyDevice {
    pub(crate) fn new(below: BdevDevice, faults: Arc<Faults>) -> Self {
        Self { below, faults }
    }
}

impl Bdev for FaultyDevice {
    type Queue = FaultyQueue;

    forward::admin!();

    fn next_event(&self) -> Option<BdevEvent> {
        if self.faults.is_removed() && !self.faults.removal_told.swap(true, Ordering::AcqRel) {
            return Some(BdevEvent {
                kind: BdevEvent::REMOVED,
                reserved: 0,
                value: 0,
            });
        }
        self.below.next_event()
    }

    fn open_queue(&self, _: CallContext<'_>, depth: u32) -> Result<FaultyQueue> {
        // First: it refuses depths that cannot be.
        let queue = self.below.open_queue(depth, CallOptions::default())?;
        let memory = match self.faults.needs_memory() {
            true => {
                let block = self.below.geometry().block_size as usize;
                Some(self.below.allocate(depth as usize * block)?)
            }
            false => None,
        };
        Ok(FaultyQueue::new(
            queue,
            Arc::clone(&self.faults),
            depth,
            memory,
        ))
    }
}
