//! Runs cases of the suite and tells how they end.

use super::Link;
use crate::protocol::{Event, Subject, Verdict};
use daos_loader::Loaded;
use daos_plugin_api::conformance::{Outcome, Record, Reporter, Target, run as run_suite};
use serde_json::{Map, Value};

pub(super) fn run(
    loaded: &Loaded,
    subject: &Subject,
    cases: Vec<String>,
    refuse: Vec<Map<String, Value>>,
    seed: u64,
    link: &Link,
) {
    let config = Value::Object(subject.config.clone());
    let mut target = Target::new(subject.kind, &subject.class, config)
        .loaded()
        .only(cases);
    target.settings = subject.settings.clone();
    target.nonsense = refuse;
    target.overwrite_foreign = subject.overwrite_foreign;
    target.seed = seed;
    run_suite(loaded.table, &target, &mut Teller(link));
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
