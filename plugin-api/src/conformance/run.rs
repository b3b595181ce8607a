//! Runs the cases.

use super::bdev::{self, BdevBench};
use super::case::{Case, Stop, Verdict};
use super::control::{self, ControlBench};
use super::fabric::{self, FabricBench};
use super::report::{Outcome, PrintReporter, Record, Reporter, Summary};
use super::scarce;
use super::scm::{self, ScmBench};
use super::target::Target;
use crate::abi::PluginTable;
use crate::control::ClassKind;
use crate::host::{Instance, InstanceOptions};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Longest time a case may take.
pub const CASE_LIMIT: Duration = Duration::from_secs(180);

const SETUP: CaseInfo = CaseInfo {
    id: "setup",
    promise: "the plugin starts and prepares the storage under test",
};
const TEARDOWN: CaseInfo = CaseInfo {
    id: "teardown",
    promise: "the storage under test is given back",
};

/// A case, as far as it can be told without running it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaseInfo {
    /// Short name, unique among the cases of a kind.
    pub id: &'static str,
    /// The promise, a sentence.
    pub promise: &'static str,
}

/// Names of the cases for a kind of class, in order: the setup, which every run has, first.
pub fn cases(kind: ClassKind) -> Vec<&'static str> {
    catalogue(kind)
        .into_iter()
        .map(|case| case.promise)
        .collect()
}

/// The cases for a kind of class, in order: the setup, which every run has, first.
pub fn catalogue(kind: ClassKind) -> Vec<CaseInfo> {
    fn info<B>(case: &Case<B>) -> CaseInfo {
        CaseInfo {
            id: case.id,
            promise: case.name,
        }
    }
    let mut all = vec![SETUP];
    all.extend(control::CASES.iter().chain(scarce::CASES).map(info));
    match kind {
        ClassKind::Bdev => all.extend(bdev::cases().map(info)),
        ClassKind::Scm => all.extend(scm::cases().map(info)),
        ClassKind::Fabric => all.extend(fabric::cases().map(info)),
    }
    all
}

/// Runs the suite for [`Target::kind`] and reports each case. Waits while another run is under way in
/// this process.
pub fn run(table: &'static PluginTable, target: &Target, reporter: &mut dyn Reporter) -> Summary {
    // Cases count the descriptors of the process: two runs at once would count each other's.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut run = Run {
        target: Arc::new(target.clone()),
        reporter,
        summary: Summary::default(),
        hung: false,
    };
    run.all(table);
    run.summary
}

/// Runs the suite in a test: prints each case.
///
/// # Panics
/// If a case fails, with the list of failures.
pub fn check(table: &'static PluginTable, target: Target) -> Summary {
    let summary = run(table, &target, &mut PrintReporter);
    println!("{} {}: {summary}", target.kind, target.class);
    let failures: Vec<String> = summary
        .failures()
        .map(|r| match &r.outcome {
            Outcome::Failed(how) => format!("  {}: {how}", r.case),
            _ => r.case.to_owned(),
        })
        .collect();
    assert!(failures.is_empty(), "{summary}\n{}", failures.join("\n"));
    assert!(summary.is_ok(), "no case ran: {summary}");
    summary
}

struct Run<'a> {
    target: Arc<Target>,
    reporter: &'a mut dyn Reporter,
    summary: Summary,
    hung: bool,
}

impl Run<'_> {
    fn all(&mut self, table: &'static PluginTable) {
        let target = Arc::clone(&self.target);
        let Some(bench) = self.one(SETUP, move || {
            ControlBench::new(instance(table, &target)?, target)
        }) else {
            return;
        };
        let bench = Arc::new(bench);
        self.each(control::CASES.iter().chain(scarce::CASES), &bench);
        match self.target.kind {
            ClassKind::Bdev => self.each(bdev::cases(), &Arc::new(BdevBench::new(&bench))),
            ClassKind::Scm => self.each(scm::cases(), &Arc::new(ScmBench::new(&bench))),
            ClassKind::Fabric => self.each(fabric::cases(), &Arc::new(FabricBench::new(&bench))),
        }
        if self.target.kind == ClassKind::Scm && self.target.unmount && !self.hung {
            self.one(TEARDOWN, move || bench.give_back());
        }
    }

    fn each<B: Send + Sync + 'static>(
        &mut self,
        cases: impl Iterator<Item = &'static Case<B>>,
        bench: &Arc<B>,
    ) {
        for case in cases {
            if self.hung || !self.target.wants(case.id, case.name) {
                continue;
            }
            let bench = Arc::clone(bench);
            let info = CaseInfo {
                id: case.id,
                promise: case.name,
            };
            self.one(info, move || (case.body)(&bench));
        }
    }

    /// Runs one case on a thread of its own and records how it ends.
    fn one<T: Send + 'static>(
        &mut self,
        case: CaseInfo,
        body: impl FnOnce() -> Verdict<T> + Send + 'static,
    ) -> Option<T> {
        self.reporter.started(case.id);
        let start = Instant::now();
        let (sender, receiver) = sync_channel(1);
        let worker = thread::Builder::new().name("case".into()).spawn(move || {
            let verdict = catch_unwind(AssertUnwindSafe(body))
                .unwrap_or_else(|panic| Err(Stop::Failed(format!("panicked: {}", text(&panic)))));
            // Nobody listens after a timeout.
            let _ = sender.send(verdict);
        });
        let verdict = match worker {
            Err(e) => Err(Stop::Failed(format!("no thread: {e}"))),
            Ok(worker) => match receiver.recv_timeout(CASE_LIMIT) {
                Ok(verdict) => {
                    // The verdict is there; the thread has only its locals left to drop.
                    let _ = worker.join();
                    verdict
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.hung = true;
                    let limit = CASE_LIMIT.as_secs();
                    Err(Stop::Failed(format!(
                        "no end within {limit} s; the run stops here"
                    )))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    Err(Stop::Failed("the case ended without a verdict".into()))
                }
            },
        };
        let (value, outcome) = match verdict {
            Ok(value) => (Some(value), Outcome::Passed),
            Err(Stop::Failed(how)) => (None, Outcome::Failed(how)),
            Err(Stop::Skipped(why)) => (None, Outcome::Skipped(why)),
        };
        let record = Record {
            id: case.id,
            case: case.promise,
            outcome,
            time: start.elapsed(),
        };
        self.reporter.ended(&record);
        self.summary.records.push(record);
        value
    }
}

pub(super) fn instance(table: &'static PluginTable, target: &Target) -> Verdict<Instance> {
    let options = if target.built_in {
        InstanceOptions::built_in()
    } else {
        InstanceOptions::loaded()
    };
    Ok(Instance::create(
        table,
        options.settings(target.settings.clone()),
    )?)
}

fn text(panic: &Box<dyn Any + Send>) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a payload that is no text")
}
