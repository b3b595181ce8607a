//! The two layers against a plain map.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const LIMIT: u64 = 64 << 20;

fn open(path: &std::path::Path) -> Index {
    Index::open(Store::open(path, LIMIT, 1 << 20).unwrap(), |_, _| Ok(())).unwrap()
}

fn listed(index: &Index, prefix: &[u8], from: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut out = Vec::new();
    index
        .scan(prefix, from, |key, value| {
            out.push((key.to_vec(), value.to_vec()));
            Ok(true)
        })
        .unwrap();
    out
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    Replace(Vec<u8>, Option<Vec<u8>>),
    Begin,
    Finish,
    Fail,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop::collection::vec(0u8..3, 0..4);
    prop::collection::vec(
        prop_oneof![
            6 => (key.clone(), prop::collection::vec(any::<u8>(), 0..9)).prop_map(|(k, v)| Step::Put(k, v)),
            2 => key.clone().prop_map(Step::Remove),
            3 => (key, prop::option::of(prop::collection::vec(any::<u8>(), 0..9))).prop_map(|(k, v)| Step::Replace(k, v)),
            2 => Just(Step::Begin),
            2 => Just(Step::Finish),
            1 => Just(Step::Fail),
            1 => Just(Step::Reopen),
        ],
        1..40,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn reads_like_a_map_in_every_state(steps in steps(), prefix in prop::collection::vec(0u8..3, 0..2), from in prop::collection::vec(0u8..3, 0..3)) {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("index");
        let mut index = open(&path);
        let mut model = Model::new();
        let mut history: Vec<(u64, Model)> = vec![(0, model.clone())];
        let mut sequence = 0;
        let mut batch: Option<Batch> = None;
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    sequence += 1;
                    let old = index.apply(sequence, &key, Some(value.as_slice().into())).unwrap().map(|old| old.to_vec());
                    prop_assert_eq!(old, model.insert(key, value));
                }
                Step::Replace(key, value) => {
                    sequence += 1;
                    let old = model.get(&key).map(Vec::len);
                    index.replace(sequence, &key, old, value.as_deref().map(Into::into));
                    match value {
                        Some(value) => model.insert(key, value),
                        None => model.remove(&key),
                    };
                }
                Step::Remove(key) => {
                    sequence += 1;
                    prop_assert_eq!(index.apply(sequence, &key, None).unwrap().map(|old| old.to_vec()), model.remove(&key));
                }
                Step::Begin => {
                    if let Some(taken) = index.take_batch(sequence) {
                        prop_assert!(batch.is_none());
                        batch = Some(taken);
                    }
                }
                Step::Finish => if let Some(batch) = batch.take() {
                    index.writer().commit(&batch).unwrap();
                    index.committed(batch.upto).unwrap();
                },
                Step::Fail => if batch.take().is_some() {
                    index.commit_failed();
                },
                // As after a crash: only what was committed is there, and it says up to where.
                Step::Reopen => {
                    batch = None;
                    drop(index);
                    index = open(&path);
                    sequence = index.applied();
                    let (_, committed) = history.iter().rev().find(|(at, _)| *at <= sequence).unwrap();
                    model = committed.clone();
                }
            }
            history.retain(|(at, _)| *at < sequence);
            history.push((sequence, model.clone()));
            for key in model.keys() {
                let found = index.get(key, <[u8]>::to_vec).unwrap();
                prop_assert_eq!(found.as_ref(), model.get(key));
            }
            let want: Vec<_> = model.iter().filter(|(k, _)| k.starts_with(&prefix) && **k >= from)
                .map(|(k, v)| (k.clone(), v.clone())).collect();
            prop_assert_eq!(listed(&index, &prefix, &from), want);
            if !prefix.is_empty() {
                let last = index.last(&prefix, |key, value| (key.to_vec(), value.to_vec())).unwrap();
                let want = model.iter().rfind(|(k, _)| k.starts_with(&prefix));
                prop_assert_eq!(last, want.map(|(k, v)| (k.clone(), v.clone())));
            }
            let bytes: u64 = model.iter().map(|(k, v)| Index::cost(k, v.len())).sum();
            prop_assert_eq!(index.live_bytes(), bytes);
        }
    }
}

#[test]
fn a_full_file_is_an_error_and_what_was_committed_stays() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("index");
    let mut index =
        Index::open(Store::open(&path, 2 << 20, 1 << 20).unwrap(), |_, _| Ok(())).unwrap();
    index
        .apply(1, b"first", Some(b"value".as_slice().into()))
        .unwrap();
    let batch = index.take_batch(1).unwrap();
    index.writer().commit(&batch).unwrap();
    index.committed(1).unwrap();
    let big: Arc<[u8]> = vec![7u8; 4000].into();
    for n in 2..2000u64 {
        index
            .apply(n, &n.to_be_bytes(), Some(Arc::clone(&big)))
            .unwrap();
    }
    let batch = index.take_batch(1999).unwrap();
    let error = index.writer().commit(&batch).unwrap_err();
    assert!(matches!(error, IndexError::NoSpace(_)), "{error}");
    index.commit_failed();
    assert_eq!(
        index.get(&5u64.to_be_bytes(), <[u8]>::len).unwrap(),
        Some(4000)
    );
    drop(index);
    let index = open(&path);
    assert_eq!(index.applied(), 1);
    assert_eq!(
        listed(&index, b"", b""),
        [(b"first".to_vec(), b"value".to_vec())]
    );
}

#[test]
fn a_file_that_is_no_index_is_refused() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("index");
    std::fs::write(&path, vec![0x5a; 100_000]).unwrap();
    assert!(Store::open(&path, LIMIT, 1 << 20).is_err());
}

#[test]
fn a_file_whose_making_was_interrupted_is_made_anew_and_only_then() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("index");
    store::discard_unfinished(&path).unwrap();
    drop(Store::open(&path, LIMIT, 1 << 20).unwrap());
    let made = std::fs::read(&path).unwrap();
    store::discard_unfinished(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), made, "a finished file stays");
    // What redb leaves when its process is killed: all of the file but for its first bytes.
    let mut unfinished = made;
    unfinished[..9].fill(0);
    for bytes in [&unfinished[..], &unfinished[..4], b""] {
        std::fs::write(&path, bytes).unwrap();
        assert!(bytes.is_empty() || Store::open(&path, LIMIT, 1 << 20).is_err());
        store::discard_unfinished(&path).unwrap();
        drop(Store::open(&path, LIMIT, 1 << 20).unwrap());
    }
}
