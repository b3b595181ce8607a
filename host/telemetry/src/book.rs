//! Metrics of plugins whose processes come and go: what one has counted stays when it ends.

use crate::keeper::LIMIT;
use crate::{Sample, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The metrics of all plugins, over all their processes.
#[derive(Clone, Debug, Default)]
pub struct Book {
    plugins: Arc<Mutex<BTreeMap<String, Plugin>>>,
}

#[derive(Debug, Default)]
struct Plugin {
    /// Of processes that have ended.
    past: BTreeMap<String, Sample>,
    /// Of those that run, by number.
    live: BTreeMap<u64, Vec<Sample>>,
    next: u64,
}

/// What one process tells. When it is dropped, that stays.
#[derive(Debug)]
pub struct Part {
    book: Book,
    plugin: String,
    number: u64,
}

impl Book {
    /// For a process of a plugin that begins.
    pub fn part(&self, plugin: &str) -> Part {
        self.with(plugin, |p| {
            p.next += 1;
            Part {
                book: self.clone(),
                plugin: plugin.to_owned(),
                number: p.next,
            }
        })
    }

    /// Everything that was told, by plugin.
    pub fn samples(&self) -> BTreeMap<String, Vec<Sample>> {
        let plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let all = plugins.iter().map(|(name, plugin)| {
            let mut sum = plugin.past.clone();
            for samples in plugin.live.values() {
                merge(&mut sum, samples);
            }
            (name.clone(), sum.into_values().collect::<Vec<_>>())
        });
        all.filter(|(_, samples)| !samples.is_empty()).collect()
    }

    fn with<T>(&self, plugin: &str, change: impl FnOnce(&mut Plugin) -> T) -> T {
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        change(plugins.entry(plugin.to_owned()).or_default())
    }
}

impl Part {
    /// Takes what the process tells of all its metrics, instead of what it told before.
    pub fn set(&self, mut samples: Vec<Sample>) {
        samples.truncate(LIMIT);
        self.book.with(&self.plugin, |p| {
            p.live.insert(self.number, samples);
        });
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.book.with(&self.plugin, |p| {
            if let Some(samples) = p.live.remove(&self.number) {
                merge(&mut p.past, &samples);
            }
        });
    }
}

/// Adds samples of another process: counts add up, of a gauge the later value is the one that holds. The process
/// may be a plugin's prey: what has no form, or another one than before, is left out.
fn merge(into: &mut BTreeMap<String, Sample>, samples: &[Sample]) {
    for sample in samples {
        if !sample.is_sound() {
            continue;
        }
        let room = into.len() < LIMIT;
        match into.get_mut(&sample.name) {
            Some(known) => match (&mut known.value, &sample.value) {
                (Value::Counter(sum), Value::Counter(more)) => *sum += more,
                (Value::Gauge(value), Value::Gauge(newer)) => *value = *newer,
                (Value::Histogram(sum), Value::Histogram(more)) => {
                    sum.add(more);
                }
                _ => {}
            },
            None if room => {
                into.insert(sample.name.clone(), sample.clone());
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Histogram;

    fn samples(count: f64, level: f64) -> Vec<Sample> {
        let mut times = Histogram::seconds();
        times.observe(count);
        let sample = |name: &str, value| Sample {
            name: name.to_owned(),
            unit: String::new(),
            help: String::new(),
            value,
        };
        vec![
            sample("n", Value::Counter(count)),
            sample("level", Value::Gauge(level)),
            sample("times", Value::Histogram(times)),
        ]
    }

    #[test]
    fn what_processes_have_counted_stays_and_adds_up() {
        let book = Book::default();
        let first = book.part("p");
        first.set(samples(1.0, 10.0));
        first.set(samples(2.0, 20.0));
        let second = book.part("p");
        second.set(samples(5.0, 50.0));
        drop(first);
        let other = book.part("q");
        assert_eq!(book.samples().len(), 1, "who told nothing is not listed");
        let value = |name: &str| {
            let all = book.samples();
            let found = all["p"].iter().find(|s| s.name == name);
            found.expect("it was told").value.clone()
        };
        assert_eq!(value("n"), Value::Counter(7.0));
        assert_eq!(value("level"), Value::Gauge(50.0));
        drop(second);
        assert_eq!(value("n"), Value::Counter(7.0));
        let Value::Histogram(times) = value("times") else {
            panic!("no histogram")
        };
        assert_eq!((times.count(), times.sum), (2, 7.0));
        drop(other);
    }

    #[test]
    fn what_changes_its_form_is_left_out() {
        let book = Book::default();
        let part = book.part("p");
        let mut broken = samples(1.0, 1.0);
        if let Value::Histogram(times) = &mut broken[2].value {
            times.counts.clear();
        }
        broken[1].name = "a\nb".to_owned();
        part.set(broken);
        assert_eq!(book.samples()["p"].len(), 1);
        drop(part);
        let part = book.part("p");
        let mut other = samples(1.0, 1.0);
        other[0].value = Value::Gauge(9.0);
        part.set(other);
        let n = book.samples()["p"].iter().find(|s| s.name == "n").cloned();
        assert_eq!(n.expect("n").value, Value::Counter(1.0));
    }
}
