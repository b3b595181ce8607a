//! Distributions with fixed classes, as Prometheus wants them.

use serde::{Deserialize, Serialize};

/// How many observations fell into which class, and their sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Upper ends of the classes, ascending; what is larger belongs to a last one.
    pub bounds: Vec<f64>,
    /// Observations of each class, one more than there are bounds.
    pub counts: Vec<u64>,
    /// Sum of all observations.
    pub sum: f64,
}

/// Most bounds.
const BOUNDS: usize = 64;
/// Significant digits of the bounds: three to a decade.
const STEPS: [f64; 3] = [1.0, 2.5, 5.0];

/// Upper ends of classes from `10^from` up to `10^to`, three to a decade.
fn decades(from: i32, to: i32) -> Vec<f64> {
    let mut bounds: Vec<f64> = (from..to)
        .flat_map(|decade| {
            // Written as text and read again: 2.5e-6 and not its neighbour, so that equal bounds are equal texts.
            STEPS.map(|step| format!("{step}e{decade}").parse().unwrap_or(step))
        })
        .collect();
    bounds.extend(format!("1e{to}").parse::<f64>());
    bounds
}

impl Histogram {
    /// One with these classes.
    pub fn new(bounds: Vec<f64>) -> Self {
        Self {
            counts: vec![0; bounds.len() + 1],
            bounds,
            sum: 0.0,
        }
    }

    /// For times in seconds: 10 us to 100 s.
    pub fn seconds() -> Self {
        Self::new(decades(-5, 2))
    }

    /// For a unit of which nothing but its name is known.
    pub fn for_unit(unit: &str) -> Self {
        match unit {
            "seconds" | "s" => Self::new(decades(-6, 2)),
            "bytes" | "blocks" => Self::new((0..16).map(|n| 4f64.powi(n)).collect()),
            "milliseconds" | "ms" => Self::new(decades(-3, 5)),
            "microseconds" | "us" => Self::new(decades(0, 8)),
            "nanoseconds" | "ns" => Self::new(decades(1, 10)),
            "ratio" => Self::new((1..=20).map(|n| f64::from(n) / 20.0).collect()),
            _ => Self::new(decades(-2, 6)),
        }
    }

    /// Number of the class of a value.
    pub(crate) fn class(bounds: &[f64], value: f64) -> usize {
        bounds.partition_point(|bound| *bound < value)
    }

    /// Takes an observation; what is no number is dropped.
    pub fn observe(&mut self, value: f64) {
        if value.is_finite() {
            let class = Self::class(&self.bounds, value);
            self.counts[class] += 1;
            self.sum += value;
        }
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Whether it has the form of one: as many classes as it says, in ascending order.
    pub fn is_sound(&self) -> bool {
        self.counts.len() == self.bounds.len() + 1
            && self.bounds.len() <= BOUNDS
            && self.bounds.is_sorted()
            && self.bounds.iter().all(|b| b.is_finite())
            && self.sum.is_finite()
    }

    /// Adds the observations of another one; `false`, and nothing done, if its classes are others.
    pub fn add(&mut self, other: &Self) -> bool {
        if self.bounds != other.bounds || self.counts.len() != other.counts.len() {
            return false;
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.sum += other.sum;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_the_first_class_that_holds_it() {
        let mut times = Histogram::new(vec![1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 2.0, 7.0, f64::NAN, f64::INFINITY] {
            times.observe(value);
        }
        assert_eq!(times.counts, [2, 2, 1]);
        assert_eq!((times.count(), times.sum), (5, 12.0));
        let mut sum = Histogram::new(vec![1.0, 2.0]);
        assert!(sum.add(&times) && sum.add(&times));
        assert_eq!((sum.count(), sum.sum), (10, 24.0));
        assert!(!sum.add(&Histogram::new(vec![1.0, 3.0])));
        assert_eq!(sum.count(), 10);
    }

    #[test]
    fn bounds_ascend_and_read_well() {
        for unit in [
            "seconds",
            "bytes",
            "ms",
            "microseconds",
            "ns",
            "ratio",
            "",
            "turtles",
        ] {
            let histogram = Histogram::for_unit(unit);
            assert!(histogram.is_sound(), "{unit}: {histogram:?}");
            assert!(histogram.bounds.len() <= 31, "{unit}");
        }
        let seconds = Histogram::seconds();
        assert_eq!(seconds.bounds[..4], [1e-5, 2.5e-5, 5e-5, 1e-4]);
        assert_eq!(seconds.bounds.last(), Some(&100.0));
    }
}
