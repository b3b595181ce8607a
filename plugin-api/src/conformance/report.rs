//! How results are told.

use std::time::Duration;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The promise holds.
    Passed,
    /// The backend does not claim it; the reason.
    Skipped(String),
    /// The promise is broken; how.
    Failed(String),
}

/// Result of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Short name of the case, unique among those of a kind: `queue.exactly_once`.
    pub id: &'static str,
    /// The promise, a sentence.
    pub case: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub time: Duration,
}

/// Numbers of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Promises kept.
    pub passed: usize,
    /// Promises not made.
    pub skipped: usize,
    /// Promises broken.
    pub failed: usize,
}

/// Result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// One record per case, in order.
    pub records: Vec<Record>,
}

impl Summary {
    /// Whether no case failed and at least one passed.
    pub fn is_ok(&self) -> bool {
        let counts = self.counts();
        counts.failed == 0 && counts.passed > 0
    }

    /// Passed, skipped, failed.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for record in &self.records {
            match record.outcome {
                Outcome::Passed => counts.passed += 1,
                Outcome::Skipped(_) => counts.skipped += 1,
                Outcome::Failed(_) => counts.failed += 1,
            }
        }
        counts
    }

    /// The failed cases.
    pub fn failures(&self) -> impl Iterator<Item = &Record> {
        self.records
            .iter()
            .filter(|r| matches!(r.outcome, Outcome::Failed(_)))
    }
}

impl core::fmt::Display for Summary {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Counts {
            passed,
            skipped,
            failed,
        } = self.counts();
        write!(f, "{passed} passed, {skipped} skipped, {failed} failed")
    }
}

/// Receives results while the suite runs.
pub trait Reporter {
    /// The case with that short name starts.
    fn started(&mut self, _id: &'static str) {}
    /// A case ended.
    fn ended(&mut self, record: &Record);
}

/// Prints a line per case to standard output.
#[derive(Default)]
pub struct PrintReporter;

impl Reporter for PrintReporter {
    fn ended(&mut self, record: &Record) {
        let Record {
            case,
            outcome,
            time,
            ..
        } = record;
        let ms = time.as_millis();
        match outcome {
            Outcome::Passed => println!("passed   {case} ({ms} ms)"),
            Outcome::Skipped(why) => println!("skipped  {case}: {why}"),
            Outcome::Failed(how) => println!("FAILED   {case}: {how}"),
        }
    }
}
