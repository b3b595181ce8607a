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
/// How long the way back may take after that: both together are less than the daemon waits.
const BACK_WITHIN: Duration = Duration::from_secs(5);

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

    /// Changes the layers; returns when every target works with the new ones. If one cannot, all go back to the
    /// layers they had.
    ///
    /// # Errors
    /// What a layer cannot do, or which target did not go over, and why.
    pub async fn set(&self, layers: &[LayerSpec]) -> Result<(), String> {
        let _one = self.changing.lock().await;
        let old = lock(&self.stacks).clone();
        let mut new = old.clone();
        for stack in &mut new {
            stack.set(layers).map_err(|e| e.to_string())?;
        }
        if let Err(why) = self.go_over(&new, CHANGE_WITHIN).await {
            return Err(match self.go_over(&old, BACK_WITHIN).await {
                Ok(()) => format!("{why}; every target works with its old layers"),
                Err(_) => format!("{why}; targets go back to their old layers when that ends"),
            });
        }
        *lock(&self.stacks) = new;
        self.tell();
        Ok(())
    }

    /// Tells every target to work with these layers, and waits until it does.
    async fn go_over(&self, stacks: &[Stack], within: Duration) -> Result<(), String> {
        let targets = lock(&self.targets).clone();
        for (device, target) in &targets {
            target.layers.give(stacks[*device].top().clone());
            target.wake.wake();
        }
        let by = Instant::now() + within;
        for (number, (_, target)) in targets.iter().enumerate() {
            while !target.layers.is_done() {
                if Instant::now() > by {
                    return Err(format!(
                        "target {number} has I/O outstanding that did not end within {} s",
                        within.as_secs()
                    ));
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if let Some(why) = &*lock(&target.layers.failed) {
                return Err(format!("target {number} cannot have them: {why}"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wake::Wake;
    use daos_plugin_api::control::{DeviceSpec, DeviceState};
    use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicI32};

    fn device() -> BdevDevice {
        let malloc = daos_builtins::all()
            .into_iter()
            .find(|b| daos_builtins::name(b) == "bdev-malloc")
            .expect("it is built in");
        let instance = Instance::create((malloc.table)(), InstanceOptions::built_in()).unwrap();
        let config = serde_json::json!({"bdev_number": 1, "bdev_size_mib": 16});
        let spec = DeviceSpec {
            class: "malloc".into(),
            index: 0,
            address: "malloc0".into(),
            size: 0,
            state: DeviceState::Present,
            detail: String::new(),
            config: serde_json::from_value(config).unwrap(),
        };
        instance.open_bdev(&spec, CallOptions::default()).unwrap()
    }

    fn shared() -> Arc<Shared> {
        Arc::new(Shared {
            stop: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            wake: Wake::new().unwrap(),
            device_gone: AtomicBool::new(false),
            lost: OnceLock::new(),
            failed: OnceLock::new(),
            layers: Order::default(),
            rounds: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            idle: AtomicBool::new(true),
            in_fabric: AtomicBool::new(false),
            thread: AtomicI32::new(0),
            patience: 1,
        })
    }

    /// Carries out the orders of these numbers, in a thread of its own, but for the one that it refuses. Returns the
    /// number of the last one.
    fn target(
        shared: &Arc<Shared>,
        orders: std::ops::RangeInclusive<u64>,
        refuses: u64,
    ) -> std::thread::JoinHandle<u64> {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let by = Instant::now() + Duration::from_secs(20);
            let mut seen = orders.start() - 1;
            while seen < *orders.end() && Instant::now() < by {
                let number = shared.layers.number();
                if number > seen {
                    seen = number;
                    assert!(shared.layers.take().is_some());
                    let result = match number == refuses {
                        true => Err("no queue is left".to_owned()),
                        false => Ok(()),
                    };
                    shared.layers.done(number, result);
                }
                std::thread::yield_now();
            }
            seen
        })
    }

    #[tokio::test]
    async fn a_change_that_one_target_refuses_is_taken_back_everywhere() {
        let layers = Layers::new(vec![device()], &[]).unwrap();
        let (first, second) = (shared(), shared());
        layers.add_target(0, Arc::clone(&first));
        layers.add_target(0, Arc::clone(&second));
        let stats = parse(r#"[{"stats": {}}]"#).unwrap();
        let threads = [target(&first, 1..=1, 0), target(&second, 1..=1, 0)];
        layers.set(&stats).await.unwrap();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), 1);
        }
        let before = layers.state();
        assert_eq!(before[0].len(), 1);

        let faults = parse(r#"[{"fault": {"rules": [{"do": "error"}]}}]"#).unwrap();
        let threads = [target(&first, 2..=3, 0), target(&second, 2..=3, 2)];
        let why = layers.set(&faults).await.unwrap_err();
        for word in ["target 1", "no queue is left", "old layers"] {
            assert!(why.contains(word), "{why}");
        }
        for thread in threads {
            assert_eq!(thread.join().unwrap(), 3, "the way there and the way back");
        }
        assert_eq!(layers.state(), before, "what is listed is what is there");
        let threads = [target(&first, 4..=4, 0), target(&second, 4..=4, 0)];
        layers.set(&faults).await.unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_ne!(layers.state(), before);
    }
}
