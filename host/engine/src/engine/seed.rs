//! The thread of a target: recovery, its queue and endpoint, its life, its end.

use super::OpenIndex;
use crate::catalogue::Desk;
use crate::error::StartError;
use crate::extents::device::{DEPTH, Device, Share};
use crate::helpers::Helper;
use crate::index::{IndexError, Store};
use crate::log::{Identity, Ring};
use crate::memory::Buffers;
use crate::net::Net;
use crate::pin::Placement;
use crate::scm::ScmLog;
use crate::state::EngineState;
use crate::storage::{Recovered, Storage};
use crate::target::{Limits, Parts, Shared, Target};
use daos_plugin_api::host::{BdevDevice, CallOptions, FabricDomain, Instance};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

/// Fabric operations outstanding per target, if the provider allows as many.
const FABRIC_SLOTS: u32 = 512;

/// What a target's thread grows from.
pub(super) struct Seed {
    pub(super) number: u32,
    pub(super) targets: u32,
    pub(super) placement: Placement,
    pub(super) log: ScmLog,
    pub(super) index: PathBuf,
    pub(super) open_index: OpenIndex,
    pub(super) state: EngineState,
    pub(super) is_new: bool,
    pub(super) device: BdevDevice,
    pub(super) share: Share,
    pub(super) domain: FabricDomain,
    pub(super) domain_lock: Arc<Mutex<()>>,
    pub(super) instances: [Instance; 2],
    pub(super) buffers: Buffers,
    pub(super) helper: Helper,
    pub(super) desk: Desk,
    pub(super) shared: Arc<Shared>,
}

impl Seed {
    /// The life of a target's thread.
    pub(super) fn grow(
        self,
        answer: &mpsc::Sender<Result<Vec<u8>, StartError>>,
    ) -> Result<(), String> {
        self.placement.apply(self.number);
        let lock = Arc::clone(&self.domain_lock);
        let shared = Arc::clone(&self.shared);
        let instances = self.instances.clone();
        let mut guards = Vec::new();
        for instance in &instances {
            match instance.attach_thread() {
                Ok(guard) => guards.push(guard),
                Err(e) => {
                    let error = StartError::plugin(format_args!("target {}", self.number), &e);
                    let text = error.text.clone();
                    // Nobody listens only if the start was given up.
                    let _ = answer.send(Err(error));
                    return Err(text);
                }
            }
        }
        let mut target = match self.build() {
            Ok((target, address)) => {
                // As above.
                let _ = answer.send(Ok(address));
                target
            }
            Err(error) => {
                let text = error.text.clone();
                // As above.
                let _ = answer.send(Err(error));
                return Err(text);
            }
        };
        shared.thread.store(
            rustix::thread::gettid().as_raw_nonzero().get(),
            Ordering::Release,
        );
        let result = target.run();
        shared.asleep.store(true, Ordering::Release);
        // Ends registrations, which is a function of the domain.
        let _one = lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(target);
        drop(guards);
        result
    }

    fn build(self) -> Result<(Target, Vec<u8>), StartError> {
        let number = self.number;
        let is_new = self.is_new;
        let open = |limit| (self.open_index)(&self.index, limit, is_new);
        let (storage, recovered) = recover(
            self.log,
            open,
            &self.state,
            number,
            self.share.units,
            self.is_new,
        )?;
        tracing::info!(
            target_number = number,
            entries = recovered.entries,
            replayed = recovered.replayed,
            "target recovered"
        );
        let failed = |plugin: &Instance, e: daos_plugin_api::sdk::Error| {
            let plugin = plugin.described();
            StartError::plugin(format_args!("target {number}: plugin {plugin}"), &e)
        };
        let [bdev, fabric] = self.instances;
        let depth = self.device.geometry().max_queue_depth.min(DEPTH);
        let queue = self
            .device
            .open_queue(depth, CallOptions::default())
            .map_err(|e| failed(&bdev, e))?;
        let (net, address) = {
            let _guard = self
                .domain_lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let endpoint = self
                .domain
                .open_endpoint(CallOptions::default())
                .map_err(|e| failed(&fabric, e))?;
            let slots = self.domain.info().max_outstanding.min(FABRIC_SLOTS);
            let net = Net::new(endpoint, slots);
            let address = net.address().map_err(|s| failed(&fabric, s.into()))?;
            (net, address)
        };
        let target = Target::new(Parts {
            number,
            targets: self.targets,
            storage,
            device: Device::new(queue, self.share, depth),
            net,
            buffers: self.buffers,
            helper: self.helper,
            desk: self.desk,
            shared: self.shared,
        });
        Ok((target, address))
    }
}

fn recover(
    memory: ScmLog,
    open: impl FnOnce(u64) -> Result<Store, IndexError>,
    state: &EngineState,
    number: u32,
    units: u64,
    is_new: bool,
) -> Result<(Storage<ScmLog>, Recovered), StartError> {
    let damaged = |what: &dyn std::fmt::Display| {
        StartError::storage(format_args!(
            "target {number}: {what}; restore the SCM, or format with --reformat"
        ))
    };
    let identity = Identity {
        engine: state.engine,
        target: number,
    };
    let mut store = open(state.index_bytes).map_err(|e| damaged(&e))?;
    let limit = Limits {
        index_bytes: state.index_bytes,
    }
    .live_bytes();
    if !is_new {
        if store.identity() != state.index_identity(number) {
            return Err(damaged(&"its index is another target's"));
        }
        return Storage::open(store, memory, identity, units, limit).map_err(|e| damaged(&e));
    }
    // Never served, unless the record that says otherwise was lost.
    let has_records = Ring::has_records(&memory, identity).map_err(|e| damaged(&e))?;
    if store.applied() > 0 || has_records {
        return Err(damaged(&"it has data although engine.json is missing"));
    }
    store
        .set_identity(&state.index_identity(number))
        .map_err(|e| damaged(&e))?;
    let storage =
        Storage::create(store, memory, identity, units, limit).map_err(|e| damaged(&e))?;
    Ok((storage, Recovered::default()))
}
