//! The metrics of one plugin in one process.

use crate::Histogram;
use daos_plugin_api::abi::MetricKind;
use daos_plugin_api::host::HostMetrics;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Most metrics that are kept of a plugin.
pub const LIMIT: usize = 128;
/// Longest name and unit.
const NAME: usize = 80;
/// Longest description.
const HELP: usize = 200;

/// A metric at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Lower-case letters, digits and `_`; without its unit.
    pub name: String,
    /// Likewise; may be empty.
    pub unit: String,
    /// What it is, in a sentence.
    pub help: String,
    /// Kind and value.
    #[serde(flatten)]
    pub value: Value,
}

impl Sample {
    /// Whether it can be shown: where a plugin has damaged its process, anything may come from there.
    pub fn is_sound(&self) -> bool {
        let word = |text: &str| {
            text.len() <= NAME
                && text
                    .bytes()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
        };
        !self.name.is_empty()
            && !self.name.starts_with(|c: char| c.is_ascii_digit())
            && word(&self.name)
            && word(&self.unit)
            && self.help.chars().count() <= HELP
            && !self.help.chars().any(char::is_control)
            && match &self.value {
                Value::Counter(value) => value.is_finite() && *value >= 0.0,
                Value::Gauge(value) => value.is_finite(),
                Value::Histogram(histogram) => histogram.is_sound(),
            }
    }
}

/// Kind and value of a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Only grows.
    Counter(f64),
    /// Goes up and down.
    Gauge(f64),
    /// A distribution.
    Histogram(Histogram),
}

/// A number that several threads add to.
#[derive(Default)]
struct Number(AtomicU64);

impl Number {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    fn add(&self, value: f64) {
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // The closure always has a new value.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

struct Metric {
    kind: MetricKind,
    name: String,
    unit: String,
    help: String,
    /// Of a histogram the sum.
    value: Number,
    bounds: Vec<f64>,
    counts: Vec<AtomicU64>,
}

impl Metric {
    fn sample(&self) -> Sample {
        let value = self.value.get();
        Sample {
            name: self.name.clone(),
            unit: self.unit.clone(),
            help: self.help.clone(),
            value: match self.kind {
                MetricKind::COUNTER => Value::Counter(value),
                MetricKind::GAUGE => Value::Gauge(value),
                _ => Value::Histogram(Histogram {
                    bounds: self.bounds.clone(),
                    counts: self
                        .counts
                        .iter()
                        .map(|n| n.load(Ordering::Relaxed))
                        .collect(),
                    sum: value,
                }),
            },
        }
    }
}

/// Takes the metrics of a plugin. Recording neither locks nor allocates.
pub struct Keeper {
    metrics: Box<[OnceLock<Metric>]>,
    ids: Mutex<BTreeMap<String, u64>>,
    changes: AtomicU64,
}

impl Default for Keeper {
    fn default() -> Self {
        Self {
            metrics: (0..LIMIT).map(|_| OnceLock::new()).collect(),
            ids: Mutex::default(),
            changes: AtomicU64::new(0),
        }
    }
}

impl Keeper {
    /// One without metrics.
    pub fn new() -> Self {
        Self::default()
    }

    /// All metrics as they are now, in the order in which they were registered.
    pub fn samples(&self) -> Vec<Sample> {
        let set = self.metrics.iter().map_while(OnceLock::get);
        set.map(Metric::sample).collect()
    }

    /// Another number whenever something was registered or recorded.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }
}

/// What may stand in a name: others become `_`.
fn word(text: &str) -> String {
    let text = text.trim().chars().take(NAME);
    let clean = text.map(|c| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '_',
    });
    let clean: String = clean.collect();
    clean.trim_matches('_').to_owned()
}

impl HostMetrics for Keeper {
    fn register(&self, kind: MetricKind, name: &str, unit: &str, help: &str) -> u64 {
        let known = [
            MetricKind::COUNTER,
            MetricKind::GAUGE,
            MetricKind::HISTOGRAM,
        ];
        let (name, unit) = (word(name), word(unit));
        // Both are added where the metric is shown.
        let name = match kind {
            MetricKind::COUNTER => name.strip_suffix("_total").unwrap_or(&name),
            _ => &name,
        };
        let suffix = format!("_{unit}");
        let name = name
            .strip_suffix(suffix.as_str())
            .unwrap_or(name)
            .to_owned();
        if !known.contains(&kind) || name.is_empty() || name.starts_with(|c: char| c.is_numeric()) {
            return 0;
        }
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = ids.get(&name) {
            let registered = self.metrics[*id as usize - 1].get();
            let same = registered.is_some_and(|m| m.kind == kind && m.unit == unit);
            return if same { *id } else { 0 };
        }
        let Some(place) = self.metrics.get(ids.len()) else {
            return 0;
        };
        let classes = match kind {
            MetricKind::HISTOGRAM => Histogram::for_unit(&unit),
            _ => Histogram::new(Vec::new()),
        };
        let metric = Metric {
            kind,
            name: name.clone(),
            unit,
            help: help
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(HELP)
                .collect(),
            value: Number::default(),
            counts: classes.counts.iter().map(|_| AtomicU64::new(0)).collect(),
            bounds: classes.bounds,
        };
        // Free: only who holds the lock fills places, in their order.
        let _ = place.set(metric);
        let id = ids.len() as u64 + 1;
        ids.insert(name, id);
        self.changes.fetch_add(1, Ordering::Relaxed);
        id
    }

    fn record(&self, id: u64, value: f64) {
        let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        let place = index.and_then(|index| self.metrics.get(index));
        let Some(metric) = place.and_then(OnceLock::get) else {
            return;
        };
        if !value.is_finite() || (metric.kind == MetricKind::COUNTER && value < 0.0) {
            return;
        }
        match metric.kind {
            MetricKind::GAUGE => metric.value.set(value),
            MetricKind::COUNTER => metric.value.add(value),
            _ => {
                let class = Histogram::class(&metric.bounds, value);
                metric.counts[class].fetch_add(1, Ordering::Relaxed);
                metric.value.add(value);
            }
        }
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_gauges_set_and_histograms_sort() {
        let keeper = Keeper::new();
        let counter = keeper.register(MetricKind::COUNTER, "resets_total", "", "Resets");
        let gauge = keeper.register(MetricKind::GAUGE, "Queue-Depth", "", "");
        let times = keeper.register(MetricKind::HISTOGRAM, "wait_seconds", "seconds", "a\nb");
        assert_eq!(
            keeper.register(MetricKind::COUNTER, "resets", "", "again"),
            counter
        );
        let before = keeper.changes();
        for value in [2.0, 3.0, -1.0, f64::NAN] {
            keeper.record(counter, value);
            keeper.record(gauge, value);
        }
        keeper.record(times, 0.003);
        assert_ne!(keeper.changes(), before);
        let samples = keeper.samples();
        let names: Vec<_> = samples.iter().map(|s| (&*s.name, &*s.unit)).collect();
        assert_eq!(
            names,
            [("resets", ""), ("queue_depth", ""), ("wait", "seconds")]
        );
        assert_eq!(samples[0].value, Value::Counter(5.0));
        assert_eq!(samples[1].value, Value::Gauge(-1.0));
        let Value::Histogram(times) = &samples[2].value else {
            panic!("{samples:?}")
        };
        assert_eq!((times.count(), times.sum), (1, 0.003));
        assert_eq!(samples[2].help, "a b");
        let json = serde_json::to_string(&samples).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Sample>>(&json).unwrap(), samples);
    }

    #[test]
    fn what_makes_no_sense_is_not_kept() {
        let keeper = Keeper::new();
        for (kind, name) in [
            (MetricKind(0), "a"),
            (MetricKind(9), "a"),
            (MetricKind::GAUGE, ""),
            (MetricKind::GAUGE, "---"),
            (MetricKind::GAUGE, "7up"),
        ] {
            assert_eq!(keeper.register(kind, name, "", ""), 0, "{kind:?} {name}");
        }
        let id = keeper.register(MetricKind::GAUGE, "a", "", "");
        assert_eq!(keeper.register(MetricKind::COUNTER, "a", "", ""), 0);
        assert_eq!(keeper.register(MetricKind::GAUGE, "a", "bytes", ""), 0);
        for id in [0, id + 1, u64::MAX] {
            keeper.record(id, 1.0);
        }
        assert_eq!(keeper.samples()[0].value, Value::Gauge(0.0));
        for n in 0..2 * LIMIT {
            keeper.register(MetricKind::GAUGE, &format!("m{n}"), "", "");
        }
        assert_eq!(keeper.samples().len(), LIMIT);
        let long = keeper.samples().iter().map(|s| s.name.len()).max();
        assert!(long <= Some(NAME));
    }

    #[test]
    fn threads_lose_nothing() {
        let keeper = Keeper::new();
        let id = keeper.register(MetricKind::COUNTER, "n", "", "");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| keeper.record(id, 1.0)));
            }
        });
        assert_eq!(keeper.samples()[0].value, Value::Counter(40_000.0));
    }
}
