//! Command lines of `plugin new`, `check` and `bench`.

use clap::Args;
use daos_kit::Choice;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::time::Duration;

/// Reads a JSON object.
fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("it is no JSON object, like '{\"key\": 1}'".to_owned()),
        Err(e) => Err(format!("it is no JSON: {e}")),
    }
}

fn pattern(text: &str) -> Result<glob::Pattern, String> {
    glob::Pattern::new(text).map_err(|e| e.to_string())
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(n) if n > 0.0 && n <= 86400.0 => Ok(Duration::from_secs_f64(n)),
        _ => Err("it is no number of seconds above 0".to_owned()),
    }
}

/// What the plugin is tried on.
#[derive(Args)]
pub(crate) struct OnWhat {
    /// Class to try, where the plugin has several; of a fabric, the provider.
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// What to run on: path or address of a block device (may be repeated), mount point of SCM, interface of
    /// a fabric. ITS CONTENTS ARE LOST.
    #[arg(long = "device", value_name = "WHAT")]
    devices: Vec<String>,
    /// Keys of the class, as in the configuration file [default: the first of `examples` in the class's schema]
    #[arg(long, value_name = "JSON", value_parser = object)]
    class_config: Option<Map<String, Value>>,
    /// The plugin's settings, as in `plugins: NAME: settings:`
    #[arg(long, value_name = "JSON", value_parser = object)]
    settings: Option<Map<String, Value>>,
    /// Overwrite devices whose contents are not ours.
    #[arg(long)]
    overwrite_foreign: bool,
}

impl OnWhat {
    pub(super) fn choice(&self) -> Choice {
        Choice {
            class: self.class.clone(),
            config: self.class_config.clone().unwrap_or_default(),
            settings: self.settings.clone().unwrap_or_default(),
            devices: self.devices.clone(),
            overwrite_foreign: self.overwrite_foreign,
        }
    }
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// The plugin's shared object.
    #[arg(required_unless_present = "list")]
    pub(super) file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) on: OnWhat,
    /// Only cases whose short name or rule matches: 'queue.*', '*flush*'
    #[arg(long, value_name = "GLOB", value_parser = pattern)]
    pub(super) case: Option<glob::Pattern>,
    /// Not cases whose short name or rule matches; may be repeated. The report tells them as skipped.
    #[arg(long, value_name = "GLOB", value_parser = pattern)]
    pub(super) skip: Vec<glob::Pattern>,
    /// Run the suite N times.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) repeat: u32,
    /// Write the report as JUnit XML, too.
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// A class config that the plugin must refuse; may be repeated.
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub(super) refuse: Vec<Map<String, Value>>,
    /// Longest time of a case, in seconds; then its process is killed.
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub(super) deadline: Duration,
    /// Run all cases in one process, as an engine would live; else each has one of its own.
    #[arg(long)]
    pub(super) together: bool,
    /// Seed of random data and places.
    #[arg(long, value_name = "N", default_value_t = 0xda05)]
    pub(super) seed: u64,
    /// List the cases of each kind with their rules, and run nothing.
    #[arg(long, conflicts_with = "file")]
    pub(super) list: bool,
}

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// The plugin's shared object.
    pub(super) file: PathBuf,
    /// Another one, measured in turns with the first.
    pub(super) other: Option<PathBuf>,
    #[command(flatten)]
    pub(super) on: OnWhat,
    /// Class of the other plugin [default: as for the first]
    #[arg(long, value_name = "NAME", requires = "other")]
    pub(super) other_class: Option<String>,
    /// What the other plugin runs on [default: as for the first]
    #[arg(long = "other-device", value_name = "WHAT", requires = "other")]
    pub(super) other_devices: Vec<String>,
    /// Keys of the other plugin's class [default: as for the first]
    #[arg(long, value_name = "JSON", value_parser = object, requires = "other")]
    pub(super) other_config: Option<Map<String, Value>>,
    /// Settings of the other plugin [default: none]
    #[arg(long, value_name = "JSON", value_parser = object, requires = "other")]
    pub(super) other_settings: Option<Map<String, Value>>,
    /// Only cases whose name matches: 'read-*'
    #[arg(long, value_name = "GLOB", value_parser = pattern)]
    pub(super) case: Option<glob::Pattern>,
    /// Rounds; each measures every plugin once.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) rounds: u32,
    /// Time of each case, plugin and round, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "0.4", value_parser = seconds)]
    pub(super) time: Duration,
}

impl BenchArgs {
    /// What the other plugin is tried on.
    pub(super) fn other_choice(&self) -> Choice {
        let first = self.on.choice();
        Choice {
            class: self.other_class.clone().or(first.class),
            config: self.other_config.clone().unwrap_or(first.config),
            settings: self.other_settings.clone().unwrap_or_default(),
            devices: match self.other_devices.is_empty() {
                true => first.devices,
                false => self.other_devices.clone(),
            },
            overwrite_foreign: first.overwrite_foreign,
        }
    }
}

#[derive(Args)]
pub(crate) struct NewArgs {
    /// Kind and class: bdev-acme, scm-acme or fabric-acme
    pub(super) name: String,
    /// Where to write it; must not exist [default: the name]
    pub(super) directory: Option<PathBuf>,
    /// Write it in C: a source, the header and a Makefile.
    #[arg(long)]
    pub(super) c: bool,
    /// Directory of the crate daos-plugin-api [default: a copy is written beside the plugin]
    #[arg(long, value_name = "DIR", conflicts_with = "c")]
    pub(super) api: Option<PathBuf>,
}
