//! The conformance suite on a shared object.

use crate::process::{Helper, Loss, NoWorker, Worker};
use crate::protocol::{Command, Event};
pub use crate::protocol::{Subject, Verdict};
pub use crate::report::{CaseRow, Ending, Report};
pub use daos_plugin_api::conformance::{CaseInfo, catalogue};
use serde_json::{Map, Value};
use std::time::{Duration, Instant};

/// How the suite is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only cases whose short name or promise matches this pattern (`queue.*`, `*flush*`).
    pub cases: Option<glob::Pattern>,
    /// Not cases whose short name or promise matches one of these: they are told as skipped.
    pub skip: Vec<glob::Pattern>,
    /// How often the suite is run.
    pub repeat: u32,
    /// Longest time of a case.
    pub deadline: Duration,
    /// All cases in one process, a new one after each death; else a process for each.
    pub together: bool,
    /// Class configs that the plugin must refuse.
    pub refuse: Vec<Map<String, Value>>,
    /// Seed of random data and offsets.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cases: None,
            skip: Vec::new(),
            repeat: 1,
            deadline: Duration::from_secs(120),
            together: false,
            refuse: Vec::new(),
            seed: 0xda05,
        }
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum NotChecked {
    /// No case has such a name as a pattern wants, of the cases to run or to skip.
    #[error("no case of kind {kind} matches {pattern:?}; `--list` names them")]
    NoCase {
        /// Kind of the class.
        kind: String,
        /// The pattern.
        pattern: String,
    },
    /// The program that loads plugins does not start.
    #[error("{0}; daos_server_helper is installed beside daos_server")]
    Helper(std::io::Error),
    /// The machine lacks what the class is for.
    #[error(
        "class {class} cannot be tried on this machine: {why}; if it is there, name it with --class and --device"
    )]
    Missing {
        /// The class, of a fabric the provider.
        class: String,
        /// The plugin's words.
        why: String,
    },
    /// The plugin cannot be loaded.
    #[error("{0}")]
    Refused(String),
    /// The plugin takes its process along while it is loaded.
    #[error("{file} cannot be loaded: {how}{log}")]
    Lost {
        /// The file.
        file: String,
        /// What happened.
        how: String,
        /// Last log lines, each on a line of its own.
        log: String,
    },
}

/// Runs the suite. `told` hears of each case as it ends.
///
/// # Errors
/// See [`NotChecked`]; a broken promise is none.
pub fn run(
    helper: &Helper,
    subject: &Subject,
    options: &Options,
    told: &mut dyn FnMut(&Ending),
) -> Result<Report, NotChecked> {
    let start = Instant::now();
    let all = catalogue(subject.kind);
    let (setup, rest) = all.split_first().expect("the suite has cases");
    // A pattern that fits nothing is a typing error, also of what is not to run.
    for pattern in options.cases.iter().chain(&options.skip) {
        if !rest.iter().any(|case| fits(pattern, case)) {
            return Err(NotChecked::NoCase {
                kind: subject.kind.to_string(),
                pattern: pattern.as_str().to_owned(),
            });
        }
    }
    let wanted = |case: &&CaseInfo| options.cases.as_ref().is_none_or(|p| fits(p, case));
    let is_skipped = |case: &CaseInfo| options.skip.iter().any(|p| fits(p, case));
    let (skipped, wanted): (Vec<CaseInfo>, Vec<CaseInfo>) =
        rest.iter().filter(wanted).copied().partition(is_skipped);
    let mut run = Run {
        helper,
        subject,
        options,
        setup: *setup,
        told,
        rows: Vec::new(),
        processes: 0,
    };
    for _ in 0..options.repeat.max(1) {
        for case in &skipped {
            let reason = "by --skip".to_owned();
            run.ended(*case, Verdict::Skipped, reason, Duration::ZERO, Vec::new());
        }
        if !run.once(&wanted)? {
            break;
        }
    }
    // As they are listed, whatever came first.
    run.rows
        .sort_by_key(|row| all.iter().position(|case| case.id == row.case));
    let (rows, processes) = (run.rows, run.processes);
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    Ok(Report {
        plugin: subject.plugin.clone(),
        version: subject.version.clone(),
        interface: subject.interface.clone(),
        file: subject.file.display().to_string(),
        kind: subject.kind.to_string(),
        class: subject.class.clone(),
        passed: count(Verdict::Passed),
        skipped: count(Verdict::Skipped),
        failed: count(Verdict::Failed),
        not_run: count(Verdict::NotRun),
        runs: options.repeat.max(1),
        processes,
        seconds: start.elapsed().as_secs_f64(),
        cases: rows,
    })
}

fn fits(pattern: &glob::Pattern, case: &CaseInfo) -> bool {
    pattern.matches(case.id) || pattern.matches(case.promise)
}

struct Run<'a> {
    helper: &'a Helper,
    subject: &'a Subject,
    options: &'a Options,
    setup: CaseInfo,
    told: &'a mut dyn FnMut(&Ending),
    rows: Vec<CaseRow>,
    processes: u32,
}

impl Run<'_> {
    /// Runs every case once; `false` if the plugin does not even start.
    fn once(&mut self, wanted: &[CaseInfo]) -> Result<bool, NotChecked> {
        let mut left = wanted;
        let mut is_first = true;
        let mut leftovers = false;
        while !left.is_empty() {
            let size = if self.options.together { left.len() } else { 1 };
            let (done, lost) = self.batch(&left[..size], is_first)?;
            leftovers = lost;
            if done == 0 {
                self.give_up(left);
                return Ok(false);
            }
            left = &left[done..];
            is_first = false;
        }
        if leftovers && self.subject.kind == daos_plugin_api::control::ClassKind::Scm {
            // A case that died cannot give its storage back: a run without cases does.
            self.give_back()?;
        }
        Ok(true)
    }

    /// Runs cases in one process. Returns how many of them have a verdict, and whether the process
    /// was lost.
    fn batch(&mut self, cases: &[CaseInfo], is_first: bool) -> Result<(usize, bool), NotChecked> {
        let mut worker = self.worker()?;
        worker.send(&self.command(cases));
        let mut done = 0;
        let mut current: Option<(CaseInfo, Instant)> = None;
        let mut broken_setup: Option<Ending> = None;
        loop {
            match worker.next(self.options.deadline) {
                Ok(Event::Started(id)) => {
                    worker.forget_lines();
                    let known = catalogue_entry(&id, self.setup, cases);
                    current = known.map(|case| (case, Instant::now()));
                }
                Ok(Event::Ended {
                    case,
                    verdict,
                    reason,
                    micros,
                }) => {
                    current = None;
                    let Some(info) = catalogue_entry(&case, self.setup, cases) else {
                        // The storage could not be given back: that is the last case's doing.
                        if verdict == Verdict::Failed
                            && let Some(last) = cases.get(done.max(1) - 1)
                        {
                            let log = worker.lines();
                            let reason = format!("afterwards: {reason}");
                            self.ended(*last, verdict, reason, Duration::ZERO, log);
                        }
                        continue;
                    };
                    let log = match verdict {
                        Verdict::Failed => worker.lines(),
                        _ => Vec::new(),
                    };
                    let time = Duration::from_micros(micros);
                    if info.id != self.setup.id {
                        done += 1;
                        self.ended(info, verdict, reason, time, log);
                    } else if verdict == Verdict::Passed {
                        if is_first {
                            self.ended(info, verdict, reason, time, log);
                        }
                    } else {
                        broken_setup = Some(Ending {
                            case: info,
                            verdict,
                            reason,
                            time,
                            log,
                        });
                    }
                }
                Ok(Event::Done) => break,
                Ok(_) => {}
                Err(loss) => {
                    let log = worker.lines();
                    let (case, time) = match current {
                        Some((case, since)) => (case, since.elapsed()),
                        // Between two cases: threads that the last one left, or destructors.
                        None => (cases[done.min(cases.len() - 1)], Duration::ZERO),
                    };
                    let reason = loss.to_string();
                    if case.id == self.setup.id {
                        broken_setup = Some(Ending {
                            case,
                            verdict: Verdict::Failed,
                            reason,
                            time,
                            log,
                        });
                        break;
                    }
                    let index = cases.iter().position(|c| c.id == case.id).unwrap_or(done);
                    self.ended(case, Verdict::Failed, reason, time, log);
                    return Ok((index + 1, true));
                }
            }
        }
        let Some(ending) = broken_setup else {
            // A run that stopped early (a case hung) has verdicts for a part only.
            return Ok((done.max(1).min(cases.len()), false));
        };
        if is_first && ending.verdict == Verdict::Skipped {
            return Err(NotChecked::Missing {
                class: self.subject.class.clone(),
                why: ending.reason,
            });
        }
        if is_first {
            self.ended(
                ending.case,
                ending.verdict,
                ending.reason,
                ending.time,
                ending.log,
            );
            return Ok((0, true));
        }
        // It did start before: this is what an earlier case left behind.
        let reason = format!("the plugin does not start again: {}", ending.reason);
        self.ended(cases[0], Verdict::Failed, reason, ending.time, ending.log);
        Ok((1, true))
    }

    fn command(&self, cases: &[CaseInfo]) -> Command {
        Command::Check {
            cases: cases.iter().map(|c| c.id.to_owned()).collect(),
            refuse: self.options.refuse.clone(),
            seed: self.options.seed,
        }
    }

    fn worker(&mut self) -> Result<Worker, NotChecked> {
        self.processes += 1;
        Worker::start(self.helper, self.subject, self.options.deadline).map_err(|e| match e {
            NoWorker::System(e) => NotChecked::Helper(e),
            NoWorker::Refused(why) => NotChecked::Refused(why),
            NoWorker::Lost(loss, lines) => lost(self.subject, &loss, &lines),
        })
    }

    fn give_back(&mut self) -> Result<(), NotChecked> {
        let mut worker = self.worker()?;
        worker.send(&self.command(&[]));
        while let Ok(event) = worker.next(self.options.deadline) {
            if matches!(event, Event::Done) {
                break;
            }
        }
        Ok(())
    }

    fn give_up(&mut self, left: &[CaseInfo]) {
        let reason = "the plugin does not start, see `setup`";
        for case in left {
            let none = Duration::ZERO;
            self.ended(*case, Verdict::NotRun, reason.to_owned(), none, Vec::new());
        }
    }

    fn ended(
        &mut self,
        case: CaseInfo,
        verdict: Verdict,
        reason: String,
        time: Duration,
        log: Vec<String>,
    ) {
        let ending = Ending {
            case,
            verdict,
            reason,
            time,
            log,
        };
        (self.told)(&ending);
        let rank = |v| match v {
            Verdict::Passed => 0,
            Verdict::Skipped => 1,
            Verdict::NotRun => 2,
            Verdict::Failed => 3,
        };
        let ms = time.as_secs_f64() * 1e3;
        let failures = u32::from(verdict == Verdict::Failed);
        match self.rows.iter_mut().find(|row| row.case == case.id) {
            None => self.rows.push(CaseRow {
                case: case.id,
                rule: case.promise,
                verdict,
                reason: ending.reason,
                time_ms: ms,
                runs: 1,
                failures,
                log: ending.log,
            }),
            Some(row) => {
                row.time_ms += ms;
                row.runs += 1;
                row.failures += failures;
                if rank(verdict) > rank(row.verdict) {
                    row.verdict = verdict;
                    row.reason = ending.reason;
                    row.log = ending.log;
                }
            }
        }
    }
}

fn catalogue_entry(id: &str, setup: CaseInfo, cases: &[CaseInfo]) -> Option<CaseInfo> {
    let known = cases.iter().copied().chain([setup]);
    known.into_iter().find(|c| c.id == id)
}

fn lost(subject: &Subject, loss: &Loss, lines: &[String]) -> NotChecked {
    NotChecked::Lost {
        file: subject.file.display().to_string(),
        how: format!("{loss} while it was loaded"),
        log: lines.iter().map(|line| format!("\n  | {line}")).collect(),
    }
}
