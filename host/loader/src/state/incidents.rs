//! What plugins did to processes, for whoever asks later why one is in quarantine or an engine was started again.
//!
//! The file stays small: of each plugin the newest incidents, of each incident the last lines.

use super::{StateDir, StateError};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

const FILE: &str = "incidents.json";

/// Most that are kept of one plugin, so that one that dies all the time hides no other.
const OF_ONE: usize = 16;
/// Most that are kept in all.
const OF_ALL: usize = 128;
/// Most log lines of one.
const LINES: usize = 10;
/// Most characters of a line.
const LINE: usize = 400;

/// What a plugin did to a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Name of the plugin.
    pub plugin: String,
    /// "helper" or "engine N".
    pub process: String,
    /// What happened, in which operation or call, in a sentence.
    pub what: String,
    /// Last log lines, oldest first.
    pub log: Vec<String>,
}

impl Incident {
    /// One of this moment.
    pub fn now(plugin: &str, process: &str, what: String, log: Vec<String>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let at_ms = since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        Self {
            at_ms,
            plugin: plugin.to_owned(),
            process: process.to_owned(),
            what,
            log,
        }
    }

    /// No longer than what is kept.
    fn cut(mut self) -> Self {
        let from = self.log.len().saturating_sub(LINES);
        self.log.drain(..from);
        for line in self.log.iter_mut().chain([&mut self.what]) {
            if let Some((at, _)) = line.char_indices().nth(LINE) {
                line.truncate(at);
                line.push_str(" ...");
            }
        }
        self
    }
}

/// The document, oldest first.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    incidents: Vec<Incident>,
}

impl Document {
    fn add(&mut self, incident: Incident) {
        let plugin = incident.plugin.clone();
        self.incidents.push(incident);
        let of_it = |i: &Incident| i.plugin == plugin;
        while self.incidents.iter().filter(|i| of_it(i)).count() > OF_ONE
            && let Some(oldest) = self.incidents.iter().position(of_it)
        {
            self.incidents.remove(oldest);
        }
        let more = self.incidents.len().saturating_sub(OF_ALL);
        self.incidents.drain(..more);
    }
}

impl StateDir {
    /// Takes note of an incident; the oldest ones give way. A file that cannot be understood is begun anew: what it
    /// held is told by the log as well.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn incident_add(&self, incident: Incident) -> Result<(), StateError> {
        let _lock = self.lock()?;
        let mut document: Document = match self.read(FILE) {
            Err(error) if error.verb == "understand" => {
                tracing::warn!("the history of plugins is begun anew: {error}");
                Document::default()
            }
            read => read?,
        };
        document.add(incident.cut());
        self.write(FILE, &document)
    }

    /// The incidents of all plugins, oldest first.
    ///
    /// # Errors
    /// The state directory cannot be used.
    pub fn all_incidents(&self) -> Result<Vec<Incident>, StateError> {
        Ok(self.read::<Document>(FILE)?.incidents)
    }

    /// The incidents of a plugin, oldest first.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn incidents(&self, plugin: &str) -> Result<Vec<Incident>, StateError> {
        let mut all = self.read::<Document>(FILE)?.incidents;
        all.retain(|incident| incident.plugin == plugin);
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(plugin: &str, number: usize) -> Incident {
        Incident::now(plugin, "helper", format!("death {number}"), Vec::new())
    }

    #[test]
    fn the_newest_of_each_plugin_are_kept_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.incidents("quiet").unwrap(), []);
        state.incident_add(incident("quiet", 0)).unwrap();
        for number in 0..OF_ONE + 5 {
            state.incident_add(incident("loud", number)).unwrap();
        }
        let again = StateDir::open(dir.path()).unwrap();
        assert_eq!(again.incidents("quiet").unwrap().len(), 1);
        let loud = again.incidents("loud").unwrap();
        assert_eq!(loud.len(), OF_ONE);
        assert_eq!(loud[0].what, "death 5");
        for plugin in 0..OF_ALL {
            state
                .incident_add(incident(&plugin.to_string(), 0))
                .unwrap();
        }
        assert_eq!(again.incidents("quiet").unwrap(), []);
        assert_eq!(again.incidents("7").unwrap().len(), 1);
    }

    #[test]
    fn the_file_stays_small_whatever_is_logged() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let long = "\u{fc}".repeat(100_000);
        for _ in 0..OF_ONE + 2 {
            let log = vec![long.clone(); 50];
            let incident = Incident::now("p", "engine 0", long.clone(), log);
            state.incident_add(incident).unwrap();
        }
        // Each character has two bytes.
        let most = OF_ONE * (LINES + 1) * (2 * LINE + 100);
        let size = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
        assert!(size < most as u64, "{size}, at most {most}");
        let kept = state.incidents("p").unwrap();
        assert!(
            kept.iter()
                .all(|i| i.log.len() == LINES && i.what.ends_with(" ..."))
        );
    }

    #[test]
    fn a_damaged_file_is_told_and_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        for damage in ["", "{", "[]", "{\"incidents\": 7}"] {
            std::fs::write(dir.path().join(FILE), damage).unwrap();
            assert!(state.incidents("x").is_err(), "{damage}");
            state.incident_add(incident("x", 1)).unwrap();
            assert_eq!(state.incidents("x").unwrap().len(), 1, "{damage}");
        }
    }
}
