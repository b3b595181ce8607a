//! The whole engine against power failures: block devices with a volatile write cache, an SCM of which
//! what was flushed and drained survives, index files of which what was synced does, and of everything
//! else any part. Clients write until the power goes; then everything acknowledged must be there.
//!
//! `SOAK=1` makes it long, `CRASH_SEED=n` repeats the choices of a run (not its timing).

mod common;

use common::power::{Dice, Machine, Memory, run};
use common::{container, runtime, value};
use crash_images::{Instruction, Method};
use daos_client::{Container, Error, ObjectId, Punch};
use std::collections::BTreeMap;

const TASKS: u64 = 6;
const KEYS: u64 = 5;
/// A value by the seed and length that make it; `None` = nothing is there.
type What = Option<(u64, usize)>;

/// What may be under a key: what was acknowledged last, or anything attempted since.
#[derive(Clone, Debug)]
struct Expected {
    acknowledged: What,
    attempted: Vec<What>,
}

fn object(task: u64) -> ObjectId {
    ObjectId { hi: 7, lo: task }
}

/// Sizes in the message, in the log by RMA, on the device in one unit and in several.
fn size(dice: &mut Dice) -> usize {
    let most = [100, 4096, 20_000, 200_000][dice.below(4) as usize];
    dice.below(most) as usize
}

/// Writes under keys of its own until something fails.
async fn write(
    c: Container,
    task: u64,
    mut dice: Dice,
    mut keys: BTreeMap<u64, Expected>,
) -> (BTreeMap<u64, Expected>, u64) {
    for made in 0.. {
        let key = dice.below(KEYS);
        let dkey = key.to_be_bytes();
        let what = (dice.below(8) > 0).then(|| (dice.below(u64::MAX), size(&mut dice)));
        let expected = keys.get_mut(&key).expect("all keys are known");
        expected.attempted.push(what);
        let result = match what {
            Some((seed, len)) => c.put(object(task), &dkey, b"a", &value(seed, len)).await,
            None => c.punch(object(task), Punch::Dkey(&dkey)).await,
        };
        if result.is_err() {
            return (keys, made);
        }
        expected.acknowledged = what;
        expected.attempted.clear();
    }
    unreachable!()
}

async fn read(c: &Container, task: u64, key: u64) -> Option<Vec<u8>> {
    match c.get(object(task), &key.to_be_bytes(), b"a").await {
        Ok(value) => Some(value),
        Err(Error::NotFound { .. }) => None,
        Err(error) => panic!("key {key} of task {task}: {error}"),
    }
}

/// Bytes of the array of a task.
const ARRAY: usize = 600_000;

/// An array, and what it may be instead: with the write that was not acknowledged.
struct Bytes {
    acknowledged: Vec<u8>,
    attempted: Option<Vec<u8>>,
}

/// Writes to ranges of an array until something fails; each write is made as a whole or not at all.
async fn write_array(c: Container, task: u64, mut dice: Dice, mut bytes: Bytes) -> (Bytes, u64) {
    let array = c
        .array(object(task), b"array", b"a", 1)
        .expect("valid keys");
    for made in 0.. {
        let len = 1 + size(&mut dice);
        let at = dice.below((ARRAY - len) as u64) as usize;
        let part = value(dice.below(u64::MAX), len);
        let mut attempted = bytes.acknowledged.clone();
        attempted[at..at + len].copy_from_slice(&part);
        if array.write(at as u64, &part).await.is_err() {
            bytes.attempted = Some(attempted);
            return (bytes, made);
        }
        bytes.acknowledged = attempted;
    }
    unreachable!()
}

async fn read_array(c: &Container, task: u64) -> Vec<u8> {
    let array = c
        .array(object(task), b"array", b"a", 1)
        .expect("valid keys");
    let mut found = match array.read(0, ARRAY as u64).await {
        Ok(found) => found,
        Err(Error::NotFound { .. }) => Vec::new(),
        Err(error) => panic!("array of task {task}: {error}"),
    };
    found.resize(ARRAY, 0);
    found
}

fn made(what: What) -> Option<Vec<u8>> {
    what.map(|(seed, len)| value(seed, len))
}

#[test]
fn everything_acknowledged_survives_power_failures_of_the_whole_engine() {
    survives(Memory::Ram);
}

#[test]
fn everything_acknowledged_survives_power_failures_of_the_whole_engine_on_persistent_memory() {
    // An instruction that waits for its fence, and the kernel, which does not.
    survives(Memory::Dcpm(Method::Lines(Instruction::Clwb)));
    survives(Memory::Dcpm(Method::Msync));
}

fn survives(memory: Memory) {
    let (seed, rounds) = run();
    let mut dice = Dice(seed);
    let machine = Machine::new(memory);
    let rt = runtime();
    let nothing = Expected {
        acknowledged: None,
        attempted: Vec::new(),
    };
    let keys: BTreeMap<u64, Expected> = (0..KEYS).map(|key| (key, nothing.clone())).collect();
    let mut tasks: Vec<_> = (0..TASKS).map(|_| keys.clone()).collect();
    let blank = || Bytes {
        acknowledged: vec![0; ARRAY],
        attempted: None,
    };
    let mut arrays: Vec<Bytes> = (0..2).map(|_| blank()).collect();
    let (mut acknowledged, mut in_recovery, mut attempts) = (0, 0, 0);
    for round in 0..rounds {
        // The last round only reads.
        if round > 0 && dice.below(3) == 0 {
            let after = dice.below(30);
            machine.power.fail_after(after);
        }
        let (engine, failed) = machine.recover(&mut dice);
        in_recovery += failed;
        (tasks, arrays) = rt.block_on(async {
            let (_client, c) = container(engine.uri()).await;
            for (task, keys) in tasks.iter_mut().enumerate() {
                for (key, expected) in keys {
                    let found = read(&c, task as u64, *key).await;
                    let all = std::iter::once(&expected.acknowledged).chain(&expected.attempted);
                    let Some(what) = all.copied().find(|what| made(*what) == found) else {
                        panic!(
                            "seed {seed}, round {round}: key {key} of task {task} has {:?} bytes, not {expected:?}",
                            found.map(|f| f.len())
                        );
                    };
                    *expected = Expected {
                        acknowledged: what,
                        attempted: Vec::new(),
                    };
                }
            }
            for (task, bytes) in arrays.iter_mut().enumerate() {
                let found = read_array(&c, task as u64).await;
                if bytes.attempted.take().is_some_and(|attempted| attempted == found) {
                    bytes.acknowledged = found;
                } else {
                    assert!(
                        bytes.acknowledged == found,
                        "seed {seed}, round {round}: the array of task {task} is something else"
                    );
                }
            }
            let after = dice.below(400);
            machine.power.fail_after(after);
            let running: Vec<_> = std::mem::take(&mut tasks)
                .into_iter()
                .enumerate()
                .map(|(task, keys)| {
                    let dice = Dice(dice.below(u64::MAX));
                    tokio::spawn(write(c.clone(), task as u64, dice, keys))
                })
                .collect();
            let of_arrays: Vec<_> = std::mem::take(&mut arrays)
                .into_iter()
                .enumerate()
                .map(|(task, bytes)| {
                    let dice = Dice(dice.below(u64::MAX));
                    tokio::spawn(write_array(c.clone(), task as u64, dice, bytes))
                })
                .collect();
            let mut back = Vec::new();
            for task in running {
                let (keys, count) = task.await.expect("no panic");
                acknowledged += count;
                attempts += keys.values().map(|k| k.attempted.len()).sum::<usize>();
                back.push(keys);
            }
            let mut back_arrays = Vec::new();
            for task in of_arrays {
                let (bytes, count) = task.await.expect("no panic");
                acknowledged += count;
                attempts += 1;
                back_arrays.push(bytes);
            }
            (back, back_arrays)
        });
        assert!(machine.power.is_off(), "seed {seed}: failed with power");
        // It says what it could not do.
        let _ = engine.stop();
        machine.power.crash(dice.below(u64::MAX)).expect("crashed");
    }
    eprintln!(
        "{rounds} power failures under load and {in_recovery} in recoveries; {acknowledged} changes acknowledged, {attempts} not"
    );
    assert!(acknowledged > rounds, "{acknowledged} in {rounds} rounds");
}
