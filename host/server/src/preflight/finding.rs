//! What a check found.

use super::fix::Fix;
use serde::Serialize;
use std::fmt::Write as _;

/// How well something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Nothing here asks for it.
    NotApplicable,
    /// As it should be.
    Ok,
    /// The server starts, and something is worse than it could be.
    Warn,
    /// The server, or what is configured, does not work like that.
    Fail,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::NotApplicable => "-",
            Self::Ok => "ok",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// One finding. A check can have several.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// The check, as the checklist of the manual names it.
    pub(super) check: &'static str,
    pub(super) state: State,
    /// What is there.
    pub(super) found: String,
    /// Why it matters.
    pub(super) why: &'static str,
    /// What to do; empty where nothing is to be done.
    pub(super) remedy: String,
    /// What --fix does about it; none where that is the administrator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<Fix>,
    /// What --fix did about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) fixed: Vec<String>,
}

/// A check: its name, and why it matters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) why: &'static str,
}

impl Check {
    fn finding(self, state: State, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding {
            check: self.name,
            state,
            found: found.into(),
            why: self.why,
            remedy: remedy.into(),
            fix: None,
            fixed: Vec::new(),
        }
    }

    pub(super) fn ok(self, found: impl Into<String>) -> Finding {
        self.finding(State::Ok, found, "")
    }

    pub(super) fn none(self, found: impl Into<String>) -> Finding {
        self.finding(State::NotApplicable, found, "")
    }

    pub(super) fn warn(self, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        self.finding(State::Warn, found, remedy)
    }

    pub(super) fn fail(self, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        self.finding(State::Fail, found, remedy)
    }
}

impl Finding {
    /// Adds what --fix would do.
    pub(super) fn with(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }

    /// The finding for people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{:<5} {:<13} {}", self.state.word(), self.check, self.found);
        let mut line = |label: &str, words: &str| {
            // Writing into a string cannot fail.
            let _ = write!(text, "\n      {label:<13} {words}");
        };
        if self.state >= State::Warn {
            line("why:", self.why);
            line("remedy:", &self.remedy);
            if let Some(fix) = &self.fix {
                line("--fix:", &fix.to_string());
            }
        }
        for done in &self.fixed {
            line("fixed:", done);
        }
        text
    }
}
