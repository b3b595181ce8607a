//! Records of runs in the state directory: one file each, replaced as a whole, the newest ones kept.

use daos_burnin::{Record, RunState};
use daos_media::atomic;
use std::path::{Path, PathBuf};
use tracing::warn;

/// Runs that are kept.
const KEPT: usize = 32;
/// Most bytes of a record.
const LIMIT: u64 = 64 << 20;
const MODE: u32 = 0o600;

/// The directory of records.
#[derive(Clone)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join("burn-in"),
        }
    }

    fn path(&self, run: &str) -> PathBuf {
        self.dir.join(format!("{run}.json"))
    }

    /// Reads what there is, oldest first. A run that the last server left running has been interrupted.
    pub(super) fn load(&self) -> Vec<Record> {
        let mut records = Vec::new();
        // Without a directory there are none.
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.extension().is_none_or(|kind| kind != "json") {
                continue;
            }
            match read(&path) {
                Ok(record) => records.push(record),
                Err(why) => warn!("{} is left out: {why}", path.display()),
            }
        }
        records.sort_by_key(|record| (record.started_ms, record.run.clone()));
        for record in &mut records {
            if record.state == RunState::Running {
                interrupted(record);
                if let Err(error) = self.save(record) {
                    warn!("{error}");
                }
            }
        }
        records
    }

    /// Writes a record.
    ///
    /// # Errors
    /// It cannot be written, in a sentence.
    pub(super) fn save(&self, record: &Record) -> Result<(), String> {
        let path = self.path(&record.run);
        let failed = |why: &dyn std::fmt::Display| {
            format!(
                "the record of burn-in {} cannot be kept in {}: {why}",
                record.run,
                self.dir.display()
            )
        };
        std::fs::create_dir_all(&self.dir).map_err(|e| failed(&e))?;
        let text = serde_json::to_vec(record).map_err(|e| failed(&e))?;
        atomic::write(&path, MODE, &text).map_err(|e| failed(&e))
    }

    /// Takes the oldest ones away of those that ended, so that one more has room.
    pub(super) fn make_room(&self, records: &mut Vec<Record>) {
        while records.len() >= KEPT {
            let Some(oldest) = records.iter().position(|r| r.state != RunState::Running) else {
                return;
            };
            let record = records.remove(oldest);
            if let Err(error) = atomic::remove(&self.path(&record.run)) {
                warn!("{error}");
            }
        }
    }
}

fn read(path: &Path) -> Result<Record, String> {
    let bytes = atomic::read(path, LIMIT).map_err(|e| e.to_string())?;
    let record: Record =
        serde_json::from_slice(&bytes.unwrap_or_default()).map_err(|e| e.to_string())?;
    let named = path.file_stem().is_some_and(|stem| *stem == *record.run);
    match (record.is_known(), named) {
        (true, true) => Ok(record),
        (false, _) => Err("it is of another version of this program".to_owned()),
        (true, false) => Err(format!("it holds run {}", record.run)),
    }
}

fn interrupted(record: &mut Record) {
    let seen = record
        .devices
        .iter()
        .map(|d| d.elapsed_ms)
        .max()
        .unwrap_or(0);
    for device in &mut record.devices {
        device.cut_short = true;
    }
    // The last that is known of it; nobody knows when the server ended.
    let ended = record.started_ms + seen;
    let reason = format!(
        "the server ended while it ran; what was measured in the first {} s is here",
        seen / 1000
    );
    record.end(ended, RunState::Interrupted, &reason);
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_burnin::{DeviceRecord, Load};

    fn record(run: &str, started_ms: u64) -> Record {
        let mut device = DeviceRecord::new("file:/a".to_owned(), "bdev-file".to_owned());
        device.elapsed_ms = 7000;
        Record::new(
            run.to_owned(),
            "h".to_owned(),
            started_ms,
            Load::default(),
            vec![device],
        )
    }

    #[test]
    fn a_run_that_was_left_running_was_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert!(store.load().is_empty());
        store.save(&record("b2", 20)).unwrap();
        let mut ended = record("b1", 10);
        ended.end(15, RunState::Passed, "");
        store.save(&ended).unwrap();
        std::fs::write(dir.path().join("burn-in/b3.json"), "{").unwrap();
        std::fs::write(
            dir.path().join("burn-in/b4.json"),
            std::fs::read(dir.path().join("burn-in/b1.json")).unwrap(),
        )
        .unwrap();
        for _ in 0..2 {
            let records = store.load();
            assert_eq!(records.len(), 2);
            assert_eq!(
                (records[0].run.as_str(), records[0].state),
                ("b1", RunState::Passed)
            );
            assert_eq!(records[1].state, RunState::Interrupted);
            assert_eq!(records[1].ended_ms, 7020);
            assert!(records[1].devices[0].cut_short && records[1].reason.contains("7 s"));
        }
    }

    #[test]
    fn the_oldest_ones_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let mut records: Vec<Record> = (0..KEPT as u64)
            .map(|n| record(&format!("b{n}"), n))
            .collect();
        for (n, record) in records.iter_mut().enumerate() {
            if n > 0 {
                record.end(99, RunState::Passed, "");
            }
            store.save(record).unwrap();
        }
        store.make_room(&mut records);
        assert_eq!(records.len(), KEPT - 1);
        assert_eq!(records[0].run, "b0", "it still runs");
        assert!(!dir.path().join("burn-in/b1.json").exists());
    }
}
