//! What a case is and how it ends.

use crate::abi::Status;
use crate::sdk::Error;

/// A named case over benches of type `B`.
pub(super) struct Case<B: 'static> {
    /// Short name, unique among the cases of a kind: `group.case`.
    pub(super) id: &'static str,
    /// A sentence that states the promise.
    pub(super) name: &'static str,
    pub(super) body: fn(&B) -> Verdict,
}

/// Why a case ended before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The promise is broken, in words.
    Failed(String),
    /// The backend does not claim this, in words.
    Skipped(String),
}

/// How a case ends.
pub(super) type Verdict<T = ()> = Result<T, Stop>;

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(format!("{error} [{}]", error.status))
    }
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Failed(format!("unexpected status: {status}"))
    }
}

pub(super) fn failed<T>(what: impl Into<String>) -> Verdict<T> {
    Err(Stop::Failed(what.into()))
}

pub(super) fn skipped<T>(why: impl Into<String>) -> Verdict<T> {
    Err(Stop::Skipped(why.into()))
}

/// Fails the case unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::conformance::case::Stop::Failed(format!($($text)+)));
        }
    };
}
pub(super) use ensure;

/// Expects `result` to be an error of one of `statuses` that says what failed.
pub(super) fn refused<T>(what: &str, result: Result<T, Error>, statuses: &[Status]) -> Verdict {
    match result {
        Ok(_) => failed(format!("{what}: accepted, expected {statuses:?}")),
        Err(e) if !statuses.contains(&e.status) => failed(format!(
            "{what}: refused as {:?} ({e}), expected {statuses:?}",
            e.status
        )),
        Err(e) => described(what, &e),
    }
}

/// Expects any refusal that a working plugin may give, i.e. no defect of its own.
pub(super) fn refused_somehow<T>(what: &str, result: Result<T, Error>) -> Verdict {
    match result {
        Ok(_) => failed(format!("{what}: accepted")),
        Err(e) if [Status::PANIC, Status::POISONED, Status::INTERNAL].contains(&e.status) => {
            failed(format!("{what}: {e} [{:?}]", e.status))
        }
        Err(e) => described(what, &e),
    }
}

fn described(what: &str, error: &Error) -> Verdict {
    // The host's own words for a plugin that said nothing end in "failed".
    ensure!(
        !error.what.is_empty() && !error.what.ends_with(" failed"),
        "{what}: refused as {:?} without a description through Call::fail",
        error.status
    );
    Ok(())
}

/// Turns NOT_SUPPORTED into a skip.
pub(super) fn supported<T>(what: &str, result: Result<T, Error>) -> Verdict<T> {
    result.map_err(|e| match e.status {
        Status::NOT_SUPPORTED => Stop::Skipped(format!("the plugin has no {what}")),
        _ => e.into(),
    })
}
