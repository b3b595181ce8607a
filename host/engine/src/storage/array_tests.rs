//! Arrays in log, index and space against crashes: each change is there as a whole or not at all.

use super::tests::{LIMIT, ME, by, store};
use super::*;
use crate::array::content::{self, Kept};
use crate::array::plan::{Fate, Plan};
use crate::array::read::{Assembly, Overlap};
use crate::index::key::{self, Scope};
use crate::index::value::Extent;
use crate::log::fake::{Fake, coin};
use proptest::prelude::*;
use std::ops::Range;
use uuid::Uuid;

const UNITS: u64 = 60;
const UNIT: usize = 16;
/// Entries above this go to the device.
const INLINE: usize = 20;
/// Around the border of a chunk.
const BASE: u64 = daos_wire::CHUNK - 100;
const LEN: usize = 200;
/// Each byte of the array.
type Model = Vec<Option<u8>>;

fn array() -> Vec<u8> {
    let scope = Scope {
        pool: Uuid::nil(),
        container: Uuid::nil(),
        object: Default::default(),
    };
    let mut out = Vec::new();
    key::array(&mut out, &scope, b"d\0", b"a");
    out
}

struct Target {
    storage: Storage<Fake>,
    disk: Vec<u8>,
}

impl Target {
    fn content(&self, value: &StoredValue<'_>) -> Vec<u8> {
        match value.body {
            Body::Inline(bytes) => bytes.to_vec(),
            Body::Extents(extents) => {
                let mut out = Vec::new();
                for Extent { start, units } in extents.as_slice() {
                    let at = *start as usize * UNIT;
                    out.extend_from_slice(&self.disk[at..at + *units as usize * UNIT]);
                }
                out.truncate(value.len as usize);
                out
            }
        }
    }

    /// Changes the array as a target does; `false` if there is no space.
    fn change(&mut self, range: Range<u64>, payload: Option<&[u8]>) -> bool {
        let mut plan = Plan::new(1, range.start, range.end, payload.is_some());
        let mut kept = [Kept::default(), Kept::default()];
        self.storage
            .array_entries(&array(), 1, range.clone(), |start, value| {
                if let Fate::Cut { head, tail } = plan.show(start, value.len) {
                    let bytes = self.content(value);
                    let back = bytes.len() - tail as usize..bytes.len();
                    for (n, range) in [0..head as usize, back].into_iter().enumerate() {
                        if !range.is_empty() {
                            kept[n] = content::keep(&bytes, value.checksum, range).unwrap();
                        }
                    }
                }
            })
            .unwrap();
        let pieces = plan.pieces();
        let payload = payload.unwrap_or(&[]);
        let sums = content::payload_checksums(payload, &pieces);
        let sums = content::checksums(&pieces, &sums, &kept[0], &kept[1]);
        let (places, total) = content::layout(&pieces, UNIT);
        let mut buffer = vec![0xee; total.max(payload.len())];
        buffer[..payload.len()].copy_from_slice(payload);
        content::compose(&mut buffer, &pieces, UNIT, &kept[0], &kept[1]);
        let mut entries = Vec::new();
        for (n, piece) in pieces.iter().enumerate() {
            let bytes = &buffer[places[n]..places[n] + piece.len()];
            let mut body = Body::Inline(bytes);
            if piece.len() > INLINE {
                let units = piece.len().div_ceil(UNIT);
                let Some(extents) = self.storage.space().allocate(Uuid::nil(), units as u32) else {
                    for (_, StoredValue { body, .. }) in entries {
                        if let Body::Extents(extents) = body {
                            self.storage.space().abandon(Uuid::nil(), &extents);
                        }
                    }
                    return false;
                };
                let mut at = places[n];
                for Extent { start, units } in extents.as_slice() {
                    let (start, len) = (*start as usize * UNIT, *units as usize * UNIT);
                    self.disk[start..start + len].copy_from_slice(&buffer[at..at + len]);
                    at += len;
                }
                body = Body::Extents(extents);
            }
            let value = StoredValue {
                checksum: sums[n],
                len: piece.len() as u32,
                body,
            };
            entries.push((piece.start, value));
        }
        self.storage
            .change_array(by(), &array(), 1, plan.range(), &entries)
            .unwrap();
        true
    }

    /// The whole array; fails on anything that is not what was written.
    fn read(&self) -> Model {
        let range = BASE..BASE + LEN as u64;
        let mut result = vec![0; LEN];
        let mut model = vec![None; LEN];
        let mut assembly = Assembly::default();
        let mut owner = [false; UNITS as usize];
        let mut end = 0;
        self.storage
            .array_entries(&array(), 1, range.clone(), |start, value| {
                let overlap = Overlap::of(start, value.len, range.start, range.end).unwrap();
                let content = self.content(value);
                assert!(assembly.copy(&content, value.checksum, &overlap, &mut result));
                model[overlap.at..overlap.at + content.len()].fill(Some(0));
                end = start + u64::from(value.len);
                let Body::Extents(extents) = value.body else {
                    return;
                };
                for Extent { start, units } in extents.as_slice() {
                    for unit in &mut owner[*start as usize..(*start + u64::from(*units)) as usize] {
                        assert!(!*unit, "a unit belongs to two entries");
                        *unit = true;
                    }
                }
            })
            .unwrap();
        assert_eq!(self.storage.array_end(&array()).unwrap(), end);
        assembly.finish(&mut result);
        for (model, byte) in model.iter_mut().zip(result) {
            *model = model.map(|_| byte);
        }
        model
    }

    fn used(&self) -> u64 {
        let mut used = 0;
        let range = BASE..BASE + LEN as u64;
        let count = |_, value: &StoredValue<'_>| used += extents_of(value).map_or(0, |e| e.units());
        self.storage
            .array_entries(&array(), 1, range, count)
            .unwrap();
        used
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize, u8),
    Punch(usize, usize),
    PunchAkey,
    Seal,
    StartCommit,
    FinishCommit,
    FailCommit,
    Crash(u64, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = || (0..LEN - 1, 1usize..90).prop_map(|(at, len)| (at, len.min(LEN - at)));
    let step = prop_oneof![
        8 => (range(), any::<u8>()).prop_map(|((at, len), fill)| Step::Write(at, len, fill)),
        3 => range().prop_map(|(at, len)| Step::Punch(at, len)),
        1 => Just(Step::PunchAkey),
        4 => Just(Step::Seal),
        2 => Just(Step::StartCommit),
        3 => Just(Step::FinishCommit),
        1 => Just(Step::FailCommit),
        2 => (any::<u64>(), any::<bool>()).prop_map(|(seed, done)| Step::Crash(seed, done)),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After any crash the array is what it was at some moment not before the last seal, never a
    /// mix, and no space of it was given away.
    #[test]
    fn a_crash_leaves_every_change_as_a_whole(steps in steps(), end: u64) {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("index");
        let memory = Fake::new(4096 + (128 << 10));
        let storage = Storage::create(store(&path), memory, ME, UNITS, LIMIT).unwrap();
        let mut target = Target { storage, disk: vec![0; UNITS as usize * UNIT] };
        let mut now: Model = vec![None; LEN];
        let mut states = vec![now.clone()];
        let mut batch: Option<Batch> = None;
        for step in steps.into_iter().chain([Step::Crash(end, false)]) {
            let storage = &mut target.storage;
            match step {
                Step::Write(at, len, fill) => {
                    let payload: Vec<u8> = (0..len).map(|n| fill.wrapping_add(n as u8)).collect();
                    let start = BASE + at as u64;
                    if target.change(start..start + len as u64, Some(&payload)) {
                        for (byte, new) in now[at..at + len].iter_mut().zip(payload) {
                            *byte = Some(new);
                        }
                        states.push(now.clone());
                    }
                }
                Step::Punch(at, len) => {
                    let start = BASE + at as u64;
                    if target.change(start..start + len as u64, None) {
                        now[at..at + len].fill(None);
                        states.push(now.clone());
                    }
                }
                Step::PunchAkey => {
                    let array = array();
                    storage.punch(by(), &array[..array.len() - 1]).unwrap();
                    now.fill(None);
                    states.push(now.clone());
                }
                Step::Seal => {
                    storage.seal().unwrap();
                    states = vec![now.clone()];
                }
                Step::StartCommit => if batch.is_none() {
                    batch = storage.start_commit();
                },
                Step::FinishCommit => if let Some(batch) = batch.take() {
                    let result = storage.writer().commit(&batch);
                    storage.finish_commit(batch.upto, &result).unwrap();
                },
                Step::FailCommit => if let Some(failed) = batch.take() {
                    storage.finish_commit(failed.upto, &Err(IndexError::NoSpace("test".into()))).unwrap();
                    storage.seal().unwrap();
                    states = vec![now.clone()];
                    if let Some(batch) = storage.start_commit() {
                        let result = storage.writer().commit(&batch);
                        storage.finish_commit(batch.upto, &result).unwrap();
                    }
                },
                Step::Crash(seed, committed) => {
                    if let Some(batch) = batch.take() && committed {
                        storage.writer().commit(&batch).unwrap();
                    }
                    let Storage { ring, index, .. } = target.storage;
                    drop(index);
                    let memory = ring.into_memory().crash(coin(seed));
                    target.storage = Storage::open(store(&path), memory, ME, UNITS, LIMIT).unwrap().0;
                    now = target.read();
                    prop_assert!(states.contains(&now), "never the state since the last seal");
                    states = vec![now.clone()];
                }
            }
            prop_assert!(target.read() == now);
            let held = if now.iter().any(Option::is_some) { Held::Array(1) } else { Held::Nothing };
            prop_assert_eq!(target.storage.held(&array()).unwrap(), held);
        }
        // Once everything is committed, all other space is free.
        target.storage.seal().unwrap();
        if let Some(batch) = target.storage.start_commit() {
            let result = target.storage.writer().commit(&batch);
            target.storage.finish_commit(batch.upto, &result).unwrap();
        }
        let used = target.used();
        prop_assert_eq!(target.storage.usage(), (UNITS, UNITS - used));
    }
}

#[test]
fn an_akey_holds_one_kind_of_value() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("index");
    let memory = Fake::new(4096 + (128 << 10));
    let mut storage = Storage::create(store(&path), memory, ME, UNITS, LIMIT).unwrap();
    let array = array();
    let mut single = array.clone();
    *single.last_mut().unwrap() = key::KIND_SINGLE;
    let value = StoredValue {
        checksum: daos_wire::crc32c(b"abcd"),
        len: 4,
        body: Body::Inline(b"abcd"),
    };
    let kind = |result: Result<u32, StorageError>, word: &str| match result {
        Err(StorageError::Kind(text)) => assert!(text.contains(word), "{text}"),
        other => panic!("{other:?}"),
    };
    storage.put(by(), &single, &value).unwrap();
    assert_eq!(storage.held(&array).unwrap(), Held::Single);
    kind(
        storage.change_array(by(), &array, 4, 0..4, &[(0, value)]),
        "single value",
    );
    storage.punch(by(), &array[..array.len() - 1]).unwrap();
    assert_eq!(
        storage
            .change_array(by(), &array, 4, 8..12, &[(8, value)])
            .unwrap(),
        0
    );
    kind(
        storage.change_array(by(), &array, 2, 0..4, &[(0, value)]),
        "have 4 bytes",
    );
    kind(storage.put(by(), &single, &value).map(|()| 0), "array");
    // Also after a restart, from the log and from the index.
    for commit in [false, true] {
        storage.seal().unwrap();
        if commit {
            let batch = storage.start_commit().unwrap();
            let result = storage.writer().commit(&batch);
            storage.finish_commit(batch.upto, &result).unwrap();
        }
        let Storage { ring, index, .. } = storage;
        drop(index);
        storage = Storage::open(store(&path), ring.into_memory(), ME, UNITS, LIMIT)
            .unwrap()
            .0;
        kind(storage.put(by(), &single, &value).map(|()| 0), "array");
        assert_eq!(storage.array_end(&array).unwrap(), 12);
        assert!(storage.array_reaches(&array, 4, 8).unwrap());
        assert!(!storage.array_reaches(&array, 4, 12).unwrap());
    }
    // Without its last record, it is no array any more.
    assert_eq!(
        storage.change_array(by(), &array, 4, 0..12, &[]).unwrap(),
        1
    );
    assert_eq!(
        storage.change_array(by(), &array, 4, 0..12, &[]).unwrap(),
        0
    );
    storage.put(by(), &single, &value).unwrap();
}
