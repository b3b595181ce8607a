//! Layers over the engine's block devices, from the start on and changed while targets serve.
//!
//! A change puts a new stack over each device; each target then opens a queue on it, when nothing is outstanding on
//! the one it has, and goes on with that. So targets of an engine without layers have the plugin's own queues
//! and pay nothing.

use crate::target::Shared;
use daos_layers::{LayerSpec, LayerState, Stack, parse};
use daos_plugin_api::host::BdevDevice;
use daos_plugin_api::sdk::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long targets may take to go over to other layers. What a layer of delays keeps back comes first.
const CHANGE_WITHIN: Duration = Duration::from_secs(20);

/// A list of layers on the command line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerList(pub Vec<LayerSpec>);

impl std::str::FromStr for LayerList {
    type Err = daos_layers::SpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Self)
    }
}

/// What a target is told about the layers of its device.
#[derive(Default)]
pub struct Order {
    /// Counts orders; a target that has carried out fewer looks at `device`.
    wanted: AtomicU64,
    done: AtomicU64,
    device: Mutex<Option<BdevDevice>>,
    /// Why the last one could not be carried out.
    failed: Mutex<Option<String>>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order")
            .field("wanted", &self.wanted)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl Order {
    /// The number of the newest order.
    pub fn number(&self) -> u64 {
        self.wanted.load(Ordering::Acquire)
    }

    /// Takes the device of the newest order.
    pub fn take(&self) -> Option<BdevDevice> {
        lock(&self.device).take()
    }

    /// The target has carried out the order of that number, or says why not.
    pub fn done(&self, number: u64, result: Result<(), String>) {
        *lock(&self.failed) = result.err();
        self.done.store(number, Ordering::Release);
    }

    fn give(&self, device: BdevDevice) {
        *lock(&self.device) = Some(device);
        self.wanted.fetch_add(1, Ordering::AcqRel);
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire) >= self.number()
    }
}

/// The devices of an engine with their layers.
pub struct Layers {
    stacks: Mutex<Vec<Stack>>,
    /// Targets, each with the number of its device.
    targets: Mutex<Vec<(usize, Arc<Shared>)>>,
    /// Changes come one after the other.
    changing: tokio::sync::Mutex<()>,
}

impl Layers {
    /// Puts `layers` over `devices`.
    ///
    /// # Errors
    /// What a layer cannot do.
    pub fn new(devices: Vec<BdevDevice>, layers: &[LayerSpec]) -> Result<Arc<Self>, Error> {
        let mut stacks = Vec::new();
        for (number, device) in (0..).zip(devices) {
            let mut stack = Stack::new(number, device);
            stack.set(layers)?;
            stacks.push(stack);
        }
        let made = Self {
            stacks: Mutex::new(stacks),
            targets: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        };
        made.tell();
        Ok(Arc::new(made))
    }

    /// The devices as their plugin has them, for questions about the hardware.
    pub fn plain_devices(&self) -> Vec<BdevDevice> {
        lock(&self.stacks)
            .iter()
            .map(|s| s.base().clone())
            .collect()
    }

    /// The devices as targets use them.
    pub fn devices(&self) -> Vec<BdevDevice> {
        lock(&self.stacks).iter().map(|s| s.top().clone()).collect()
    }

    /// The layers of each device, the top one first.
    pub fn state(&self) -> Vec<Vec<LayerState>> {
        lock(&self.stacks).iter().map(Stack::state).collect()
    }

    /// Takes note of a target and of the number of its device.
    pub(crate) fn add_target(&self, device: usize, shared: Arc<Shared>) {
        lock(&self.targets).push((device, shared));
    }

    /// Changes the layers; returns when every target works with the new ones.
    ///
    /// # Errors
    /// What a layer cannot do, or which target keeps its old ones, and why.
    pub async fn set(&self, layers: &[LayerSpec]) -> Result<(), String> {
        let _one = self.changing.lock().await;
        {
            let mut stacks = lock(&self.stacks);
            for stack in stacks.iter_mut() {
                stack.set(layers).map_err(|e| e.to_string())?;
            }
            for (device, target) in &*lock(&self.targets) {
                target.layers.give(stacks[*device].top().clone());
                target.wake.wake();
            }
        }
        self.tell();
        let by = Instant::now() + CHANGE_WITHIN;
        let targets = lock(&self.targets).clone();
        for (number, (_, target)) in targets.iter().enumerate() {
            while !target.layers.is_done() {
                if Instant::now() > by {
                    return Err(format!(
                        "target {number} has I/O outstanding and still works with its old layers; it goes over when that ends"
                    ));
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if let Some(why) = &*lock(&target.layers.failed) {
                return Err(format!("target {number} keeps its old layers: {why}"));
            }
        }
        Ok(())
    }

    /// Says in the log what lies over the devices.
    fn tell(&self) {
        for (device, stack) in lock(&self.stacks).iter().enumerate() {
            let names = stack.names();
            if names.contains(&"fault") {
                tracing::warn!(
                    device,
                    layers = names.join(","),
                    "FAULTS ARE INJECTED into this device: its data is for tests"
                );
            } else if !names.is_empty() {
                tracing::info!(device, layers = names.join(","), "layers of the device");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
