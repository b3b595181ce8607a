//! The comparison of what hosts told.

use crate::fanout::{names, summary};
use daos_hostlist::in_order;
use daos_proto::host::{AccountFacts, FactsResponse};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

/// What a host shows of something that it does not have.
const ABSENT: &str = "absent";

/// What one host told, and when by our clock.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    facts: FactsResponse,
    /// Its clock less ours, nanoseconds.
    offset: i128,
    /// How far that may be wrong, nanoseconds.
    error: i128,
}

impl Answer {
    /// The host read its clock some time between our question and its answer.
    pub(super) fn new(asked: i128, answered: i128, facts: FactsResponse) -> Self {
        let ours = i128::midpoint(asked, answered);
        Self {
            offset: i128::from(facts.time_ns) - ours,
            error: (answered - asked).max(0) / 2,
            facts,
        }
    }

    /// The same with the clock of whichever answer came more quickly.
    pub(super) fn with_clock_of(mut self, other: Self) -> Self {
        if other.error < self.error {
            (self.offset, self.error) = (other.offset, other.error);
        }
        self
    }
}

/// How hosts stand to each other in one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Same,
    /// They differ, and may: it is each host's own.
    Own,
    Differs,
}

/// One thing that was compared.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Item {
    pub(super) item: String,
    pub(super) verdict: Verdict,
    /// Hosts by what they told.
    pub(super) values: BTreeMap<String, Vec<String>>,
}

/// A host's clock.
#[derive(Clone, Debug, Serialize)]
pub(super) struct HostClock {
    /// Ahead of this machine's clock, milliseconds.
    pub(super) offset_ms: f64,
    /// How far that may be wrong, milliseconds.
    pub(super) error_ms: f64,
    /// Whether something keeps it in step; none if the host's kernel does not say.
    pub(super) synchronised: Option<bool>,
}

/// All that was compared.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    /// Clocks by host.
    pub(super) hosts: BTreeMap<String, HostClock>,
    /// How far the clocks of any two hosts are apart at least, milliseconds.
    pub(super) skew_ms: f64,
    /// Whether that is more than it may be.
    pub(super) skewed: bool,
    pub(super) items: Vec<Item>,
    /// Hosts that did not answer.
    pub(super) errors: BTreeMap<String, String>,
    #[serde(skip)]
    max_skew: Duration,
}

/// Compares.
pub(super) fn compare(
    answers: &BTreeMap<String, Answer>,
    max_skew: Duration,
    errors: BTreeMap<String, String>,
) -> Comparison {
    let apart = skew(answers);
    let ms = |ns: i128| ns as f64 / 1e6;
    let clock = |answer: &Answer| HostClock {
        offset_ms: ms(answer.offset),
        error_ms: ms(answer.error),
        synchronised: answer.facts.clock.map(|clock| clock.synchronised),
    };
    Comparison {
        hosts: answers
            .iter()
            .map(|(host, a)| (host.clone(), clock(a)))
            .collect(),
        skew_ms: ms(apart),
        skewed: apart > i128::try_from(max_skew.as_nanos()).unwrap_or(i128::MAX),
        items: items(answers),
        errors,
        max_skew,
    }
}

/// How far two clocks are apart whatever the errors of their measurement: 0 where they may be equal.
fn skew(answers: &BTreeMap<String, Answer>) -> i128 {
    let latest_low = answers.values().map(|a| a.offset - a.error).max();
    let earliest_high = answers.values().map(|a| a.offset + a.error).min();
    match (latest_low, earliest_high) {
        (Some(low), Some(high)) => (low - high).max(0),
        _ => 0,
    }
}

fn account(account: &AccountFacts) -> String {
    match (account.id, account.group_id) {
        (Some(id), Some(group)) => format!("{id}:{group}"),
        (Some(id), None) => id.to_string(),
        (None, _) => ABSENT.to_owned(),
    }
}

/// Values by thing; the flag tells that hosts may differ in it.
type Told = BTreeMap<String, (String, bool)>;

/// What a host told, thing by thing.
fn told(facts: &FactsResponse) -> Told {
    let fixed = |name: &str, value: &str| (name.to_owned(), (value.to_owned(), false));
    let mut told = BTreeMap::from([
        fixed("version of the server", &facts.version),
        fixed("version of the protocol", &facts.protocol),
        fixed("version of the plugin interface", &facts.abi_version),
        ("kernel".to_owned(), (facts.kernel.clone(), true)),
        fixed("configuration", &facts.config_digest),
    ]);
    for plugin in &facts.plugins {
        told.insert(
            format!("plugin {}", plugin.name),
            (plugin.version.clone(), false),
        );
    }
    for user in &facts.users {
        told.insert(format!("user {}", user.name), (account(user), false));
    }
    for group in &facts.groups {
        told.insert(format!("group {}", group.name), (account(group), false));
    }
    for fact in &facts.config {
        told.insert(format!("key {}", fact.key), (fact.value.clone(), fact.own));
    }
    told
}

fn items(answers: &BTreeMap<String, Answer>) -> Vec<Item> {
    let told: Vec<(&String, Told)> = answers
        .iter()
        .map(|(host, answer)| (host, self::told(&answer.facts)))
        .collect();
    let all: BTreeSet<&String> = told.iter().flat_map(|(_, told)| told.keys()).collect();
    all.into_iter()
        .map(|item| {
            let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
            let mut own = false;
            for (host, told) in &told {
                let value = told.get(item).map_or(ABSENT, |(value, may)| {
                    own |= may;
                    value
                });
                values
                    .entry(value.to_owned())
                    .or_default()
                    .push((*host).clone());
            }
            let verdict = match (values.len(), own) {
                (1, _) => Verdict::Same,
                (_, true) => Verdict::Own,
                (_, false) => Verdict::Differs,
            };
            Item {
                item: item.clone(),
                verdict,
                values,
            }
        })
        .collect()
}

impl Comparison {
    fn differing(&self) -> impl Iterator<Item = &Item> {
        self.items
            .iter()
            .filter(|item| item.verdict == Verdict::Differs)
    }

    /// Whether every host answered, and nothing differs that must not.
    pub(super) fn is_good(&self) -> bool {
        self.failure().is_none()
    }

    /// What is wrong, in a sentence.
    pub(super) fn failure(&self) -> Option<String> {
        if let Some(errors) = summary(&self.errors) {
            return Some(errors);
        }
        let count = self.differing().count() + usize::from(self.skewed);
        let first = match self.skewed {
            true => Some("clocks"),
            false => self.differing().next().map(|item| item.item.as_str()),
        };
        first.map(|first| format!("the hosts differ in {count} thing(s), first: {first}"))
    }

    /// For people: what differs with the hosts of each value, and how much is equal.
    pub(super) fn text(&self, verbose: bool) -> String {
        let mut text = String::new();
        let all: Vec<&str> = self.hosts.keys().map(String::as_str).collect();
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{} host(s): {}\n", all.len(), names(&all));
        let limit = self.max_skew.as_millis();
        let word = if self.skewed { "DIFFERS" } else { "same" };
        let _ = writeln!(
            text,
            "{word:<8} clocks: at least {:.1} ms apart, {limit} ms are allowed",
            self.skew_ms
        );
        if self.skewed || verbose {
            let mut clocks: Vec<_> = self.hosts.iter().collect();
            clocks.sort_by(|a, b| {
                a.1.offset_ms
                    .total_cmp(&b.1.offset_ms)
                    .then(in_order(a.0, b.0))
            });
            for (host, clock) in clocks {
                let _ = writeln!(
                    text,
                    "         {:+.1} ms (to {:.1}): {host}",
                    clock.offset_ms, clock.error_ms
                );
            }
        }
        let loose: Vec<&str> = self
            .hosts
            .iter()
            .filter(|(_, clock)| clock.synchronised == Some(false))
            .map(|(host, _)| host.as_str())
            .collect();
        if !loose.is_empty() {
            let _ = writeln!(
                text,
                "NOTE     nothing keeps the clock in step on {}: see `daos_server preflight` there",
                names(&loose)
            );
        }
        for item in &self.items {
            let word = match item.verdict {
                Verdict::Differs => "DIFFERS",
                Verdict::Own => "own",
                Verdict::Same => "same",
            };
            match (item.verdict, item.values.keys().next()) {
                (Verdict::Same, Some(value)) if verbose => {
                    let _ = writeln!(text, "{word:<8} {}: {value}", item.item);
                }
                (Verdict::Same, _) => {}
                _ => {
                    let _ = writeln!(text, "{word:<8} {}", item.item);
                    self.values(item, &mut text);
                }
            }
        }
        let same = self
            .items
            .iter()
            .filter(|item| item.verdict == Verdict::Same)
            .count();
        let _ = write!(
            text,
            "\n{same} of {} things are equal on all hosts, {} differ that must not",
            self.items.len(),
            self.differing().count() + usize::from(self.skewed)
        );
        text
    }

    /// The values of an item, the most frequent one first.
    fn values(&self, item: &Item, text: &mut String) {
        let mut values: Vec<_> = item.values.iter().collect();
        values.sort_by_key(|(value, hosts)| (usize::MAX - hosts.len(), (*value).clone()));
        for (value, hosts) in values {
            let mut hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            hosts.sort_by(|a, b| in_order(a, b));
            let _ = writeln!(text, "         {value}: {}", names(&hosts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_proto::host::{ClockFacts, ConfigFact};

    const MS: i128 = 1_000_000;

    fn facts(time: i128) -> FactsResponse {
        FactsResponse {
            time_ns: u64::try_from(time).unwrap(),
            version: "1.0".to_owned(),
            clock: Some(ClockFacts {
                synchronised: true,
                max_error_us: 10,
            }),
            ..FactsResponse::default()
        }
    }

    fn key(key: &str, value: &str, own: bool) -> ConfigFact {
        ConfigFact {
            key: key.to_owned(),
            value: value.to_owned(),
            own,
        }
    }

    fn all(facts: Vec<FactsResponse>) -> BTreeMap<String, Answer> {
        let answer = |(n, facts): (usize, FactsResponse)| {
            (
                format!("node{n}:10001"),
                Answer::new(1000 * MS, 1002 * MS, facts),
            )
        };
        facts.into_iter().enumerate().map(answer).collect()
    }

    fn compared(facts: Vec<FactsResponse>) -> Comparison {
        compare(&all(facts), Duration::from_millis(500), BTreeMap::new())
    }

    #[test]
    fn clocks_are_apart_only_beyond_the_error_of_their_measurement() {
        let near = compared(vec![facts(1001 * MS), facts(1500 * MS)]);
        assert!(
            near.is_good() && (near.skew_ms - 497.0).abs() < 0.01,
            "{near:?}"
        );
        let far = compared(vec![facts(1001 * MS), facts(1504 * MS)]);
        assert!(far.skewed && (far.skew_ms - 501.0).abs() < 0.01, "{far:?}");
        assert!(far.failure().unwrap().contains("clocks"));
        let text = far.text(false);
        assert!(
            text.contains("DIFFERS  clocks") && text.contains("+503.0 ms (to 1.0): node1:10001"),
            "{text}"
        );
        assert_eq!(compared(Vec::new()).skew_ms, 0.0);
        let slow = Answer::new(0, 2000 * MS, facts(1000 * MS));
        let quick = Answer::new(0, 2 * MS, facts(7 * MS));
        let best = slow.clone().with_clock_of(quick.clone());
        assert_eq!((best.offset, best.error), (6 * MS, MS));
        let best = quick.with_clock_of(slow);
        assert_eq!((best.offset, best.error), (6 * MS, MS));
    }

    #[test]
    fn what_differs_is_folded_and_what_is_a_host_s_own_is_no_failure() {
        let mut nodes: Vec<FactsResponse> = (0..4).map(|_| facts(1001 * MS)).collect();
        for (n, node) in nodes.iter_mut().enumerate() {
            node.config = vec![
                key("servers[0].rank", &n.to_string(), true),
                key("name", "\"a\"", false),
            ];
            node.users = vec![AccountFacts {
                name: "daos".to_owned(),
                id: Some(988),
                group_id: Some(988),
            }];
        }
        let good = compared(nodes.clone());
        assert!(good.is_good(), "{}", good.text(true));
        assert!(
            good.text(false).contains("own      key servers[0].rank"),
            "{}",
            good.text(false)
        );
        assert!(good.text(true).contains("same     user daos: 988:988"));
        nodes[2].version = "1.1".to_owned();
        nodes[3].users[0].id = None;
        nodes[3].config.pop();
        let bad = compared(nodes);
        assert_eq!(bad.differing().count(), 3);
        let text = bad.text(false);
        for words in [
            "1.0: node[0-1,3]\n         1.1: node2",
            "988:988: node[0-2]\n         absent: node3",
            "\"a\": node[0-2]\n         absent: node3",
            "3 differ that must not",
        ] {
            assert!(text.contains(words), "{words} in\n{text}");
        }
        assert!(
            bad.failure()
                .unwrap()
                .starts_with("the hosts differ in 3 thing(s)")
        );
    }

    #[test]
    fn a_host_that_does_not_answer_is_a_failure() {
        let errors = BTreeMap::from([("b:1".to_owned(), "gone".to_owned())]);
        let compared = compare(&all(vec![facts(1)]), Duration::from_millis(1), errors);
        assert_eq!(compared.failure().as_deref(), Some("b:1: gone"));
        assert_eq!(
            serde_json::to_value(&compared).unwrap()["items"][0]["verdict"],
            "same"
        );
    }

    #[test]
    fn clocks_that_nothing_keeps_are_noted() {
        let mut loose = facts(1001 * MS);
        loose.clock = Some(ClockFacts::default());
        let compared = compared(vec![facts(1001 * MS), loose]);
        assert!(compared.is_good());
        assert!(
            compared.text(false).contains("in step on node1:10001"),
            "{}",
            compared.text(false)
        );
    }
}
