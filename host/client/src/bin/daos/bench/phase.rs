//! Runs one operation over and over, so many at a time.

use super::report::PhaseRow;
use daos_client::Error;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// When a phase ends.
#[derive(Clone, Copy, Default)]
pub(super) struct Limits {
    /// After so many operations.
    pub(super) ops: u64,
    /// Or after this time.
    pub(super) time: Option<Duration>,
    /// But not before so many operations.
    pub(super) least: u64,
}

impl Limits {
    /// Length of a progress bar, if it is known.
    pub(super) fn bar(&self) -> Option<u64> {
        (self.ops < u64::MAX).then(|| self.ops.max(self.least))
    }

    fn allow(&self, index: u64, started: Instant) -> bool {
        let in_time = self.time.is_none_or(|time| started.elapsed() < time);
        index < self.least || index < self.ops && in_time
    }
}

/// Measures one operation.
pub(super) struct Step(Instant);

/// One operation that was measured.
pub(super) struct Done {
    took: Duration,
    bytes: usize,
}

impl Step {
    pub(super) fn begin() -> Self {
        Self(Instant::now())
    }

    pub(super) fn end(self, bytes: usize) -> Done {
        Done {
            took: self.0.elapsed(),
            bytes,
        }
    }
}

struct Tally {
    latency: Histogram<u64>, // nanoseconds
    bytes: u64,
}

/// Runs `operation` with 0, 1, 2, ..., `depth` at a time; numbers that are equal modulo `depth` one
/// after the other. Ends at the first error.
pub(super) async fn run<F>(
    name: &'static str,
    depth: u32,
    limits: Limits,
    bar: ProgressBar,
    operation: impl Fn(u64) -> F + Clone + Send + 'static,
) -> anyhow::Result<PhaseRow>
where
    F: Future<Output = Result<Done, Error>> + Send,
{
    let tally = Arc::new(Mutex::new(Tally {
        latency: Histogram::new(3)?,
        bytes: 0,
    }));
    let stop = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..u64::from(depth) {
        let (tally, stop, bar) = (tally.clone(), stop.clone(), bar.clone());
        let operation = operation.clone();
        workers.spawn(async move {
            let mut index = worker;
            while limits.allow(index, started) && !stop.load(Ordering::Relaxed) {
                let done = operation(index).await?;
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                // The histogram grows as needed. Not `saturating_record`, which does not grow it.
                if tally.latency.record(done.took.as_nanos() as u64).is_err() {
                    tracing::warn!(took = ?done.took, "a latency that cannot be counted");
                }
                tally.bytes += done.bytes as u64;
                drop(tally);
                bar.inc(1);
                index += u64::from(depth);
            }
            Ok::<(), Error>(())
        });
    }
    let mut failure = None;
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                stop.store(true, Ordering::Relaxed);
                failure.get_or_insert(error);
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
    bar.finish_and_clear();
    if let Some(error) = failure {
        return Err(error.into());
    }
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(PhaseRow::new(
        name,
        started.elapsed(),
        tally.bytes,
        &tally.latency,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[tokio::test]
    async fn every_number_is_used_once_and_order_is_kept_per_worker() {
        let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
        let own = seen.clone();
        let limits = Limits {
            ops: 101,
            ..Limits::default()
        };
        let row = run("x", 8, limits, ProgressBar::hidden(), move |index| {
            let seen = own.clone();
            async move {
                let step = Step::begin();
                tokio::time::sleep(Duration::from_millis(2)).await;
                seen.lock().unwrap().push(index);
                Ok(step.end(2))
            }
        });
        let row = row.await.unwrap();
        assert_eq!((row.ops, row.bytes), (101, 202));
        assert!(row.latency_us.p50 >= 2000.0 && row.latency_us.p50 < 1e6);
        assert!(row.histogram[0].up_to_us >= 2048);
        let mut seen = seen.lock().unwrap().clone();
        for worker in 0..8 {
            let own: Vec<_> = seen.iter().filter(|n| **n % 8 == worker).collect();
            assert!(own.is_sorted());
        }
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..101));
    }

    #[tokio::test]
    async fn an_error_ends_the_phase() {
        let count = Arc::new(AtomicU64::new(0));
        let own = count.clone();
        let limits = Limits {
            ops: u64::MAX,
            ..Limits::default()
        };
        let ended = run("x", 4, limits, ProgressBar::hidden(), move |index| {
            let count = own.clone();
            async move {
                tokio::task::yield_now().await;
                count.fetch_add(1, Ordering::SeqCst);
                if index == 50 {
                    return Err(Error::ControlPlane {
                        access_points: "here".into(),
                        cause: "test".into(),
                    });
                }
                Ok(Step::begin().end(0))
            }
        });
        assert!(ended.await.unwrap_err().to_string().contains("here"));
        assert!(count.load(Ordering::SeqCst) < 1000);
    }

    #[tokio::test]
    async fn time_ends_a_phase_but_not_before_the_least() {
        let limits = Limits {
            ops: u64::MAX,
            time: Some(Duration::ZERO),
            least: 10,
        };
        let row = run("x", 3, limits, ProgressBar::hidden(), |_| async {
            Ok(Step::begin().end(0))
        });
        assert_eq!(row.await.unwrap().ops, 10);
    }
}
