//! Log, index and space together against crashes, with a model of what was acknowledged.

use super::*;
use crate::index::value::Extent;
use crate::log::fake::{Fake, coin};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

pub(super) const ME: Identity = Identity {
    engine: Uuid::from_u128(7),
    target: 0,
};
const UNITS: u64 = 60;
pub(super) const LIMIT: u64 = 1 << 20;

/// A new request of a client that has settled all before.
pub(super) fn by() -> Origin {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let sequence = NEXT.fetch_add(1, Ordering::Relaxed);
    Origin {
        client: Uuid::from_u128(1),
        sequence,
        settled: sequence.saturating_sub(5),
    }
}

/// A change that was made, and the count it was answered with.
type Made = (Origin, u32);

/// A repetition of a change that is in the log must not be taken for a new one.
fn is_remembered(storage: &mut Storage<Fake>, (origin, count): Made, floor: u64) -> bool {
    match storage.clients().judge(origin) {
        Verdict::New | Verdict::Crowded => false,
        Verdict::Stale => origin.sequence < floor,
        Verdict::Finished(outcome) => outcome.status.is_ok() && outcome.count == count,
    }
}

/// What is under a key: the checksum tells which value, the extents where it is.
type Model = BTreeMap<Vec<u8>, (u32, Option<Extents>)>;

pub(super) fn store(path: &Path) -> Store {
    Store::open(path, 32 << 20, 1 << 20).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Inline(Vec<u8>),
    Extents(Vec<u8>, u32),
    Punch(Vec<u8>),
    PunchPiece(Vec<u8>),
    Seal,
    StartCommit,
    FinishCommit,
    FailCommit,
    /// Seed of what the memory keeps; whether the index file has the commit under way.
    Crash(u64, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop::collection::vec(0u8..3, 1..4);
    let step = prop_oneof![
        4 => key.clone().prop_map(Step::Inline),
        5 => (key.clone(), 1u32..8).prop_map(|(k, n)| Step::Extents(k, n)),
        2 => prop::collection::vec(0u8..3, 0..3).prop_map(Step::Punch),
        1 => prop::collection::vec(0u8..3, 0..3).prop_map(Step::PunchPiece),
        4 => Just(Step::Seal),
        2 => Just(Step::StartCommit),
        3 => Just(Step::FinishCommit),
        1 => Just(Step::FailCommit),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(seed, done)| Step::Crash(seed, done)),
    ];
    prop::collection::vec(step, 1..60)
}

fn contents(storage: &Storage<Fake>) -> Model {
    let mut out = Model::new();
    let mut keys = Vec::new();
    storage
        .keys(b"", b"", |key| {
            keys.push(key.to_vec());
            true
        })
        .unwrap();
    for key in keys {
        let found = storage.get(&key, |v| (v.checksum, extents_of(v))).unwrap();
        out.insert(key, found.unwrap());
    }
    out
}

/// Each unit that a value is in belongs to it alone.
fn check_units(model: &Model) {
    let mut owner = [false; UNITS as usize];
    let extents = model.values().filter_map(|(_, e)| *e);
    for Extent { start, units } in extents.flat_map(|e| e.as_slice().to_vec()) {
        for unit in start..start + u64::from(units) {
            assert!(!owner[unit as usize], "unit {unit} belongs to two values");
            owner[unit as usize] = true;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// After any crash the target holds the state of some moment not before the last seal, and the
    /// space of no acknowledged value was given to another.
    #[test]
    fn a_crash_loses_nothing_that_was_sealed(steps in steps(), end: u64) {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("index");
        let memory = Fake::new(4096 + (128 << 10));
        let mut storage = Storage::create(store(&path), memory, ME, UNITS, LIMIT).unwrap();
        let mut now = Model::new();
        // Every state since the last seal, with how many clients' changes made it; the first is sealed.
        let mut states = vec![(0, now.clone())];
        let mut batch: Option<Batch> = None;
        let mut stamp = 0;
        let mut sealed: Vec<Made> = Vec::new();
        let mut made: Vec<Made> = Vec::new();
        for step in steps.into_iter().chain([Step::Crash(end, false)]) {
            match step {
                Step::Inline(key) | Step::Extents(key, 0) => {
                    stamp += 1;
                    let value = StoredValue { checksum: stamp, len: 3, body: Body::Inline(b"abc") };
                    let origin = by();
                    storage.put(origin, &key, &value).unwrap();
                    made.push((origin, 0));
                    now.insert(key, (stamp, None));
                    states.push((made.len(), now.clone()));
                }
                Step::Extents(key, units) => if let Some(extents) = storage.allocate(&key, units).unwrap() {
                    stamp += 1;
                    let value = StoredValue { checksum: stamp, len: units * 4096, body: Body::Extents(extents) };
                    let origin = by();
                    storage.put(origin, &key, &value).unwrap();
                    made.push((origin, 0));
                    now.insert(key, (stamp, Some(extents)));
                    check_units(&now);
                    // What a crash could bring back must not have lost its place either.
                    for (key, (_, old)) in &states[0].1 {
                        let overlap = old.iter().flat_map(|e| e.as_slice()).any(|o| extents.as_slice().iter()
                            .any(|n| n.start < o.start + u64::from(o.units) && o.start < n.start + u64::from(n.units)));
                        prop_assert!(!overlap, "the place of the sealed value of {key:?} was reused");
                    }
                    states.push((made.len(), now.clone()));
                },
                Step::Punch(prefix) => {
                    let before = now.len();
                    now.retain(|key, _| !key.starts_with(&prefix));
                    let origin = by();
                    let count = storage.punch(origin, &prefix).unwrap();
                    prop_assert_eq!(count as usize, before - now.len());
                    made.push((origin, count));
                    states.push((made.len(), now.clone()));
                }
                Step::PunchPiece(prefix) => {
                    let before = now.len();
                    now.retain(|key, _| !key.starts_with(&prefix));
                    prop_assert_eq!(storage.punch_piece(&prefix).unwrap(), before > now.len());
                    states.push((made.len(), now.clone()));
                }
                Step::Seal => {
                    storage.seal().unwrap();
                    states = vec![(0, now.clone())];
                    sealed.append(&mut made);
                }
                Step::StartCommit => if batch.is_none() {
                    batch = storage.start_commit();
                },
                Step::FinishCommit => if let Some(batch) = batch.take() {
                    let result = storage.writer().commit(&batch);
                    storage.finish_commit(batch.upto, &result).unwrap();
                },
                Step::FailCommit => if let Some(batch) = batch.take() {
                    storage.finish_commit(batch.upto, &Err(IndexError::NoSpace("test".into()))).unwrap();
                    prop_assert!(storage.admits(b"k", 1).is_err());
                    storage.seal().unwrap();
                    states = vec![(0, now.clone())];
                    sealed.append(&mut made);
                    if let Some(batch) = storage.start_commit() {
                        let result = storage.writer().commit(&batch);
                        storage.finish_commit(batch.upto, &result).unwrap();
                    }
                    prop_assert!(storage.admits(b"k", 1).is_ok());
                },
                Step::Crash(seed, committed) => {
                    if let Some(batch) = batch.take() && committed {
                        storage.writer().commit(&batch).unwrap();
                    }
                    let Storage { ring, index, .. } = storage;
                    drop(index);
                    let memory = ring.into_memory().crash(coin(seed));
                    storage = Storage::open(store(&path), memory, ME, UNITS, LIMIT).unwrap().0;
                    now = contents(&storage);
                    // Of what was not sealed the first few are there, in the table as in the index.
                    let floor = |made: &[Made]| made.iter().map(|(o, _)| o.settled).max().unwrap_or(0);
                    let all: Vec<Made> = sealed.iter().chain(&made).copied().collect();
                    let there = made.iter().take_while(|(origin, _)| {
                        storage.clients().judge(*origin) != Verdict::New
                    }).count();
                    // Pieces of a destruction are nobody's, so that several states may have as many.
                    prop_assert!(states.contains(&(there, now.clone())), "{now:?} after {there} of {states:?}");
                    prop_assert!(made[there..].iter().all(|(o, _)| storage.clients().judge(*o) == Verdict::New));
                    sealed.extend(made.drain(..).take(there));
                    prop_assert!(sealed.iter().all(|m| is_remembered(&mut storage, *m, floor(&all))));
                    check_units(&now);
                    states = vec![(0, now.clone())];
                }
            }
            let floor = sealed.iter().chain(&made).map(|(o, _)| o.settled).max().unwrap_or(0);
            prop_assert!(sealed.iter().chain(&made).all(|m| is_remembered(&mut storage, *m, floor)));
            prop_assert_eq!(contents(&storage), now.clone());
            check_usage(&storage, &now);
        }
        // Once everything is committed, all other space is free.
        storage.seal().unwrap();
        if let Some(batch) = storage.start_commit() {
            let result = storage.writer().commit(&batch);
            storage.finish_commit(batch.upto, &result).unwrap();
        }
        let used: u64 = now.values().filter_map(|(_, e)| *e).map(|e| e.units()).sum();
        prop_assert_eq!(storage.usage(), (UNITS, UNITS - used));
        for pool in now.keys().map(|key| pool_of(key)) {
            let units = now.iter().filter(|(key, _)| pool_of(key) == pool).filter_map(|(_, (_, e))| *e);
            prop_assert_eq!(storage.used_by(pool).units, units.map(|e| e.units()).sum::<u64>());
        }
    }
}

/// What each pool uses is exact: of the index what its entries cost, of the device at least its
/// values, and all together what is not free.
fn check_usage(storage: &Storage<Fake>, model: &Model) {
    let mut scm: BTreeMap<Uuid, u64> = BTreeMap::new();
    let mut units: BTreeMap<Uuid, u64> = BTreeMap::new();
    for (key, (_, extents)) in model {
        let len = match extents {
            None => 14 + 3,
            Some(extents) => 14 + 12 * extents.as_slice().len(),
        };
        *scm.entry(pool_of(key)).or_default() += Index::cost(key, len);
        *units.entry(pool_of(key)).or_default() += extents.map_or(0, |e| e.units());
    }
    // Keys have up to three bytes of three values: these are all pools there can be.
    let mut all = std::collections::BTreeSet::new();
    for n in 0..27u8 {
        all.insert(pool_of(&[n / 9, n / 3 % 3, n % 3]));
    }
    for pool in &all {
        let used = storage.used_by(*pool);
        assert_eq!(used.scm_bytes, scm.get(pool).copied().unwrap_or(0));
        assert!(used.units >= units.get(pool).copied().unwrap_or(0));
    }
    let used: u64 = all.iter().map(|pool| storage.used_by(*pool).units).sum();
    let (total, free) = storage.usage();
    assert_eq!(used, total - free);
}

#[test]
fn a_pool_uses_what_belongs_to_it_and_no_more() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("index");
    let memory = Fake::new(4096 + (128 << 10));
    let mut storage = Storage::create(store(&path), memory, ME, UNITS, LIMIT).unwrap();
    let (small, large) = ([1u8; 20], [2u8; 20]);
    let value = StoredValue {
        checksum: 1,
        len: 3,
        body: Body::Inline(b"abc"),
    };
    let one = Index::cost(&small, 17);
    let quotas = |storage: &mut Storage<Fake>| {
        let quota = |label: &str, scm_bytes, units| quota::Quota {
            label: label.into(),
            scm_bytes,
            units,
        };
        storage.set_quotas(
            [
                (pool_of(&small), quota("small", one, 4)),
                (pool_of(&large), quota("large", LIMIT, 50)),
            ]
            .into(),
        );
    };
    quotas(&mut storage);
    storage.put(by(), &small, &value).unwrap();
    // Overwriting takes nothing more; another key does, and is refused by name.
    storage.put(by(), &small, &value).unwrap();
    let mut second = small;
    second[19] = 9;
    let error = storage.put(by(), &second, &value).unwrap_err();
    assert!(
        matches!(&error, StorageError::OverQuota(over) if over.tier == "SCM" && over.used == one),
        "{error}"
    );
    assert!(error.to_string().contains("pool small"), "{error}");
    storage.put(by(), &large, &value).unwrap();
    // The same on the device, where what is given up counts until it is free.
    let extents = storage.allocate(&small, 4).unwrap().unwrap();
    let error = storage.allocate(&small, 1).unwrap_err();
    assert!(error.to_string().contains("block-device tier"), "{error}");
    let other = storage.allocate(&large, 50).unwrap().unwrap();
    storage.abandon(&large, &other);
    let on_device = StoredValue {
        checksum: 1,
        len: 4096 * 4,
        body: Body::Extents(extents),
    };
    storage.put(by(), &large, &value).unwrap();
    assert_eq!(storage.punch(by(), &small).unwrap(), 1);
    storage.set_quotas([].into());
    storage.put(by(), &small, &on_device).unwrap();
    quotas(&mut storage);
    assert_eq!(storage.punch(by(), &small).unwrap(), 1);
    assert_eq!(storage.used_by(pool_of(&small)).units, 4);
    assert_eq!(
        storage.allocate(&small, 1).unwrap(),
        None,
        "a commit frees it"
    );
    storage.seal().unwrap();
    let batch = storage.start_commit().unwrap();
    let result = storage.writer().commit(&batch);
    storage.finish_commit(batch.upto, &result).unwrap();
    assert_eq!(storage.used_by(pool_of(&small)), quota::Usage::default());
    assert!(storage.allocate(&small, 4).unwrap().is_some());
}

#[test]
fn a_destruction_goes_piece_by_piece_and_is_replayed() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("index");
    let memory = Fake::new(4096 + (512 << 10));
    let mut storage = Storage::create(store(&path), memory, ME, UNITS, LIMIT).unwrap();
    let value = StoredValue {
        checksum: 1,
        len: 3,
        body: Body::Inline(b"abc"),
    };
    for n in 0..1200u32 {
        storage.put(by(), &n.to_be_bytes(), &value).unwrap();
    }
    storage.put(by(), &[7; 5], &value).unwrap();
    assert!(storage.punch_piece(&[0, 0]).unwrap());
    assert_eq!(contents(&storage).len(), 1201 - 512);
    storage.seal().unwrap();
    let Storage { ring, index, .. } = storage;
    drop(index);
    let memory = ring.into_memory().crash(coin(1));
    let mut storage = Storage::open(store(&path), memory, ME, UNITS, LIMIT)
        .unwrap()
        .0;
    assert_eq!(contents(&storage).len(), 1201 - 512);
    let mut pieces = 0;
    while storage.punch_piece(&[0, 0]).unwrap() {
        pieces += 1;
    }
    assert_eq!(pieces, 2);
    assert_eq!(contents(&storage).into_keys().collect::<Vec<_>>(), [[7; 5]]);
    assert!(!storage.is_settled(storage.last_sequence()));
    storage.seal().unwrap();
    let batch = storage.start_commit().unwrap();
    let result = storage.writer().commit(&batch);
    storage.finish_commit(batch.upto, &result).unwrap();
    assert!(storage.is_settled(storage.last_sequence()));
}

#[test]
fn a_log_older_than_the_index_is_an_error() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("index");
    let memory = Fake::new(4096 + (128 << 10));
    let mut storage = Storage::create(store(&path), memory, ME, UNITS, LIMIT).unwrap();
    let value = StoredValue {
        checksum: 1,
        len: 3,
        body: Body::Inline(b"abc"),
    };
    for n in 0..3u8 {
        storage.put(by(), &[n], &value).unwrap();
    }
    storage.seal().unwrap();
    let batch = storage.start_commit().unwrap();
    storage.writer().commit(&batch).unwrap();
    drop(storage);
    let old = Ring::create(Fake::new(4096 + (128 << 10)), ME)
        .unwrap()
        .into_memory();
    let error = Storage::open(store(&path), old, ME, UNITS, LIMIT)
        .err()
        .unwrap();
    assert!(
        matches!(&error, StorageError::Corrupt(text) if text.contains("older")),
        "{error}"
    );
}

#[test]
fn an_index_older_than_what_the_log_forgot_is_an_error() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("index");
    let memory = Fake::new(4096 + (128 << 10));
    let mut storage = Storage::create(store(&path), memory, ME, UNITS, LIMIT).unwrap();
    let value = StoredValue {
        checksum: 1,
        len: 3,
        body: Body::Inline(b"abc"),
    };
    let mut saved = None;
    for n in 0..3u8 {
        storage.put(by(), &[n], &value).unwrap();
        storage.seal().unwrap();
        let batch = storage.start_commit().unwrap();
        let result = storage.writer().commit(&batch);
        storage.finish_commit(batch.upto, &result).unwrap();
        saved.get_or_insert_with(|| std::fs::read(&path).unwrap());
    }
    let memory = storage.ring.into_memory();
    std::fs::write(&path, saved.unwrap()).unwrap();
    let error = Storage::open(store(&path), memory, ME, UNITS, LIMIT)
        .err()
        .unwrap();
    assert!(
        matches!(&error, StorageError::Corrupt(text) if text.contains("the index is older")),
        "{error}"
    );
}

#[test]
fn a_full_log_waits_for_a_commit_and_punches_still_fit() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let memory = Fake::new(4096 + (128 << 10));
    let mut storage =
        Storage::create(store(&dir.path().join("index")), memory, ME, UNITS, LIMIT).unwrap();
    let bytes = [7u8; 4000];
    let value = StoredValue {
        checksum: 1,
        len: 4000,
        body: Body::Inline(&bytes),
    };
    let mut n = 0u32;
    while storage.put(by(), &n.to_be_bytes(), &value).is_ok() {
        n += 1;
    }
    let full = storage.put(by(), &n.to_be_bytes(), &value).unwrap_err();
    assert!(matches!(full, StorageError::LogFull), "{full}");
    assert!(storage.is_log_crowded());
    assert_eq!(storage.punch(by(), &0u32.to_be_bytes()).unwrap(), 1);
    storage.seal().unwrap();
    let batch = storage.start_commit().unwrap();
    let result = storage.writer().commit(&batch);
    storage.finish_commit(batch.upto, &result).unwrap();
    storage.put(by(), &n.to_be_bytes(), &value).unwrap();
}
