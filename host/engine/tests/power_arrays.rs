//! One array, shared by several writers, against power failures of the whole engine: each change that
//! was acknowledged is there as a whole, one that was under way as a whole or not at all.
//!
//! `SOAK=1` makes it long, `CRASH_SEED=n` repeats the choices of a run (not its timing).

mod common;

use common::power::{Dice, Machine, Memory, run};
use common::{container, runtime, value};
use crash_images::{Instruction, Method};
use daos_client::{Array, Container, ObjectId};

const TASKS: u64 = 5;
/// Bytes of each writer, so that chunks have several writers and writers several chunks.
const SHARE: usize = 70_001;

/// What the bytes of one writer are; `None` before the first write of them all.
#[derive(Clone)]
struct Expected {
    acknowledged: Vec<u8>,
    attempted: Option<Vec<u8>>,
}

fn array(c: &Container) -> Array {
    let object = ObjectId { hi: 7, lo: 0 };
    c.array(object, b"d", b"a", 1).expect("allowed")
}

/// Writes and punches in the share of a task until something fails.
async fn write(array: Array, task: u64, mut dice: Dice, mut share: Expected) -> (Expected, u64) {
    for made in 0.. {
        let at = dice.below(SHARE as u64 - 1) as usize;
        let most = [50, 5000, 40_000][dice.below(3) as usize].min(SHARE - at);
        let len = 1 + dice.below(most as u64) as usize;
        let mut after = share.acknowledged.clone();
        let offset = task * SHARE as u64 + at as u64;
        let result = if dice.below(5) == 0 {
            after[at..at + len].fill(0);
            share.attempted = Some(after);
            array.punch(offset, len as u64).await
        } else {
            let bytes = value(dice.below(u64::MAX), len);
            after[at..at + len].copy_from_slice(&bytes);
            share.attempted = Some(after);
            array.write(offset, &bytes).await
        };
        if result.is_err() {
            return (share, made);
        }
        share.acknowledged = share.attempted.take().expect("just set");
    }
    unreachable!()
}

#[test]
fn changes_of_an_array_survive_power_failures_as_a_whole() {
    survives(Memory::Ram);
}

#[test]
fn changes_of_an_array_survive_power_failures_as_a_whole_on_persistent_memory() {
    // An instruction that waits for its fence, and the kernel, which does not.
    survives(Memory::Dcpm(Method::Lines(Instruction::Clwb)));
    survives(Memory::Dcpm(Method::Msync));
}

fn survives(memory: Memory) {
    let (seed, rounds) = run();
    let mut dice = Dice(seed);
    let machine = Machine::new(memory);
    let rt = runtime();
    let all = SHARE * TASKS as usize;
    let mut shares: Vec<Expected> = Vec::new();
    let (mut acknowledged, mut in_recovery, mut under_way) = (0, 0, 0);
    for round in 0..rounds {
        if round > 0 && dice.below(3) == 0 {
            let after = dice.below(30);
            machine.power.fail_after(after);
        }
        let (engine, failed) = machine.recover(&mut dice);
        in_recovery += failed;
        shares = rt.block_on(async {
            let (_client, c) = container(engine.uri()).await;
            let array = array(&c);
            if round == 0 {
                let bytes = value(seed, all);
                array.write(0, &bytes).await.expect("written");
                let share = |part: &[u8]| Expected {
                    acknowledged: part.to_vec(),
                    attempted: None,
                };
                shares = bytes.chunks(SHARE).map(share).collect();
            }
            let mut found = array.read(0, all as u64).await.expect("intact");
            found.resize(all, 0); // the end may be punched
            for (task, (share, found)) in shares.iter_mut().zip(found.chunks(SHARE)).enumerate() {
                let attempted = share.attempted.take();
                if attempted.as_deref() == Some(found) {
                    share.acknowledged = found.to_vec();
                }
                let differs = |want: &[u8]| want.iter().zip(found).position(|(a, b)| a != b);
                assert!(
                    share.acknowledged == found,
                    "seed {seed}, round {round}: task {task} differs at {:?} from what was acknowledged, at {:?} from what was under way",
                    differs(&share.acknowledged),
                    attempted.as_deref().map(differs),
                );
            }
            let after = dice.below(400);
            machine.power.fail_after(after);
            let running: Vec<_> = std::mem::take(&mut shares)
                .into_iter()
                .enumerate()
                .map(|(task, share)| {
                    let dice = Dice(dice.below(u64::MAX));
                    tokio::spawn(write(array.clone(), task as u64, dice, share))
                })
                .collect();
            let mut back = Vec::new();
            for task in running {
                let (share, count) = task.await.expect("no panic");
                acknowledged += count;
                under_way += u64::from(share.attempted.is_some());
                back.push(share);
            }
            back
        });
        assert!(machine.power.is_off(), "seed {seed}: failed with power");
        // It says what it could not do.
        let _ = engine.stop();
        machine.power.crash(dice.below(u64::MAX)).expect("crashed");
    }
    eprintln!(
        "{rounds} power failures under load and {in_recovery} in recoveries; {acknowledged} changes acknowledged, {under_way} not"
    );
    assert!(acknowledged > rounds, "{acknowledged} in {rounds} rounds");
}
