//! Open files of engines. What a plugin leaks in an engine nobody gets back until that process ends; one that has no
//! descriptor left takes no client, and opens nothing. So they are counted, and an engine whose count only ever grows is told of
//! while there is time.
//!
//! What grows with clients is not a leak: connections are sockets, or devices and events without a name. Of those only the
//! total counts, against the limit of the process. All else - files, directories, devices, pipes - an engine opens when it
//! starts, so of that the least count of each span of time is compared: what comes and goes does not show in it.

use crate::state::State;
use daos_proto::host::EngineState;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Time between two counts.
const EVERY: Duration = Duration::from_secs(15);
/// Counts of a span.
const SPAN: u32 = 8;
/// Spans in which the least count must have become larger than ever, and
const RISES: u32 = 8;
/// by how many in all, for it to be a leak.
const GROWTH: u64 = 64;
/// Hundredths of the limit at which a process is short of descriptors, and below which it is not any more.
const SHORT: (u64, u64) = (80, 70);

/// The open files of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenFiles {
    /// All of them.
    pub(crate) all: u64,
    /// Most that the process may have; 0 if the system does not say.
    pub(crate) limit: u64,
    /// Those that no connection has.
    lasting: u64,
    /// What most of those are, and how many.
    most: Option<(String, u64)>,
}

impl OpenFiles {
    /// Of a process of this user's, or of any for who may everything.
    ///
    /// # Errors
    /// If it is gone, or may not be looked at.
    fn of(pid: u32) -> io::Result<Self> {
        let process = Path::new("/proc").join(pid.to_string());
        let mut found = Self::default();
        let mut names: BTreeMap<String, u64> = BTreeMap::new();
        for entry in std::fs::read_dir(process.join("fd"))? {
            found.all += 1;
            // One that is closed by now.
            let Ok(link) = std::fs::read_link(entry?.path()) else {
                continue;
            };
            let name = link.to_string_lossy();
            if is_lasting(&name) {
                found.lasting += 1;
                *names.entry(kind(&name)).or_default() += 1;
            }
        }
        found.most = names.into_iter().max_by_key(|(_, count)| *count);
        let limits = std::fs::read_to_string(process.join("limits")).unwrap_or_default();
        found.limit = limit_of(&limits);
        Ok(found)
    }
}

/// Whether a descriptor belongs neither to a connection nor to memory.
fn is_lasting(name: &str) -> bool {
    let of_connections = ["socket:", "anon_inode:", "/dev/infiniband/"];
    let of_memory = name.contains("hugepages") || name.contains("rtemap_");
    !of_memory && !of_connections.iter().any(|start| name.starts_with(start))
}

/// A name for all of its kind: `pipe:[4711]` is a pipe.
fn kind(name: &str) -> String {
    let name = name.strip_suffix(" (deleted)").unwrap_or(name);
    match name.split_once(":[") {
        Some((kind, _)) => format!("{kind}s"),
        None => name.to_owned(),
    }
}

/// The limit in force, of `/proc/PID/limits`.
fn limit_of(limits: &str) -> u64 {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// How the open files of one process grow.
#[derive(Debug, Default)]
struct Growth {
    /// Of the span that is under way.
    counts: u32,
    least: Option<u64>,
    /// Least of the first span, and the largest of the others.
    first: Option<u64>,
    highest: u64,
    rises: u32,
    leaks: bool,
    is_short: bool,
}

impl Growth {
    /// Takes note of a count; what is wrong, if anything is.
    fn look(&mut self, now: &OpenFiles) -> Option<String> {
        self.least = Some(
            self.least
                .map_or(now.lasting, |least| least.min(now.lasting)),
        );
        self.counts += 1;
        if self.counts >= SPAN {
            self.end_span();
        }
        let first = self.first.unwrap_or(now.lasting);
        let grown = now.lasting.saturating_sub(first);
        self.leaks = match self.leaks {
            true => grown > GROWTH / 2,
            false => self.rises >= RISES && grown >= GROWTH,
        };
        let percent = (now.all * 100).checked_div(now.limit).unwrap_or(0);
        self.is_short = percent >= if self.is_short { SHORT.1 } else { SHORT.0 };
        let of_limit = match now.limit {
            0 => String::new(),
            limit => format!(" of the {limit} that it may have"),
        };
        let all = now.all;
        if self.leaks {
            let most = now.most.as_ref().map_or_else(String::new, |(name, count)| {
                format!(" (of those that no client explains {count} are {name})")
            });
            return Some(format!(
                "its open files grow without end: {all}{of_limit}, {grown} more than when it began to serve{most}; a plugin leaks them, \
                 or the engine"
            ));
        }
        self.is_short.then(|| {
            format!(
                "its open files run short: {all}{of_limit}; clients take some, and what leaks does"
            )
        })
    }

    fn end_span(&mut self) {
        self.counts = 0;
        let least = self.least.take().unwrap_or(0);
        if self.first.is_none() {
            self.first = Some(least);
            self.highest = least;
        } else if least > self.highest {
            self.highest = least;
            self.rises += 1;
        }
    }
}

/// Counts the open files of engines until it is dropped.
pub(crate) async fn watch(state: Arc<State>) {
    let every = every();
    let mut known: HashMap<u32, Growth> = HashMap::new();
    loop {
        tokio::time::sleep(every).await;
        let serving = state.engines().into_iter().enumerate();
        let serving: Vec<_> = serving
            .filter(|(_, e)| e.state == EngineState::Ready && e.pid != 0)
            .map(|(index, e)| (index, e.pid))
            .collect();
        known.retain(|pid, _| serving.iter().any(|(_, serves)| serves == pid));
        for (index, pid) in serving {
            // Of thousands that takes a while.
            let counted = tokio::task::spawn_blocking(move || OpenFiles::of(pid)).await;
            // A process that is gone, or whose descriptors only others may see.
            let Ok(Ok(now)) = counted else { continue };
            let wrong = known.entry(pid).or_default().look(&now);
            note(&state, index, pid, now, wrong);
        }
    }
}

/// Keeps a count of the engine's process, and tells what has become wrong or right.
fn note(state: &State, index: usize, pid: u32, now: OpenFiles, wrong: Option<String>) {
    let rank = state.engine(index).rank.unwrap_or(index as u32);
    let changed = state.note_files(index, pid, now, wrong.is_some());
    if !changed {
        return;
    }
    let start = state.shell_command(&format!("system stop --ranks {rank}"));
    state.update(index, |e| match &wrong {
        Some(what) => {
            warn!(engine = index, "{what}");
            e.reason.clone_from(what);
            e.hint = format!(
                "a new process has none of them: {start}, then: system start --ranks {rank}; `plugin list` names the plugins of the \
                 engine, whose vendors should know; LimitNOFILE= of the server's unit is the limit"
            );
        }
        None => {
            info!(engine = index, "its open files are few again");
            // What is wrong with a target stays.
            if e.failed_targets.is_empty() {
                "it serves".clone_into(&mut e.reason);
                e.hint.clear();
            }
        }
    });
}

/// Tests do not wait for minutes.
fn every() -> Duration {
    let wanted = std::env::var("DAOS_COUNT_FILES_EVERY_MS");
    match wanted.map(|text| text.parse()) {
        Ok(Ok(ms)) if cfg!(debug_assertions) => Duration::from_millis(ms),
        _ => EVERY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(lasting: u64, all: u64) -> OpenFiles {
        OpenFiles {
            all,
            limit: 1000,
            lasting,
            most: Some(("/dev/null".to_owned(), lasting)),
        }
    }

    /// The last verdict after a count for each.
    fn after(growth: &mut Growth, counts: impl IntoIterator<Item = OpenFiles>) -> Option<String> {
        counts.into_iter().map(|now| growth.look(&now)).last()?
    }

    #[test]
    fn what_only_ever_grows_is_a_leak_until_most_of_it_is_gone() {
        let mut growth = Growth::default();
        let told = after(&mut growth, (0..200).map(|n| files(20 + n, 40 + n)));
        let told = told.expect("a leak");
        for words in [
            "grow without end: 239 of the 1000",
            "199 more",
            "219 are /dev/null",
            "a plugin",
        ] {
            assert!(told.contains(words), "{words:?} is missing in {told}");
        }
        assert!(after(&mut growth, [files(60, 80)]).is_some());
        assert_eq!(after(&mut growth, [files(40, 60)]), None);
    }

    #[test]
    fn a_slow_leak_is_one_as_well() {
        let mut growth = Growth::default();
        let slow = (0..10_000).map(|n| files(20 + n / 100, 40 + n / 100));
        assert!(after(&mut growth, slow).is_some());
    }

    #[test]
    fn what_clients_and_starts_explain_is_none() {
        // Many clients, who stay.
        let clients = (0..400).map(|n| files(20, 40 + n));
        assert_eq!(after(&mut Growth::default(), clients), None);
        // One step, for whatever is opened late.
        let step = (0..400).map(|n| files(if n < 50 { 20 } else { 300 }, 400));
        assert_eq!(after(&mut Growth::default(), step), None);
        // What comes and goes, more and more of it.
        let waves = (0..400).map(|n| files(if n % 5 == 0 { 20 } else { 20 + n }, 500));
        assert_eq!(after(&mut Growth::default(), waves), None);
        // A little.
        let little = (0..400).map(|n| files(20 + n / 10, 100));
        assert_eq!(after(&mut Growth::default(), little), None);
    }

    #[test]
    fn few_descriptors_left_are_told_and_not_taken_back_at_once() {
        let mut growth = Growth::default();
        assert_eq!(after(&mut growth, [files(20, 799)]), None);
        let told = after(&mut growth, [files(20, 800)]).expect("short");
        assert!(told.contains("run short: 800 of the 1000"), "{told}");
        assert!(after(&mut growth, [files(20, 750)]).is_some());
        assert_eq!(after(&mut growth, [files(20, 699)]), None);
        assert_eq!(after(&mut growth, [files(20, 750)]), None);
    }

    #[test]
    fn descriptors_are_counted_by_what_they_are() {
        let before = OpenFiles::of(std::process::id()).expect("ours");
        let null = || std::fs::File::open("/dev/zero").expect("/dev/zero");
        let kept: Vec<_> = (0..300).map(|_| null()).collect();
        let (one, _other) = std::os::unix::net::UnixStream::pair().expect("sockets");
        let now = OpenFiles::of(std::process::id()).expect("ours");
        // Other tests open and close meanwhile.
        assert!(now.lasting >= before.lasting + 250, "{before:?} {now:?}");
        assert!(now.all > now.lasting, "{now:?}");
        let (name, count) = now.most.expect("the most frequent");
        assert_eq!(name, "/dev/zero");
        assert!(count >= 300 && now.limit >= 300);
        drop((kept, one));
        assert!(OpenFiles::of(0).is_err());
    }

    #[test]
    fn connections_and_memory_are_not_what_lasts() {
        for name in [
            "socket:[1]",
            "anon_inode:[eventfd]",
            "/dev/infiniband/uverbs0",
            "/dev/hugepages/rtemap_3",
        ] {
            assert!(!is_lasting(name), "{name}");
        }
        for name in ["/dev/null", "pipe:[7]", "/mnt/daos/log"] {
            assert!(is_lasting(name), "{name}");
        }
        assert_eq!(kind("pipe:[7]"), "pipes");
        assert_eq!(kind("/tmp/x (deleted)"), "/tmp/x");
        assert_eq!(
            limit_of(
                "Limit\nMax open files            1024                 524288               files \n"
            ),
            1024
        );
        assert_eq!(
            limit_of(
                "Max open files            unlimited            unlimited            files \n"
            ),
            0
        );
    }
}
