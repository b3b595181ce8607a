//! A file as an index sees it: what was not synced is lost, torn or reordered by a crash.

use crate::plugin::lock;
use crate::power::{Load, Power, Survival};
use crate::random::Random;
use daos_plugin_api::sdk::Result;
use std::io;
use std::sync::{Arc, Mutex};

/// What a crash keeps or loses as a whole.
const SECTOR: usize = 512;

enum Change {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

#[derive(Default)]
struct State {
    /// As programs see it.
    now: Vec<u8>,
    /// As the medium has it.
    durable: Vec<u8>,
    /// What is on its way to the medium, oldest first.
    pending: Vec<Change>,
    life: u64,
}

struct Medium(Mutex<State>);

/// A file in memory whose changes are durable once synced. What was opened before a crash is dead
/// after it. The medium lives as long as this.
pub struct CrashFile {
    medium: Arc<Medium>,
    power: Power,
}

/// An open [`CrashFile`].
pub struct OpenFile {
    medium: Arc<Medium>,
    power: Power,
    life: u64,
    limit: u64,
}

impl CrashFile {
    /// An empty file.
    pub fn new(power: &Power) -> Self {
        let medium = Arc::new(Medium(Mutex::default()));
        let load: Arc<dyn Load> = medium.clone();
        power.connect(&load);
        Self {
            medium,
            power: power.clone(),
        }
    }

    /// Opens it; it may grow up to `limit` bytes.
    pub fn open(&self, limit: u64) -> OpenFile {
        OpenFile {
            life: lock(&self.medium.0).life,
            medium: Arc::clone(&self.medium),
            power: self.power.clone(),
            limit,
        }
    }

    /// What is on the medium.
    pub fn image(&self) -> Vec<u8> {
        lock(&self.medium.0).durable.clone()
    }

    /// Changes a byte of it, on the medium and as programs see it.
    pub fn flip(&self, offset: usize, mask: u8) {
        let mut state = lock(&self.medium.0);
        state.durable[offset] ^= mask;
        state.now[offset] ^= mask;
    }
}

impl Load for Medium {
    /// Of what was not synced a random part reaches the medium, sector by sector.
    fn crash(&self, random: &mut Random, survival: &mut Survival) -> Result<()> {
        let mut state = lock(&self.0);
        state.life += 1;
        // Sometimes nearly all of it was on its way, sometimes nearly nothing.
        let odds = [0, 1, 8, 15, 16][random.below(5)];
        let pending = std::mem::take(&mut state.pending);
        let mut keep = |survival: &mut Survival| {
            let kept = random.below(16) < odds;
            *if kept {
                &mut survival.kept
            } else {
                &mut survival.lost
            } += 1;
            kept
        };
        for change in pending {
            match change {
                Change::Length(len) => {
                    if keep(survival) {
                        state.durable.resize(len, 0);
                    }
                }
                Change::Write { offset, data } => {
                    let mut at = offset;
                    while at < offset + data.len() {
                        let end = (at / SECTOR + 1) * SECTOR;
                        let end = end.min(offset + data.len());
                        if keep(survival) {
                            let len = state.durable.len().max(end);
                            state.durable.resize(len, 0);
                            state.durable[at..end]
                                .copy_from_slice(&data[at - offset..end - offset]);
                        }
                        at = end;
                    }
                }
            }
        }
        state.now = state.durable.clone();
        Ok(())
    }
}

impl OpenFile {
    fn with<R>(&self, f: impl FnOnce(&mut State) -> io::Result<R>) -> io::Result<R> {
        let mut state = lock(&self.medium.0);
        if state.life != self.life || self.power.is_off() {
            return Err(io::Error::other("the power is off"));
        }
        f(&mut state)
    }

    fn draw(&self) -> io::Result<()> {
        if self.power.draw() {
            return Ok(());
        }
        Err(io::Error::other("the power is off"))
    }
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenFile of life {}", self.life)
    }
}

impl redb::StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.now.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|state| {
            let start = offset as usize; // files fit into memory
            let found = state.now.get(start..start + out.len());
            let found = found.ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(found);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.draw()?;
        if len > self.limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.with(|state| {
            state.now.resize(len as usize, 0); // files fit into memory
            state.pending.push(Change::Length(len as usize));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.draw()?;
        self.with(|state| {
            for change in std::mem::take(&mut state.pending) {
                match change {
                    Change::Length(len) => state.durable.resize(len, 0),
                    Change::Write { offset, data } => {
                        let len = state.durable.len().max(offset + data.len());
                        state.durable.resize(len, 0);
                        state.durable[offset..offset + data.len()].copy_from_slice(&data);
                    }
                }
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.draw()?;
        self.with(|state| {
            let start = offset as usize; // files fit into memory
            let end = start + data.len();
            if end > state.now.len() {
                state.now.resize(end, 0);
            }
            state.now[start..end].copy_from_slice(data);
            state.pending.push(Change::Write {
                offset: start,
                data: data.to_vec(),
            });
            Ok(())
        })
    }
}
