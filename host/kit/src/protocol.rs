//! What a program and its worker say to each other: lines of JSON. Both are of one build.

use crate::bench::{Measured, Measurement};
use crate::scratch::Scratch;
use daos_plugin_api::control::ClassKind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::sync::Arc;

/// A class of a plugin with what it needs to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Subject {
    /// The plugin's shared object.
    pub file: PathBuf,
    /// Name of the plugin.
    pub plugin: String,
    /// Version of the plugin.
    pub version: String,
    /// Interface version that it was built with.
    pub interface: String,
    /// Kind of the class.
    pub kind: ClassKind,
    /// Name of the class; of a fabric, of the provider.
    pub class: String,
    /// Class config, as in the config file. Storage that it names is written to.
    pub config: Map<String, Value>,
    /// The plugin's free-form settings.
    pub settings: Map<String, Value>,
    /// Let `format` overwrite what is not ours.
    pub overwrite_foreign: bool,
    /// Where the config is in a directory made for it: that goes with the last copy of this.
    #[serde(skip)]
    pub(crate) _scratch: Option<Arc<Scratch>>,
}

/// To the worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// Load the plugin; the first command. Answered by `Loaded` or `Refused`.
    Load(Box<Subject>),
    /// Run cases of the suite. Answered by `Started` and `Ended` of each, then `Done`.
    Check {
        /// Short names.
        cases: Vec<String>,
        /// Class configs that the plugin must refuse.
        refuse: Vec<Map<String, Value>>,
        /// Seed of random data.
        seed: u64,
    },
    /// Play a role in a case of another process; talks by `Tell` and `Told` until it ends.
    Play(String),
    /// Says something to a role.
    Tell(String),
    /// Prepare the storage under test for measurements. Answered by `Done` or `Failed`.
    Prepare,
    /// Measure. Answered by `Measured` or `Failed`.
    Measure(Measurement),
    /// Give the storage back. Answered by `Done` or `Failed`.
    GiveBack,
}

/// From the worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// The plugin is loaded.
    Loaded,
    /// It is not, and why.
    Refused(String),
    /// A case starts.
    Started(String),
    /// A case ended.
    Ended {
        /// Short name.
        case: String,
        /// How.
        verdict: Verdict,
        /// Why, unless it passed.
        reason: String,
        /// How long it took, in microseconds.
        micros: u64,
    },
    /// A role says something.
    Told(String),
    /// A command was carried out.
    Done,
    /// It was not.
    Failed(String),
    /// Result of a measurement; `None` if the class cannot do it, with the reason.
    Measured(Result<Box<Measured>, String>),
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The promise holds.
    Passed,
    /// The plugin does not make the promise.
    Skipped,
    /// The promise is broken.
    Failed,
    /// It could not be tried, since the plugin does not start.
    NotRun,
}

impl Verdict {
    /// As it is printed.
    pub fn text(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
            Self::Failed => "FAILED",
            Self::NotRun => "not run",
        }
    }
}
