//! The figures of a device: a page per queue, added up when somebody reads them.

use crate::spec::Op;
use daos_plugin_api::abi::BdevOp;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper ends of the size classes in bytes; what is larger belongs to a last one.
const SIZES: [u64; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
/// Names of the classes, as in metrics.
const NAMES: [&str; 6] = ["4k", "16k", "64k", "256k", "1m", "more"];

/// Longest time that is told apart, in nanoseconds; longer ones count as this.
const LONGEST_NS: u64 = 60_000_000_000;

/// Times of one operation and size class.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Nanoseconds, two significant digits.
    pub times: Histogram<u64>,
    /// Sum in nanoseconds.
    pub sum_ns: u64,
    /// How many of them failed.
    pub failed: u64,
}

impl Cell {
    fn new() -> Self {
        Self {
            // Bounds and digits are constants that the crate accepts.
            times: Histogram::new_with_bounds(1, LONGEST_NS, 2)
                .unwrap_or_else(|e| unreachable!("{e}")),
            sum_ns: 0,
            failed: 0,
        }
    }

    fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.times.add(&other.times);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.failed += other.failed;
    }
}

/// What a queue has measured.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<(Op, usize), Cell>);

impl Figures {
    pub(super) fn record(&mut self, op: BdevOp, bytes: u64, took: Duration, ok: bool) {
        let Some(op) = Op::of(op) else { return };
        let size = SIZES.iter().position(|end| bytes <= *end);
        let cell = self
            .0
            .entry((op, size.unwrap_or(SIZES.len())))
            .or_insert_with(Cell::new);
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        cell.times.saturating_record(ns.max(1));
        cell.sum_ns = cell.sum_ns.saturating_add(ns);
        cell.failed += u64::from(!ok);
    }
}

/// The figures of one queue.
#[derive(Debug, Default)]
pub(super) struct Page(Mutex<Figures>);

impl Page {
    pub(super) fn lock(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The figures of a device. They stay when its layers change.
#[derive(Debug, Default)]
pub struct Book {
    pages: Mutex<Vec<Arc<Page>>>,
}

/// Figures of one operation and size class, for people and documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Operation.
    pub op: String,
    /// Size class: up to `4k`, `16k`, `64k`, `256k`, `1m`, or `more`.
    pub size: String,
    /// Requests.
    pub count: u64,
    /// How many of them failed.
    pub failed: u64,
    /// Sum of their times in microseconds.
    pub sum_us: f64,
    /// Microseconds that half of them took at most.
    pub p50_us: f64,
    /// 99 of a hundred.
    pub p99_us: f64,
    /// 999 of a thousand.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// How many took at most so many microseconds, cumulative.
    pub buckets: Vec<(f64, u64)>,
}

/// Upper ends of the buckets of [`Row`] in microseconds: those of the metrics.
const BUCKETS_US: [u64; 12] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 100_000, 1_000_000, 10_000_000,
];

impl Book {
    /// A page for a new queue. Those of queues that are gone are folded into one.
    pub(super) fn page(&self) -> Arc<Page> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let page = Arc::new(Page::default());
        let past = Page::default();
        pages.retain(|old| {
            let in_use = Arc::strong_count(old) > 1;
            if !in_use {
                let old = old.lock();
                let mut sum = past.lock();
                for (key, cell) in &old.0 {
                    sum.0.entry(*key).or_insert_with(Cell::new).add(cell);
                }
            }
            in_use
        });
        pages.push(Arc::new(past));
        pages.push(Arc::clone(&page));
        page
    }

    /// Everything that was measured.
    pub fn rows(&self) -> Vec<Row> {
        let mut sum: BTreeMap<(Op, usize), Cell> = BTreeMap::new();
        for page in &*self.pages.lock().unwrap_or_else(PoisonError::into_inner) {
            for (key, cell) in &page.lock().0 {
                sum.entry(*key).or_insert_with(Cell::new).add(cell);
            }
        }
        let us = |ns: u64| ns as f64 / 1000.0;
        sum.iter()
            .map(|((op, size), cell)| Row {
                op: op.name().to_owned(),
                size: NAMES[*size].to_owned(),
                count: cell.times.len(),
                failed: cell.failed,
                sum_us: us(cell.sum_ns),
                p50_us: us(cell.times.value_at_quantile(0.5)),
                p99_us: us(cell.times.value_at_quantile(0.99)),
                p999_us: us(cell.times.value_at_quantile(0.999)),
                max_us: us(cell.times.max()),
                buckets: BUCKETS_US
                    .iter()
                    .map(|end| (*end as f64, cell.times.count_between(0, end * 1000)))
                    .collect(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_add_up_also_those_of_queues_that_are_gone() {
        let book = Book::default();
        for n in 1..=4u64 {
            let page = book.page();
            let took = Duration::from_micros(n * 100);
            page.lock().record(BdevOp::READ, 4096, took, true);
            page.lock().record(BdevOp::WRITE, 5 << 20, took, n != 2);
        }
        assert!(book.pages.lock().unwrap().len() <= 3);
        let rows = book.rows();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].op.as_str(), rows[0].size.as_str()), ("read", "4k"));
        assert_eq!(
            (rows[1].op.as_str(), rows[1].size.as_str()),
            ("write", "more")
        );
        assert_eq!((rows[0].count, rows[0].failed, rows[1].failed), (4, 0, 1));
        assert!((rows[0].sum_us - 1000.0).abs() < 0.1);
        assert!((rows[0].max_us - 400.0).abs() < 5.0, "{}", rows[0].max_us);
        let at = |us: f64| rows[0].buckets.iter().find(|b| b.0 == us).unwrap().1;
        assert_eq!((at(50.0), at(250.0), at(500.0)), (0, 2, 4));
    }
}
