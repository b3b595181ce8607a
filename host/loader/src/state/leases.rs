//! Which engine has which device. A device belongs to one process at a time; while an engine has
//! it, no helper opens it.

use super::{StateDir, StateError, now};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const FILE: &str = "leases.json";

/// The holder of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Process id of the engine.
    pub pid: u32,
    /// Start time of that process in clock ticks since boot: tells it from a later process that
    /// got the same id.
    pub started: u64,
    /// Index of the engine in the config; 0 for a burn-in.
    pub engine: u32,
    /// The burn-in that has the device, if it is no engine that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burn_in: Option<String>,
    /// An update of its firmware has the device.
    #[serde(default, skip_serializing_if = "is_false")]
    pub firmware: bool,
    /// Seconds since 1970.
    pub since: u64,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// For what a process wants devices.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose<'a> {
    Engine(u32),
    BurnIn(&'a str),
    Firmware,
}

impl Lease {
    fn purpose(&self) -> Purpose<'_> {
        match &self.burn_in {
            _ if self.firmware => Purpose::Firmware,
            Some(run) => Purpose::BurnIn(run),
            None => Purpose::Engine(self.engine),
        }
    }

    /// Who has the device, in words.
    pub fn holder(&self) -> String {
        match &self.burn_in {
            _ if self.firmware => format!("a firmware update (process {})", self.pid),
            Some(run) => format!("burn-in {run} (process {})", self.pid),
            None => format!("engine {} (process {})", self.engine, self.pid),
        }
    }

    fn remedy(&self) -> String {
        match &self.burn_in {
            _ if self.firmware => "wait for its end".to_owned(),
            Some(run) => format!("wait for its end, or: daos_shell storage burn-in stop {run}"),
            None => "stop that engine, or give the engines different devices".to_owned(),
        }
    }

    /// Whether the holder still runs.
    pub fn is_live(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

/// All leases by device, as they were when this was read. A device is written `CLASS:ADDRESS`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// The leases.
    pub devices: BTreeMap<String, Lease>,
}

/// A lease was not given.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else has the device.
    #[error("{device} is in use by {}; {}", holder.holder(), holder.remedy())]
    Held {
        /// The device.
        device: String,
        /// Who has it.
        holder: Lease,
    },
    /// The process that asks is gone.
    #[error("process {pid} of engine {engine} is gone")]
    NoProcess {
        /// Its id.
        pid: u32,
        /// Its engine; 0 for a burn-in.
        engine: u32,
    },
    /// The record cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
}

impl StateDir {
    /// Reads the leases of running processes.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn leases(&self) -> Result<Leases, StateError> {
        let mut leases: Leases = self.read(FILE)?;
        leases.devices.retain(|_, lease| lease.is_live());
        Ok(leases)
    }

    /// Gives all of `devices` to the process `pid` of `engine`, or none. Leases of dead processes do
    /// not count.
    ///
    /// # Errors
    /// One of them is held by another live process; `pid` is gone; the record cannot be written.
    pub fn lease(&self, devices: &[String], engine: u32, pid: u32) -> Result<(), LeaseError> {
        self.take(devices, pid, Purpose::Engine(engine))
    }

    /// Gives all of `devices` to a burn-in of the daemon's process `pid`, or none.
    ///
    /// # Errors
    /// As for [`StateDir::lease`]; another burn-in of the same process counts as another holder.
    pub fn lease_to_burn_in(
        &self,
        devices: &[String],
        run: &str,
        pid: u32,
    ) -> Result<(), LeaseError> {
        self.take(devices, pid, Purpose::BurnIn(run))
    }

    /// Gives all of `devices` to the firmware update of process `pid`, or none.
    ///
    /// # Errors
    /// As for [`StateDir::lease`].
    pub fn lease_to_firmware(&self, devices: &[String], pid: u32) -> Result<(), LeaseError> {
        self.take(devices, pid, Purpose::Firmware)
    }

    fn take(&self, devices: &[String], pid: u32, purpose: Purpose<'_>) -> Result<(), LeaseError> {
        let engine = match purpose {
            Purpose::Engine(engine) => engine,
            _ => 0,
        };
        let started = start_time(pid).ok_or(LeaseError::NoProcess { pid, engine })?;
        // The same process for the same: an engine's index is part of its process.
        let same = |l: &Lease| match (l.purpose(), purpose) {
            (Purpose::Engine(_), Purpose::Engine(_)) => true,
            (a, b) => a == b,
        };
        let other = |l: &&Lease| l.pid != pid || !same(l);
        self.update(FILE, |leases: &mut Leases| {
            leases.devices.retain(|_, lease| lease.is_live());
            for device in devices {
                if let Some(holder) = leases.devices.get(device).filter(other) {
                    let (device, holder) = (device.clone(), holder.clone());
                    return (false, Err(LeaseError::Held { device, holder }));
                }
            }
            for device in devices {
                let lease = Lease {
                    pid,
                    started,
                    engine,
                    burn_in: match purpose {
                        Purpose::BurnIn(run) => Some(run.to_owned()),
                        _ => None,
                    },
                    firmware: purpose == Purpose::Firmware,
                    since: now(),
                };
                leases.devices.insert(device.clone(), lease);
            }
            (true, Ok(()))
        })?
    }

    /// Ends every lease of a burn-in.
    ///
    /// # Errors
    /// The change cannot be written.
    pub fn release_burn_in(&self, run: &str) -> Result<(), StateError> {
        self.update(FILE, |leases: &mut Leases| {
            let before = leases.devices.len();
            leases
                .devices
                .retain(|_, l| l.burn_in.as_deref() != Some(run) && l.is_live());
            (leases.devices.len() != before, ())
        })
    }

    /// Ends every lease of the firmware update of a process.
    ///
    /// # Errors
    /// The change cannot be written.
    pub fn release_firmware(&self, pid: u32) -> Result<(), StateError> {
        self.update(FILE, |leases: &mut Leases| {
            let before = leases.devices.len();
            leases
                .devices
                .retain(|_, l| !(l.firmware && l.pid == pid) && l.is_live());
            (leases.devices.len() != before, ())
        })
    }

    /// Ends every lease of a process.
    ///
    /// # Errors
    /// The change cannot be written.
    pub fn release(&self, pid: u32) -> Result<(), StateError> {
        self.update(FILE, |leases: &mut Leases| {
            let before = leases.devices.len();
            leases.devices.retain(|_, l| l.pid != pid && l.is_live());
            (leases.devices.len() != before, ())
        })
    }
}

/// Field 22 of `/proc/PID/stat`; `None` if the process is gone or a zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name is in parentheses and may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn a_device_has_one_live_holder() {
        let scratch = tempfile::tempdir().unwrap();
        let state = StateDir::open(scratch.path().join("state")).unwrap();
        let me = std::process::id();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        state
            .lease(&names(&["nvme:a", "nvme:b"]), 0, child.id())
            .unwrap();
        let error = state
            .lease(&names(&["nvme:c", "nvme:b"]), 1, me)
            .unwrap_err();
        assert!(matches!(&error, LeaseError::Held { holder, .. } if holder.engine == 0));
        assert!(error.to_string().contains("nvme:b"), "{error}");
        // All or none.
        assert!(!state.leases().unwrap().devices.contains_key("nvme:c"));
        child.kill().unwrap();
        // A zombie holds nothing, nor does a process that is gone.
        while state.leases().unwrap().devices.contains_key("nvme:b") {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let error = state.lease(&names(&["nvme:b"]), 2, child.id()).unwrap_err();
        assert!(matches!(error, LeaseError::NoProcess { .. }), "{error}");
        child.wait().unwrap();
        state.lease(&names(&["nvme:b"]), 1, me).unwrap();
        assert_eq!(state.leases().unwrap().devices["nvme:b"].pid, me);
        state.release(me).unwrap();
        assert!(state.leases().unwrap().devices.is_empty());
    }

    #[test]
    fn a_firmware_update_is_a_holder_of_its_own() {
        let scratch = tempfile::tempdir().unwrap();
        let state = StateDir::open(scratch.path().join("state")).unwrap();
        let me = std::process::id();
        state.lease_to_firmware(&names(&["nvme:a"]), me).unwrap();
        state
            .lease_to_burn_in(&names(&["nvme:b"]), "b1", me)
            .unwrap();
        for result in [
            state.lease_to_burn_in(&names(&["nvme:a"]), "b2", me),
            state.lease(&names(&["nvme:a"]), 0, me),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("a firmware update (process"), "{error}");
        }
        let error = state.lease_to_firmware(&names(&["nvme:b"]), me);
        assert!(error.unwrap_err().to_string().contains("burn-in b1"));
        state.release_firmware(me).unwrap();
        let left = state.leases().unwrap();
        assert_eq!(left.devices.keys().collect::<Vec<_>>(), ["nvme:b"]);
        state.lease(&names(&["nvme:a"]), 3, me).unwrap();
    }

    #[test]
    fn burn_ins_of_one_process_are_different_holders() {
        let scratch = tempfile::tempdir().unwrap();
        let state = StateDir::open(scratch.path().join("state")).unwrap();
        let me = std::process::id();
        let both = names(&["file:a", "file:b"]);
        state.lease_to_burn_in(&both, "b1", me).unwrap();
        for result in [
            state.lease_to_burn_in(&names(&["file:b"]), "b2", me),
            state.lease(&names(&["file:b"]), 3, me),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(
                error.contains("burn-in b1") && error.contains("burn-in stop b1"),
                "{error}"
            );
        }
        state.release_burn_in("b2").unwrap();
        assert_eq!(state.leases().unwrap().devices.len(), 2);
        state.release_burn_in("b1").unwrap();
        state.lease(&both, 3, me).unwrap();
    }
}
