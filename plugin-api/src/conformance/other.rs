//! Cases that need other processes of the plugin: one that dies without closing anything, one that is a peer.
//!
//! The suite runs in one process and cannot load a plugin elsewhere; whoever runs it may ([`Processes`]). Another
//! process makes an instance of its own and plays a *role* ([`play`]): the other half of a case, which talks to the
//! first half in lines of text. Without `Processes` such cases are skipped, by name.

use super::case::{Stop, Verdict, failed, skipped};
use super::control::ControlBench;
use super::target::Target;
use super::{bdev, fabric, scarce, scm};
use crate::abi::PluginTable;
use crate::control::DeviceSpec;
use crate::host::{CallOptions, Instance};
use std::fmt::Debug;
use std::io;
use std::time::{Duration, Instant};

/// Starts processes that have loaded the plugin under test.
pub trait Processes: Debug + Send + Sync {
    /// Starts one that calls [`play`] with the same target and this role.
    ///
    /// # Errors
    /// Why there is none, in words.
    fn start(&self, role: &str) -> Result<Box<dyn Process>, String>;
}

/// A process that plays a role. Dropping it kills it.
pub trait Process: Line {
    /// Waits for its end and says how it ended: the signal that killed it, or its exit code. `None` if it lives.
    fn ended(&mut self, limit: Duration) -> Option<Ended>;
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// What two processes of a case say to each other.
pub trait Line {
    /// Says something; nobody need be there.
    fn tell(&mut self, text: &str);
    /// Waits for something to be said; `Ok(None)` if nothing was within the limit.
    ///
    /// # Errors
    /// The other side is gone.
    fn hear(&mut self, limit: Duration) -> io::Result<Option<String>>;
}

/// What a role says that found a promise broken, before the words that tell how.
const BROKEN: &str = "broken: ";
/// Longest time for another process to do its part.
const LIMIT: Duration = Duration::from_secs(30);

/// Plays a role on an instance of its own; what comes of it is told over `line`. A role may end its process.
pub fn play(table: &'static PluginTable, target: &Target, role: &str, line: &mut dyn Line) {
    let played = match role {
        bdev::WRITER => bdev::write_and_die(table, target, line),
        bdev::READER => bdev::read_back(table, target, line),
        scm::WRITER => scm::write_and_die(table, target, line),
        scm::READER => scm::read_back(table, target, line),
        scarce::STARVED => scarce::starve(table, target, line),
        fabric::PEER => fabric::be_a_peer(table, target, line),
        _ => failed(format!("there is no role {role}")),
    };
    match played {
        Ok(()) => {}
        Err(Stop::Failed(how) | Stop::Skipped(how)) => line.tell(&format!("{BROKEN}{how}")),
    }
}

/// The other half of a case.
pub(super) struct Other {
    process: Box<dyn Process>,
    /// As failures name it: "the process that wrote".
    name: &'static str,
}

impl Other {
    /// Starts a process for `role`; without a way to start one the case is skipped.
    pub(super) fn start(bench: &ControlBench, role: &str, name: &'static str) -> Verdict<Self> {
        let Some(processes) = &bench.target.processes else {
            return skipped(
                "it needs a process of its own, which `plugin check` has and a plugin's own test has not",
            );
        };
        match processes.start(role) {
            Ok(process) => Ok(Self { process, name }),
            Err(why) => failed(format!("{name} does not start: {why}")),
        }
    }

    pub(super) fn tell(&mut self, text: &str) {
        self.process.tell(text);
    }

    /// What the process says next, if anything within the limit; that it found a promise broken, or is gone,
    /// fails the case.
    pub(super) fn heard(&mut self, limit: Duration) -> Verdict<Option<String>> {
        match self.process.hear(limit) {
            Ok(Some(text)) => match text.strip_prefix(BROKEN) {
                Some(how) => failed(format!("{}: {how}", self.name)),
                None => Ok(Some(text)),
            },
            Ok(None) => Ok(None),
            Err(_) => {
                let how = match self.process.ended(Duration::from_secs(1)) {
                    Some(Ended::Signal(number)) => format!("was killed by signal {number}"),
                    Some(Ended::Code(code)) => format!("ended with exit code {code}"),
                    None => "closed its connection".to_owned(),
                };
                failed(format!("{} {how}", self.name))
            }
        }
    }

    /// Waits until the process says `word`.
    pub(super) fn wait_for(&mut self, word: &str) -> Verdict {
        match self.heard(LIMIT)? {
            Some(text) if text == word => Ok(()),
            Some(text) => failed(format!("{} says {text:?}, not {word:?}", self.name)),
            None => failed(format!(
                "{} does not do its part within {LIMIT:?}",
                self.name
            )),
        }
    }

    /// Waits for the end of a process that killed itself.
    pub(super) fn dies(&mut self) -> Verdict {
        match self.process.ended(LIMIT) {
            Some(Ended::Signal(SIGKILL)) => Ok(()),
            Some(other) => failed(format!(
                "{} ended as {other:?} instead of by SIGKILL",
                self.name
            )),
            None => failed(format!("{} lives on after SIGKILL", self.name)),
        }
    }
}

/// What a role hears next.
pub(super) fn told(line: &mut dyn Line) -> Verdict<String> {
    match line.hear(LIMIT) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => failed(format!("nothing was asked of it within {LIMIT:?}")),
        Err(e) => failed(format!("nobody is there: {e}")),
    }
}

/// What a role is told as a number.
pub(super) fn told_number(line: &mut dyn Line) -> Verdict<u64> {
    let text = told(line)?;
    text.parse()
        .or_else(|_| failed(format!("{text:?} is no number")))
}

/// Asks for the storage to come to rest, as hosts do after the death of an engine before another one opens it.
pub(super) fn come_to_rest(bench: &ControlBench) -> Verdict {
    use crate::abi::Status;
    let start = Instant::now();
    for device in &bench.devices {
        loop {
            match bench.instance.quiesce(device, CallOptions::default()) {
                Ok(_) => break,
                Err(e) if e.status == Status::NOT_SUPPORTED => break,
                Err(e) if e.status == Status::BUSY && start.elapsed() < LIMIT => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}

/// An instance of a role, made as an engine makes its own.
pub(super) fn instance(table: &'static PluginTable, target: &Target) -> Verdict<Instance> {
    super::run::instance(table, target)
}

/// An instance of a role, and the first device of the config: neither formatted nor mounted, as another process left it.
pub(super) fn first_device(
    table: &'static PluginTable,
    target: &Target,
) -> Verdict<(Instance, DeviceSpec)> {
    let instance = instance(table, target)?;
    let request = target.class_request(&target.config);
    let devices = instance.devices(&request, CallOptions::default())?;
    match devices.into_iter().next() {
        Some(first) => Ok((instance, first)),
        None => failed("the config names no device any more"),
    }
}

/// The role of a process that compares what another one left: hears how and from which seed that was made.
pub(super) fn read_back(
    line: &mut dyn Line,
    compare: impl FnOnce(&str, u64) -> Verdict,
) -> Verdict {
    let (how, seed) = (told(line)?, told_number(line)?);
    compare(&how, seed)?;
    // Said when everything is closed again: then the next may open it.
    line.tell("the same");
    Ok(())
}

const SIGKILL: i32 = 9;

unsafe extern "C" {
    fn raise(signal: i32) -> i32;
}

/// Ends this process as a power failure would: nothing is closed, no destructor runs.
pub(super) fn die() -> ! {
    loop {
        // SAFETY: a plain call; it does not come back.
        unsafe { raise(SIGKILL) };
    }
}
