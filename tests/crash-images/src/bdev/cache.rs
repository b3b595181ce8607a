//! The cache: versions of units that are not on the medium yet.

use crate::power::Survival;
use crate::random::Random;
use daos_plugin_api::host::SyncBdev;
use daos_plugin_api::sdk::Result;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// One write's part of a unit. The data is that of the whole unit.
struct Version {
    write: u64,
    data: Arc<[u8]>,
}

/// Cached units, oldest version first.
pub(super) struct Cache {
    /// Bytes per unit: what a crash keeps or loses as a whole.
    unit: usize,
    /// Bytes of the medium.
    size: u64,
    units: BTreeMap<u64, Vec<Version>>,
    /// Units of each write that has a version left.
    writes: HashMap<u64, BTreeSet<u64>>,
    /// Writes that the host has seen complete: a flush submitted from now on covers them.
    completed: HashSet<u64>,
    next_write: u64,
}

impl Cache {
    pub(super) fn new(unit: usize, size: u64) -> Self {
        Self {
            unit,
            size,
            units: BTreeMap::new(),
            writes: HashMap::new(),
            completed: HashSet::new(),
            next_write: 1,
        }
    }

    /// Bytes of unit number `index`: the last one may be shorter.
    fn length(&self, index: u64) -> usize {
        let start = index * self.unit as u64;
        (self.size - start).min(self.unit as u64) as usize
    }

    /// Reads through the cache.
    pub(super) fn read(&self, medium: &mut SyncBdev, at: u64, out: &mut [u8]) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        medium.read(at, out)?;
        let end = at + out.len() as u64;
        let unit = self.unit as u64;
        for (index, versions) in self.units.range(at / unit..=(end - 1) / unit) {
            let Some(last) = versions.last() else {
                continue;
            };
            let start = index * unit;
            let from = start.max(at);
            let to = (start + last.data.len() as u64).min(end);
            let part = &last.data[(from - start) as usize..(to - start) as usize];
            out[(from - at) as usize..(to - at) as usize].copy_from_slice(part);
        }
        Ok(())
    }

    /// Caches a write and returns its number. `completed` when the host has seen it complete.
    pub(super) fn write(&mut self, medium: &mut SyncBdev, at: u64, data: &[u8]) -> Result<u64> {
        let number = self.next_write;
        self.next_write += 1;
        let unit = self.unit as u64;
        let end = at + data.len() as u64;
        let mut index = at / unit;
        while index * unit < end {
            let start = index * unit;
            let len = self.length(index) as u64;
            let (from, to) = (start.max(at), (start + len).min(end));
            let mut whole = vec![0; len as usize];
            if to - from < len {
                self.read(medium, start, &mut whole)?;
            }
            whole[(from - start) as usize..(to - start) as usize]
                .copy_from_slice(&data[(from - at) as usize..(to - at) as usize]);
            self.units.entry(index).or_default().push(Version {
                write: number,
                data: whole.into(),
            });
            self.writes.entry(number).or_default().insert(index);
            index += 1;
        }
        Ok(number)
    }

    /// The host sees that a write completed.
    pub(super) fn complete(&mut self, write: u64) {
        if self.writes.contains_key(&write) {
            self.completed.insert(write);
        }
    }

    /// Writes that a flush submitted now covers.
    pub(super) fn covered(&self) -> HashSet<u64> {
        self.completed.clone()
    }

    /// Puts these writes on the medium, and with them what they replaced out of the cache.
    pub(super) fn settle(&mut self, medium: &mut SyncBdev, writes: &HashSet<u64>) -> Result<()> {
        let touched: BTreeSet<u64> = writes
            .iter()
            .filter_map(|write| self.writes.get(write))
            .flatten()
            .copied()
            .collect();
        let mut settled = Vec::new();
        for index in touched {
            let Some(versions) = self.units.get_mut(&index) else {
                continue;
            };
            let Some(last) = versions.iter().rposition(|v| writes.contains(&v.write)) else {
                continue;
            };
            settled.push((index, Arc::clone(&versions[last].data)));
            let gone: Vec<Version> = versions.drain(..=last).collect();
            if versions.is_empty() {
                self.units.remove(&index);
            }
            for version in gone {
                self.forget(version.write, index);
            }
        }
        self.put(medium, &settled)
    }

    /// A write has no version of this unit any more.
    fn forget(&mut self, write: u64, index: u64) {
        if let Some(units) = self.writes.get_mut(&write) {
            units.remove(&index);
            if units.is_empty() {
                self.writes.remove(&write);
                self.completed.remove(&write);
            }
        }
    }

    /// Keeps any version of each unit, or none.
    pub(super) fn crash(
        &mut self,
        medium: &mut SyncBdev,
        random: &mut Random,
        survival: &mut Survival,
    ) -> Result<()> {
        let mut kept = Vec::new();
        for (index, versions) in &self.units {
            let choice = random.below(versions.len() + 1);
            match choice.checked_sub(1) {
                Some(n) => {
                    survival.kept += 1;
                    kept.push((*index, Arc::clone(&versions[n].data)));
                }
                None => survival.lost += 1,
            }
        }
        self.units.clear();
        self.writes.clear();
        self.completed.clear();
        self.put(medium, &kept)
    }

    /// Writes units (lowest first) to the medium, neighbours together, in whole blocks of it.
    fn put(&self, medium: &mut SyncBdev, units: &[(u64, Arc<[u8]>)]) -> Result<()> {
        let block = u64::from(medium.device().geometry().block_size);
        for run in units.chunk_by(|a, b| a.0 + 1 == b.0) {
            let start = run[0].0 * self.unit as u64;
            let data: Vec<u8> = run
                .iter()
                .flat_map(|(_, data)| data.iter().copied())
                .collect();
            let end = start + data.len() as u64;
            let (first, last) = (start / block * block, end.next_multiple_of(block));
            if (first, last) == (start, end) {
                medium.write(start, &data)?;
                continue;
            }
            // Torn blocks at the ends: the rest of them is what the medium has.
            let mut whole = vec![0; (last - first) as usize];
            medium.read(first, &mut whole)?;
            whole[(start - first) as usize..][..data.len()].copy_from_slice(&data);
            medium.write(first, &whole)?;
        }
        Ok(())
    }
}
