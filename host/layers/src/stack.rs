//! The layers over one device.

use crate::delay::DelayedDevice;
use crate::fault::{Faults, FaultyDevice};
use crate::spec::{FaultRule, LayerSpec};
use crate::stats::{Book, MeasuredDevice, Row};
use daos_plugin_api::host::BdevDevice;
use daos_plugin_api::sdk::Error;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A device with its layers; a clone has the same ones.
#[derive(Clone)]
pub struct Stack {
    number: u32,
    base: BdevDevice,
    top: BdevDevice,
    specs: Vec<LayerSpec>,
    /// Of each layer of faults, `None` for others.
    faults: Vec<Option<Arc<Faults>>>,
    book: Arc<Book>,
}

/// A rule and how often it has fired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleState {
    /// The rule.
    pub rule: FaultRule,
    /// How often it has fired.
    pub fired: u64,
}

/// One layer over one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerState {
    /// The layer as it was asked for.
    pub spec: LayerSpec,
    /// Of a layer of faults, what its rules have done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleState>,
    /// Of a layer of statistics, what it has measured since the engine started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stats: Vec<Row>,
}

impl Stack {
    /// A device, number `number` of its engine, without layers.
    pub fn new(number: u32, base: BdevDevice) -> Self {
        Self {
            number,
            top: base.clone(),
            base,
            specs: Vec::new(),
            faults: Vec::new(),
            book: Arc::default(),
        }
    }

    /// The device without its layers, as its plugin has it.
    pub fn base(&self) -> &BdevDevice {
        &self.base
    }

    /// The device with all its layers: what queues are opened on.
    pub fn top(&self) -> &BdevDevice {
        &self.top
    }

    /// Puts other layers over the device; queues that are open keep the ones they have.
    ///
    /// # Errors
    /// What a layer cannot do; the old ones stay then.
    pub fn set(&mut self, layers: &[LayerSpec]) -> Result<(), Error> {
        let specs: Vec<_> = layers
            .iter()
            .filter(|layer| layer.covers(self.number))
            .cloned()
            .collect();
        let mut top = self.base.clone();
        let mut faults = Vec::new();
        for spec in specs.iter().rev() {
            let instance = top.instance().clone();
            let mut rules = None;
            top = match spec {
                LayerSpec::Fault(fault) => {
                    let armed = Faults::new(fault);
                    rules = Some(Arc::clone(&armed));
                    BdevDevice::layered(&instance, FaultyDevice::new(top, armed))
                }
                LayerSpec::Delay(delay) => {
                    BdevDevice::layered(&instance, DelayedDevice::new(top, delay)?)
                }
                LayerSpec::Stats(_) => {
                    BdevDevice::layered(&instance, MeasuredDevice::new(top, Arc::clone(&self.book)))
                }
            }?;
            faults.push(rules);
        }
        faults.reverse();
        (self.top, self.specs, self.faults) = (top, specs, faults);
        Ok(())
    }

    /// The layers, the top one first.
    pub fn state(&self) -> Vec<LayerState> {
        let fired = |faults: &Arc<Faults>| {
            let rules = faults.rules.iter();
            rules
                .map(|armed| RuleState {
                    rule: armed.rule.clone(),
                    fired: armed.fired.load(Ordering::Relaxed),
                })
                .collect()
        };
        self.specs
            .iter()
            .zip(&self.faults)
            .map(|(spec, faults)| LayerState {
                spec: spec.clone(),
                rules: faults.as_ref().map(fired).unwrap_or_default(),
                stats: match spec {
                    LayerSpec::Stats(_) => self.book.rows(),
                    _ => Vec::new(),
                },
            })
            .collect()
    }

    /// Names of the layers, the top one first.
    pub fn names(&self) -> Vec<&'static str> {
        self.specs.iter().map(LayerSpec::name).collect()
    }
}
