//! Measurements of one plugin, or of two side by side.

pub use crate::figures::{Figures, Ratio, Report, Row};
use crate::process::{Helper, NoWorker, Worker};
use crate::protocol::{Command, Event, Subject};
use daos_plugin_api::control::ClassKind;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Reads of a block device.
    Read,
    /// Writes of a block device.
    Write,
    /// A write of a block and a flush behind it.
    WriteFlush,
    /// A copy into an SCM region, made durable.
    Persist,
    /// A message and its answer, between two endpoints that one thread polls.
    Message,
    /// Reads of a peer's memory.
    RemoteRead,
    /// Writes to a peer's memory.
    RemoteWrite,
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// Name, as printed.
    pub case: String,
    /// What to do.
    pub work: Work,
    /// Bytes of an operation.
    pub bytes: usize,
    /// Operations under way at once.
    pub depth: u32,
    /// At random places, else one after the other.
    pub random: bool,
    /// For how long, in milliseconds.
    pub millis: u64,
}

/// What a worker measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Operations that completed.
    pub operations: u64,
    /// Nanoseconds that they took together.
    pub nanos: u64,
    /// Nanoseconds of processor time of the process, all threads, user and system.
    pub cpu_nanos: u64,
    /// Latencies in nanoseconds, each with its count.
    pub latencies: Vec<(u64, u64)>,
}

/// Why there are no figures: a sentence each.
#[derive(Debug, thiserror::Error)]
pub enum NotMeasured {
    /// What was asked for makes no sense, or the plugin cannot be loaded.
    #[error("{0}")]
    Unusable(String),
    /// The plugin failed at its work, or took its process along.
    #[error("{0}")]
    Failed(String),
}

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only cases whose name matches.
    pub cases: Option<glob::Pattern>,
    /// Rounds; in each, every plugin is measured once, so that what disturbs the machine disturbs both.
    pub rounds: u32,
    /// Time of each case, plugin and round.
    pub time: Duration,
    /// Longest time of any step beyond its own.
    pub deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cases: None,
            rounds: 5,
            time: Duration::from_millis(400),
            deadline: Duration::from_secs(120),
        }
    }
}

/// Names of the cases for a kind of class.
pub fn cases(kind: ClassKind) -> Vec<Measurement> {
    let case = |case: &str, work, bytes, depth, random| Measurement {
        case: case.to_owned(),
        work,
        bytes,
        depth,
        random,
        millis: 0,
    };
    match kind {
        ClassKind::Bdev => vec![
            case("read-4k-qd1", Work::Read, 4 << 10, 1, true),
            case("read-4k-qd32", Work::Read, 4 << 10, 32, true),
            case("write-4k-qd1", Work::Write, 4 << 10, 1, true),
            case("write-4k-qd32", Work::Write, 4 << 10, 32, true),
            case("read-128k-qd8", Work::Read, 128 << 10, 8, false),
            case("write-128k-qd8", Work::Write, 128 << 10, 8, false),
            case("write-flush-4k-qd1", Work::WriteFlush, 4 << 10, 1, true),
        ],
        ClassKind::Scm => vec![
            case("persist-64", Work::Persist, 64, 1, true),
            case("persist-4k", Work::Persist, 4 << 10, 1, true),
            case("persist-128k", Work::Persist, 128 << 10, 1, true),
        ],
        ClassKind::Fabric => vec![
            case("message-8", Work::Message, 8, 1, false),
            case("message-4k", Work::Message, 4 << 10, 1, false),
            case(
                "remote-read-128k-qd4",
                Work::RemoteRead,
                128 << 10,
                4,
                false,
            ),
            case(
                "remote-write-128k-qd4",
                Work::RemoteWrite,
                128 << 10,
                4,
                false,
            ),
        ],
    }
}

/// Measures one or two plugins of a kind. `told` hears of each case before it starts.
///
/// # Errors
/// What cannot be loaded or prepared, which plugin died in which case, or that the plugins are of
/// different kinds.
pub fn run(
    helper: &Helper,
    subjects: &[Subject],
    options: &Options,
    told: &mut dyn FnMut(&str),
) -> Result<Report, NotMeasured> {
    let unusable = |why: String| Err(NotMeasured::Unusable(why));
    let Some(kind) = subjects.first().map(|s| s.kind) else {
        return unusable("nothing to measure".to_owned());
    };
    if let Some(other) = subjects.iter().find(|s| s.kind != kind) {
        return unusable(format!(
            "{} is of kind {kind}, {} of kind {}: only plugins of one kind compare",
            subjects[0].plugin, other.plugin, other.kind
        ));
    }
    let mut wanted = cases(kind);
    if let Some(pattern) = &options.cases {
        let names: Vec<String> = wanted.iter().map(|m| m.case.clone()).collect();
        wanted.retain(|m| pattern.matches(&m.case));
        if wanted.is_empty() {
            return unusable(format!(
                "no measurement of kind {kind} matches {:?}; there are {}",
                pattern.as_str(),
                names.join(", ")
            ));
        }
    }
    let mut benches = Vec::new();
    for subject in subjects {
        benches.push(Bench::start(helper, subject, options.deadline)?);
    }
    let mut rows = Vec::new();
    for mut what in wanted {
        told(&what.case);
        what.millis = u64::try_from(options.time.as_millis()).unwrap_or(u64::MAX);
        rows.push(case(&mut benches, &what, options).map_err(NotMeasured::Failed)?);
    }
    for bench in &mut benches {
        let given = bench.give_back(options.deadline);
        given.map_err(NotMeasured::Failed)?;
    }
    Ok(Report {
        plugins: subjects
            .iter()
            .map(|s| format!("{} {} ({})", s.plugin, s.version, s.class))
            .collect(),
        rounds: options.rounds,
        cases: rows,
    })
}

fn case(benches: &mut [Bench], what: &Measurement, options: &Options) -> Result<Row, String> {
    let mut sums: Vec<Sum> = benches.iter().map(|_| Sum::new()).collect();
    let mut ratios = Vec::new();
    let mut notes = Vec::new();
    for round in 0..options.rounds.max(1) {
        let mut rates = vec![None; benches.len()];
        // Every other round in the other order: neither plugin always comes first.
        let mut order: Vec<usize> = (0..benches.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for n in order {
            match benches[n].measure(what, options.deadline)? {
                Ok(measured) => {
                    rates[n] = Some(sums[n].add(&measured));
                }
                Err(why) if round == 0 => notes.push(format!("{}: {why}", benches[n].name)),
                Err(_) => {}
            }
        }
        if let [Some(first), Some(second)] = rates[..]
            && first > 0.0
        {
            ratios.push(second / first);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let ratio = (!ratios.is_empty()).then(|| Ratio {
        median: ratios[ratios.len() / 2],
        least: ratios[0],
        most: ratios[ratios.len() - 1],
    });
    Ok(Row {
        case: what.case.clone(),
        plugins: sums.iter().map(|sum| sum.figures(what.bytes)).collect(),
        notes,
        ratio,
    })
}

/// One plugin that is being measured.
struct Bench {
    name: String,
    worker: Worker,
}

impl Bench {
    fn start(helper: &Helper, subject: &Subject, limit: Duration) -> Result<Self, NotMeasured> {
        let name = subject.plugin.clone();
        let worker = Worker::start(helper, subject, limit).map_err(|e| {
            NotMeasured::Unusable(match e {
                NoWorker::System(e) => e.to_string(),
                NoWorker::Refused(why) => why,
                NoWorker::Lost(loss, lines) => {
                    format!("{name}: {loss} while it was loaded{}", shown(&lines))
                }
            })
        })?;
        let mut bench = Self { name, worker };
        let prepared = bench.expect_done(&Command::Prepare, "is prepared", limit);
        prepared.map_err(NotMeasured::Failed)?;
        Ok(bench)
    }

    fn give_back(&mut self, limit: Duration) -> Result<(), String> {
        self.expect_done(&Command::GiveBack, "gives its storage back", limit)
    }

    fn expect_done(
        &mut self,
        command: &Command,
        what: &str,
        limit: Duration,
    ) -> Result<(), String> {
        self.worker.send(command);
        match self.worker.next(limit) {
            Ok(Event::Done) => Ok(()),
            Ok(Event::Failed(why)) => Err(format!("{}: {why}", self.name)),
            Ok(_) => Err(format!("{}: its process answers out of turn", self.name)),
            Err(loss) => {
                let lines = shown(&self.worker.lines());
                Err(format!("{}: {loss} while it {what}{lines}", self.name))
            }
        }
    }

    fn measure(
        &mut self,
        what: &Measurement,
        limit: Duration,
    ) -> Result<Result<Measured, String>, String> {
        self.worker.send(&Command::Measure(what.clone()));
        let limit = limit + Duration::from_millis(what.millis);
        match self.worker.next(limit) {
            Ok(Event::Measured(result)) => Ok(result.map(|m| *m)),
            Ok(_) => Err(format!("{}: its process answers out of turn", self.name)),
            Err(loss) => {
                let lines = shown(&self.worker.lines());
                Err(format!("{}: {loss} in {}{lines}", self.name, what.case))
            }
        }
    }
}

fn shown(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  | {line}")).collect()
}

/// All rounds of a plugin together.
struct Sum {
    operations: u64,
    nanos: u64,
    cpu_nanos: u64,
    latencies: Histogram<u64>,
}

impl Sum {
    fn new() -> Self {
        Self {
            operations: 0,
            nanos: 0,
            cpu_nanos: 0,
            latencies: Histogram::new(3).expect("three digits are possible"),
        }
    }

    /// Adds a round; returns its operations per second.
    fn add(&mut self, round: &Measured) -> f64 {
        self.operations += round.operations;
        self.nanos += round.nanos;
        self.cpu_nanos += round.cpu_nanos;
        for (value, count) in &round.latencies {
            // The histogram grows by itself up to any 64-bit value.
            let _ = self.latencies.record_n(*value, *count);
        }
        round.operations as f64 / (round.nanos.max(1) as f64 / 1e9)
    }

    fn figures(&self, bytes: usize) -> Option<Figures> {
        if self.operations == 0 {
            return None;
        }
        let us = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1e3;
        let iops = self.operations as f64 / (self.nanos.max(1) as f64 / 1e9);
        Some(Figures {
            iops,
            bandwidth: iops * bytes as f64,
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: self.latencies.max() as f64 / 1e3,
            cpu_us: self.cpu_nanos as f64 / 1e3 / self.operations as f64,
        })
    }
}
