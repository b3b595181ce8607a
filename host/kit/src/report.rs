//! What became of the cases: for people, for programs, for a CI.

use crate::junit;
use crate::protocol::Verdict;
use daos_plugin_api::conformance::CaseInfo;
use serde::Serialize;
use std::time::Duration;

/// One case over all runs.
#[derive(Clone, Debug, Serialize)]
pub struct CaseRow {
    /// Short name.
    pub case: &'static str,
    /// The promise: what a plugin must do.
    pub rule: &'static str,
    /// The worst of all runs.
    pub verdict: Verdict,
    /// Why, unless it passed; of the first run that ended so.
    pub reason: String,
    /// Time of all runs, in milliseconds.
    pub time_ms: f64,
    /// How often it was run.
    pub runs: u32,
    /// How often it failed.
    pub failures: u32,
    /// Last log lines of the plugin before the failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// What became of all cases.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the plugin.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// Interface version that it was built with.
    pub interface: String,
    /// Its file.
    pub file: String,
    /// Kind of the class.
    pub kind: String,
    /// The class.
    pub class: String,
    /// Cases that passed.
    pub passed: usize,
    /// Cases that the plugin does not claim.
    pub skipped: usize,
    /// Cases that failed in at least one run.
    pub failed: usize,
    /// Cases that could not be tried.
    pub not_run: usize,
    /// Runs.
    pub runs: u32,
    /// Processes that were started for it.
    pub processes: u32,
    /// Time in all, in seconds.
    pub seconds: f64,
    /// Every case, in order.
    pub cases: Vec<CaseRow>,
}

impl Report {
    /// Whether no case failed and at least one passed.
    pub fn is_ok(&self) -> bool {
        self.failed == 0 && self.not_run == 0 && self.passed > 0
    }

    /// The report as JUnit XML.
    pub fn junit(&self) -> String {
        junit::document(self)
    }

    /// The last lines: numbers, and what was skipped with the reasons.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let skipped: Vec<_> = self.of(Verdict::Skipped).collect();
        if !skipped.is_empty() {
            text.push_str("\nSkipped:\n");
            for row in &skipped {
                text += &format!("  {}: {}\n", row.case, row.reason);
            }
        }
        let failed: Vec<_> = self.of(Verdict::Failed).collect();
        if !failed.is_empty() {
            text.push_str("\nBroken promises:\n");
            for row in &failed {
                text += &format!("  {}: {}\n    {}\n", row.case, row.rule, row.reason);
                if row.runs > 1 {
                    text += &format!("    in {} of {} runs\n", row.failures, row.runs);
                }
            }
        }
        let runs = match self.runs {
            1 => String::new(),
            n => format!(" in {n} runs"),
        };
        let not_run = match self.not_run {
            0 => String::new(),
            n => format!(", {n} not run (the plugin does not start, see `setup`)"),
        };
        text += &format!(
            "\n{} {}: {} passed, {} skipped, {} failed{not_run}{runs} ({:.1} s, {} processes)",
            self.plugin,
            self.version,
            self.passed,
            self.skipped,
            self.failed,
            self.seconds,
            self.processes
        );
        text
    }

    fn of(&self, verdict: Verdict) -> impl Iterator<Item = &CaseRow> {
        self.cases.iter().filter(move |row| row.verdict == verdict)
    }
}

/// One end of a case, as it happens.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The case.
    pub case: CaseInfo,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, unless it passed.
    pub reason: String,
    /// How long it took.
    pub time: Duration,
    /// Last log lines, if it failed.
    pub log: Vec<String>,
}

impl Ending {
    /// As it is printed.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:<8} {:>7.0} ms  {:<28} {}",
            self.verdict.text(),
            self.time.as_secs_f64() * 1e3,
            self.case.id,
            self.case.promise
        );
        if self.verdict != Verdict::Passed {
            text += &format!("\n         {}", self.reason);
        }
        for line in &self.log {
            text += &format!("\n         | {line}");
        }
        text
    }
}
