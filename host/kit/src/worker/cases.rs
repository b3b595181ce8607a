//! Runs cases of the suite and tells how they end.

use super::Link;
use super::other::Starter;
use crate::protocol::{Event, Subject, Verdict};
use daos_loader::Loaded;
use daos_plugin_api::conformance::{Outcome, Record, Reporter, Target, run as run_suite};
use serde_json::{Map, Value};
use std::sync::Arc;

pub(super) fn run(
    loaded: &Loaded,
    subject: &Subject,
    cases: Vec<String>,
    refuse: Vec<Map<String, Value>>,
    seed: u64,
    link: &Link,
) {
    let mut target = target(subject).only(cases);
    target.nonsense = refuse;
    target.seed = seed;
    target.processes = Some(Arc::new(Starter(subject.clone())));
    run_suite(loaded.table, &target, &mut Teller(link));
}

/// What is tried, as every process of a check sees it.
pub(super) fn target(subject: &Subject) -> Target {
    let config = Value::Object(subject.config.clone());
    let mut target = Target::new(subject.kind, &subject.class, config).loaded();
    target.settings = subject.settings.clone();
    target.overwrite_foreign = subject.overwrite_foreign;
    target
}

struct Teller<'a>(&'a Link);

impl Reporter for Teller<'_> {
    fn started(&mut self, id: &'static str) {
        self.0.send(&Event::Started(id.to_owned()));
    }

    fn ended(&mut self, record: &Record) {
        let (verdict, reason) = match &record.outcome {
            Outcome::Passed => (Verdict::Passed, String::new()),
            Outcome::Skipped(why) => (Verdict::Skipped, why.clone()),
            Outcome::Failed(how) => (Verdict::Failed, how.clone()),
        };
        self.0.send(&Event::Ended {
            case: record.id.to_owned(),
            verdict,
            reason,
            micros: u64::try_from(record.time.as_micros()).unwrap_or(u64::MAX),
        });
    }
}
