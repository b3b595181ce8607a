//! Log, index, table of clients and free space against power failures at random moments, in the middle
//! of recoveries, too: an SCM that keeps what was persisted and some words more, an index file that
//! keeps what was synced and some sectors more.
//!
//! `SOAK=1` tries thousands of failures, `CRASH_SEED=n` repeats one run.

use super::*;
use crate::index::value::Extent;
use crate::log::fake::{Fake, coin};
use crash_images::{CrashFile, Power};
use daos_plugin_api::abi::Status;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use uuid::Uuid;

const ME: Identity = Identity {
    engine: Uuid::from_u128(7),
    target: 0,
};
const UNITS: u64 = 60;
const LIMIT: u64 = 1 << 20;
const FILE: u64 = 32 << 20;

/// What is under a key: which value, and where.
type Model = BTreeMap<Vec<u8>, (u32, Option<Extents>)>;

/// Persistent memory that fails with the power.
#[derive(Clone)]
struct Scm {
    fake: Rc<RefCell<Fake>>,
    power: Power,
}

impl LogMemory for Scm {
    fn len(&self) -> usize {
        self.fake.borrow().len()
    }
    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), Status> {
        self.fake.borrow().read(offset, out)
    }
    fn write(&mut self, offset: usize, data: &[u8]) {
        self.fake.borrow_mut().write(offset, data);
    }
    fn persist(&mut self, offset: usize, len: usize) -> Result<(), LogError> {
        if !self.power.draw() {
            return Err(Status::DEVICE_GONE.into());
        }
        self.fake.borrow_mut().persist(offset, len)
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// A machine: its storage, and what it was asked to keep.
struct Machine {
    power: Power,
    scm: Scm,
    file: CrashFile,
    /// Which value each unit of the block device holds; durable at once, as written with FUA.
    disk: Vec<u32>,
    dice: Dice,
    /// Contents after the last seal, and after each change since.
    states: Vec<Model>,
    /// Changes that are sealed, and those since, with their counts.
    sealed: Vec<(Origin, u32)>,
    open: Vec<(Origin, u32)>,
    sequence: u64,
    stamp: u32,
    crashes: u64,
    in_recovery: u64,
}

impl Machine {
    fn new(seed: u64) -> Self {
        let power = Power::on();
        Self {
            scm: Scm {
                fake: Rc::new(RefCell::new(Fake::new(4096 + (128 << 10)))),
                power: power.clone(),
            },
            file: CrashFile::new(&power),
            power,
            disk: vec![0; UNITS as usize],
            dice: Dice(seed),
            states: vec![Model::new()],
            sealed: Vec::new(),
            open: Vec::new(),
            sequence: 0,
            stamp: 0,
            crashes: 0,
            in_recovery: 0,
        }
    }

    fn store(&self) -> Result<Store, IndexError> {
        Store::on(self.file.open(FILE), 1 << 20)
    }

    fn recover(&self) -> Result<Storage<Scm>, StorageError> {
        let store = self.store()?;
        Ok(Storage::open(store, self.scm.clone(), ME, UNITS, LIMIT)?.0)
    }

    fn now(&mut self) -> &mut Model {
        let last = self.states.last().expect("never empty").clone();
        self.states.push(last);
        self.states.last_mut().expect("just pushed")
    }

    fn origin(&mut self) -> Origin {
        self.sequence += 1;
        Origin {
            client: Uuid::from_u128(u128::from(self.dice.below(3))),
            sequence: self.sequence,
            settled: self.sequence.saturating_sub(8),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let len = 1 + self.dice.below(3);
        (0..len).map(|_| self.dice.below(3) as u8).collect()
    }

    /// One step of work; an error means that the power is gone or nothing fits.
    fn step(&mut self, storage: &mut Storage<Scm>) -> Result<(), StorageError> {
        match self.dice.below(16) {
            0..=3 => {
                let len = [3, 300, 4000][self.dice.below(3) as usize];
                let bytes = vec![7u8; len];
                self.put(storage, Body::Inline(&bytes), len as u32)
            }
            4..=8 => match self.put_on_device(storage) {
                Some(made) => made,
                None => self.commit(storage),
            },
            9 => self.punch(storage),
            10 => {
                self.repeat(storage);
                Ok(())
            }
            11..=13 => self.seal(storage),
            _ => self.commit(storage),
        }
    }

    /// `None` if there is no space.
    fn put_on_device(&mut self, storage: &mut Storage<Scm>) -> Option<Result<(), StorageError>> {
        let units = 1 + self.dice.below(7) as u32;
        let extents = storage.space().allocate(Uuid::nil(), units)?;
        for Extent { start, units } in extents.as_slice() {
            let end = start + u64::from(*units);
            self.disk[*start as usize..end as usize].fill(self.stamp + 1);
        }
        let made = self.put(storage, Body::Extents(extents), units * 4096);
        if made.is_err() {
            storage.space().abandon(Uuid::nil(), &extents);
        }
        Some(made)
    }

    fn put(
        &mut self,
        storage: &mut Storage<Scm>,
        body: Body<'_>,
        len: u32,
    ) -> Result<(), StorageError> {
        let (key, origin) = (self.key(), self.origin());
        let checksum = self.stamp + 1;
        let value = StoredValue {
            checksum,
            len,
            body,
        };
        storage.put(origin, &key, &value)?;
        self.stamp = checksum;
        let place = extents_of(&value);
        self.now().insert(key, (checksum, place));
        self.open.push((origin, 0));
        Ok(())
    }

    fn punch(&mut self, storage: &mut Storage<Scm>) -> Result<(), StorageError> {
        let len = self.dice.below(3);
        let prefix: Vec<u8> = (0..len).map(|_| self.dice.below(3) as u8).collect();
        let origin = self.origin();
        let before = self.states.last().map_or(0, BTreeMap::len);
        let result = storage.punch(origin, &prefix);
        if matches!(result, Err(StorageError::LogFull)) {
            return result.map(drop);
        }
        // Without power it may have reached the log although its entries could not be read.
        let now = self.now();
        now.retain(|key, _| !key.starts_with(&prefix));
        let count = (before - now.len()) as u32;
        self.open.push((origin, count));
        assert!(result.as_ref().is_ok_and(|n| *n == count) || result.is_err());
        result.map(drop)
    }

    /// A request that was made before arrives again, as one that would remove everything.
    fn repeat(&mut self, storage: &mut Storage<Scm>) {
        let all = self.sealed.len() + self.open.len();
        if all == 0 {
            return;
        }
        // Mostly recent ones.
        let reach = [4, 16, 1 << 40][self.dice.below(3) as usize];
        let back = self.dice.below(reach) as usize % all;
        let (origin, count) = *self
            .sealed
            .iter()
            .chain(&self.open)
            .nth(all - 1 - back)
            .expect("counted");
        match storage.punch(origin, b"") {
            Err(StorageError::Finished(outcome)) => assert_eq!(outcome.count, count),
            // Its client has said so with one of the requests since.
            Err(StorageError::Stale) => assert!(origin.sequence + 8 < self.sequence),
            other => panic!("{origin:?} again: {other:?}"),
        }
    }

    fn seal(&mut self, storage: &mut Storage<Scm>) -> Result<(), StorageError> {
        storage.seal()?;
        self.states.drain(..self.states.len() - 1);
        self.sealed.append(&mut self.open);
        Ok(())
    }

    fn commit(&mut self, storage: &mut Storage<Scm>) -> Result<(), StorageError> {
        let writer = storage.writer();
        let Some(batch) = storage.start_commit() else {
            return self.seal(storage);
        };
        // The target goes on while a helper commits.
        for _ in 0..self.dice.below(5) {
            match self.dice.below(3) {
                0 => self.put(storage, Body::Inline(b"abc"), 3)?,
                1 => self.seal(storage)?,
                _ => self.put_on_device(storage).transpose().map(drop)?,
            }
        }
        let result = writer.commit(&batch);
        storage.finish_commit(batch.upto, &result)?;
        result.map_err(StorageError::from)
    }

    /// The power fails, or failed; brings the machine up again, possibly in several tries.
    fn crash(&mut self) -> Storage<Scm> {
        loop {
            self.crashes += 1;
            let seed = self.dice.below(u64::MAX);
            self.power.crash(seed).expect("files take what survives");
            let kept = self.scm.fake.borrow().clone().crash(coin(seed));
            *self.scm.fake.borrow_mut() = kept;
            if self.dice.below(3) == 0 {
                let after = self.dice.below(40);
                self.power.fail_after(after);
            }
            match self.recover() {
                Ok(storage) => {
                    self.power.fail_after(u64::MAX);
                    if !self.power.is_off() {
                        return storage;
                    }
                }
                Err(error) => assert!(self.power.is_off(), "recovery failed: {error}"),
            }
            self.in_recovery += 1;
        }
    }

    /// Everything that was sealed is there, of the rest a beginning; nothing else is, nothing is done
    /// again, and every value is where it was put.
    fn verify(&mut self, storage: &mut Storage<Scm>) {
        let mut now = Model::new();
        let mut keys = Vec::new();
        let read = storage.keys(b"", b"", |key| {
            keys.push(key.to_vec());
            true
        });
        read.expect("the index can be read");
        let mut owner = vec![false; UNITS as usize];
        for key in keys {
            let found = storage.get(&key, |v| (v.checksum, extents_of(v)));
            let (stamp, place) = found.expect("no damage").expect("listed");
            for Extent { start, units } in place.iter().flat_map(|e| e.as_slice()) {
                for unit in *start..start + u64::from(*units) {
                    assert_eq!(self.disk[unit as usize], stamp, "unit {unit} was reused");
                    assert!(!std::mem::replace(&mut owner[unit as usize], true));
                }
            }
            now.insert(key, (stamp, place));
        }
        let judge = |storage: &mut Storage<Scm>, origin| storage.clients().judge(origin);
        let there = self.open.iter();
        let there = there
            .take_while(|(origin, _)| judge(storage, *origin) != Verdict::New)
            .count();
        assert_eq!(now, self.states[there], "{there} of what was not sealed");
        for (origin, _) in &self.open[there..] {
            assert_eq!(judge(storage, *origin), Verdict::New, "half a change");
        }
        self.sealed.extend(self.open.drain(..).take(there));
        // What is settled may be forgotten; the rest is known with its count.
        let recent = self.sealed.len().saturating_sub(8);
        for (origin, count) in &self.sealed[recent..] {
            match judge(storage, *origin) {
                Verdict::Finished(outcome) => assert_eq!(outcome.count, *count),
                Verdict::Stale => {}
                other => panic!("{origin:?} is {other:?}"),
            }
        }
        self.states = vec![now];
    }
}

/// Runs one machine through `crashes` failures; returns how many there were, and how many of them in
/// a recovery.
fn run(seed: u64, crashes: u64) -> (u64, u64) {
    let mut machine = Machine::new(seed);
    let store = machine.store().expect("a store");
    let mut storage =
        Storage::create(store, machine.scm.clone(), ME, UNITS, LIMIT).expect("new storage");
    while machine.crashes < crashes {
        if machine.dice.below(4) > 0 {
            let after = machine.dice.below(150);
            machine.power.fail_after(after);
        }
        for _ in 0..machine.dice.below(60) {
            match machine.step(&mut storage) {
                Ok(()) => {}
                Err(StorageError::LogFull | StorageError::NoSpace) if !machine.power.is_off() => {
                    let made = machine.seal(&mut storage);
                    if made.and_then(|()| machine.commit(&mut storage)).is_err() {
                        assert!(machine.power.is_off(), "seed {seed}");
                        break;
                    }
                }
                Err(error) => {
                    assert!(machine.power.is_off(), "seed {seed}: {error}");
                    break;
                }
            }
        }
        drop(storage);
        storage = machine.crash();
        machine.verify(&mut storage);
    }
    (machine.crashes, machine.in_recovery)
}

#[test]
fn nothing_sealed_is_lost_at_any_of_many_power_failures() {
    let repeat = std::env::var("CRASH_SEED").ok();
    let repeat = repeat.map(|seed| seed.parse::<u64>().expect("CRASH_SEED is a number"));
    let machines = if std::env::var_os("SOAK").is_some() {
        400
    } else {
        12
    };
    let first = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |t| t.as_nanos() as u64);
    let seeds = match repeat {
        Some(seed) => seed..seed + 1,
        None => first..first + machines,
    };
    let mut total = (0, 0);
    for seed in seeds {
        // Known also if the run panics.
        eprintln!("CRASH_SEED={seed}");
        let (crashes, in_recovery) = run(seed, 50);
        total = (total.0 + crashes, total.1 + in_recovery);
    }
    eprintln!(
        "{} power failures, {} of them in a recovery",
        total.0, total.1
    );
}
