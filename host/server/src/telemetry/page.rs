//! One page of metrics, gathered anew for each reader.

use daos_telemetry::{Histogram, Sample, Value};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::fmt;

/// What tells the values of a metric apart.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Metrics by name.
#[derive(Debug, Default)]
pub(super) struct Page {
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    unit: String,
    help: String,
    kind: Kind,
    values: Vec<(Labels, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::Counter(_) => Self::Counter,
            Value::Gauge(_) => Self::Gauge,
            Value::Histogram(_) => Self::Histogram,
        }
    }
}

fn unit_of(name: &str) -> Option<Unit> {
    match name {
        "" => None,
        "seconds" => Some(Unit::Seconds),
        "bytes" => Some(Unit::Bytes),
        other => Some(Unit::Other(other.to_owned())),
    }
}

impl Page {
    /// Adds a value of a counter of ours.
    pub(super) fn counter(&mut self, name: &str, help: &str, labels: Labels, value: f64) {
        self.put(name, "", help, labels, Value::Counter(value));
    }

    /// Adds a value of a gauge of ours.
    pub(super) fn gauge(&mut self, name: &str, help: &str, labels: Labels, value: f64) {
        self.put(name, "", help, labels, Value::Gauge(value));
    }

    /// Adds a distribution of times of ours.
    pub(super) fn seconds(&mut self, name: &str, help: &str, labels: Labels, times: Histogram) {
        self.put(name, "seconds", help, labels, Value::Histogram(times));
    }

    /// Adds a metric of a plugin, with its name in front of the labels. One that another plugin has in another form
    /// has the plugin's name in its own.
    pub(super) fn sample(&mut self, plugin: &str, mut labels: Labels, sample: Sample) {
        if !sample.is_sound() {
            return;
        }
        let mut name = format!("plugin_{}", sample.name);
        if let Some(family) = self.families.get(&name)
            && (family.kind != Kind::of(&sample.value) || family.unit != sample.unit)
        {
            let plugin = plugin.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            name = format!("plugin_{plugin}_{}", sample.name);
        }
        labels.insert(0, ("plugin", plugin.to_owned()));
        self.put(&name, &sample.unit, &sample.help, labels, sample.value);
    }

    fn put(&mut self, name: &str, unit: &str, help: &str, labels: Labels, value: Value) {
        let family = self.families.entry(name.to_owned());
        let family = family.or_insert_with(|| Family {
            unit: unit.to_owned(),
            help: help.trim_end_matches('.').to_owned(),
            kind: Kind::of(&value),
            values: Vec::new(),
        });
        // A family has one kind, and each of its values another set of labels.
        if family.kind == Kind::of(&value) && family.values.iter().all(|(l, _)| *l != labels) {
            family.values.push((labels, value));
        }
    }

    /// The page as text.
    pub(super) fn text(self) -> String {
        let mut registry = Registry::with_prefix("daos");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, family) in &self.families {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let unit = unit_of(&family.unit);
            let help = format!("{}.", family.help);
            let mut metric = encoder.encode_descriptor(name, &help, unit.as_ref(), kind)?;
            for (labels, value) in &family.values {
                let mut metric = metric.encode_family(labels)?;
                match value {
                    Value::Counter(value) => {
                        metric.encode_counter::<NoLabelSet, f64, f64>(value, None)?;
                    }
                    Value::Gauge(value) => metric.encode_gauge(value)?,
                    Value::Histogram(histogram) => {
                        // The encoder adds the counts up, and writes the greatest number as infinity.
                        let bounds = histogram.bounds.iter().copied().chain([f64::MAX]);
                        let classes: Vec<_> =
                            bounds.zip(histogram.counts.iter().copied()).collect();
                        let (sum, count) = (histogram.sum, histogram.count());
                        metric.encode_histogram::<NoLabelSet>(sum, count, &classes, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_each_metric_once_with_all_its_values() {
        let mut page = Page::default();
        let engine = |n: &str| vec![("engine", n.to_owned())];
        page.gauge("ready", "Serves", engine("0"), 1.0);
        page.gauge("ready", "Serves", engine("1"), 0.0);
        let mut times = Histogram::new(vec![0.1, 1.0]);
        for time in [0.05, 0.5, 7.0] {
            times.observe(time);
        }
        page.seconds("calls", "Calls", engine("0"), times);
        assert_eq!(
            page.text(),
            "# HELP daos_calls_seconds Calls.\n# TYPE daos_calls_seconds histogram\n# UNIT daos_calls_seconds seconds\n\
             daos_calls_seconds_sum{engine=\"0\"} 7.55\ndaos_calls_seconds_count{engine=\"0\"} 3\n\
             daos_calls_seconds_bucket{le=\"0.1\",engine=\"0\"} 1\n\
             daos_calls_seconds_bucket{le=\"1.0\",engine=\"0\"} 2\n\
             daos_calls_seconds_bucket{le=\"+Inf\",engine=\"0\"} 3\n\
             # HELP daos_ready Serves.\n# TYPE daos_ready gauge\n\
             daos_ready{engine=\"0\"} 1.0\ndaos_ready{engine=\"1\"} 0.0\n# EOF\n"
        );
    }

    #[test]
    fn plugins_that_disagree_about_a_metric_do_not_spoil_the_page() {
        let sample = |name: &str, unit: &str, value| Sample {
            name: name.to_owned(),
            unit: unit.to_owned(),
            help: "x".to_owned(),
            value,
        };
        let mut page = Page::default();
        page.sample("a-b", vec![], sample("n", "", Value::Counter(1.0)));
        page.sample("c-d", vec![], sample("n", "", Value::Counter(2.0)));
        page.sample("e-f", vec![], sample("n", "", Value::Gauge(3.0)));
        page.sample("g-h", vec![], sample("n", "bytes", Value::Counter(4.0)));
        page.sample("g-h", vec![], sample("n\n", "", Value::Counter(5.0)));
        page.sample("a-b", vec![], sample("n", "", Value::Counter(6.0)));
        let text = page.text();
        for line in [
            "daos_plugin_n_total{plugin=\"a-b\"} 1.0",
            "daos_plugin_n_total{plugin=\"c-d\"} 2.0",
            "daos_plugin_e_f_n{plugin=\"e-f\"} 3.0",
            "daos_plugin_g_h_n_bytes_total{plugin=\"g-h\"} 4.0",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing in {text}"
            );
        }
        assert_eq!(text.lines().filter(|l| !l.starts_with('#')).count(), 4);
    }
}
